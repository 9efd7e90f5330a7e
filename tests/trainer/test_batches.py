"""Which rows a step takes, and their images and labels."""

from __future__ import annotations

import torch

from segma_fast.trainer.batches import Rows, gather


def test_rows_cover_each_pass_once_and_depend_on_step_and_seed_alone() -> None:
    indices = torch.arange(10, 33)
    rows = Rows(indices, 5, seed=1)
    assert rows.steps == 4
    first = torch.cat([rows[i] for i in range(4)])
    assert len(set(first.tolist())) == 20 and set(first.tolist()) <= set(indices.tolist())
    second = torch.cat([rows[i] for i in range(4, 8)])
    assert not torch.equal(first, second)
    assert torch.equal(Rows(indices, 5, seed=1)[6], rows[6])
    assert not torch.equal(Rows(indices, 5, seed=2)[6], rows[6])
    assert torch.equal(Rows(indices, 23, seed=2)[6], indices)


def test_batch_is_gathered_whole_or_in_shares() -> None:
    images, labels = torch.rand(30, 1, 2, 2), torch.arange(30) % 7
    unlabelled, labelled = torch.tensor([5, 3, 20, 8]), torch.tensor([29, 1, 0])
    whole = gather(images, labels, unlabelled, labelled, micro_batch=2)
    assert torch.equal(whole.images, images[[5, 3, 20, 8, 29, 1, 0]])
    assert torch.equal(whole.labels, labels[labelled])
    assert (whole.unlabelled, whole.unlabelled_total, whole.labelled_total, whole.micro_batch) == (4, 4, 3, 2)
    shares = [gather(images, labels, unlabelled, labelled, process=process, processes=5) for process in range(5)]
    assert {(share.unlabelled_total, share.labelled_total) for share in shares} == {(4, 3)}
    assert torch.equal(torch.cat([share.images[: share.unlabelled] for share in shares]), whole.images[:4])
    assert torch.equal(torch.cat([share.images[share.unlabelled :] for share in shares]), whole.images[4:])
    assert torch.equal(torch.cat([share.labels for share in shares]), whole.labels)
