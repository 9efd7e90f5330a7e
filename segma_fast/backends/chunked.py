"""The primitive in plain torch, tile by tile: value and gradient in one pass, O(MD) memory, on any device.

A tile holds the profile of a block of rows against a block of columns. One matrix product of augmented points
gives ``(h_a + h_b)/c + |x_a - x_b|²`` for the whole tile (divided by c, the points need no further rounding), the
reciprocal square root turns it into kernel values, and a second product with ``w [x, 1]`` gives all that the
derivatives need. A cloud against itself is symmetric, so only tiles on and above the diagonal are evaluated, each
used once for its rows and once for its columns.

d² is a small difference of large sums, so the potential is summed in float64, always in the same order, and the
terms k_aa, which can weigh as much as all others together, are added in float64 at the end. Where the products of
float32 points could not resolve the widths (a tiny γ, a point far from all others), the tiles are float64 too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from segma_fast.formulas import INV_SQRT_PI, accumulation_dtype, profile, slope

TILE_ROWS, TILE_COLUMNS = 512, 1024
RESOLVED = 300  # greatest c|x|² / h for float32 products: the smallest arguments are then off by about 1e-4


class Cloud:
    """Centred points, rounded once, and the tiles of their profile.

    Coordinates too large to square are divided by ``unit``, a power of two: multiplying x by s and h by s²
    divides the kernel by s. NaN and infinity in ``x`` make ``unit``, and with it every result, NaN.
    """

    def __init__(self, points: Tensor, h: Tensor, w: Tensor) -> None:
        dtype = accumulation_dtype(points.device)
        h = h / slope(points.shape[1])
        x = points - _centre(points)
        norms = (x * x).sum(1, dtype=dtype)
        self.unit = torch.ones((), dtype=dtype, device=x.device)
        may_look = x.device.type == "cpu"  # elsewhere looking would stop the device
        if may_look and not norms.amax() <= RESOLVED * h.amin():
            x = points.double()
            x = x - x.median(0).values
            norms = (x * x).sum(1)
        if not may_look or not norms.isfinite().all():
            limits = torch.finfo(x.dtype)
            largest = limits.max**0.5 / 1e3  # D largest² is finite up to D = 1,000,000
            self.unit = torch.exp2(torch.log2(x.abs().amax() / largest).ceil().clamp_min(0)).to(dtype)
            x = x / self.unit.to(x.dtype)
            h = (h / (self.unit * self.unit)).clamp_min(limits.tiny)
            norms = (x * x).sum(1, dtype=dtype)
        self.x, self.w = x, w.to(x.dtype)  # (M, D), (M,)
        lifted = (h + norms).to(x.dtype)
        if x.dtype != dtype:
            rounded = lifted - norms  # the width that a tile sees; k_aa takes the same, or heavy points would disagree
            h = torch.where((rounded - h).abs() <= 1e-4 * h, rounded, h)
        self.h = h  # (M,) float64, divided by c as all that the tiles hold
        lifted = lifted[:, None]
        one = torch.ones_like(lifted)
        self.left = torch.cat([-2 * x, lifted, one], 1)  # (M, D + 2)
        self.right = torch.cat([x, one, lifted], 1).mT
        self.lowest = (2 * h.amin()).to(x.dtype)
        self._scratch: dict[str, Tensor] = {}

    def tiles(self, start: int, stop: int) -> Iterator[tuple[slice, slice, bool, Tensor]]:
        """``(rows, columns, mirrored, r)`` with the reciprocal square roots of a tile, 0 for a point with itself.

        A mirrored tile also stands for the one with rows and columns exchanged. ``r`` is valid until the next.
        """
        total = self.x.shape[0]
        mirror = start == 0 and stop == total
        grow = (1, 1) if self.x.device.type == "cpu" else (16, 8)
        tile_rows, tile_columns = TILE_ROWS * grow[0], TILE_COLUMNS * grow[1]
        for top in range(start, stop, tile_rows):
            rows = slice(top, min(top + tile_rows, stop))
            if mirror:
                yield rows, rows, False, self._reciprocal_roots(rows, rows)
            for first in range(rows.stop if mirror else 0, total, tile_columns):
                columns = slice(first, min(first + tile_columns, total))
                yield rows, columns, mirror, self._reciprocal_roots(rows, columns)

    def _reciprocal_roots(self, rows: slice, columns: slice) -> Tensor:
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        r = self.scratch("r", shape, self.x.dtype)
        torch.mm(self.left[rows], self.right[:, columns], out=r).clamp_(min=self.lowest).rsqrt_()
        if rows.start < columns.stop and columns.start < rows.stop:
            r.diagonal(rows.start - columns.start).zero_()
        return r

    def scratch(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Memory for a tile, the same for every tile: fresh pages would cost more than the arithmetic."""
        size = shape[0] * shape[1]
        held = self._scratch.get(name)
        if held is None or held.numel() < size:
            held = self._scratch[name] = torch.empty(size, dtype=dtype, device=self.x.device)
        return held[:size].view(shape)


