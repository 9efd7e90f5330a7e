"""Shapes of the blocks that a program of the Triton kernels works on, by arithmetic, width and architecture.

There is no autotuning at run time. The tables hold tiles that compile without register spills with Triton 3.6 and 3.7:
for Hopper the fastest of those on an H200, for other GPUs the largest. On Hopper matrix products take 64 rows for every
four warps; on other GPUs rows beyond 16 for every warp reuse the loaded data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

SHAPE = "SEGMA_FAST_TRITON_BLOCKS"  # rows,columns,warps,stages for all matrix products


@dataclass(frozen=True)
class Blocks:
    """Rows and columns of a tile, the warps that share it, and how many tiles of sources are in flight (stages)."""

    rows: int
    columns: int
    warps: int
    stages: int

    @property
    def valid(self) -> bool:
        return all(
            least <= number <= most and (power or number & (number - 1) == 0)
            for number, least, most, power in (
                (self.rows, 16, 256, False),
                (self.columns, 16, 256, False),
                (self.warps, 1, 16, False),
                (self.stages, 1, 8, True),
            )
        )


# By the major compute capability (8: only 8.0; 0: all others, within 99 KB of shared memory) and the width: blocks for
# a gradient with weights in two halves (up to width 128), for a gradient with fp16 weights, and for the value alone.
PRODUCTS: dict[int, dict[int, tuple[Blocks | None, Blocks, Blocks]]] = {
    9: {
        16: (Blocks(64, 64, 4, 2), Blocks(64, 128, 4, 3), Blocks(64, 128, 4, 3)),
        32: (Blocks(64, 64, 4, 2), Blocks(64, 128, 4, 2), Blocks(64, 128, 4, 3)),
        64: (Blocks(64, 64, 4, 2), Blocks(64, 128, 4, 2), Blocks(64, 128, 4, 2)),
        128: (Blocks(128, 64, 8, 3), Blocks(128, 64, 8, 2), Blocks(64, 64, 4, 2)),
        256: (None, Blocks(64, 32, 8, 3), Blocks(64, 64, 4, 2)),
    },
    10: {
        16: (Blocks(128, 64, 8, 3), Blocks(128, 64, 8, 3), Blocks(128, 64, 8, 3)),
        32: (Blocks(128, 64, 8, 3), Blocks(128, 64, 8, 3), Blocks(128, 64, 8, 3)),
        64: (Blocks(128, 64, 8, 3), Blocks(128, 64, 8, 3), Blocks(128, 64, 8, 3)),
        128: (Blocks(128, 32, 8, 2), Blocks(128, 64, 8, 2), Blocks(128, 64, 8, 2)),
        256: (None, Blocks(64, 32, 8, 2), Blocks(64, 32, 8, 2)),
    },
    0: {
        16: (Blocks(128, 64, 8, 2), Blocks(128, 64, 8, 2), Blocks(128, 128, 8, 2)),
        32: (Blocks(128, 64, 8, 2), Blocks(128, 64, 8, 2), Blocks(128, 64, 8, 2)),
        64: (Blocks(128, 32, 8, 2), Blocks(128, 64, 8, 2), Blocks(128, 64, 8, 2)),
        128: (Blocks(32, 32, 4, 2), Blocks(32, 32, 4, 2), Blocks(128, 32, 8, 2)),
        256: (None, Blocks(32, 64, 8, 1), Blocks(32, 64, 8, 1)),
    },
}
PRODUCTS[8] = {**PRODUCTS[0], 128: (Blocks(32, 32, 4, 2), Blocks(128, 32, 8, 2), Blocks(128, 32, 8, 2))}
# The same where the polynomial of the exact form needs registers: for a gradient with weights in two halves, and with
# fp16 weights.
SMALLER: dict[int, dict[int, tuple[Blocks | None, Blocks | None]]] = {
    9: {
        16: (Blocks(64, 32, 4, 3), None),
        32: (Blocks(64, 32, 4, 3), Blocks(64, 64, 4, 2)),
        64: (Blocks(64, 32, 4, 3), Blocks(64, 64, 4, 2)),
        128: (Blocks(64, 32, 4, 3), None),
    },
    10: {
        16: (Blocks(128, 32, 8, 3), Blocks(128, 32, 8, 3)),
        32: (Blocks(128, 32, 8, 3), Blocks(128, 32, 8, 3)),
        64: (Blocks(128, 32, 8, 3), Blocks(128, 32, 8, 3)),
        128: (Blocks(64, 64, 8, 2), Blocks(64, 64, 8, 2)),
    },
    0: {32: (Blocks(128, 32, 8, 2), None)},
}
SMALLER[8] = SMALLER[0]


def blocks_from_table(
    kind: str, width: int, low: bool, low_weights: bool, gradient: bool, exact: bool, capability: tuple[int, int]
) -> Blocks:
    """The blocks for "products" of this width, or for "differences" in this many dimensions.

    Args:
        kind: "products", "differences" or, for float64 and more than 8 dimensions, "many".
        width: coordinates that a program holds.
        low, low_weights: whether coordinates, and whether weights, are stored as two fp16 halves.
        gradient: whether the gradient is computed too.
        exact: whether φ is the exact form, which needs a polynomial.
        capability: CUDA's compute capability, (0, 0) for other devices.
    """
    if kind == "many":
        return Blocks(16, 64, 8 if width == 1 or exact else 2, 1)  # exponentials and polynomials need registers
    if kind == "differences":
        return Blocks(16, 128 if width <= 3 else 64, 4, 1)
    roomy = capability[0] >= 9 or capability == (8, 0)
    family = capability[0] if roomy and capability[0] in PRODUCTS else 0
    column = 0 if gradient and low_weights else 1 if gradient else 2
    chosen = PRODUCTS[family][width][column]
    if exact and gradient:
        chosen = SMALLER[family].get(width, (None, None))[column] or chosen
    if chosen is None:
        raise ValueError(f"width {width} with weights in two halves does not fit into a program")
    return chosen


def blocks_from_environment() -> Blocks | None:
    """The blocks for matrix products from the environment variable, or None if it is not set."""
    text = os.environ.get(SHAPE)
    if not text:
        return None
    blocks = None
    try:
        blocks = Blocks(*map(int, text.split(",")))
    except (TypeError, ValueError):
        pass
    if blocks is None or not blocks.valid:
        raise ValueError(
            f"{SHAPE}={text!r}: expected rows,columns,warps,stages such as 128,64,8,3: rows and columns from 16 to 256 "
            "and warps from 1 to 16, all powers of two, and stages from 1 to 8"
        )
    return blocks
