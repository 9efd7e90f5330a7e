"""Which rows each step sees: a function of the step and the seed, so that a resumed run needs no state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """What a model is given of one step."""

    images: Tensor
    """(N, C, H, W), uint8 or floating point in [0, 1]: all images that there are"""
    unlabelled: Tensor
    """the rows of ``images`` in the batch, (n,), int64"""
    labelled: Tensor
    """those that have a label, (l,), int64; l = 0 without labels"""
    labels: Tensor
    """their classes, (l,), int64"""
    micro_batch: int | None = None
    """rows that go through the networks at once, for models that can; None for all"""

    @property
    def rows(self) -> Tensor:
        """All rows of ``images`` in the batch, (n + l,), unlabelled ones first."""
        return torch.cat([self.unlabelled, self.labelled])


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
