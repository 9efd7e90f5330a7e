"""The distance to N(0, I) without the pairs of rows that belong together, such as the views of one image.

Views of one image are alike because they shall be, so their pairs say nothing of the distribution of the images'
codes. The mean over all pairs becomes one over the P ordered pairs of rows of different groups::

    d² = 1/P Σ_{ij: g_i ≠ g_j} k(z_i, z_j, 0) - 2/m Σ_i k(z_i, 0, 1) + k(0, 0, 2)

An unbiased estimate, which may be negative. The fused kernels evaluate all pairs at once, as the energy E of a cloud
with weight ``s = P^(-1/2)`` for a row and ``-p = -1/(ms)`` for the origin; what they have too much is subtracted::

    d² = E + (1 - p²) k(0, 0, 2) - 1/P Σ_{ij: g_i = g_j} k(z_i, z_j, 0)
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from segma_fast.autograd import energy
from segma_fast.formulas import accumulation_dtype, profile

BLOCK_ELEMENTS = 1 << 20  # pairs of one group, or coordinates of some groups, that are held at once
LARGE = 64  # rows of a group from which its pairs are not kept for the backward pass


def check_groups(groups: object, z: Tensor) -> Tensor:
    """The group of every row, (m,), integers, on the device of the rows."""
    if not isinstance(groups, Tensor):
        raise TypeError(f"groups must be a torch.Tensor of shape ({len(z)},), got {type(groups).__name__}")
    if groups.is_floating_point() or groups.is_complex() or groups.dtype == torch.bool:
        raise TypeError(f"groups must have an integer dtype, got {groups.dtype}")
    if groups.shape != z.shape[:1]:
        raise ValueError(f"groups must have shape ({len(z)},), got shape {tuple(groups.shape)}")
    if groups.device != z.device:
        raise ValueError(f"groups and z must be on one device, got {groups.device} and {z.device}")
    if (groups == groups[0]).all():
        raise ValueError(f"groups must have at least two different values, got one for all {len(z)} rows")
    return groups


def normality_of_groups(
    z: Tensor, groups: Tensor, gamma: float | Tensor, *, backend: str, precision: str, phi: str
) -> Tensor:
    """The distance above, 0-d in float64, by a backend with operators; the reference has it as it is written.

    Args:
        z: (m, D).
        groups: (m,), integers.
        gamma: a 0-d float64 tensor or a number.
        backend, precision, phi: as in :func:`segma_fast.autograd.energy`.
    """
    wide = accumulation_dtype(z.device)
    rows = len(z)
    order = torch.argsort(groups, stable=True)
    sizes = torch.unique_consecutive(groups[order], return_counts=True)[1]
    pairs = rows * rows - int(sizes.square().sum())  # P
    weight, own = pairs**-0.5, pairs**0.5 / rows
    cloud = (z, z.new_zeros(1, z.shape[1]), z.new_full((rows,), weight, dtype=wide), z.new_full((1,), own, dtype=wide))
    value = energy(*cloud, 1.0, gamma, backend=backend, precision=precision, phi=phi, dtype=wide)
    prior = (2 * math.pi * (2 + 2 * torch.as_tensor(gamma, dtype=wide, device=z.device))).rsqrt()
    inside = _pairs_inside(z, order, sizes, gamma, phi)
    distance: Tensor = value + (1 - own * own) * prior - inside / pairs
    return distance


def _pairs_inside(z: Tensor, order: Tensor, sizes: Tensor, gamma: float | Tensor, phi: str) -> Tensor:
    """``Σ_{ij: g_i = g_j} k(z_i, z_j, 0)``, i = j included, over groups of one size together."""
    x = z.to(torch.promote_types(z.dtype, torch.float32))
    starts = sizes.cumsum(0) - sizes
    total = x.new_zeros((), dtype=accumulation_dtype(z.device))
    for size in sizes.unique().tolist():
        rows = order[starts[sizes == size, None] + torch.arange(size, device=z.device)]  # (groups, size)
        add = partial(_kernel_sum, gamma=gamma, phi=phi)
        for part in rows.split(max(1, BLOCK_ELEMENTS // (size * max(size, x.shape[1])))):
            for some in part.split(max(1, BLOCK_ELEMENTS // (size * len(part))), 1):
                large = size > LARGE and torch.is_grad_enabled()
                total = total + (checkpoint(add, x, some, part, use_reentrant=False) if large else add(x, some, part))
    return total


def _kernel_sum(x: Tensor, some: Tensor, group: Tensor, gamma: float | Tensor, phi: str) -> Tensor:
    """The kernel's sum over pairs of some rows (g, n) of each group and all of it (g, size)."""
    members = x[group]
    centre = members.detach().mean(1, keepdim=True)
    a, b = x[some] - centre, members - centre
    t = (a.square().sum(2)[:, :, None] + b.square().sum(2)[:, None] - 2 * a @ b.mT).clamp_min(0)
    t = torch.where(some[:, :, None] == group[:, None], 0.0, t)
    h = 4 * torch.as_tensor(gamma, dtype=x.dtype, device=x.device)
    return profile(t, h, x.shape[1], phi)[0].sum(dtype=accumulation_dtype(x.device))
