"""The Triton kernels around the matrix products of a panel (``triton/panels.py``)."""

from __future__ import annotations

import triton
import triton.language as tl

from segma_fast.distance.backends.triton.kernels.points import (
    add_sums,
    degree,
    judge,
    load_points,
    own_part,
    profile_factors,
    regions,
    row_scale,
    split,
)
from segma_fast.distance.backends.triton.kernels.prepare import describe


@triton.jit(do_not_specialize=["m", "total", "padded", "first"])
def prepare_panel(
    z, means, h, w, halves, singles, doubles, m, total, padded, first,
    DIM: tl.constexpr, PITCH: tl.constexpr, BLOCK: tl.constexpr, PART: tl.constexpr, LOW: tl.constexpr,
    LIMIT: tl.constexpr, WIDE: tl.constexpr, DESCRIBE: tl.constexpr,
):  # fmt: skip
    """Describe a block of points (``DESCRIBE``), or store its coordinates: ``[low, high, high, low]`` or ``[high]``."""
    block = first // BLOCK + tl.program_id(0)
    rows = block * BLOCK + tl.arange(0, BLOCK)
    numbers, field, head, blocks = regions(singles, padded, BLOCK, DIM)
    unit = tl.load(head + DIM)
    norm = tl.zeros([BLOCK], tl.float64)
    place = (rows - first).to(tl.int64)[:, None] * (4 * PITCH if LOW else PITCH)
    for begin in range(0, PITCH, PART):
        columns = begin + tl.arange(0, PART)
        x = load_points(z, means, rows, total, m, columns, DIM).to(tl.float32)
        x -= tl.load(head + columns, mask=columns < DIM, other=0.0)[None, :]
        x = tl.where((rows < total)[:, None] & (columns < DIM)[None, :], x * (1.0 / unit), 0.0)
        high, low, x = split(x, LOW)
        if DESCRIBE:
            exact = x.to(tl.float64)
            norm += tl.sum(exact * exact, 1)
        else:
            here = halves + place + columns[None, :]
            mask = (columns < PITCH)[None, :]
            if LOW:
                tl.store(here, low, mask=mask)
                tl.store(here + PITCH, high, mask=mask)
                tl.store(here + 2 * PITCH, high, mask=mask)
                tl.store(here + 3 * PITCH, low, mask=mask)
            else:
                tl.store(here, high, mask=mask)
    if DESCRIBE:
        square = unit.to(tl.float64) * unit.to(tl.float64)
        far = tl.load(head + DIM + 1)
        sigma = describe(
            rows, norm, h, w, square, far, singles, doubles, numbers, block, blocks, total, padded, WIDE, LIMIT
        )
        for begin in range(0, DIM, PART):
            columns = begin + tl.arange(0, PART)
            x = load_points(z, means, rows, total, m, columns, DIM).to(tl.float32)
            x -= tl.load(head + columns, mask=columns < DIM, other=0.0)[None, :]
            x = tl.where((rows < total)[:, None] & (columns < DIM)[None, :], x * (1.0 / unit), 0.0)
            x = split(x, LOW)[2]
            pull = tl.sum(x.to(tl.float64) * sigma.to(tl.float64)[:, None], 0)
            tl.store(field + block.to(tl.int64) * DIM + columns, pull.to(tl.float32), mask=columns < DIM)


@triton.jit(do_not_specialize=["padded", "first", "last"])
def add_far_fields(
    singles, pull, padded, first, last, DIM: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, PART: tl.constexpr
):  # fmt: skip
    """Sums over the blocks of points ``first:last``: of ``w s x`` (D), of ``w s``, and of the sizes of ``w s``."""
    columns = tl.program_id(0) * PART + tl.arange(0, PART)
    numbers, field, head, blocks = regions(singles, padded, BLOCK, DIM)
    sums = tl.zeros([PART], tl.float64)
    mass = tl.zeros([ROWS], tl.float64)
    size = tl.zeros([ROWS], tl.float64)
    for begin in range(first, last, ROWS):
        block = begin + tl.arange(0, ROWS)
        mask = (block < last)[:, None] & (columns < DIM)[None, :]
        x = tl.load(field + block.to(tl.int64)[:, None] * DIM + columns[None, :], mask=mask, other=0.0)
        sums += tl.sum(x.to(tl.float64), 0)
        mass += tl.load(numbers + 3 * blocks + block, mask=block < last, other=0.0).to(tl.float64)
        size += tl.load(numbers + blocks + block, mask=block < last, other=0.0).to(tl.float64)
    tl.store(pull + columns, sums.to(tl.float32), mask=columns < DIM)
    if tl.program_id(0) == 0:
        tl.store(pull + DIM, tl.sum(mass, 0).to(tl.float32))
        tl.store(pull + DIM + 1, tl.sum(size, 0).to(tl.float32))


