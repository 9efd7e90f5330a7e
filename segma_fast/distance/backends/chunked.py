"""The primitive in plain torch, tile by tile: value and gradient in one pass, O(MD) memory, on any device.

A tile holds the profile of a block of rows against a block of columns. One matrix product of augmented points
gives ``(h_a + h_b)/c + |x_a - x_b|²`` for the whole tile (dividing by c avoids scaling the points, which would round
them again). The reciprocal square root, and for the exact φ a polynomial, turns it into kernel values. A second product
with ``w [x, 1]`` gives all sums that the derivatives need. A cloud against itself is symmetric, so only tiles on and
above the diagonal are evaluated; each is used once for its rows and once for its columns.

d² is a small difference of large sums, so the potential is summed in float64, always in the same order. The terms k_aa,
which can weigh as much as all others together, are added in float64 at the end. If products of float32 points cannot
resolve the widths (a tiny γ, a point far from all others), or if torch is set to round them, the tiles are float64 too.
If float64 products cannot resolve the widths either, differences of coordinates are squared instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from segma_fast.distance.backends import waves
from segma_fast.distance.backends.registry import Backend, register
from segma_fast.distance.formulas import INV_SQRT_PI, accumulation_dtype, form_of, profile, unit_of
from segma_fast.distance.precision import products_are_rounded

TILE_ROWS, TILE_COLUMNS = 512, 1024
# largest c|x|² / h, with the paper's c, for float32 products: the smallest arguments are then off by about 1e-4
RESOLVED = 300
RESOLVED_DOUBLE = {False: 1e8, True: 1e3}  # the same for float64 products of float32 and of float64 points: 1e-8, 1e-13


class Tile(NamedTuple):
    """Reciprocal square roots r of a block of rows against one of columns, 0 for a point with itself.

    A mirrored tile also stands for its transpose.
    """

    rows: slice
    columns: slice
    mirrored: bool
    r: Tensor


class Cloud:
    """Centred points, rounded once, and the tiles of their profile.

    Coordinates too large to square are divided by ``unit``, a power of two: multiplying x by s and h by s²
    divides the kernel by s. NaN and infinity in ``x`` make ``unit``, and with it every result, NaN.
    """

    def __init__(self, points: Tensor, h: Tensor, w: Tensor, phi: str) -> None:
        dtype = accumulation_dtype(points.device)
        form = form_of(points.shape[1], phi)
        h = h / form.slope
        x = points - _centre(points)
        norms = _squared_norms(x, dtype)
        self.unit = torch.ones((), dtype=dtype, device=x.device)
        may_look = x.device.type == "cpu"  # elsewhere reading a value would synchronise the device

        def resolves(limit: float) -> bool:
            return bool(norms.amax() <= form.resolved(limit, x.shape[1]) * h.amin())

        if products_are_rounded(x.device) or (may_look and not resolves(RESOLVED)):
            x = points.to(dtype)
            x = x - x.median(0).values
            norms = _squared_norms(x, dtype)
        self.by_products = True
        if x.dtype == torch.float64:
            precise = points.dtype == torch.float64
            self.by_products = resolves(RESOLVED_DOUBLE[precise]) if may_look else not precise
        if not may_look or not norms.isfinite().all():
            self.unit = unit_of(x).to(dtype)
            x = x / self.unit.to(x.dtype)
            h = (h / (self.unit * self.unit)).clamp_min(torch.finfo(x.dtype).tiny)
            norms = _squared_norms(x, dtype)
        self.x, self.w = x, w.to(x.dtype)  # (M, D), (M,)
        lifted = (h + norms).to(x.dtype)
        if x.dtype != dtype:
            rounded = lifted - norms  # the width that a tile uses; k_aa must too, which matters for heavy points
            h = torch.where((rounded - h).abs() <= 1e-4 * h, rounded, h)
        self.h = h  # (M,) float64, divided by c like everything in the tiles
        lifted = lifted[:, None]
        one = torch.ones_like(lifted)
        self.left = torch.cat([-2 * x, lifted, one], 1)  # (M, D + 2)
        self.right = torch.cat([x, one, lifted], 1).mT
        self.lowest = (2 * h.amin()).to(x.dtype)
        self.form = form_of(x.shape[1], phi, x.dtype)
        self.own = self.form.own(x.dtype)
        self.twice_h = (2 * h).to(x.dtype)
        self._scratch: dict[str, Tensor] = {}

    def tiles(self, start: int, stop: int) -> Iterator[Tile]:
        """Tiles of reciprocal square roots; each is valid until the next comes."""
        total = self.x.shape[0]
        mirror = start == 0 and stop == total
        grow = (1, 1) if self.x.device.type == "cpu" else (16, 8)
        tile_rows, tile_columns = TILE_ROWS * grow[0], TILE_COLUMNS * grow[1]
        for top in range(start, stop, tile_rows):
            rows = slice(top, min(top + tile_rows, stop))
            if mirror:
                yield Tile(rows, rows, False, self._reciprocal_roots(rows, rows))
            for first in range(rows.stop if mirror else 0, total, tile_columns):
                columns = slice(first, min(first + tile_columns, total))
                yield Tile(rows, columns, mirror, self._reciprocal_roots(rows, columns))

    def _reciprocal_roots(self, rows: slice, columns: slice) -> Tensor:
        r = self.scratch("r", (rows.stop - rows.start, columns.stop - columns.start), self.x.dtype)
        if self.by_products:
            torch.mm(self.left[rows], self.right[:, columns], out=r).clamp_(min=self.lowest)
        else:
            apart = torch.cdist(self.x[rows], self.x[columns], compute_mode="donot_use_mm_for_euclid_dist")
            torch.add(self.h[rows, None], self.h[columns], out=r).addcmul_(apart, apart)
        r.rsqrt_()
        if rows.start < columns.stop and columns.start < rows.stop:
            r.diagonal(rows.start - columns.start).zero_()
        return r

    def profile(self, tile: Tile) -> tuple[Tensor, Tensor, Tensor]:
        """``r Q``, ``r³ P`` and ``r³ (P - 2 dQ/dτ)`` of a tile: k, -2 ∂k/∂t and -2 ∂k/∂h without constant factors."""
        r, shape = tile.r, (tile.r.shape[0], tile.r.shape[1])
        cube = torch.mul(r, r, out=self.scratch("cube", shape, r.dtype))
        if self.form.flat:
            cube.mul_(r)
            return r, cube, cube
        pull, x, value, widen = (self.scratch(name, shape, r.dtype) for name in ("pull", "x", "value", "widen"))
        # not (h_a + h_b) r²: the sum would have the same rounding error for all points of one width
        twice_tau = torch.mul(cube, self.twice_h[tile.rows, None], out=pull).addcmul_(cube, self.twice_h[tile.columns])
        torch.sub(twice_tau, 1, out=x)
        q, steep = value.fill_(self.form.coefficients[-1]), widen.zero_()
        for coefficient in self.form.coefficients[-2::-1]:
            torch.addcmul(q, steep, x, out=steep)
            q.mul_(x).add_(coefficient)
        steep.mul_(2)  # dQ/dτ
        torch.addcmul(q, twice_tau, steep, out=pull)
        widen = torch.sub(pull, steep, alpha=2, out=widen)
        cube.mul_(r)
        return value.mul_(r), pull.mul_(cube), widen.mul_(cube)

    def scratch(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Memory for a tile, reused by every tile: fresh pages would cost more time than the arithmetic."""
        size = shape[0] * shape[1]
        held = self._scratch.get(name)
        if held is None or held.numel() < size:
            held = self._scratch[name] = torch.empty(size, dtype=dtype, device=self.x.device)
        return held[:size].view(shape)


