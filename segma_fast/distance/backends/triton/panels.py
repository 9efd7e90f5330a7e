"""For more dimensions than a program can hold: torch's matrix products, panel by panel, and Triton kernels around them.

A panel is a block of rows against a block of sources. Its scores come from one product of fp16 coordinates, in which
both halves of every number lie side by side; ``weigh`` turns them into rounded weights; a second product sums over
the sources, and ``add_forces`` adds the sums to the results. The arithmetic is that of ``triton/kernels/products.py``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segma_fast.distance.backends.triton.kernels.panels import (
    add_far_fields,
    add_forces,
    prepare_panel,
    weigh,
)
from segma_fast.distance.backends.triton.kernels.prepare import find_head
from segma_fast.distance.backends.triton.plan import Plan, panel_sizes

# Largest size of a panel: 71 MB of scores, half of that of weights. A panel takes six launches, which a host needs 50
# to 300 microseconds for, and the products of one with 1024 dimensions take 200.
ROWS, COLUMNS = 4096, 4352
SOURCES = 48_000_000  # bytes of rounded sources, and as many of rounded rows


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` of fp16 matrices, summed and returned in float32."""
    if left.device.type == "cuda":
        return torch.mm(left, right, out_dtype=torch.float32)
    return (left.double() @ right.double()).float()  # in float32, torch's settings could round them further


def pieces(count: int, most: int, unit: int) -> int:
    """Length of equal pieces of so many rows, a multiple of ``unit`` and, up to that, at most ``most``."""
    return unit * max(1, -(-count // (unit * max(1, -(-count // most)))))


def fill(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, singles: Tensor, doubles: Tensor,
    u_sums: Tensor, q_sums: Tensor, dz: Tensor, dmeans: Tensor, padded: int, plan: Plan, gradient: bool,
) -> None:  # fmt: skip
    """Store the sums of the rows ``start:stop`` in ``u_sums``, ``q_sums``, ``dz`` and ``dmeans``."""
    m, dim = z.shape
    total, low, low_weights = h.shape[0], plan.low, plan.options["LOW_WEIGHTS"]
    pitch = -(-dim // 16) * 16
    wide = (4 if low else 1) * pitch
    block, sizes = plan.block, panel_sizes(z.device)
    blocks = padded // block
    field = singles[4 * padded + 4 * blocks :]
    head = (field[blocks * dim :], m, total)
    find_head[(1,)](z, means, h, *head, DIM=dim, PART=sizes.part, COARSE=plan.coarse, WIDE=plan.form[0])
    options: dict[str, Any] = {
        "DIM": dim,
        "PITCH": pitch,
        "BLOCK": block,
        "PART": sizes.part,
        "LOW": low,
        "LIMIT": plan.limit,
        "WIDE": plan.form[0],
    }
    cloud, vectors = (z, means, h, w), (singles, doubles, m, total, padded)
    prepare_panel[(blocks,)](*cloud, singles, *vectors, 0, DESCRIBE=True, **options)

    def rounded(first: int, last: int) -> Tensor:
        count = -(-(last - first) // block)
        halves = torch.empty(count * block, wide, dtype=torch.float16, device=z.device)
        prepare_panel[(count,)](*cloud, halves, *vectors, first, DESCRIBE=False, **options)
        return halves[: last - first]

    most = max(256, SOURCES // (2 * wide) // 128 * 128)
    # matrix units cut long sums of forces: `highest` has shorter ones
    chunk = pieces(total, min(most, COLUMNS // 2 if low_weights else COLUMNS), block)
    middle = min(max(m, start), stop)
    parts = [(z, dz, start, middle, 0), (means, dmeans, middle, stop, m)]
    for first in range(0, total, chunk):
        last = min(first + chunk, total)
        sources = rounded(first, last)
        high, low_part = (sources[:, pitch : pitch + dim], sources[:, :dim]) if low else (sources[:, :dim], None)
        pull = torch.empty(dim + 2, dtype=torch.float32, device=z.device)
        add_far_fields[(-(-dim // sizes.part),)](
            singles, pull, padded, first // block, -(-last // block),
            DIM=dim, BLOCK=block, ROWS=sizes.strip, PART=sizes.part,
        )  # fmt: skip
        for points, out, begin, end, shift in parts:
            tall = pieces(end - begin, min(most, ROWS), block)
            for top in range(begin, end, tall):
                bottom = min(top + tall, end)
                count = bottom - top
                first_row = top // block * block
                left = rounded(first_row, bottom)[top - first_row :]
                scores = product(left[:, : 3 * pitch], sources[:, pitch:].mT) if low else product(left, sources.mT)
                weights = torch.empty_like(scores, dtype=torch.float16) if gradient else scores
                more = torch.empty_like(weights) if gradient and low_weights else weights
                p = torch.empty(count, dtype=torch.float32, device=z.device)
                sums = (u_sums[top - start :], q_sums[top - start :], p)
                weigh[(-(-count // sizes.strip),)](
                    scores, weights, more, singles, *sums, total, padded, top, count, first, last - first,
                    DIM=dim, BLOCK=block, ROWS=sizes.strip, COLUMNS=sizes.part, LOW_WEIGHTS=low_weights,
                    GRADIENT=gradient, KEEP=first > 0, FORM=plan.form,
                )  # fmt: skip
                if not gradient:
                    continue
                products = product(weights, high)
                if low_weights:
                    products += product(more, high)
                    if low_part is not None:
                        products += product(weights, low_part)
                add_forces[(-(-count // sizes.rows), -(-dim // sizes.part))](
                    points[top - shift :], products, out[top - begin :], singles, p, pull, total, padded, top, count,
                    first, last - first, DIM=dim, BLOCK=block, ROWS=sizes.rows, PART=sizes.part, LOW=low,
                    LOW_FORCES=low_weights, KEEP=first > 0,
                )  # fmt: skip
