"""Which images each step sees: a function of the step and the seed, so that a resumed run needs no state."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from segma_fast.distance.process_group import shard_slice
from segma_fast.trainer.models.base import Batch


@dataclass
class Rows:
    """Batches of some rows, pass after pass, each pass in a new order.

    Args:
        indices: the rows, (n,), int64.
        batch_size: rows a step, at most n; what is left at the end of a pass is not used in it.
        seed: of the orders.
    """

    indices: Tensor
    batch_size: int
    seed: int
    _pass: int = field(default=-1, init=False)
    _order: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    @property
    def steps(self) -> int:
        """Steps a pass."""
        return max(1, len(self.indices) // self.batch_size) if self.batch_size else 1

    def __getitem__(self, step: int) -> Tensor:
        """The rows of a step, (batch_size,); all of them in a fixed order where a batch takes all."""
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
        images: of the data set, (N, C, H, W).
        labels: their classes, (N,), int64, on the same device.
        unlabelled, labelled: rows of the whole batch, (n,) and (l,), int64.
        process, processes: this process's number, and how many share the batch.
        micro_batch: see :class:`Batch`.
    """
    own = [rows[shard_slice(len(rows), process, processes)] for rows in (unlabelled, labelled)]
    known, rows = (some.to(images.device, non_blocking=True) for some in (own[1], torch.cat(own)))
    return Batch(images[rows], labels[known], len(unlabelled), len(labelled), micro_batch)
