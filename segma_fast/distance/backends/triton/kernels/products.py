"""A block of rows against a range of sources, by matrix products of what ``prepare`` rounded to fp16.

It adds, for every row a, ``Σ_b w_b r`` and ``Σ_b w_b r³`` over the sources b ≠ a to ``u_sums`` and ``q_sums``
(float64) and ``Σ_b w_b r³ (x_b - x_a)`` to ``forces``; without ``keep`` it overwrites them. All three pointers are
those of the first row of the block.
"""

from __future__ import annotations

import triton
import triton.language as tl

from segma_fast.distance.backends.triton.kernels.points import (
    add_sums,
    degree,
    own_part,
    profile_factors,
    regions,
    row_scale,
    split,
    tile,
)


@triton.jit
def _rounded(points, head, rows, count, DIM: tl.constexpr, WIDTH: tl.constexpr, LOW: tl.constexpr):
    """Coordinates of rows as ``prepare`` rounds them: both halves, and their sum."""
    columns = tl.arange(0, WIDTH)
    inside = (rows < count)[:, None] & (columns < DIM)[None, :]
    x = tl.load(points + tile(rows, columns, DIM), mask=inside, other=0.0).to(tl.float32)
    x = (x - tl.load(head + columns)[None, :]) * (1.0 / tl.load(head + WIDTH))
    return split(tl.where(inside, x, 0.0), LOW)


