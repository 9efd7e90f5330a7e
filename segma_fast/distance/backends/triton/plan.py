"""Which arithmetic serves a call of the Triton backend, and how its work is divided among programs and launches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl

from segma_fast.distance.backends.triton.blocks import Blocks, blocks_from_table
from segma_fast.distance.formulas import form_of

FEW_DIMENSIONS = 8  # up to this dimension, differences of coordinates are cheap
# most dimensions that a program can hold: with weights in two halves, more do not fit the registers of any GPU
WIDEST = {"highest": 128, "high": 256, "medium": 256}
HALVES = 36_000_000  # bytes of rounded sources in memory at once; further sources are left to later launches
SPLIT_FORCES = 16_000_000  # most bytes of partial forces, which the last split adds up
MOST_SPLITS = 32
SPAN = 4096  # sources that are summed in float32 before a float64 sum
# largest c|x|²/h, with the paper's c, for fp16 products: at width 16, and the lower bound for larger widths, at which
# matrix units truncate more
RESOLVED = {"highest": (1024.0, 1024.0), "high": (8192.0, 1024.0), "medium": (8192.0, 1024.0)}


@dataclass(frozen=True, eq=False)
class Plan:
    """Which arithmetic serves a kind of call."""

    dim: int
    width: int  # coordinates that a program holds, a power of two
    block: int  # points that one program prepares
    real: torch.dtype  # of the gradient in points
    products: bool  # matrix products of fp16 coordinates
    panels: bool  # these products are torch's
    differences: bool  # of few coordinates; if neither this nor products, differences of many
    low: bool  # coordinates as two fp16 halves
    coarse: bool  # the centre is rounded to few bits
    limit: float  # largest c|x|²/h for products
    blocks: Blocks
    form: tuple[float, ...]  # of φ_D: 1/c, and the coefficients of Q
    options: dict[str, Any]  # of the kernel ``pairs``

    def singles(self, padded: int, prepared: int) -> int:
        """Size of the float32 workspace for ``padded`` points in ``prepared`` blocks, a multiple of 16."""
        if self.products:
            return -(-(4 * padded + prepared * (4 + self.width) + self.width + 3) // 16) * 16
        return (self.dim + 2) * padded + self.blocks.rows if self.differences else 0


@lru_cache(maxsize=256)
def make_plan(
    dim: int, dtype: torch.dtype, precision: str, phi: str, gradient: bool, device: torch.device,
    blocks: Blocks | None = None,
) -> Plan:  # fmt: skip
    """The plan for points of this dimension and dtype, with ``blocks`` or the blocks of the table."""
    # in one dimension all codes share one factor h^(-1/2), whose rounding would not average out
    single = dtype != torch.float64 and dim > 1
    products, panels = single and dim > FEW_DIMENSIONS, single and dim > WIDEST[precision]
    differences = single and dim <= FEW_DIMENSIONS
    low = products and dtype == torch.float32 and precision != "medium"
    low_weights = products and precision == "highest"
    width, block = triton.next_power_of_2(max(16, dim)), 64
    interpreted = device.type == "cpu"  # each operation is slow to interpret: larger tiles need fewer
    if panels:
        sizes = panel_sizes(device)
        width, block, blocks = dim, sizes.block, Blocks(sizes.block, 16, 4, 1)
    elif products:
        block = min(64, 4096 // width)
        blocks = blocks or (Blocks(128, 128, 8, 1) if interpreted else None)
        blocks = blocks or blocks_from_table(
            "products", width, low, low_weights, gradient, phi == "exact", capability(device)
        )
    else:
        kind = "differences" if differences else "many"
        blocks = blocks_from_table(kind, dim, low, low_weights, gradient, phi == "exact", capability(device))
        blocks = blocks if not interpreted else Blocks(128, 512, 1, 1)
    arithmetic = torch.float32 if single else torch.float64
    chosen = form_of(dim, phi, arithmetic)
    form = (1.0 / chosen.slope, *chosen.coefficients)
    options = {
        "DIM": dim, "WIDTH": width, "ROWS": blocks.rows, "COLUMNS": blocks.columns, "BLOCK": block,
        "SPAN": SPAN // 4 if low_weights else SPAN,  # matrix units truncate long sums of forces too
        "SLICE": min(512 if interpreted else 16, triton.next_power_of_2(max(16, dim))),
        "FEW": 128 if interpreted else 16, "MANY": 512 if interpreted else 128, "PRODUCTS": products,
        "PANELS": panels, "DIFFERENCES": differences, "LOW": low, "LOW_WEIGHTS": low_weights, "GRADIENT": gradient,
        "REAL": tl.float32 if single else tl.float64, "num_warps": blocks.warps, "num_stages": blocks.stages,
        "FORM": form, "OWN": chosen.own(arithmetic), "TWICE": 2.0 if interpreted else uncut(dim),
    }  # fmt: skip
    coarse, real = dtype.itemsize == 2, torch.float64 if dtype == torch.float64 else torch.float32
    most, least = RESOLVED[precision]
    limit = chosen.resolved(max(least, most * 16 / width), dim) if dim > 1 else 0.0
    return Plan(dim, width, block, real, products, panels, differences, low, coarse, limit, blocks, form, options)


def uncut(dim: int) -> float:
    """The factor 2 of a score, corrected for truncation in matrix units: see ``CUT`` in ``csrc/cuda/prepare.h``."""
    return 2.0 * (1.0 + 2.0**-25 * -(-dim // 16))


@dataclass(frozen=True)
class PanelSizes:
    """How much one program of the kernels around panels processes."""

    block: int  # points that it prepares
    held: int  # most coordinates of them that it holds at once
    part: int  # coordinates of the centre and of forces
    strip: int  # rows that it weighs
    columns: int  # sources that it weighs at once
    lane: int  # coordinates whose far fields it adds up
    fields: int  # blocks whose far fields it adds up at once


def panel_sizes(device: torch.device) -> PanelSizes:
    """Small sizes, for many programs; large ones in the interpreter, which runs programs one after another."""
    if device.type == "cpu":
        return PanelSizes(128, 512, 512, 128, 512, 512, 128)
    return PanelSizes(16, 256, 128, 8, 256, 16, 256)


@lru_cache(maxsize=64)
def capability(device: torch.device) -> tuple[int, int]:
    """CUDA's compute capability; (0, 0) for other devices, and Hopper's where programs are interpreted."""
    if device.type == "cpu":
        return (9, 0)
    return torch.cuda.get_device_capability(device) if device.type == "cuda" and torch.version.cuda else (0, 0)


@lru_cache(maxsize=64)
def multiprocessors(device: torch.device) -> int:
    """Number of multiprocessors; a GPU runs about as many programs of eight warps at the same time."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).multi_processor_count)
    return 4 if device.type == "cpu" else 64


