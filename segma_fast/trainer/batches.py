"""Selects the images of each step from the step number and the seed alone, so a resumed run needs no sampler state."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from segma_fast.distance.process_group import shard_slice
from segma_fast.trainer.models.base import Batch


@dataclass
class Rows:
    """Batches of row indices, reshuffled at every pass over the rows.

    Args:
        indices: the row indices, (n,), int64.
        batch_size: rows per step, at most n; the incomplete batch at the end of a pass is dropped.
        seed: seed of the shuffling.
    """

    indices: Tensor
    batch_size: int
    seed: int
    _pass: int = field(default=-1, init=False)
    _order: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    @property
    def steps(self) -> int:
        """Steps per pass over the rows."""
        return max(1, len(self.indices) // self.batch_size) if self.batch_size else 1

    def __getitem__(self, step: int) -> Tensor:
        """The rows of a step, (batch_size,); not shuffled if one batch holds all rows."""
        if self.batch_size >= len(self.indices):
            return self.indices
        number, place = divmod(step, self.steps)
        if number != self._pass:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            self._order = self.indices[torch.randperm(len(self.indices), generator=generator)]
            self._pass = number
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]


def gather(
    images: Tensor,
    labels: Tensor,
    unlabelled: Tensor,
    labelled: Tensor,
    *,
    process: int = 0,
    processes: int = 1,
    micro_batch: int | None = None,
) -> Batch:
    """One process's share of the batch of a step.

    Args:
        images: all images of the data set, (N, C, H, W).
        labels: their classes, (N,), int64, on the same device.
        unlabelled, labelled: row indices of the whole batch, (n,) and (l,), int64.
        process, processes: rank of this process, and number of processes that share the batch.
        micro_batch: see :class:`Batch`.
    """
    own = [rows[shard_slice(len(rows), process, processes)] for rows in (unlabelled, labelled)]
    known, rows = (some.to(images.device, non_blocking=True) for some in (own[1], torch.cat(own)))
    return Batch(images[rows], labels[known], len(unlabelled), len(labelled), micro_batch)
