"""The functions of ``metrics/cw.py`` in gmum/cwae-pytorch; see :func:`segma_fast.fast_cw_distance`.

Samples are (N, D) tensors of any floating-point dtype; ``y`` is the bandwidth γ > 0, a number or a tensor of one
element, by default ``(4 / 3N)^(2/5)``; the result is 0-d and differentiable in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from segma_fast.compat import floating
from segma_fast.functional import cw_normality, cw_two_sample

__all__ = ["cw", "cw_1d", "cw_2d", "cw_choose", "cw_sampling"]

_NO_SCALE = 2 * math.sqrt(math.pi)


def cw(X: Tensor, y: Tensor | float | None = None) -> Tensor:
    """The squared distance of a sample to N(0, I) by the paper's approximation, without the factor ``1/(2√π)``."""
    return _NO_SCALE * cw_normality(X, floating(y))


def cw_sampling(first_sample: Tensor, second_sample: Tensor, y: Tensor | float | None = None) -> Tensor:
    """The squared distance of two samples of one dimension by the paper's approximation."""
    return cw_two_sample(first_sample, second_sample, floating(y))


def cw_1d(X: Tensor, y: Tensor | float | None = None) -> Tensor:
    """The squared distance of numbers, (N,) or (N, 1), to N(0, 1), which is exact."""
    _check_dim(X, 1)
    return cw_normality(X[:, None] if X.ndim == 1 else X, floating(y))


def cw_2d(X: Tensor, y: Tensor | float | None = None) -> Tensor:
    """The squared distance of points in the plane to N(0, I) with the exact φ₂, without the factor ``1/(2√π)``."""
    _check_dim(X, 2)
    return _NO_SCALE * cw_normality(X, floating(y), phi="exact")


def cw_choose(z_dim: int) -> Callable[..., Tensor]:
    """The function for codes of dimension D ≥ 1.

    ``cw_1d`` and ``cw_2d`` for these, ``cw`` for all others, also for D = 3 … 7, where the approximation is 13 to 4 %
    low (``segma_fast.cw_normality(codes, phi="exact")`` is not).

    Raises:
        ValueError: for D < 1.
    """
    if z_dim < 1:
        raise ValueError(f"z_dim must be >= 1, got {z_dim}")
    return {1: cw_1d, 2: cw_2d}.get(z_dim, cw)


def _check_dim(X: Tensor, dim: int) -> None:
    if isinstance(X, Tensor) and X.ndim == 2 and X.shape[1] != dim:
        raise ValueError(f"X must have {dim} columns, got shape {tuple(X.shape)}")
