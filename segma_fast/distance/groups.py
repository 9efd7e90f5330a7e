"""The distance to N(0, I) without the pairs of rows that belong together, such as the views of one image.

Views of one image are meant to have similar codes, so their pairs say nothing about the distribution of the codes of
the images. The mean over all pairs becomes the mean over the P ordered pairs of rows of different groups::

    d² = 1/P Σ_{ij: g_i ≠ g_j} k(z_i, z_j, 0) - 2/m Σ_i k(z_i, 0, 1) + k(0, 0, 2)

This is an unbiased estimate, which may be negative. The fused kernels evaluate all pairs at once, as the energy E of a
cloud with weight ``s = P^(-1/2)`` for a row and ``-p = -1/(ms)`` for the origin. The terms that differ are corrected::

    d² = E + (1 - p²) k(0, 0, 2) - 1/P Σ_{ij: g_i = g_j} k(z_i, z_j, 0)

The pairs inside a large group are the energy of another cloud. Pairs inside small groups are evaluated in plain torch,
in batches of groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from segma_fast.distance.arguments import check_dense, check_device
from segma_fast.distance.autograd import Inputs, Options, energy
from segma_fast.distance.formulas import accumulation_dtype, profile, squared_distances
from segma_fast.distance.precision import without_autocast

BLOCK_ELEMENTS = 1 << 20  # coordinates, or pairs, of small groups that are in memory at once
LARGE = 64  # groups with more rows than this get a kernel call of their own


def check_groups(groups: object, z: Tensor) -> Tensor:
    """Check the group of every row, (m,) integers on the device of the rows; return them as int64."""
    found = check_dense("groups", groups, f"({len(z)},)")
    if found.is_floating_point() or found.is_complex() or found.is_quantized or found.dtype == torch.bool:
        raise TypeError(f"groups must have an integer dtype, got {found.dtype}")
    if found.shape != z.shape[:1]:
        raise ValueError(f"groups must have shape ({len(z)},), got shape {tuple(found.shape)}")
    check_device("groups", found, "z", z.device)
    if found.is_meta:
        raise ValueError("groups must have values that can be read, got a tensor on the device meta")
    found = found.long()  # not every device can sort and compare unsigned integers
    if (found == found[0]).all():
        raise ValueError(f"groups must have at least two different values, got one for all {len(z)} rows")
    return found


def normality_of_groups(z: Tensor, groups: Tensor, gamma: float | Tensor, options: Options) -> Tensor:
    """The distance above, 0-d in float64, by a backend with operators; the reference implements it literally.

    Args:
        z: (m, D), float32 or float64, not half: the gradients of terms that cancel would each be rounded to half.
        groups: (m,), integers.
        gamma: a 0-d float64 tensor or a number.
        options: of :func:`segma_fast.distance.autograd.energy`.
    """
    wide = accumulation_dtype(z.device)
    rows = len(z)
    order = torch.argsort(groups, stable=True)
    sizes = torch.unique_consecutive(groups[order], return_counts=True)[1]
    pairs = rows * rows - int(sizes.square().sum())  # P
    weight, own = pairs**-0.5, pairs**0.5 / rows
    cloud = (z, z.new_zeros(1, z.shape[1]), z.new_full((rows,), weight, dtype=wide), z.new_full((1,), own, dtype=wide))
    value = energy(Inputs(*cloud, 1.0, gamma), options)
    prior = (2 * math.pi * (2 + 2 * torch.as_tensor(gamma, dtype=wide, device=z.device))).rsqrt()
    small, large = _by_size(order, sizes)
    inside = _pairs_of_small_groups(z, torch.as_tensor(gamma, dtype=wide, device=z.device), small, options.phi)
    for group in large:
        ones = z.new_ones(len(group), dtype=wide)
        inside = inside + energy(Inputs(z[group[1:]], z[group[:1]], ones[1:], -ones[:1], 0.0, gamma), options)
    distance: Tensor = value + (1 - own * own) * prior - inside / pairs
    return distance


def _by_size(order: Tensor, sizes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The rows of the small groups, one (groups, size) tensor per size, and the rows of each large group."""
    starts = sizes.cumsum(0) - sizes
    small = [
        order[starts[sizes == size, None] + torch.arange(size, device=order.device)]
        for size in sizes.unique().tolist()
        if size <= LARGE
    ]
    is_large = sizes > LARGE
    ends = zip(starts[is_large].tolist(), sizes[is_large].tolist(), strict=True)
    return small, [order[start : start + size] for start, size in ends]


def _pairs_of_small_groups(z: Tensor, gamma: Tensor, groups: list[Tensor], phi: str) -> Tensor:
    """``Σ_{ij: g_i = g_j} k(z_i, z_j, 0)``, i = j included, over groups given as rows (groups, size) for each size."""
    inside = _inside if torch.compiler.is_compiling() else _apply_inside  # a Function has one derivative in a graph
    return inside(z, gamma, groups, phi)[0]


def _inside(z: Tensor, gamma: Tensor, groups: list[Tensor], phi: str) -> tuple[Tensor, Tensor, Tensor]:
    """The sum and its gradients in z and gamma, in plain differentiable torch."""
    dim, wide = z.shape[1], gamma.dtype
    value, grad_gamma = gamma.new_zeros(()), gamma.new_zeros(())
    grad_z = torch.zeros_like(z)
    parts = []
    for of_one_size in groups:
        size = of_one_size.shape[1]
        itself = torch.eye(size, dtype=torch.bool, device=z.device)
        for group in of_one_size.split(max(1, BLOCK_ELEMENTS // (size * max(size, dim)))):
            x = z[group].to(wide)
            x = x - x.detach().mean(1, keepdim=True)
            t = squared_distances(x, x).masked_fill(itself, 0)
            k, k_t, k_h = profile(t, 4 * gamma, dim, phi)
            value, grad_gamma = value + k.sum(), grad_gamma + 4 * k_h.sum()
            pull = k_t.masked_fill(itself, 0)
            grad = 4 * (pull.sum(2, keepdim=True) * x - pull @ x)
            if torch.is_grad_enabled():
                parts.append((group.flatten(), grad.flatten(0, 1).to(z.dtype)))
            else:
                grad_z[group.flatten()] = grad.flatten(0, 1).to(z.dtype)
    if parts:
        rows, gradients = (torch.cat(part) for part in zip(*parts, strict=True))
        grad_z = grad_z.index_copy(0, rows, gradients)
    return value, grad_z, grad_gamma


class _Inside(Function):
    """The sum, with its gradients from the same pass: no tensor of pairs is saved for backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, gamma: Tensor, groups: list[Tensor], phi: str) -> tuple[Tensor, Tensor, Tensor]:
        return _inside(z, gamma, groups, phi)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        z, gamma, ctx.groups, ctx.phi = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z, gamma, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        z, gamma, grad_z, grad_gamma = ctx.saved_tensors
        grad_value = grad_outputs[0]
        if grad_value is None:
            return None, None, None, None
        if torch.is_grad_enabled():
            with without_autocast(z.device):
                _, grad_z, grad_gamma = _inside(z, gamma, ctx.groups, ctx.phi)
        return (grad_value * grad_z).to(z.dtype), grad_value * grad_gamma, None, None


_apply_inside: Callable[..., tuple[Tensor, ...]] = _Inside.apply
