"""Host side of the Triton kernels: memory, launches, and how the work is divided among programs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from segma_fast.backends.triton_blocks import Blocks, choose_blocks
from segma_fast.backends.triton_kernels import pairs
from segma_fast.backends.triton_points import lay_out, prepare

FEW_DIMENSIONS = 8  # up to which differences of coordinates cost little
WIDEST = 256  # dimensions that a program can hold
HALVES = 36_000_000  # bytes of rounded sources in memory at once; what is more is done by launches one after another
SPLIT_FORCES = 16_000_000  # bytes of forces that splits of the sources may leave to be added
MOST_SPLITS = 32
SPAN = 4096  # sources of which sums stay in float32
RESOLVED = {"highest": 2048.0, "high": 8192.0, "medium": 8192.0}  # greatest c|x|²/h that fp16 products may see


@dataclass(frozen=True)
class Plan:
    """Which arithmetic serves a call; the options of the kernels that depend on it alone."""

    dim: int
    width: int
    block: int  # points that one program of ``prepare`` takes
    options: dict[str, Any]
    products: bool
    differences: bool
    low: bool
    centred: bool
    limit: float
    blocks: Blocks


@lru_cache(maxsize=256)
def make_plan(dim: int, dtype: torch.dtype, precision: str, gradient: bool, device: torch.device) -> Plan:
    double = dtype == torch.float64
    products = FEW_DIMENSIONS < dim <= WIDEST and not double
    differences = dim <= FEW_DIMENSIONS and not double
    low = products and dtype == torch.float32 and precision != "medium"
    low_weights = products and precision == "highest"
    width = max(16, triton.next_power_of_2(dim)) if products else 16
    kind = "products" if products else "differences"
    blocks = choose_blocks(kind, width if products else dim, low, low_weights, gradient, capability(device))
    options = {
        "DIM": dim, "WIDTH": width, "ROWS": blocks.rows, "COLUMNS": blocks.columns, "BLOCK": block_of(width),
        "SPAN": SPAN, "SLICE": min(32, width), "PRODUCTS": products, "DIFFERENCES": differences, "LOW": low,
        "LOW_WEIGHTS": low_weights, "GRADIENT": gradient, "REAL": tl.float64 if double else tl.float32,
        "num_warps": blocks.warps, "num_stages": blocks.stages,
    }  # fmt: skip
    centred = dtype == torch.float32
    return Plan(dim, width, block_of(width), options, products, differences, low, centred, RESOLVED[precision], blocks)


def block_of(width: int) -> int:
    """Points that one program prepares."""
    return min(64, 4096 // width)


@lru_cache(maxsize=64)
def capability(device: torch.device) -> tuple[int, int]:
    """CUDA's compute capability; (0, 0) for other devices."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" and torch.version.cuda else (0, 0)


@lru_cache(maxsize=64)
def multiprocessors(device: torch.device) -> int:
    """How many programs run at the same time, about."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).multi_processor_count)
    return 4 if device.type == "cpu" else 64


def choose_splits(programs: int, units: int, most: int, at_once: int) -> int:
    """Among how many programs the sources of one block of rows are divided.

    Args:
        programs: blocks of rows.
        units: the parts that sources can be divided into.
        most: limit by memory.
        at_once: programs that the machine runs at the same time.
    """
    best, shortest = 1, float("inf")
    for splits in range(1, min(units, most, MOST_SPLITS) + 1):
        waves = -(-programs * splits // at_once)
        time = waves * (-(-units // splits) + 0.5)  # half a unit for the beginning and the end of a program
        if time < 0.95 * shortest:
            best, shortest = splits, time
    return best


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be that of the tensors."""
    if device.type == "cuda" and torch.cuda.current_device() != device.index:
        return torch.cuda.device(device)
    return nullcontext()


def energy(z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str) -> Tensor:
    """``chunked.energy`` as Triton kernels."""
    return evaluate(z, means, h, w, start, stop, precision, gradient=False)[0]


def gradient(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str
) -> tuple[Tensor, ...]:
    """``chunked.gradient`` as Triton kernels."""
    return evaluate(z, means, h, w, start, stop, precision, gradient=True)


def evaluate(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, gradient: bool
) -> tuple[Tensor, ...]:
    """Energy, and gradients in z, means, h and w (empty if not wanted), in one or more launches of ``pairs``."""
    if precision == "default":
        precision = torch.get_float32_matmul_precision()
    rows, dim = z.shape
    plan = make_plan(dim, z.dtype, precision, gradient, z.device)
    total, count, middle = rows + means.shape[0], stop - start, min(max(rows, start), stop)
    ROWS, COLUMNS = plan.blocks.rows, plan.blocks.columns
    unit = max(COLUMNS, plan.block)
    padded = -(-total // unit) * unit
    programs = -(-(middle - start) // ROWS) - (-(stop - middle) // ROWS)
    sources = padded
    if plan.products:
        sources = min(padded, HALVES // ((4 if plan.low else 2) * plan.width) // SPAN * SPAN or SPAN)
    splits, share = 1, sources
    real = torch.float64 if z.dtype == torch.float64 else torch.float32
    if sources == padded:
        most = SPLIT_FORCES // (count * dim * real.itemsize) if gradient else MOST_SPLITS
        splits = choose_splits(programs, padded // unit, most, multiprocessors(z.device))
        share = -(-padded // unit // splits) * unit
        splits = -(-padded // share)

    def new(size: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, device=z.device)

    wanted = count if gradient else 0
    dz, dmeans = (
        torch.empty(n if gradient else 0, dim, dtype=real, device=z.device) for n in (middle - start, stop - middle)
    )
    dh, dw = new(wanted, torch.float64), new(wanted, torch.float64)
    value = torch.empty((), dtype=torch.float64, device=z.device)
    if count == 0:
        return value.zero_(), dz, dmeans, dh, dw
    in_place = gradient and splits == 1
    u_sums, q_sums = (dw, dh) if in_place else (new(splits * count, torch.float64), new(splits * count, torch.float64))
    forces = new(splits * count * dim if gradient and splits > 1 else 0, real)
    tickets = new(programs + 1, torch.int32)
    doubles = new(padded + programs, torch.float64)
    blocks = padded // plan.block
    if plan.products:
        halves = new(sources * plan.width * (2 if plan.low else 1), torch.float16)
        singles = new(3 * padded + blocks * (4 + plan.width) + plan.width + 3, torch.float32)
    else:
        halves = tickets
        singles = new((dim + 2) * padded + ROWS, torch.float32) if plan.differences else doubles
    with on_device(z.device):
        for offset in range(0, padded, sources):
            end = min(offset + sources, padded)
            if plan.products:
                prepare[(blocks,)](
                    z, means, h, w, halves, singles, doubles, tickets, rows, total, padded, offset, end, programs + 1,
                    DIM=dim, WIDTH=plan.width, BLOCK=plan.block, LOW=plan.low, CENTRED=plan.centred, LIMIT=plan.limit,
                )  # fmt: skip
            elif plan.differences:
                lay_out[(blocks,)](
                    z, means, h, w, singles, tickets, rows, total, padded, programs + 1, DIM=dim, BLOCK=plan.block
                )
            else:
                tickets.zero_()
            pairs[(programs, splits)](
                z, means, h, w, halves, singles, doubles, tickets, u_sums, q_sums, forces, dz, dmeans, dh, dw, value,
                rows, total, start, stop, middle, padded, offset, end - offset, share, splits, SPLIT=splits > 1,
                WHOLE=count == total, FIRST=offset == 0, LAST=end == padded, **plan.options,
            )  # fmt: skip
    return value, dz, dmeans, dh, dw
