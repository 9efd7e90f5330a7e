"""The primitive as Triton kernels: value and gradient of the signed cloud in one pass over pairs, on any GPU.

Two launches. ``prepare`` (``prepare.py``) centres and rounds the points; in ``pairs`` every program holds a block of
rows and runs over its share of the sources (``products.py``, ``differences.py``). If there are too few rows to fill the
machine, several programs share a block of rows. Each writes its sums to the workspace; an integer counter tells which
program finishes last, and that one adds the sums in a fixed order. So no sum depends on the order in which programs
finish, and the same input gives the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from segma_fast.distance.backends.triton.kernels.differences import by_differences, by_many_differences
from segma_fast.distance.backends.triton.kernels.points import (
    INV_SQRT_PI,
    LEAST,
    inputs_of_sample,
    judge,
    place_in_samples,
    regions,
    tile,
    workspace_of_sample,
)
from segma_fast.distance.backends.triton.kernels.products import by_products

# arguments whose values do not cause a recompilation
SIZES = ["m", "total", "start", "stop", "middle", "padded", "offset", "length", "share", "splits"]


@triton.jit
def _arrive(counter):
    """How many programs arrived before this one; their earlier writes are visible afterwards."""
    tl.debug_barrier()
    before = tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu")
    tl.debug_barrier()
    return before


@triton.jit(do_not_specialize=SIZES)
def pairs(
    z, means, h, w, halves, singles, doubles, tickets, u_sums, q_sums, forces, dz, dmeans, dh, dw, energy,
    m, total, start, stop, middle, padded, offset, length, share, splits, floats,
    DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, FEW: tl.constexpr,
    MANY: tl.constexpr, BLOCK: tl.constexpr, SPAN: tl.constexpr, SLICE: tl.constexpr, PRODUCTS: tl.constexpr,
    PANELS: tl.constexpr, DIFFERENCES: tl.constexpr, LOW: tl.constexpr, LOW_WEIGHTS: tl.constexpr,
    GRADIENT: tl.constexpr, SPLIT: tl.constexpr, WHOLE: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr,
    REAL: tl.constexpr, FORM: tl.constexpr, OWN: tl.constexpr, TWICE: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Rows ``start:stop`` against the sources ``offset:offset + length``, ``share`` sources per program.

    The grid is (blocks of rows, splits of the sources). ``u_sums`` and ``q_sums`` (splits, rows) and ``forces``
    (splits, rows, D) hold the sums; without ``SPLIT`` the forces are kept in the results. With ``FIRST`` no earlier
    launch has stored sums there, and with ``LAST`` no later launch will add to them. With ``PANELS`` all sums and
    the gradient in points are stored already, unless fp16 cannot hold the cloud. ``OWN`` is Q of a point with itself.

    With ``SAMPLES`` the arrays hold several samples one behind the other, each with all rows and with ``floats`` of
    ``singles``; the first dimension of the grid is longer by their number.
    """
    block = tl.program_id(0)
    split = tl.program_id(1)
    rows = tl.arange(0, ROWS)
    codes = tl.cdiv(middle - start, ROWS)  # blocks of codes; those of means come after them
    if SAMPLES:
        programs = codes + tl.cdiv(stop - middle, ROWS)
        sample, block = place_in_samples(programs)
        z, means, h, w = inputs_of_sample(sample, z, means, h, w, m, total, DIM)
        halves, singles, doubles, tickets = workspace_of_sample(
            sample, halves, singles, doubles, tickets, padded, length, floats, programs + 1, WIDTH, LOW
        )
        dz, dmeans, dh, dw = inputs_of_sample(sample, dz, dmeans, dh, dw, m, total, DIM)
        u_sums += sample * splits * total
        q_sums += sample * splits * total
        forces += sample * splits * total * DIM
        energy += sample
    else:
        programs = tl.num_programs(0)
    if block < codes:
        top = start + block * ROWS
        count = tl.minimum(middle - top, ROWS)
        points = z + top.to(tl.int64) * DIM
        results = dz + (top - start).to(tl.int64) * DIM
    else:
        top = middle + (block - codes) * ROWS
        count = tl.minimum(stop - top, ROWS)
        points = means + (top - m).to(tl.int64) * DIM
        results = dmeans + (top - middle).to(tl.int64) * DIM
    mine = rows < count
    stride = (stop - start).to(tl.int64)  # from split to split
    local = top - start
    out = results
    if SPLIT:
        out = forces + (split * stride + local) * DIM
    first = offset + split * share
    last = tl.minimum(first + share, offset + length)
    keep = not FIRST

    fits = False
    if PRODUCTS:
        numbers, field, head, blocks = regions(singles, padded, BLOCK, WIDTH)
        fits, scale = judge(numbers, blocks, total)
    u_mine = u_sums + stride * split + local
    q_mine = q_sums + stride * split + local
    if fits:
        if PRODUCTS and not PANELS:
            by_products(
                points, out, u_mine, q_mine, halves, singles, m, top, count, padded, offset, length, first, last, scale,
                keep, DIM, WIDTH, ROWS, COLUMNS, BLOCK, SPAN, SLICE, LOW, LOW_WEIGHTS, GRADIENT, FORM, TWICE,
            )  # fmt: skip
    elif DIFFERENCES:
        by_differences(
            singles, out, u_mine, q_mine, top, count, padded, first, last, keep,
            DIM, ROWS, COLUMNS, SPAN, GRADIENT, REAL, FORM,
        )  # fmt: skip
    else:
        for row in range(0, count, FEW):
            by_many_differences(
                points + row * DIM, out + row * DIM, u_mine + row, q_mine + row, z, means, h, w, top + row, count - row,
                m, total, first, last, keep, DIM, FEW, MANY, GRADIENT, REAL, FORM,
            )  # fmt: skip

    finish = LAST
    tl.debug_barrier()
    if SPLIT:
        finish = _arrive(tickets + block) == splits - 1
    if finish:
        u = tl.zeros([ROWS], tl.float64)
        q = tl.zeros([ROWS], tl.float64)
        for other in range(0, splits):
            place = stride * other + local + rows
            u += tl.load(u_sums + place, mask=mine, other=0.0, cache_modifier=".cg")
            q += tl.load(q_sums + place, mask=mine, other=0.0, cache_modifier=".cg")
        tl.debug_barrier()  # the results may overwrite the sums in memory
        weight = tl.load(w + top + rows, mask=mine, other=0.0).to(REAL).to(tl.float64)
        unit = tl.full((), 1.0, tl.float64)
        if DIFFERENCES:
            unit = tl.load(singles + (DIM + 2) * padded.to(tl.int64)).to(tl.float64)
        own = tl.load(h + top + rows, mask=mine, other=1.0) * FORM[0] / (unit * unit)
        own = tl.where(own >= LEAST, own.to(REAL).to(tl.float64), own)
        if PRODUCTS:
            if fits:
                own = tl.load(doubles + top + rows, mask=mine, other=1.0)
                unit = tl.load(head + WIDTH).to(tl.float64)
        root = 1.0 / tl.sqrt(2.0 * own)
        u += weight * root * OWN
        factor = tl.sqrt(tl.full((), FORM[0], tl.float64)) * INV_SQRT_PI / unit
        part = tl.sum(tl.where(mine, weight * u, 0.0), 0) * factor
        if GRADIENT:
            tl.store(dw + local + rows, 2.0 * factor * u, mask=mine)
            widen = factor * FORM[0] / (unit * unit) * weight * (q + weight * root * root * root * OWN)
            tl.store(dh + local + rows, -widen, mask=mine)
            pull = 2.0 * factor / unit * weight
            left = DIM
            if PANELS:
                left = tl.where(fits, 0, DIM)  # the gradient in points is there already
            for begin in range(0, left, SLICE):
                columns = begin + tl.arange(0, SLICE)
                mask = mine[:, None] & (columns < DIM)[None, :]
                force = tl.zeros([ROWS, SLICE], tl.float64)
                if SPLIT:
                    for other in range(0, splits):
                        found = forces + (stride * other + local) * DIM + tile(rows, columns, DIM)
                        force += tl.load(found, mask=mask, other=0.0, cache_modifier=".cg").to(tl.float64)
                else:
                    force += tl.load(results + tile(rows, columns, DIM), mask=mask, other=0.0).to(tl.float64)
                tl.store(results + tile(rows, columns, DIM), (force * pull[:, None]).to(REAL), mask=mask)
        parts = doubles + padded
        tl.store(parts + block, part)
        if _arrive(tickets + programs) == programs - 1:
            lanes = tl.arange(0, 256)
            found = tl.zeros([256], tl.float64)
            for begin in range(0, programs, 256):
                here = begin + lanes
                found += tl.load(parts + here, mask=here < programs, other=0.0, cache_modifier=".cg")
            value = tl.sum(found, 0)
            tl.store(energy, tl.where(value < 0.0, 0.0, value) if WHOLE else value)