@triton.jit(
    do_not_specialize=["total", "padded", "top", "count", "first", "length"],
    do_not_specialize_on_alignment=["u_sums", "q_sums"],
)
def weigh(
    scores, weights, low_weights, singles, u_sums, q_sums, p_sums, total, padded, top, count, first, length,
    DIM: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LOW_WEIGHTS: tl.constexpr,
    GRADIENT: tl.constexpr, KEEP: tl.constexpr, FORM: tl.constexpr,
):  # fmt: skip
    """Rounded weights of a strip of rows from their scores (count, length), and all sums except the forces."""
    local = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = local < count
    rows = top + local
    numbers, field, head, blocks = regions(singles, padded, BLOCK, DIM)
    fits, scale = judge(numbers, blocks, total)
    small = 1.0 / scale
    lifted_rows = tl.load(singles + rows, mask=inside, other=1.0)
    h_rows = tl.load(singles + 3 * padded + rows, mask=inside, other=1.0)
    alpha = row_scale(lifted_rows, tl.load(head + DIM + 1))
    u = tl.zeros([ROWS], tl.float64)
    q = tl.zeros([ROWS], tl.float64)
    p = tl.zeros([ROWS], tl.float64)
    for column in range(0, length, COLUMNS):
        sources = first + column + tl.arange(0, COLUMNS)
        place = local.to(tl.int64)[:, None] * length + column + tl.arange(0, COLUMNS)[None, :]
        mask = inside[:, None] & (sources < first + length)[None, :]
        real = sources < first + length
        lifted = tl.load(singles + sources, mask=real, other=1.0)
        weight = tl.load(singles + padded + sources, mask=real, other=0.0) * small
        s = tl.load(scores + place, mask=mask, other=0.0)
        r = tl.rsqrt((lifted_rows[:, None] + lifted[None, :]) - 2.0 * s)
        r = tl.where(rows[:, None] == sources[None, :], 0.0, r)
        weighted = r * weight[None, :]
        pull = weighted * (r * r)
        widen = pull
        if degree(FORM) > 0:
            h_sources = tl.load(singles + 3 * padded + sources, mask=real, other=1.0)
            value_factor, pull_factor, widen_factor = profile_factors(r * r, h_rows, h_sources, FORM)
            weighted = weighted * value_factor
            widen = pull * widen_factor
            pull = pull * pull_factor
        u += tl.sum(weighted, 1).to(tl.float64)
        if GRADIENT:
            sigma = tl.load(singles + 2 * padded + sources, mask=real, other=0.0) * small
            rest = pull - alpha[:, None] * sigma[None, :]
            rounded = rest.to(tl.float16)
            held = rounded.to(tl.float32)
            tl.store(weights + place, rounded, mask=mask)
            if LOW_WEIGHTS:
                remainder = (rest - held).to(tl.float16)
                held += remainder.to(tl.float32)
                tl.store(low_weights + place, remainder, mask=mask)
            p += tl.sum(held, 1).to(tl.float64)
            q += tl.sum(widen - alpha[:, None] * sigma[None, :], 1).to(tl.float64)
    if GRADIENT:
        tl.store(p_sums + local, p.to(tl.float32), mask=inside)
        mass = tl.full((), 0.0, tl.float64)
        end = tl.cdiv(first + length, BLOCK)
        for block in range(first // BLOCK, end, 256):
            here = block + tl.arange(0, 256)
            mass += tl.sum(tl.load(numbers + 3 * blocks + here, mask=here < end, other=0.0).to(tl.float64), 0)
        q = scale.to(tl.float64) * q + alpha.to(tl.float64) * mass
    add_sums(u_sums, q_sums, local, inside, u * scale.to(tl.float64), q, KEEP)


@triton.jit(
    do_not_specialize=["total", "padded", "top", "count", "first", "length"],
    do_not_specialize_on_alignment=["points", "out"],
)
def add_forces(
    points, products, out, singles, p_sums, pull, total, padded, top, count, first, length,
    DIM: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, PART: tl.constexpr, LOW: tl.constexpr,
    LOW_FORCES: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """Add the forces of a panel on its rows to the results, from the product of weights and points (count, D).

    With ``LOW_FORCES`` that product includes the low half of the points.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * PART + tl.arange(0, PART)
    numbers, field, head, blocks = regions(singles, padded, BLOCK, DIM)
    fits, scale = judge(numbers, blocks, total)
    inside = rows < count
    mask = inside[:, None] & (columns < DIM)[None, :]
    place = rows.to(tl.int64)[:, None] * DIM + columns[None, :]
    x = tl.load(points + place, mask=mask, other=0.0).to(tl.float32)
    x -= tl.load(head + columns, mask=columns < DIM, other=0.0)[None, :]
    high, low, x = split(x * (1.0 / tl.load(head + DIM)), LOW)
    alpha = row_scale(tl.load(singles + top + rows, mask=inside, other=1.0), tl.load(head + DIM + 1))
    p = tl.load(p_sums + rows, mask=inside, other=0.0)
    own = p[:, None] * (x if LOW_FORCES else own_part(high, x, scale * p, alpha, tl.load(pull + DIM + 1)))
    force = scale * (tl.load(products + place, mask=mask, other=0.0) - own)
    steady = tl.load(pull + columns, mask=columns < DIM, other=0.0)
    force += alpha[:, None] * (steady[None, :] - tl.load(pull + DIM) * x)
    if KEEP:
        force += tl.load(out + place, mask=mask, other=0.0)
    tl.store(out + place, force, mask=mask)
