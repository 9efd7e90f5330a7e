"""Random directions, orthogonal in blocks.

Below 64 dimensions a block is a random rotation, by QR of a Gaussian matrix: each direction has exactly the uniform
distribution on the sphere. From 64 dimensions on a block is ``H S₃ H S₂ H S₁`` with the Hadamard matrix H of the next
order P = 2^p ≥ D and diagonal matrices S of random signs. The native kernels project m rows on P directions by
additions alone, O(m P log P) of them. If D < P, each direction is cut to D coordinates and normalised; these blocks
are nearly orthogonal. A single direction is uniform up to terms of the order 1/D² of its fourth moments: no
difference was found in 2,400 draws for D = 64 (``docs/sigreg.md``).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from segma_fast.distance.formulas import accumulation_dtype

LEAST_FAST = 64  # dimensions from which on directions come as signs


def draw_directions(dim: int, slices: int, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Directions as the columns of a matrix (D, R) or as signs (blocks, 3, P), where and in the dtype as ``like``."""
    device = like.device if generator is None else generator.device
    if dim < LEAST_FAST:
        gaussian = torch.randn(-(-slices // dim), dim, dim, generator=generator, device=device, dtype=like.dtype)
        q, r = torch.linalg.qr(gaussian)
        q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]
        columns: Tensor = q.movedim(0, 1).reshape(dim, -1)[:, :slices].contiguous()
        return columns.to(like.device)
    order = 1 << (dim - 1).bit_length()
    bits = torch.randint(2, (-(-slices // order), 3, order), generator=generator, device=device, dtype=like.dtype)
    return (2 * bits - 1).to(like.device)


def lengths(directions: Tensor, dim: int, slices: int) -> Tensor:
    """What a direction of :func:`transform` has for length, (R,), in float64; 1 for those of a matrix."""
    wide = accumulation_dtype(directions.device)
    if directions.ndim == 2:
        return directions.new_ones(slices, dtype=wide)
    order = directions.shape[2]
    whole = float(order**3)
    if dim == order:
        return directions.new_full((slices,), math.sqrt(whole), dtype=wide)
    kind: dict[str, Any] = {"dtype": directions.dtype, "device": directions.device}
    if slices < min(dim, order - dim):  # the directions themselves
        rows = _mix(torch.eye(slices, order, **kind), directions[:1].flip(1), after=True)[0, :, :dim]
        return rows.to(wide).square().sum(1).sqrt()
    few = torch.eye(min(dim, order - dim), **kind)  # what is kept or what is cut away, whichever is less
    cut = order - dim < dim
    few = torch.nn.functional.pad(few, (dim, 0) if cut else (0, order - dim))
    squares = _mix(few, directions).to(wide).square().sum(1).reshape(-1)[:slices]
    return (whole - squares if cut else squares).sqrt()


def transform(points: Tensor, signs: Tensor) -> Tensor:
    """``H S₃ H S₂ H S₁`` of each block times points (n, D), with entries ±1 in H: (blocks, n, P)."""
    return _mix(torch.nn.functional.pad(points, (0, signs.shape[2] - points.shape[1])), signs)


def _mix(x: Tensor, signs: Tensor, after: bool = False) -> Tensor:
    """H times signs, three times, of rows (n, P) for each block; ``after``: signs times H, which is the transpose."""
    order = signs.shape[2]
    left, right = _hadamard(order.bit_length() - 1, x)
    for some in signs.to(x.dtype).unbind(1):
        x = x if after else x * some[:, None]
        x = (left @ x.unflatten(-1, (len(left), len(right))) @ right).flatten(-2)
        x = x * some[:, None] if after else x
    return x


def project(points: Tensor, directions: Tensor, slices: int) -> Tensor:
    """The projections v·x of points (n, D) on unit directions, (n, R), differentiable in the points."""
    if directions.ndim == 2:
        return points @ directions.to(points.dtype)
    projected = transform(points, directions).movedim(0, 1).flatten(1)[:, :slices]
    return projected / lengths(directions, points.shape[1], slices).to(points.dtype)


def unit_columns(directions: Tensor, dim: int, slices: int) -> Tensor:
    """The directions as the columns of a matrix (D, R)."""
    if directions.ndim == 2:
        return directions
    matrix = as_matrix(directions, dim, slices)
    return matrix.div(torch.linalg.vector_norm(matrix, dim=0))


def as_matrix(directions: Tensor, dim: int, slices: int) -> Tensor:
    """The columns that :func:`transform` stands for, (D, R), not normalised."""
    if directions.ndim == 2:
        return directions
    every = torch.eye(dim, dtype=directions.dtype, device=directions.device)
    return transform(every, directions).movedim(0, 1).flatten(1)[:, :slices]


def _hadamard(log_order: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices whose Kronecker product is H: a product with H is one with each."""
    matrix, pair = like.new_ones(1, 1), like.new_ones(2, 2)
    pair[1, 1].fill_(-1)  # an assignment would copy from the CPU, which a CUDA graph cannot capture
    for _ in range(log_order // 2):
        matrix = torch.kron(matrix, pair)
    return matrix if log_order % 2 == 0 else torch.kron(matrix, pair), matrix