@triton.jit
def _far_field(
    forces, rows, p, alpha, points, singles, count, padded, first, last,
    DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, SLICE: tl.constexpr, LOW: tl.constexpr,
    LOW_FORCES: tl.constexpr,
):  # fmt: skip
    """Add ``Σ_b α_a σ_b (x_b - x_a) - p_a x_a`` over a span of sources to the forces; return ``Σ_b σ_b``.

    Without ``LOW_FORCES`` the forces of the sources omit the low half of x_b.
    """
    numbers, field, head, blocks = regions(singles, padded, BLOCK, WIDTH)
    some = tl.arange(0, 16)
    mass = tl.full((), 0.0, tl.float64)
    size = tl.full((), 0.0, tl.float32)
    end = tl.cdiv(last, BLOCK)
    for block in range(first // BLOCK, end, 16):
        here = block + some
        mass += tl.sum(tl.load(numbers + 3 * blocks + here, mask=here < end, other=0.0).to(tl.float64), 0)
        size += tl.sum(tl.load(numbers + blocks + here, mask=here < end, other=0.0), 0)
    unit = 1.0 / tl.load(head + WIDTH)
    for begin in range(0, DIM, SLICE):
        columns = begin + tl.arange(0, SLICE)
        pull = tl.zeros([SLICE], tl.float64)
        for block in range(first // BLOCK, end, 16):
            here = block + some
            place = here.to(tl.int64)[:, None] * WIDTH + columns[None, :]
            pull += tl.sum(tl.load(field + place, mask=(here < end)[:, None], other=0.0).to(tl.float64), 0)
        inside = (rows < count)[:, None] & (columns < DIM)[None, :]
        place = tile(rows, columns, DIM)
        x = tl.load(points + place, mask=inside, other=0.0).to(tl.float32)
        high, low, x = split((x - tl.load(head + columns)[None, :]) * unit, LOW)
        force = tl.load(forces + place, mask=inside, other=0.0)
        force += alpha[:, None] * (pull.to(tl.float32)[None, :] - mass.to(tl.float32) * x)
        force -= p[:, None] * (x if LOW_FORCES else own_part(high, x, p, alpha, size))
        tl.store(forces + place, force, mask=inside)
    return mass


@triton.jit
def by_products(
    points, forces, u_sums, q_sums, halves, singles, codes, top, count, padded, offset, length, first, last, scale,
    keep, DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
    SPAN: tl.constexpr, SLICE: tl.constexpr, LOW: tl.constexpr, LOW_WEIGHTS: tl.constexpr, GRADIENT: tl.constexpr,
    FORM: tl.constexpr, TWICE: tl.constexpr,
):  # fmt: skip
    """By matrix products of fp16 coordinates; ``halves`` holds ``length`` sources from ``offset`` on."""
    columns = tl.arange(0, WIDTH)
    head = regions(singles, padded, BLOCK, WIDTH)[2]
    far = tl.load(head + WIDTH + 1)
    rows = tl.arange(0, ROWS)
    high_rows, low_rows, x_rows = _rounded(points, head, rows, count, DIM, WIDTH, LOW)
    lifted_rows = tl.load(singles + top + rows, mask=rows < count, other=1.0)
    if degree(FORM) > 0:
        h_rows = tl.load(singles + 3 * padded + top + rows, mask=rows < count, other=1.0)
    small = 1.0 / scale
    alpha = row_scale(lifted_rows, far) * small  # in units of the rounded weights, as all sums of a span
    for begin in tl.range(first, last, SPAN, disable_licm=True):
        end = tl.minimum(begin + SPAN, last)
        acc = tl.zeros([ROWS, WIDTH], tl.float32)
        u = tl.zeros([ROWS], tl.float64)
        p = tl.zeros([ROWS], tl.float32)
        q_span = tl.zeros([ROWS], tl.float32)
        for column in range(begin, end, COLUMNS):
            sources = column + tl.arange(0, COLUMNS)
            place = halves + (sources - offset).to(tl.int64)[:, None] * WIDTH + columns[None, :]
            high = tl.load(place)
            scores = tl.zeros([ROWS, COLUMNS], tl.float32)
            if LOW:  # the small products first
                low = tl.load(place + length.to(tl.int64) * WIDTH)
                scores = tl.dot(low_rows, tl.trans(high), scores)
                scores = tl.dot(high_rows, tl.trans(low), scores)
            scores = tl.dot(high_rows, tl.trans(high), scores)
            lifted = tl.load(singles + sources)
            weight = tl.load(singles + padded + sources) * small
            r = tl.rsqrt((lifted_rows[:, None] + lifted[None, :]) - TWICE * scores)
            if (column < top + ROWS) & (top < column + COLUMNS):
                r = tl.where((top + rows)[:, None] == sources[None, :], 0.0, r)
            weighted = r * weight[None, :]
            pull = weighted * (r * r)
            widen = pull
            if degree(FORM) > 0:
                h_sources = tl.load(singles + 3 * padded + sources)
                value_factor, pull_factor, widen_factor = profile_factors(r * r, h_rows, h_sources, FORM)
                weighted = weighted * value_factor
                widen = pull * widen_factor
                pull = pull * pull_factor
            u += tl.sum(weighted, 1).to(tl.float64)
            if GRADIENT:
                sigma = tl.load(singles + 2 * padded + sources)
                rest = pull - alpha[:, None] * sigma[None, :]
                rounded = rest.to(tl.float16)
                acc = tl.dot(rounded, high, acc)
                held = rounded.to(tl.float32)
                if LOW_WEIGHTS:
                    remainder = (rest - held).to(tl.float16)
                    acc = tl.dot(remainder, high, acc)
                    if LOW:
                        acc = tl.dot(rounded, low, acc)
                    held += remainder.to(tl.float32)
                p += tl.sum(held, 1)
                if degree(FORM) > 0:
                    q_span += tl.sum(widen - alpha[:, None] * sigma[None, :], 1)
                elif not LOW_WEIGHTS:
                    if column + COLUMNS > codes:  # a mean can outweigh the codes: add the rounding error back
                        q_span += tl.sum(rest - held, 1)
        # To keep registers free during the loop above, what follows is recomputed, from row numbers to which a zero is
        # added that the compiler does not know, and the forces go through memory, a few columns at a time.
        again = rows + tl.load(head + WIDTH + 2).to(tl.int32)
        inside = again < count
        more = (begin > first) | keep
        if degree(FORM) == 0:  # up to that error, the weights for widths are those for points
            q_span += p
        q = scale.to(tl.float64) * q_span.to(tl.float64)
        if GRADIENT:
            place = forces + tile(again, columns, DIM)
            mask = inside[:, None] & (columns < DIM)[None, :]
            force = scale * acc
            if more:
                force += tl.load(place, mask=mask, other=0.0)
            tl.store(place, force, mask=mask)
            tl.debug_barrier()
            alpha_again = row_scale(tl.load(singles + top + again, mask=inside, other=1.0), far)
            mass = _far_field(
                forces, again, scale * p, alpha_again, points, singles, count, padded, begin, end,
                DIM, WIDTH, BLOCK, SLICE, LOW, LOW_WEIGHTS,
            )  # fmt: skip
            q += alpha_again.to(tl.float64) * mass
            tl.debug_barrier()
        add_sums(u_sums, q_sums, again, inside, u * scale.to(tl.float64), q, more)