def choose_splits(programs: int, units: int, most: int, at_once: int) -> int:
    """Among how many programs the sources of one block of rows are divided.

    Args:
        programs: blocks of rows.
        units: the parts that sources can be divided into.
        most: the largest number of splits that memory allows.
        at_once: programs that the machine runs at the same time.
    """
    best, shortest = 1, float("inf")
    for splits in range(1, min(units, most, MOST_SPLITS) + 1):
        waves = -(-programs * splits // at_once)
        time = waves * (-(-units // splits) + 0.5)  # half a unit for the beginning and the end of a program
        if time < 0.95 * shortest:
            best, shortest = splits, time
    return best


@dataclass(frozen=True)
class Division:
    """How the rows ``start:stop`` and all sources of a cloud are divided among programs and launches."""

    middle: int  # rows before it are codes, from it on means
    programs: int  # blocks of rows
    padded: int  # number of sources, padded to full tiles
    sources: int  # per launch
    splits: int  # programs that share a block of rows
    share: int  # sources per split


@lru_cache(maxsize=256)
def divide(
    plan: Plan, codes: int, total: int, start: int, stop: int, device: torch.device, samples: int = 1
) -> Division:
    """Divide into large parts, but enough of them to fill the machine, within the memory limits of all samples."""
    unit = max(plan.blocks.columns, plan.block)
    padded = sources = -(-total // unit) * unit
    middle = min(max(codes, start), stop)
    programs = sum(-(-count // plan.blocks.rows) for count in (middle - start, stop - middle))
    if plan.panels:
        return Division(middle, programs, padded, padded, 1, padded)
    if plan.products:
        sources = min(padded, max(1, HALVES // ((4 if plan.low else 2) * plan.width * SPAN * samples)) * SPAN)
    if sources < padded:
        return Division(middle, programs, padded, sources, 1, sources)
    bytes_per_split = samples * (stop - start) * plan.dim * plan.real.itemsize if plan.options["GRADIENT"] else 1
    at_once = multiprocessors(device) * (max(1, 8 // plan.blocks.warps) if device.type != "cpu" else 1)
    splits = choose_splits(samples * programs, padded // unit, SPLIT_FORCES // bytes_per_split, at_once)
    share = -(-padded // unit // splits) * unit
    return Division(middle, programs, padded, padded, -(-padded // share), share)
