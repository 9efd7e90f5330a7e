"""A block of rows against a range of sources, by differences of coordinates, accurate at any offset and scale.

It adds, for every row a, ``Σ_b w_b r`` and ``Σ_b w_b r³`` over the sources b ≠ a to ``u_sums`` and ``q_sums``
(float64) and ``Σ_b w_b r³ (x_b - x_a)`` to ``forces``; without ``keep`` it overwrites them. All three pointers are
those of the first row of the block.
"""

from __future__ import annotations

import triton
import triton.language as tl

from segma_fast.distance.backends.triton.kernels.points import add_sums, degree, profile_factors, row_pointers


@triton.jit
def _profile(t, h_rows, h_sources, FORM: tl.constexpr):
    """The kernel without constant factors, and the factors of its derivatives, from |a - b|² and h/c (D = 1: h)."""
    if degree(FORM) < 0:
        h = h_rows[:, None] + h_sources[None, :]
        s = tl.minimum(t / h, 1e4)
        inverse = 1.0 / h
        k = tl.sqrt(inverse) * tl.exp(-s)
        return k, 2.0 * k * inverse, k * inverse * (1.0 - 2.0 * s)
    else:
        r = tl.rsqrt((t + h_rows[:, None]) + h_sources[None, :])  # the widths' sum would be rounded alike for all
        cube = r * r * r
        if degree(FORM) > 0:
            value, pull, widen = profile_factors(r * r, 2.0 * h_rows, 2.0 * h_sources, FORM)
            return r * value, cube * pull, cube * widen
        else:
            return r, cube, cube


@triton.jit
def _others_only(r, pull, widen, rows, columns):
    """The profile without the pair of a point with itself."""
    same = rows[:, None] == columns[None, :]
    return tl.where(same, 0.0, r), tl.where(same, 0.0, pull), tl.where(same, 0.0, widen)


@triton.jit
def by_differences(
    flat, forces, u_sums, q_sums, top, count, padded, first, last, keep,
    DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SPAN: tl.constexpr, GRADIENT: tl.constexpr,
    REAL: tl.constexpr, FORM: tl.constexpr,
):  # fmt: skip
    """By differences of a few coordinates, from what ``lay_out`` prepared."""
    rows = tl.arange(0, ROWS)
    step = padded.to(tl.int64)
    x_rows = ()
    force = ()
    u = tl.zeros([ROWS], tl.float64)  # NaN if a coordinate is not finite: its pairs alone would give k = 0
    q = tl.zeros([ROWS], tl.float64)
    for d in tl.static_range(DIM):
        x_rows = x_rows + (tl.load(flat + d * step + top + rows),)
        force = force + (tl.zeros([ROWS], tl.float64),)
        u += (0.0 * x_rows[d]).to(tl.float64)
    h_rows = tl.load(flat + DIM * step + top + rows)
    for begin in tl.range(first, last, SPAN, disable_licm=True):
        u_span = tl.zeros([ROWS], REAL)
        q_span = tl.zeros([ROWS], REAL)
        force_span = ()
        for _ in tl.static_range(DIM):
            force_span = force_span + (tl.zeros([ROWS], REAL),)
        for column in range(begin, tl.minimum(begin + SPAN, last), COLUMNS):
            sources = column + tl.arange(0, COLUMNS)
            place = flat + sources
            t = tl.zeros([ROWS, COLUMNS], REAL)
            for d in tl.static_range(DIM):
                gap = tl.load(place + d * step)[None, :] - x_rows[d][:, None]
                t += gap * gap
            r, pull, widen = _profile(t, h_rows, tl.load(place + DIM * step), FORM)
            weight = tl.load(place + (DIM + 1) * step)
            if (column < top + ROWS) & (top < column + COLUMNS):
                r, pull, widen = _others_only(r, pull, widen, top + rows, sources)
            u_span += tl.sum(r * weight[None, :], 1)
            if GRADIENT:
                q_span += tl.sum(widen * weight[None, :], 1)
                pull = pull * weight[None, :]
                added = ()
                for d in tl.static_range(DIM):
                    gap = tl.load(place + d * step)[None, :] - x_rows[d][:, None]
                    added = added + (force_span[d] + tl.sum(pull * gap, 1),)
                force_span = added
        u += u_span.to(tl.float64)
        q += q_span.to(tl.float64)
        if GRADIENT:
            added = ()
            for d in tl.static_range(DIM):
                added = added + (force[d] + force_span[d].to(tl.float64),)
            force = added
    if GRADIENT:
        for d in tl.static_range(DIM):
            place = forces + rows * DIM + d
            part = force[d]
            if keep:
                part += tl.load(place, mask=rows < count, other=0.0).to(tl.float64)
            tl.store(place, part.to(REAL), mask=rows < count)
    add_sums(u_sums, q_sums, rows, rows < count, u, q, keep)


@triton.jit
def by_many_differences(
    points, forces, u_sums, q_sums, z, means, h, w, top, count, m, total, first, last, keep,
    DIM: tl.constexpr, FEW: tl.constexpr, MANY: tl.constexpr, GRADIENT: tl.constexpr, REAL: tl.constexpr,
    FORM: tl.constexpr,
):  # fmt: skip
    """By differences of any number of coordinates, ``FEW`` rows and ``MANY`` sources at once.

    Slow; used for float64, and for points that fp16 cannot hold.
    """
    rows = tl.arange(0, FEW)
    inside = rows < count
    row_start = points + rows * DIM
    memory = forces + rows * DIM
    h_rows = (tl.load(h + top + rows, mask=inside, other=1.0) * FORM[0]).to(REAL)
    u = tl.zeros([FEW], tl.float64)
    q = tl.zeros([FEW], tl.float64)
    for d in range(0, DIM):
        u += 0.0 * tl.load(row_start + d, mask=inside, other=0.0).to(tl.float64)
    for column in range(first, last, MANY):
        sources = column + tl.arange(0, MANY)
        real = sources < tl.minimum(last, total)
        start = row_pointers(z, means, sources, m, DIM)
        t = tl.zeros([FEW, MANY], REAL)
        for d in range(0, DIM):
            x = tl.load(start + d, mask=real, other=0.0).to(REAL)
            gap = x[None, :] - tl.load(row_start + d, mask=inside, other=0.0).to(REAL)[:, None]
            t += gap * gap
        h_sources = (tl.load(h + sources, mask=real, other=1.0) * FORM[0]).to(REAL)
        r, pull, widen = _profile(t, h_rows, h_sources, FORM)
        weight = tl.load(w + sources, mask=real, other=0.0).to(REAL)
        if (column < top + FEW) & (top < column + MANY):
            r, pull, widen = _others_only(r, pull, widen, top + rows, sources)
        u += tl.sum(r * weight[None, :], 1).to(tl.float64)
        if GRADIENT:
            q += tl.sum(widen * weight[None, :], 1).to(tl.float64)
            pull = pull * weight[None, :]
            tl.debug_barrier()
            for d in range(0, DIM):
                x = tl.load(start + d, mask=real, other=0.0).to(REAL)
                gap = x[None, :] - tl.load(row_start + d, mask=inside, other=0.0).to(REAL)[:, None]
                part = tl.sum(pull * gap, 1)
                if (column > first) | keep:
                    part += tl.load(memory + d, mask=inside, other=0.0)
                tl.store(memory + d, part, mask=inside)
    add_sums(u_sums, q_sums, rows, inside, u, q, keep)
