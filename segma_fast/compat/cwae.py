"""The functions of ``metrics/cw.py`` in gmum/cwae-pytorch; see :func:`segma_fast.fast_cw_distance`.

Samples are (N, D) tensors of any floating-point dtype; ``y`` is the bandwidth γ > 0, a number or a tensor of one
element, by default ``(4 / 3N)^(2/5)``; the result is 0-d and differentiable w.r.t. both. Invalid arguments raise the
errors of :func:`segma_fast.cw_normality`, with the argument names used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from segma_fast.compat import width_of
from segma_fast.distance.arguments import check_points, check_same_space
from segma_fast.distance.functional import cw_normality
from segma_fast.distance.scalars import check_whole
from segma_fast.distance.two_sample import cw_two_sample

__all__ = ["cw", "cw_1d", "cw_2d", "cw_choose", "cw_sampling"]

_NO_SCALE = 2 * math.sqrt(math.pi)


def cw(X: Tensor, y: Tensor | float | None = None) -> Tensor:
    """The squared distance of a sample to N(0, I) by the paper's approximation, without the factor ``1/(2√π)``."""
    X = check_points("X", X)
    return _NO_SCALE * cw_normality(X, _width(y, "X", X))


def cw_sampling(first_sample: Tensor, second_sample: Tensor, y: Tensor | float | None = None) -> Tensor:
    """The squared distance between two samples of the same dimension D, by the paper's approximation."""
    first, second = check_points("first_sample", first_sample), check_points("second_sample", second_sample)
    check_same_space("first_sample", first, "second_sample", second)
    return cw_two_sample(first, second, _width(y, "first_sample", first))


def cw_1d(X: Tensor, y: Tensor | float | None = None) -> Tensor:
    """The exact squared distance of a one-dimensional sample, (N,) or (N, 1), to N(0, 1)."""
    X = _of_dim(X[:, None] if isinstance(X, Tensor) and X.ndim == 1 else X, 1)
    return cw_normality(X, _width(y, "X", X))


def cw_2d(X: Tensor, y: Tensor | float | None = None) -> Tensor:
    """The squared distance of points in the plane to N(0, I) with the exact φ₂, without the factor ``1/(2√π)``."""
    X = _of_dim(X, 2)
    return _NO_SCALE * cw_normality(X, _width(y, "X", X), phi="exact")


def cw_choose(z_dim: int) -> Callable[..., Tensor]:
    """The function for codes of dimension D ≥ 1.

    ``cw_1d`` for D = 1, ``cw_2d`` for D = 2, ``cw`` for all others. For D = 3 … 7 the approximation in ``cw`` is 13 to
    4 % too low (``segma_fast.cw_normality(codes, phi="exact")`` is not).

    Raises:
        TypeError: if D is not an int.
        ValueError: for D < 1.
    """
    return {1: cw_1d, 2: cw_2d}.get(check_whole("z_dim", z_dim, 1), cw)


def _width(y: Tensor | float | None, name: str, sample: Tensor) -> Tensor | float | None:
    return None if y is None else width_of("y", y, name, sample)


def _of_dim(X: Tensor, dim: int) -> Tensor:
    X = check_points("X", X)
    if X.shape[1] != dim:
        raise ValueError(f"X must have {dim} columns, got shape {tuple(X.shape)}")
    return X
