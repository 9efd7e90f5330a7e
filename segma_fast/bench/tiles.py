"""A contender in plain torch: value and gradient tile by tile, each tile's pointwise work compiled into a few kernels.

This is what a user could write without custom kernels. The points are padded to equal tiles with points of weight zero,
so that two graphs with fixed shapes suffice for all tiles. A tile off the diagonal covers both orders of its pairs.
Autograd does not have to save anything, because the gradient is written by hand.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from segma_fast.bench.problems import Problem, Run
from segma_fast.distance.formulas import INV_SQRT_PI, form_of

LARGEST_TILE = {"cuda": 8192, "cpu": 1024}  # CPU: the best of those tried; GPU: fits easily into memory
UNIT = 128  # a tile's side is a multiple of it
COMPILE: dict[str, Any] = {"mode": "default"}

Part = tuple[Tensor, Tensor, Tensor, Tensor]  # a tile's points, their |x|² + h/c, weights (float64), and w [x, 1]


def across(rows: Part, columns: Part) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``Σ w r`` and ``Σ w r³ [x, 1]`` for the rows and for the columns of a tile off the diagonal."""
    r = torch.rsqrt(rows[1][:, None] + columns[1] - 2 * (rows[0] @ columns[0].mT))
    cube, exact = r * r * r, r.double()
    return (
        (exact * columns[2]).sum(1),
        (exact * rows[2][:, None]).sum(0),
        cube @ columns[3],
        cube.mT @ rows[3],
    )


def within(part: Part) -> tuple[Tensor, Tensor]:
    """The same for a tile on the diagonal, without the pairs of a point with itself."""
    r = torch.rsqrt(part[1][:, None] + part[1] - 2 * (part[0] @ part[0].mT))
    index = torch.arange(len(r), device=r.device)
    r = torch.where(index[:, None] == index, 0.0, r)
    return (r.double() * part[2]).sum(1), (r * r * r) @ part[3]


def compiled_tiles(problem: Problem) -> Run:
    (rows, dim), components, gamma = problem.z.shape, len(problem.means), problem.gamma
    largest = LARGEST_TILE.get(problem.z.device.type, 1024)
    total = rows + components
    blocks = -(-total // largest)
    tile = -(-total // (blocks * UNIT)) * UNIT
    padded, device = blocks * tile, problem.z.device
    h = torch.full((padded,), 2 * gamma, dtype=torch.float64, device=device)
    h[rows:total] += 2
    h /= form_of(dim, "approx").slope
    w = torch.zeros(padded, dtype=torch.float64, device=device)
    w[:rows], w[rows:total] = 1 / rows, -1 / components
    single = w.float()[:, None]
    off_diagonal = torch.compile(across, fullgraph=True, dynamic=False, **COMPILE)
    on_diagonal = torch.compile(within, fullgraph=True, dynamic=False, **COMPILE)
    factor = INV_SQRT_PI / math.sqrt(form_of(dim, "approx").slope)

    @torch.no_grad()
    def run() -> tuple[Tensor, ...]:
        x = torch.cat([problem.z, problem.means, problem.z.new_zeros(padded - total, dim)]).float()
        x[:total] -= problem.means.mean(0)
        lifted = (h + (x * x).sum(1, dtype=torch.float64)).float()
        moments = single * torch.cat([x, torch.ones_like(single)], 1)
        parts = list(zip(*(t.split(tile) for t in (x, lifted, w, moments)), strict=True))
        u, v = w * torch.rsqrt(2 * h), torch.zeros_like(moments)
        us, vs = u.split(tile), v.split(tile)
        for i, part in enumerate(parts):
            for j in range(i + 1, blocks):
                found = off_diagonal(part, parts[j])
                for sums, more in zip((us[i], us[j], vs[i], vs[j]), found, strict=True):
                    sums += more
            for sums, more in zip((us[i], vs[i]), on_diagonal(part), strict=True):
                sums += more
        value = factor * torch.dot(w, u)
        gradient = (2 * factor) * single[:total] * (v[:total, :dim] - v[:total, dim:] * x[:total])
        return value, *(part.to(problem.z.dtype) for part in (gradient[:rows], gradient[rows:]))

    return run
