"""The distances of cw-torch, with the paper's approximation of φ_D; see :func:`segma_fast.fast_cw_distance`."""

from __future__ import annotations

import math

from torch import Tensor

from segma_fast.compat import width_of
from segma_fast.distance import functional, two_sample
from segma_fast.distance.arguments import check_points, check_same_space

__all__ = ["cw", "cw_normality", "cw_normality_no_scale", "cw_normality_scale_factor", "cw_scale_factor"]

cw_normality_scale_factor = 0.5 / math.sqrt(math.pi)
cw_scale_factor = 1 / math.sqrt(math.pi)


def cw_normality_no_scale(sample: Tensor, gamma: Tensor | float) -> Tensor:
    """The squared distance of a sample (N, D) to N(0, I), without the factor ``1/(2√π)``: 0-d.

    Args:
        sample: (N, D), of any floating-point dtype.
        gamma: bandwidth γ > 0, a number or a tensor of one element; differentiable.

    Raises:
        TypeError, ValueError: as :func:`segma_fast.cw_normality`.
    """
    return cw_normality(sample, gamma) / cw_normality_scale_factor


def cw_normality(sample: Tensor, gamma: Tensor | float) -> Tensor:
    """The squared distance of a sample (N, D) to N(0, I): 0-d; :func:`segma_fast.cw_normality` with its arguments."""
    sample = check_points("sample", sample)
    return functional.cw_normality(sample, width_of("gamma", gamma, "sample", sample))


def cw(first_sample: Tensor, second_sample: Tensor, gamma: Tensor | float) -> Tensor:
    """The squared distance of two samples, (N, D) and (M, D): 0-d; :func:`segma_fast.cw_two_sample`.

    Args:
        first_sample, second_sample: samples of the same dimension D; N and M may differ.
        gamma: bandwidth γ > 0, a number or a tensor of one element; differentiable.

    Raises:
        TypeError, ValueError: as :func:`segma_fast.cw_two_sample`.
    """
    first, second = check_points("first_sample", first_sample), check_points("second_sample", second_sample)
    check_same_space("first_sample", first, "second_sample", second)
    return two_sample.cw_two_sample(first, second, width_of("gamma", gamma, "first_sample", first))
