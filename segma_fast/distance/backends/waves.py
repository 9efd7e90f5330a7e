"""The operators of slices in plain torch, a tile of rows at a time; ``slices/operators.py`` states them.

The backend ``triton`` has the same tiles with kernels of its own for the waves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from segma_fast.distance.slices.directions import as_matrix

TILE = {"cpu": 1 << 18}  # projections of a tile, by device type
LARGE_TILE = 1 << 24
Sums = Callable[[Tensor, Tensor, int], Tensor]
Slopes = Callable[[Tensor, Tensor, Tensor], Tensor]


def sums_of_tile(projected: Tensor, steps: Tensor, frequencies: int) -> Tensor:
    """The waves of projections (n, R) with steps (R,): (2, T, R), summed over the rows."""
    cosine, sine = _waves(projected, steps)
    c, s = cosine, sine
    sums = []
    for k in range(frequencies):
        if k > 0:
            c, s = torch.addcmul(c * cosine, s, sine, value=-1), torch.addcmul(s * cosine, c, sine)
        sums += [c.sum(0), s.sum(0)]
    stacked: Tensor = torch.stack(sums).unflatten(0, (frequencies, 2))
    return stacked.movedim(1, 0)


def slopes_of_tile(projected: Tensor, steps: Tensor, factors: Tensor) -> Tensor:
    """``Σ_k factors[0, k] cos(k a) - factors[1, k] sin(k a)``, a = steps · projected (n, R), by Horner's rule."""
    cosine, sine = _waves(projected, steps)
    c, s = torch.zeros_like(cosine), torch.zeros_like(sine)
    for a, b in reversed(list(zip(*factors.unbind(), strict=True))):
        c, s = c + a, s + b
        c, s = torch.addcmul(c * cosine, s, sine, value=-1), torch.addcmul(s * cosine, c, sine)
    return c


def _waves(projected: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    a = projected * steps
    far = a.abs() > math.pi
    return a.cos().masked_fill_(far, 0), a.sin().masked_fill_(far, 0)


def operators(sums: Sums, slopes: Slopes) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Both operators, by functions for one tile such as the two above."""

    def waves(z: Tensor, directions: Tensor, steps: Tensor, frequencies: int) -> Tensor:
        matrix = as_matrix(directions, z.shape[2], steps.shape[1])
        result = steps.new_zeros(z.shape[0], 2, frequencies, steps.shape[1])
        for sample, rows in _tiles(z, matrix):
            result[sample] += sums(z[sample, rows] @ matrix, steps[sample].to(z.dtype), frequencies)
        return result

    def derivative(z: Tensor, directions: Tensor, steps: Tensor, cotangent: Tensor) -> Tensor:
        matrix = as_matrix(directions, z.shape[2], steps.shape[1])
        orders = torch.arange(1, cotangent.shape[2] + 1, dtype=steps.dtype, device=steps.device)
        factors = (cotangent.flip(1) * orders[:, None] * steps[:, None, None]).to(z.dtype)
        result = torch.empty_like(z)
        for sample, rows in _tiles(z, matrix):
            found = slopes(z[sample, rows] @ matrix, steps[sample].to(z.dtype), factors[sample])
            torch.mm(found, matrix.mT, out=result[sample, rows])
        return result

    return waves, derivative


def _tiles(z: Tensor, matrix: Tensor) -> Iterator[tuple[int, slice]]:
    samples, rows, _ = z.shape
    size = max(1, TILE.get(z.device.type, LARGE_TILE) // matrix.shape[1])
    for sample in range(samples):
        for first in range(0, rows, size):
            yield sample, slice(first, min(first + size, rows))
