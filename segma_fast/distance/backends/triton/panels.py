"""For more dimensions than a program can hold: torch's matrix products, panel by panel, and Triton kernels around them.

A panel is a block of rows against a block of sources. Its scores come from one product of fp16 coordinates, in which
both halves of every number lie side by side; ``weigh`` turns them into rounded weights; a second product sums over
the sources, and ``finish_forces`` makes gradients of the sums. The arithmetic is that of ``kernels/products.py``.

All lengths in memory are multiples of 16 numbers: a product of others takes five times as long.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from segma_fast.distance.backends.triton.kernels.panels import (
    add_far_fields,
    find_centre,
    finish_forces,
    prepare_panels,
    weigh,
)
from segma_fast.distance.backends.triton.kernels.prepare import SAMPLE
from segma_fast.distance.backends.triton.plan import PanelSizes, Plan, panel_sizes

MOST = 4352  # rows and sources of a panel, whose scores take 76 MB, and whose weights take half of that


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` of fp16 matrices, summed and returned in float32."""
    if left.device.type == "cuda":
        return torch.mm(left, right, out_dtype=torch.float32)
    return (left.double() @ right.double()).float()  # in float32, torch's settings could round them further


def accumulate(sums: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """``sums + left @ right`` in place of ``sums``, or the product alone for None."""
    if sums is None:
        return product(left, right)
    if left.device.type == "cuda":
        return torch.addmm(sums, left, right, out_dtype=torch.float32, out=sums)
    return sums.add_(product(left, right))


def pieces(count: int, most: int, unit: int) -> int:
    """Length of equal pieces of so many rows, a multiple of ``unit`` and, up to that, at most ``most``."""
    return unit * max(1, -(-count // (unit * max(1, -(-count // most)))))


@lru_cache(maxsize=256)
def constants(plan: Plan, sizes: PanelSizes) -> dict[str, dict[str, Any]]:
    """The constants of each kernel, by its name."""
    held = min(sizes.held, triton.next_power_of_2(plan.dim))
    every = {
        "DIM": plan.dim, "PITCH": -(-plan.dim // 16) * 16, "BLOCK": plan.block, "HELD": held, "PART": sizes.part,
        "NORMS": -(-plan.dim // sizes.part), "STRIP": sizes.strip, "COLUMNS": sizes.columns, "LANE": sizes.lane,
        "FIELDS": sizes.fields, "LOW": plan.low, "LOW_WEIGHTS": plan.options["LOW_WEIGHTS"],
        "GRADIENT": plan.options["GRADIENT"], "COARSE": plan.coarse, "LIMIT": plan.limit, "WIDE": plan.form[0],
        "FORM": plan.form,
    }  # fmt: skip
    kernels = (find_centre, prepare_panels, add_far_fields, weigh, finish_forces)
    found = {k.fn.__name__: {name: every[name] for name in k.arg_names if name in every} for k in kernels}
    found["add_far_fields"]["num_warps"] = 8  # few programs, each of which waits for memory many times
    return found


def fill(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, singles: Tensor, doubles: Tensor,
    u_sums: Tensor, q_sums: Tensor, dz: Tensor, dmeans: Tensor, padded: int, plan: Plan, gradient: bool,
) -> None:  # fmt: skip
    """Store the sums of the rows ``start:stop`` in ``u_sums`` and ``q_sums``, the gradient in ``dz`` and ``dmeans``."""
    m, dim, total = len(z), plan.dim, len(h)
    sizes, block, low = panel_sizes(z.device), plan.block, plan.low
    known = constants(plan, sizes)
    pitch, low_weights = known["finish_forces"]["PITCH"], known["finish_forces"]["LOW_WEIGHTS"]
    blocks, parts = padded // block, -(-dim // sizes.part)

    def new(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=z.device)

    norms, halves = new(torch.float64, parts, SAMPLE.value), new(torch.float16, padded, (4 if low else 1) * pitch)
    field_sums, p_sums = new(torch.float64, dim + 3), new(torch.float64, min(stop - start, MOST + block))
    head = singles[4 * padded + blocks * (4 + dim) :]
    find_centre[(parts,)](z, means, head, norms, m, total, **known["find_centre"])
    prepare_panels[(blocks,)](
        z, means, h, w, norms, halves, singles, doubles, m, total, padded, **known["prepare_panels"]
    )
    add_far_fields[(-(-dim // sizes.lane),)](singles, field_sums, padded, total, **known["add_far_fields"])
    queries, keys = (halves[:, : 3 * pitch], halves[:, pitch:]) if low else (halves, halves)
    highs, lows = keys[:, :pitch], halves[:, :pitch] if low else None
    # matrix units cut long sums of forces: `highest` has shorter ones
    wide = pieces(padded, MOST // 2 if low_weights else MOST, block)
    tall = pieces(stop - start, MOST, block)
    for top in range(start, stop, tall):
        bottom = min(top + tall, stop)
        count = bottom - top
        products: Tensor | None = None
        for first in range(0, padded, wide):
            panel = slice(first, min(first + wide, padded))
            scores = product(queries[top:bottom], keys[panel].mT)
            weights = torch.empty_like(scores, dtype=torch.float16) if gradient else scores
            more = torch.empty_like(weights) if gradient and low_weights else weights
            weigh[(-(-count // sizes.strip),)](
                scores, weights, more, singles, field_sums, u_sums[top - start :], q_sums[top - start :], p_sums,
                padded, top, count, first, scores.shape[1], KEEP=first > 0, **known["weigh"],
            )  # fmt: skip
            if gradient:
                products = accumulate(products, weights, highs[panel])
                if low_weights:
                    products = accumulate(products, more, highs[panel])
                    if lows is not None:
                        products = accumulate(products, weights, lows[panel])
        if products is not None:
            finish_forces[(-(-count // block), parts)](
                z, means, w, products, dz, dmeans, singles, p_sums, field_sums, m, total, start, max(m, start), top,
                count, padded, **known["finish_forces"],
            )  # fmt: skip