def _centre(x: Tensor) -> Tensor:
    """A robust centre (D,) of the cloud, which outliers do not move: the median of a few rows."""
    some = x[:: max(1, x.shape[0] // 64)]
    return some.sort(0).values[some.shape[0] // 2]


def _squared_norms(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``|x|²``, (M,), in ``dtype``: squares rounded to float32 first would not match the matrix products."""
    return torch.cat([part.to(dtype).square().sum(1) for part in x.split(8 * TILE_COLUMNS)])


def _add_potential(u: Tensor, w: Tensor, start: int, tile: Tile, value: Tensor, cloud: Cloud) -> None:
    """Add what a tile contributes to ``Σ_b w_b k_ab``, in float64: one heavy point can be half of d²."""
    exact = cloud.scratch("exact", (value.shape[0], value.shape[1]), u.dtype).copy_(value)
    u[tile.rows.start - start : tile.rows.stop - start] += exact @ w[tile.columns]
    if tile.mirrored:
        u[tile.columns] += w[tile.rows] @ exact


def energy(z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str) -> Tensor:
    """The part of the energy that belongs to the rows ``start:stop``; see :func:`gradient`."""
    if z.ndim == 3:
        samples = zip(z, means, h, w, strict=True)
        return torch.stack([energy(*sample, start, stop, precision, phi) for sample in samples])
    x = _cloud_of(z, means)
    whole = start == 0 and stop == x.shape[0]
    if x.shape[1] == 1:
        return _sum(w[start:stop], _potential_on_line(x, h, w, start, stop)[0], whole)
    cloud = Cloud(x, h, w, phi)
    u = w[start:stop] * torch.rsqrt(2 * cloud.h[start:stop]) * cloud.own
    for tile in cloud.tiles(start, stop):
        _add_potential(u, w, start, tile, cloud.profile(tile)[0], cloud)
    return _sum(w[start:stop], u, whole) * (INV_SQRT_PI / math.sqrt(cloud.form.slope) / cloud.unit)


def gradient(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Energy and gradient of the signed cloud x = [z, means], ``E = Σ_ab w_a w_b k(|x_a - x_b|², h_a + h_b)``.

    Args:
        z, means: the M points, (m, D) and (K, D), of one dtype.
        h, w: their widths and signed weights, (M,), float64.
        start, stop: the rows a of the sum to evaluate, against all M points; ``0, M`` for all of E.
        precision: ignored, because d² is so small a difference that TF32 scores would change it by 40 %.
        phi: the form of φ_D in k, "approx" or "exact".

    With a first dimension of B in all four tensors, and ``0, M``, these are B samples, here evaluated one after the
    other, and all results have that dimension too.

    Returns:
        The part of E of these rows, 0-d float64, clamped to ≥ 0 if they are all rows. Then the derivatives of E for
        these n = stop - start points: ∂E/∂z and ∂E/∂means for the rows of z and of means among them, float64 for
        float64 points and else float32; ∂E/∂h and ∂E/∂w, (n,), float64.
    """
    if z.ndim == 3:
        samples = zip(z, means, h, w, strict=True)
        found = [gradient(*sample, start, stop, precision, phi) for sample in samples]
        value, dz, dmeans, dh, dw = (torch.stack(parts) for parts in zip(*found, strict=True))
        return value, dz, dmeans, dh, dw
    x = _cloud_of(z, means)
    whole, middle = start == 0 and stop == x.shape[0], min(max(z.shape[0] - start, 0), stop - start)
    weight = w[start:stop]
    if x.shape[1] == 1:
        u, du_dx, du_dh = _potential_on_line(x, h, w, start, stop)
        dx = ((2 * weight * du_dx)[:, None]).to(x.dtype)
        return _sum(weight, u, whole), *_halves(dx, middle), 2 * weight * du_dh, 2 * u
    cloud = Cloud(x, h, w, phi)
    moments = _moments(cloud)
    across = moments.mT.contiguous()  # for the mirrored tiles: a product with pull.mT would be slower
    own_root = torch.rsqrt(2 * cloud.h[start:stop])
    u = weight * own_root * cloud.own
    v = u.new_zeros(stop - start, moments.shape[1])  # Σ_b w_b r³ P [x_b, 1] over b ≠ a, from the tiles' rows
    v_across = u.new_zeros(moments.shape[1], stop - start)  # the same from the columns of mirrored tiles
    widths = torch.zeros_like(u)  # Σ_b w_b r³ (P - 2 dQ/dτ), if Q is not 1
    for tile in cloud.tiles(start, stop):
        value, pull, widen = cloud.profile(tile)
        _add_potential(u, w, start, tile, value, cloud)
        rows, columns = slice(tile.rows.start - start, tile.rows.stop - start), tile.columns
        v[rows] += pull @ moments[columns]
        if tile.mirrored:
            v_across[:, columns] += across[:, tile.rows] @ pull
        if widen is not pull:
            widths[rows] += widen @ cloud.w[columns]
            if tile.mirrored:
                widths[columns] += cloud.w[tile.rows] @ widen
    v += v_across.mT
    dim, slope = x.shape[1], cloud.form.slope
    mass = v[:, dim]
    factor = INV_SQRT_PI / math.sqrt(slope) / cloud.unit
    twice = 2 * weight  # each pair counts twice, once for each of its points
    dx = (v[:, :dim] - mass[:, None] * cloud.x[start:stop]) * (twice * factor / cloud.unit)[:, None]
    widths = (mass if cloud.form.flat else widths) + weight * own_root**3 * cloud.own
    dh = twice * widths * (-0.5 * factor / slope / cloud.unit / cloud.unit)
    return _sum(weight, u, whole) * factor, *_halves(dx.to(x.dtype), middle), dh, 2 * factor * u


def _sum(weight: Tensor, u: Tensor, whole: bool) -> Tensor:
    """``Σ w_a u_a``, which is ≥ 0 for the whole cloud: negative rounding errors are clamped."""
    value = torch.dot(weight, u)
    return value.clamp_min(0) if whole else value


def _halves(dx: Tensor, middle: int) -> tuple[Tensor, Tensor]:
    """The parts for z and for means, copied because operators must not return views of one tensor."""
    return dx[:middle].clone(), dx[middle:].clone()


def _cloud_of(z: Tensor, means: Tensor) -> Tensor:
    """All points, (M, D), in float32 or float64."""
    x = torch.cat([z, means])
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _moments(cloud: Cloud) -> Tensor:
    """``w [x, 1]``, (M, D + 1); a narrow one is padded with zeros to a width that is faster in matrix products."""
    rows, dim = cloud.x.shape
    zeros = cloud.x.new_zeros(rows, -(dim + 1) % 16 if dim < 32 else 0)
    return torch.cat([cloud.w[:, None] * cloud.x, cloud.w[:, None], zeros], 1)


def _potential_on_line(x: Tensor, h: Tensor, w: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
    """u, ∂u/∂x and ∂u/∂h, (n,), in one dimension, by differences and the exact profile, one block of rows at a time."""
    x = x[:, 0].to(h.dtype)
    parts = []
    for top in range(start, stop, TILE_ROWS) or (start,):
        rows = slice(top, min(top + TILE_ROWS, stop))
        gap = x[rows, None] - x
        k, k_t, k_h = profile(gap * gap, h[rows, None] + h, 1)
        parts.append((k @ w, 2 * (k_t * gap) @ w, k_h @ w))
    u, du_dx, du_dh = (torch.cat(part) for part in zip(*parts, strict=True))
    return u, du_dx, du_dh


register(
    Backend(
        "chunked",
        "plain torch, tile by tile, O(mD) memory, any device",
        rank=3,
        operators=(energy, gradient),
        slices=waves.operators(waves.sums_of_tile, waves.slopes_of_tile),
    )
)
