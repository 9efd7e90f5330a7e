"""Equation (8) as it is written, in plain torch with m×m matrices: the oracle for every other backend.

The code is kept simple, and autograd differentiates it, to any order. With float64 inputs it is the ground truth of the
tests; with float32 inputs it is what a user would write without this package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segma_fast.distance.backends.registry import Backend, register
from segma_fast.distance.formulas import accumulation_dtype, phi_of, squared_distances, unit_of
from segma_fast.distance.precision import products_are_rounded
from segma_fast.distance.slices.directions import as_matrix
from segma_fast.distance.tracing import visible

LARGEST = 1e15  # largest coordinate, also divided by γ, whose squared differences float32 can sum


def scalar_product(a: Tensor, b: Tensor, variance: Tensor, gamma: Tensor, phi: str = "approx") -> Tensor:
    """Equation (3) for all pairs of Gaussians: centres (m, D) and (n, D), summed variances (m, n) -> (m, n)."""
    width = variance + 2 * gamma
    squared = squared_distances(a, b)
    if a is b:
        squared.diagonal(dim1=-2, dim2=-1).zero_()
    s = squared / (2 * width)
    return phi_of(s, a.shape[-1], phi) / torch.sqrt(2 * math.pi * width)


def weighted_sum(left: Tensor, matrix: Tensor, right: Tensor) -> Tensor:
    """``Σ_ij left_i matrix_ij right_j``, the outer sum in float64 because d² is a small difference of such sums."""
    dtype = accumulation_dtype(matrix.device)
    return (((matrix * right).sum(1)).to(dtype) * left.to(dtype)).sum()


def cw_distance(
    z: Tensor,
    means: Tensor,
    z_weights: Tensor,
    weights: Tensor,
    variances: Tensor,
    gamma: Tensor,
    *,
    phi: str = "approx",
) -> Tensor:
    """``d²`` of equation (8) between weighted points and a mixture of spherical Gaussians.

    Args:
        z: points, (m, D).
        means, weights, variances: the components, (K, D), (K,) and (K,).
        z_weights: of the points, (m,), 1/m each in the paper.
        gamma: the bandwidth γ, a 0-d tensor.
        phi: the form of φ_D, "approx" or "exact".

    Returns:
        A 0-d float64 tensor ≥ 0.
    """
    unit = unit_of(z, means)
    z, means, variances, gamma = z / unit, means / unit, variances / unit / unit, gamma / unit / unit
    shift = means.detach().mean(0)  # the distance does not depend on the origin, its rounding errors do
    z, means = z - shift, means - shift
    zero = variances.new_zeros(())
    codes = scalar_product(z, z, zero, gamma, phi)  # (m, m)
    cross = scalar_product(z, means, variances[None, :], gamma, phi)  # (m, K)
    prior = scalar_product(means, means, variances[:, None] + variances[None, :], gamma, phi)  # (K, K)
    value = (
        weighted_sum(z_weights, codes, z_weights)
        - 2 * weighted_sum(z_weights, cross, weights)
        + weighted_sum(weights, prior, weights)
    ) / unit
    return value + (value.clamp_min(0) - value).detach()  # clamp rounding errors, not their gradient


def cw_normality_of_groups(z: Tensor, groups: Tensor, gamma: Tensor, *, phi: str = "approx") -> Tensor:
    """``d²`` between points (m, D) and N(0, I) with the mean over pairs of rows of different groups; 0-d, float64."""
    wide = accumulation_dtype(z.device)
    kept = groups[:, None] != groups
    origin, zero = z.new_zeros(1, z.shape[1]), z.new_zeros(())
    codes = (scalar_product(z, z, zero, gamma, phi) * kept).sum(dtype=wide) / kept.sum()
    cross = scalar_product(z, origin, zero + 1, gamma, phi).mean(dtype=wide)
    return codes - 2 * cross + scalar_product(origin, origin, zero + 2, gamma, phi).to(wide)[0, 0]


def waves(z: Tensor, directions: Tensor, steps: Tensor, frequencies: int) -> Tensor:
    """The waves that ``slices/operators.py`` states, (B, 2, T, R), with all (B, T, N, R) angles in memory."""
    angles = steps[:, None] * (z @ as_matrix(directions, z.shape[2], steps.shape[1]))
    orders = torch.arange(1, frequencies + 1, dtype=steps.dtype, device=z.device)[:, None, None]
    near = (angles.abs() <= math.pi) | angles.isnan()
    angles = orders * angles[:, None]
    return torch.stack([(part * near[:, None]).sum(2) for part in (angles.cos(), angles.sin())], 1)


def working_dtype(z: Tensor, means: Tensor, gamma: float | Tensor) -> torch.dtype:
    """float64 for float64 points, for points too large to square in float32, and if torch would round products."""
    wide = accumulation_dtype(z.device)
    if z.dtype == wide or products_are_rounded(z.device):
        return wide
    if isinstance(gamma, Tensor):
        gamma = gamma.item() if visible(gamma) else 1.0
    if not visible(z):
        return torch.float32
    largest = max(points.detach().abs().amax() for points in (z, means))
    return wide if largest > LARGEST * min(1.0, gamma) else torch.float32


def as_tensors(inputs: Sequence[Any]) -> list[Tensor]:
    """The six inputs of the distance as tensors of one dtype: (m, D), (K, D), (m,), (K,), (K,) and 0-d."""
    z, means, *others = inputs
    dtype, rows, components = working_dtype(z, means, inputs[5]), z.shape[0], means.shape[0]
    uniform = (1.0 / rows, 1.0 / components, None, None)
    values = [default if value is None else value for value, default in zip(others, uniform, strict=True)]
    wide = accumulation_dtype(z.device)
    tensors = [v if isinstance(v, Tensor) else torch.full((), v, device=z.device, dtype=wide) for v in values]
    shapes = ((rows,), (components,), (components,), ())
    return [z.to(dtype), means.to(dtype), *(t.to(dtype).expand(s) for t, s in zip(tensors, shapes, strict=True))]


register(Backend("reference", "equation (8) as written, in plain torch with m×m matrices, any device", rank=4))