def _centre(x: Tensor) -> Tensor:
    """A point (D,) in the middle of the cloud that a few points far away do not move: the median of a few rows."""
    some = x[:: max(1, x.shape[0] // 64)]
    return some.sort(0).values[some.shape[0] // 2]


def _add_potential(u: Tensor, w: Tensor, start: int, tile: tuple[slice, slice, bool, Tensor], cloud: Cloud) -> None:
    """Add what a tile contributes to ``Σ_b w_b r_ab``, in float64: one heavy point can be half of d²."""
    rows, columns, mirrored, r = tile
    exact = cloud.scratch("exact", (r.shape[0], r.shape[1]), u.dtype).copy_(r)
    u[rows.start - start : rows.stop - start] += exact @ w[columns]
    if mirrored:
        u[columns] += w[rows] @ exact


def energy(z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int) -> Tensor:
    """The part of the energy that belongs to the rows ``start:stop``; see :func:`gradient`."""
    x = _cloud_of(z, means)
    whole = start == 0 and stop == x.shape[0]
    if x.shape[1] == 1:
        return _sum(w[start:stop], _potential_on_line(x, h, w, start, stop)[0], whole)
    cloud = Cloud(x, h, w)
    u = w[start:stop] * torch.rsqrt(2 * cloud.h[start:stop])
    for tile in cloud.tiles(start, stop):
        _add_potential(u, w, start, tile, cloud)
    return _sum(w[start:stop], u, whole) * (INV_SQRT_PI / math.sqrt(slope(x.shape[1])) / cloud.unit)


def gradient(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Energy and gradient of the signed cloud x = [z, means], ``E = Σ_ab w_a w_b k(|x_a - x_b|², h_a + h_b)``.

    Args:
        z, means: the M points, (m, D) and (K, D), of one dtype.
        h, w: their widths and signed weights, (M,), float64.
        start, stop: the rows a of the sum to evaluate, against all M points; ``0, M`` for all of E.

    Returns:
        The rows' part of E, 0-d float64, and never below 0 for all rows; and the derivatives of E for these
        n = stop - start points: ∂E/∂z and ∂E/∂means for as many of their rows, float64 for float64 points and else
        float32, ∂E/∂h and ∂E/∂w (n,), float64.
    """
    x = _cloud_of(z, means)
    whole, middle = start == 0 and stop == x.shape[0], min(max(z.shape[0] - start, 0), stop - start)
    weight = w[start:stop]
    if x.shape[1] == 1:
        u, du_dx, du_dh = _potential_on_line(x, h, w, start, stop)
        dx = ((2 * weight * du_dx)[:, None]).to(x.dtype)
        return _sum(weight, u, whole), *_halves(dx, middle), 2 * weight * du_dh, 2 * u
    cloud = Cloud(x, h, w)
    moments = _moments(cloud)
    across = moments.mT.contiguous()  # for the mirrored tiles: a product with cube.mT would be slower
    own_root = torch.rsqrt(2 * cloud.h[start:stop])
    u = weight * own_root
    v = u.new_zeros(stop - start, moments.shape[1])  # Σ_b w_b r³ [x_b, 1] over b ≠ a, from the tiles' rows
    v_across = u.new_zeros(moments.shape[1], stop - start)  # the same from the columns of mirrored tiles
    for tile in cloud.tiles(start, stop):
        _add_potential(u, w, start, tile, cloud)
        rows, columns, mirrored, r = tile
        cube = torch.mul(r, r, out=cloud.scratch("cube", (r.shape[0], r.shape[1]), r.dtype)).mul_(r)
        v[rows.start - start : rows.stop - start] += cube @ moments[columns]
        if mirrored:
            v_across[:, columns] += across[:, rows] @ cube
    v += v_across.mT
    dim = x.shape[1]
    mass = v[:, dim]
    factor = INV_SQRT_PI / math.sqrt(slope(dim)) / cloud.unit
    twice = 2 * weight  # each pair counts from both of its ends
    dx = (v[:, :dim] - mass[:, None] * cloud.x[start:stop]) * (twice * factor / cloud.unit)[:, None]
    dh = twice * (mass + weight * own_root**3) * (-0.5 * factor / slope(dim) / cloud.unit / cloud.unit)
    return _sum(weight, u, whole) * factor, *_halves(dx.to(x.dtype), middle), dh, 2 * factor * u


def _sum(weight: Tensor, u: Tensor, whole: bool) -> Tensor:
    """``Σ w_a u_a``, which is ≥ 0 for the whole cloud: what is below is rounding."""
    value = torch.dot(weight, u)
    return value.clamp_min(0) if whole else value


def _halves(dx: Tensor, middle: int) -> tuple[Tensor, Tensor]:
    """Operators return no views of one tensor."""
    return dx[:middle].clone(), dx[middle:].clone()


def _cloud_of(z: Tensor, means: Tensor) -> Tensor:
    """All points, (M, D), in float32 or float64."""
    x = torch.cat([z, means])
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _moments(cloud: Cloud) -> Tensor:
    """``w [x, 1]``, (M, D + 1); a narrow one is filled up with zeros to a width that matrix products take faster."""
    rows, dim = cloud.x.shape
    zeros = cloud.x.new_zeros(rows, -(dim + 1) % 16 if dim < 32 else 0)
    return torch.cat([cloud.w[:, None] * cloud.x, cloud.w[:, None], zeros], 1)


def _potential_on_line(x: Tensor, h: Tensor, w: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
    """u, ∂u/∂x and ∂u/∂h, (n,), in one dimension, by differences and the exact profile, row block by row block."""
    x = x[:, 0].to(h.dtype)
    parts = []
    for top in range(start, stop, TILE_ROWS) or (start,):
        rows = slice(top, min(top + TILE_ROWS, stop))
        gap = x[rows, None] - x
        k, k_t, k_h = profile(gap * gap, h[rows, None] + h, 1)
        parts.append((k @ w, 2 * (k_t * gap) @ w, k_h @ w))
    u, du_dx, du_dh = (torch.cat(part) for part in zip(*parts, strict=True))
    return u, du_dx, du_dh
