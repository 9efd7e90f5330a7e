"""Shapes of the blocks that a program of the Triton kernels works on, by arithmetic, width and architecture.

Nothing is tuned when a user calls: the table holds what compiles without register spills on each architecture.
``SEGMA_FAST_TRITON_BLOCKS=rows,columns,warps,stages`` overrides it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Blocks:
    """Rows and columns of a tile, the warps that share it, and how many tiles of sources are on their way at once."""

    rows: int
    columns: int
    warps: int
    stages: int


def choose_blocks(
    kind: str, width: int, low: bool, low_weights: bool, gradient: bool, capability: tuple[int, int]
) -> Blocks:
    if kind == "differences":
        return Blocks(16, 128 if width <= 3 else 64, 4, 1)
    return {
        16: Blocks(128, 64, 8, 3),
        32: Blocks(128, 64, 8, 3),
        64: Blocks(128, 64, 8, 3),
        128: Blocks(64, 64, 8, 2),
        256: Blocks(64, 32, 8, 2),
    }[width]
