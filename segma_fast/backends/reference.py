"""Equation (8) as it is written, in plain torch with m×m matrices: the oracle for every other backend.

Nothing here is clever. Autograd differentiates it, to any order; with float64 inputs it is the truth that the
tests compare with, with float32 inputs it is what a user would otherwise write.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segma_fast.formulas import accumulation_dtype, phi_of


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """``|a_i - b_j|²`` for all pairs, (m, D) and (n, D) -> (m, n), without an (m, n, D) temporary."""
    gram = a @ b.mT
    squared = ((a * a).sum(-1)[:, None] + (b * b).sum(-1)[None, :] - 2 * gram).clamp_min(0)
    if a is b:
        squared.diagonal(dim1=-2, dim2=-1).zero_()
    return squared


def scalar_product(a: Tensor, b: Tensor, variance: Tensor, gamma: Tensor, phi: str = "approx") -> Tensor:
    """Equation (3) for all pairs of Gaussians: centres (m, D) and (n, D), summed variances (m, n) -> (m, n)."""
    width = variance + 2 * gamma
    s = squared_distances(a, b) / (2 * width)
    return phi_of(s, a.shape[-1], phi) / torch.sqrt(2 * math.pi * width)


def weighted_sum(left: Tensor, matrix: Tensor, right: Tensor) -> Tensor:
    """``Σ_ij left_i matrix_ij right_j``, the outer sum in float64 because d² is a small difference of these."""
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
        A 0-d float64 tensor.
    """
    shift = means.detach().mean(0)  # the distance does not depend on the origin, its rounding errors do
    z, means = z - shift, means - shift
    zero = variances.new_zeros(())
    codes = scalar_product(z, z, zero, gamma, phi)  # (m, m)
    cross = scalar_product(z, means, variances[None, :], gamma, phi)  # (m, K)
    prior = scalar_product(means, means, variances[:, None] + variances[None, :], gamma, phi)  # (K, K)
    return (
        weighted_sum(z_weights, codes, z_weights)
        - 2 * weighted_sum(z_weights, cross, weights)
        + weighted_sum(weights, prior, weights)
    )


def cw_normality_of_groups(z: Tensor, groups: Tensor, gamma: Tensor, *, phi: str = "approx") -> Tensor:
    """``d²`` between points (m, D) and N(0, I) with the mean over pairs of different groups (m,); 0-d, float64."""
    wide = accumulation_dtype(z.device)
    kept = groups[:, None] != groups
    origin, zero = z.new_zeros(1, z.shape[1]), z.new_zeros(())
    codes = (scalar_product(z, z, zero, gamma, phi) * kept).sum(dtype=wide) / kept.sum()
    cross = scalar_product(z, origin, zero + 1, gamma, phi).mean(dtype=wide)
    return codes - 2 * cross + scalar_product(origin, origin, zero + 2, gamma, phi).to(wide)[0, 0]
