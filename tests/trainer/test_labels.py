"""Which rows are labelled: numbers a class, determinism, limits."""

import pytest
import torch

from segma_fast.trainer.labels import choose_labelled

LABELS = torch.tensor([0, 1, 2, 1, 2, 2, 1, 2, 0, 2, 2, 1, 2, 2])  # 2 of class 0, 4 of class 1, 8 of class 2


def per_class(rows: torch.Tensor, labels: torch.Tensor = LABELS) -> list[int]:
    return torch.bincount(labels[rows], minlength=3).tolist()


@pytest.mark.parametrize("how", ["stratified", "random", "first"])
@pytest.mark.parametrize("count", [0, 9, 14])
def test_rows_are_distinct_sorted_and_in_range(how, count):
    rows = choose_labelled(LABELS, count, how, 3, seed=4)
    assert rows.dtype == torch.int64 and rows.tolist() == sorted(set(rows.tolist())) and len(rows) == count
    assert set(rows.tolist()) <= set(range(14))
    assert choose_labelled(LABELS, count, how, 3, seed=4).tolist() == rows.tolist()


def test_first_takes_the_first():
    assert choose_labelled(LABELS, 5, "first", 3, seed=7).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count, expected", [(3, [1, 1, 1]), (6, [2, 2, 2]), (8, [2, 3, 3]), (11, [2, 4, 5])])
def test_stratified_takes_equally_many_and_fills_up(count, expected):
    assert per_class(choose_labelled(LABELS, count, "stratified", 3)) == expected


def test_stratified_gives_the_rest_to_random_classes_and_takes_random_rows():
    labels = torch.arange(3).repeat(30)
    counts = [per_class(choose_labelled(labels, 7, "stratified", 3, seed=seed), labels) for seed in range(30)]
    assert all(sorted(count) == [2, 2, 3] for count in counts)
    assert {count.index(3) for count in counts} == {0, 1, 2}
    seen = torch.cat([choose_labelled(labels, 6, "stratified", 3, seed=seed) for seed in range(100)])
    assert len(seen.unique()) > 85


def test_stratified_fills_a_remainder_when_small_classes_give_out():
    labels = torch.tensor([0] + [1] * 10 + [2] * 10)
    rows = choose_labelled(labels, 12, "stratified", 3)
    assert labels[rows].bincount().tolist()[0] == 1
    assert sorted(labels[rows].bincount().tolist()) == [1, 5, 6]


def test_random_is_uniform_and_follows_the_seed():
    labels = torch.arange(2).repeat(10)
    times = torch.zeros(20)
    for seed in range(400):
        times[choose_labelled(labels, 10, "random", 2, seed=seed)] += 1
    assert 150 < times.min() and times.max() < 250
    assert choose_labelled(labels, 10, "random", 2, seed=0).tolist() != list(range(10))


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    for how in ("stratified", "random", "first"):
        choose_labelled(LABELS, 13, how, 3)
    assert torch.equal(state, torch.get_rng_state())


def test_a_class_without_labels_is_named():
    labels = torch.tensor([0] * 5 + [1, 2])
    with pytest.warns(UserWarning, match="of class 1, 2"):
        choose_labelled(labels, 4, "first", 3)
    with pytest.warns(UserWarning, match="of class 3"):
        assert len(choose_labelled(labels, 7, "stratified", 4)) == 7


@pytest.mark.parametrize("count, words", [(15, "14 rows .*15"), (-1, "14 rows .*-1"), (2, "2 labels .* 3 classes")])
def test_counts_out_of_range(count, words):
    with pytest.raises(ValueError, match=words):
        choose_labelled(LABELS, count, "random", 3)


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="'stratified', 'random', 'first', got 'last'"):
        choose_labelled(LABELS, 5, "last", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0..1, got 0..2"):
        choose_labelled(LABELS, 5, "random", 2)
