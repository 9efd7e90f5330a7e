"""Host side of the Triton kernels for slices: the functions for one tile of ``backends/waves.py``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segma_fast.distance.backends import waves
from segma_fast.distance.backends.triton.kernels.waves import differentiate_waves, sum_waves
from segma_fast.distance.backends.triton.launch import on_device

MOST_CHUNKS = 64


def shape(dtype: torch.dtype) -> dict[str, Any]:
    """The constants of a launch: programs of one warp with 16 numbers a thread."""
    double = dtype == torch.float64
    return {"ROWS": 8 if double else 4, "COLUMNS": 64 if double else 128, "DOUBLE": double, "num_warps": 1}


def sums_of_tile(projected: Tensor, steps: Tensor, frequencies: int) -> Tensor:
    """:func:`segma_fast.distance.backends.waves.sums_of_tile` as one kernel and a sum of its chunks."""
    rows, slices = projected.shape
    constants = shape(projected.dtype)
    block = constants["ROWS"]
    share = max(1, -(-rows // (MOST_CHUNKS * block))) * block
    chunks = -(-rows // share)
    sums = projected.new_zeros(chunks, frequencies, 2, slices)
    grid = (-(-slices // constants["COLUMNS"]), chunks)
    with on_device(projected.device):
        sum_waves[grid](projected, steps, sums, rows, slices, frequencies, share, **constants)
    return sums.sum(0, dtype=torch.float64).movedim(1, 0)


def slopes_of_tile(projected: Tensor, steps: Tensor, factors: Tensor) -> Tensor:
    """:func:`segma_fast.distance.backends.waves.slopes_of_tile` as one kernel, which overwrites the projections."""
    rows, slices = projected.shape
    constants = shape(projected.dtype)
    grid = (-(-slices // constants["COLUMNS"]), -(-rows // constants["ROWS"]))
    with on_device(projected.device):
        differentiate_waves[grid](projected, steps, factors, rows, slices, factors.shape[1], **constants)
    return projected


sums, slopes = waves.operators(sums_of_tile, slopes_of_tile)
