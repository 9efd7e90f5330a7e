"""The distance of all processes: value, gradients and trained weights of one process with the whole batch."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from cases import relative_error
from processes import ROWS, WAIT, Embedding, combinations, evaluate, train

from segma_fast import CWDistanceLoss, cw_normality, fast_cw_distance
from segma_fast.distance.process_group import shard_slice


@pytest.fixture(scope="module", params=[2, 3])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All cases of so many processes, from one start of them."""
    return processes.run("distances", request.param, tmp_path_factory.mktemp("distances"), timeout=600)


@pytest.mark.parametrize("case", combinations(2))
def test_value_and_gradients_of_one_process(found: list[Any], case: str) -> None:
    count = len(found)
    results = [result[case] for result in found]
    if isinstance(results[0], str):
        pytest.skip(results[0])
    tensors, given, options = combinations(count)[case]
    value, grad_z, *others = evaluate(tensors, given, **options)
    rough = {torch.bfloat16: 1e-2, torch.float64: 1e-10}.get(grad_z.dtype, 1e-5)
    rows = torch.cat([result[1] for result in results])
    assert [len(result[1]) for result in results] == list(ROWS[count])
    assert relative_error(rows, count * grad_z) < rough
    for result in results:
        torch.testing.assert_close(result[0], value, rtol=min(rough, 1e-5), atol=0)
        for mine, whole in zip(result[2:], others, strict=True):
            assert mine.dtype == whole.dtype and relative_error(mine, whole) < rough
    assert len({result[0].item() for result in results}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_distributed_data_parallel_trains_to_the_weights_of_one_process(tmp_path: Path, count: int) -> None:
    losses, weights = train(Embedding(None), slice(None), count)
    assert losses[-1] < losses[0]
    for at_once_and_in_parts in processes.run("ddp", count, tmp_path):
        for their_losses, their_weights in at_once_and_in_parts:
            torch.testing.assert_close(torch.tensor(their_losses), torch.tensor(losses), rtol=1e-4, atol=1e-5)
            for theirs, ours in zip(their_weights, weights, strict=True):
                # Adam makes more of rounding, which processors do differently
                torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


DISAGREEMENTS = {
    "columns": "same number of columns, but that of process 1",
    "components": "same number of means, but",
    "means": "same means, but those of process 1 differ",
    "weights": "same weights, but",
    "variances": "same variances, but",
    "gamma": "same gamma, but",
    "gamma by the rule": r"same kind of gamma, .* \(of this process: (by the rule|a number)\)",
    "dtype": r"same dtype, but .* \(of this process: torch.float(32|64)\)",
    "backend": "same backend",
    "phi": r"same phi, .* \(of this process: (exact|approx)\)",
    "log": "same log",
    "groups": r"same kind of groups, but .* \(of this process: (none|a tensor)\)",
    "views": r"same kind of groups, but .* \(of this process: [13] views\)",
    "one group": "groups must be at least two, got one for all 9 rows",
    "one image": "groups must be at least two, got one for all 3 rows",
    "no codes": "at least one row in some process",
    "slices": r"same slices, but .* \(of this process: [34]\)",
    "samples of slices": "same number of samples",
    "generator": "same state of the generator",
    "no generator": "same state of the generator",
    "samples": r"same number of samples, got \[3, 2, 3\] by process",
}


def test_every_process_hears_of_what_does_not_fit(tmp_path: Path) -> None:
    everyone = processes.run("disagreements", 3, tmp_path)
    for messages in everyone:
        for name, pattern in DISAGREEMENTS.items():
            assert re.search(pattern, messages[name]), (name, messages[name])
        for name, message in messages.items():
            own = messages is everyone[1]
            if name.startswith(("wrong", "transform")):
                assert ("process 1 was called with arguments" in message) == (not own), (name, message)
                assert "no error" not in message
        for name in ("same in another way", "seed of the first", "still in step"):
            assert messages[name].startswith("no error") and messages[name] == everyone[0][name]


def test_second_derivative_is_an_error(tmp_path: Path) -> None:
    for found in processes.run("second_derivatives", 2, tmp_path):
        assert len(found) >= 4
        assert all("differentiated once only" in message for message in found), found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_lost_process_is_an_error_in_time_for_the_others(tmp_path: Path, how: str) -> None:
    *others, none = processes.run(how, 3, tmp_path)
    assert none is None
    for other in others:
        assert other is not None, "no error"
        message, seconds = other
        assert message and seconds < WAIT + 10


def test_shares_cover_everything_evenly() -> None:
    for count in (0, 1, 7, 12):
        for size in (1, 2, 3, 5):
            parts = [list(range(count))[shard_slice(count, i, size)] for i in range(size)]
            assert sum(parts, []) == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_group_of_one_process_is_the_function_itself(tmp_path: Path) -> None:
    z, means = torch.randn(7, 3), torch.randn(2, 3)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        group = torch.distributed.group.WORLD
        loss = copy.deepcopy(CWDistanceLoss(process_group=group))
        assert loss.process_group is group
        assert torch.equal(loss(z, means), fast_cw_distance(z, means))
        assert copy.copy(loss).process_group is group
        with pytest.raises(ValueError, match="at least one row"):
            fast_cw_distance(z[:0], means, process_group=group)
        saved = pickle.dumps(torch.nn.ModuleList([loss]))
        assert loss.process_group is group
    finally:
        torch.distributed.destroy_process_group()
    (loaded,) = pickle.loads(saved)
    assert "process_group left behind by pickle" in repr(loaded)
    with pytest.raises(RuntimeError, match="process_group was left behind .* or to None"):
        loaded(z, means)
    (again,) = pickle.loads(pickle.dumps([copy.deepcopy(loaded)]))
    with pytest.raises(RuntimeError, match="process_group was left behind"):
        again(z, means)
    again.process_group = None
    assert torch.equal(again(z, means), fast_cw_distance(z, means))
    for wrong in ("gloo", True, 0):
        with pytest.raises(TypeError, match="process_group must be"):
            fast_cw_distance(z, means, process_group=wrong)
        with pytest.raises(TypeError, match="process_group must be"):
            cw_normality(z[0], process_group=wrong)
