"""How a backend describes itself: each file of this folder that calls :func:`register` adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Operator = Callable[..., Any]


@dataclass(frozen=True)
class Backend:
    """One implementation of the distance.

    Attributes:
        name: what ``backend=`` calls it.
        description: one line for ``segma-fast info``.
        rank: ``"auto"`` takes the backend of the lowest rank that can serve the call.
        missing: gives the reason why it cannot be used in this process, or None.
        unsuitable: gives the reason why it cannot serve points of this device, dtype and dimension, or None.
        not_for_auto: whether ``"auto"`` skips the backend for points of this device, dtype, dimension and precision.
        operators: what computes the energy, and the energy with its gradient, with the arguments and results that
            ``backends/chunked.py`` states; ``"compiled"`` where loading a module registers them with torch; None for
            the reference, which autograd differentiates.
        slices: the same for the two operators that ``slices/operators.py`` states; None where there are none.
    """

    name: str
    description: str
    rank: int
    missing: Callable[[], str | None] = lambda: None
    unsuitable: Callable[[torch.device, torch.dtype, int], str | None] = lambda device, dtype, dim: None
    not_for_auto: Callable[[torch.device, torch.dtype, int, str], bool] = lambda *described: False
    operators: tuple[Operator, Operator] | str | None = None
    slices: tuple[Operator, Operator] | str | None = None


_registered: list[Backend] = []


def register(backend: Backend) -> None:
    """Make a backend known; the file that calls this is imported with the package ``segma_fast.distance.backends``."""
    _registered.append(backend)


def registered() -> tuple[Backend, ...]:
    """All backends, best first."""
    return tuple(sorted(_registered, key=lambda backend: backend.rank))
