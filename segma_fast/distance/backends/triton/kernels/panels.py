"""The Triton kernels around the matrix products of a panel (``triton/panels.py``)."""

from __future__ import annotations

import triton
import triton.language as tl

from segma_fast.distance.backends.triton.kernels.points import (
    INV_SQRT_PI,
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
from segma_fast.distance.backends.triton.kernels.prepare import (
    SAMPLE,
    centre_of,
    coarse_centre,
    describe,
    norms_of_sample,
    unit_of,
    usual_sizes,
)


@triton.constexpr_function
def power_of_two(count):
    return triton.next_power_of_2(count)


@triton.jit(do_not_specialize=["m", "total"])
def find_centre(z, means, head, norms, m, total, DIM: tl.constexpr, PART: tl.constexpr):
    """Store a part of the centre, and what its coordinates add to the squared norms of the sample, (parts, SAMPLE)."""
    part = tl.program_id(0)
    columns = part * PART + tl.arange(0, PART)
    centre = centre_of(z, means, total, m, columns, DIM, SAMPLE)
    tl.store(head + columns, centre, mask=columns < DIM)
    found = norms_of_sample(z, means, centre, total, m, columns, DIM)
    tl.store(norms + part * SAMPLE + tl.arange(0, SAMPLE), found)


@triton.jit
def _rounded(
    z, means, head, rows, columns, total, m, unit,
    DIM: tl.constexpr, LOW: tl.constexpr, COARSE: tl.constexpr,
):  # fmt: skip
    """Coordinates of points in units from the centre, as ``split`` rounds them, and the centre."""
    centre = tl.load(head + columns, mask=columns < DIM, other=0.0)
    if COARSE:
        centre = coarse_centre(centre, unit, DIM)
    x = load_points(z, means, rows, total, m, columns, DIM).to(tl.float32) - centre[None, :]
    inside = (rows < total)[:, None] & (columns < DIM)[None, :]
    high, low, x = split(tl.where(inside, x * (1.0 / unit), 0.0), LOW)
    return high, low, x, centre


@triton.jit(do_not_specialize=["m", "total", "padded"])
def prepare_panels(
    z, means, h, w, norms, halves, singles, doubles, m, total, padded,
    DIM: tl.constexpr, PITCH: tl.constexpr, BLOCK: tl.constexpr, HELD: tl.constexpr, NORMS: tl.constexpr,
    LOW: tl.constexpr, COARSE: tl.constexpr, LIMIT: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Describe a block of points, and store its coordinates: ``[low, high, high, low]`` or ``[high]``.

    ``norms`` are in ``NORMS`` parts, which are added up.
    """
    block = tl.program_id(0)
    rows = block * BLOCK + tl.arange(0, BLOCK)
    numbers, field, head, blocks = regions(singles, padded, BLOCK, DIM)
    parts = tl.arange(0, power_of_two(NORMS))
    places = norms + parts[:, None] * SAMPLE + tl.arange(0, SAMPLE)[None, :]
    size, length = usual_sizes(tl.sum(tl.load(places, mask=(parts < NORMS)[:, None], other=0.0), 0), h, total, WIDE)
    unit = unit_of(length)
    square = unit.to(tl.float64) * unit.to(tl.float64)
    far = (size / square).to(tl.float32)  # 0 marks all points as misfits
    norm = tl.zeros([BLOCK], tl.float64)
    place = halves + rows.to(tl.int64)[:, None] * (4 * PITCH if LOW else PITCH)
    for begin in range(0, PITCH, HELD):
        columns = begin + tl.arange(0, HELD)
        high, low, x, centre = _rounded(z, means, head, rows, columns, total, m, unit, DIM, LOW, COARSE)
        exact = x.to(tl.float64)
        norm += tl.sum(exact * exact, 1)
        here = place + columns[None, :]
        mask = (columns < PITCH)[None, :]
        if LOW:
            tl.store(here, low, mask=mask)
            tl.store(here + PITCH, high, mask=mask)
            tl.store(here + 2 * PITCH, high, mask=mask)
            tl.store(here + 3 * PITCH, low, mask=mask)
        else:
            tl.store(here, high, mask=mask)
    sigma = describe(
        rows, norm, h, w, square, far, singles, doubles, numbers, block, blocks, total, padded, WIDE, LIMIT
    )
    for begin in range(0, DIM, HELD):
        columns = begin + tl.arange(0, HELD)
        high, low, x, centre = _rounded(z, means, head, rows, columns, total, m, unit, DIM, LOW, COARSE)
        pull = tl.sum(x.to(tl.float64) * sigma.to(tl.float64)[:, None], 0)
        tl.store(field + block.to(tl.int64) * DIM + columns, pull.to(tl.float32), mask=columns < DIM)
        if COARSE:
            if block == 0:  # whoever reads the rounded centre before or after rounds it to itself
                tl.store(head + columns, centre, mask=columns < DIM)
    if block == 0:
        tl.store(head + DIM, unit)
        tl.store(head + DIM + 1, far)
        tl.store(head + DIM + 2, 0.0)


@triton.jit(do_not_specialize=["padded", "total"])
def add_far_fields(
    singles, field_sums, padded, total, DIM: tl.constexpr, BLOCK: tl.constexpr, FIELDS: tl.constexpr,
    LANE: tl.constexpr,
):  # fmt: skip
    """Over all points the sums of ``w s x`` (D), of ``w s`` and of its size, and the scale of the weights, float64."""
    columns = tl.program_id(0) * LANE + tl.arange(0, LANE)
    numbers, field, head, blocks = regions(singles, padded, BLOCK, DIM)
    sums = tl.zeros([LANE], tl.float64)
    mass = tl.zeros([FIELDS], tl.float64)
    size = tl.zeros([FIELDS], tl.float64)
    for begin in range(0, blocks, FIELDS):
        block = begin + tl.arange(0, FIELDS)
        mask = (block < blocks)[:, None] & (columns < DIM)[None, :]
        x = tl.load(field + block.to(tl.int64)[:, None] * DIM + columns[None, :], mask=mask, other=0.0)
        sums += tl.sum(x.to(tl.float64), 0)
        mass += tl.load(numbers + 3 * blocks + block, mask=block < blocks, other=0.0).to(tl.float64)
        size += tl.load(numbers + blocks + block, mask=block < blocks, other=0.0).to(tl.float64)
    tl.store(field_sums + columns, sums, mask=columns < DIM)
    if tl.program_id(0) == 0:
        fits, scale = judge(numbers, blocks, total)
        tl.store(field_sums + DIM, tl.sum(mass, 0))
        tl.store(field_sums + DIM + 1, tl.sum(size, 0))
        tl.store(field_sums + DIM + 2, scale.to(tl.float64))


@triton.jit(
    do_not_specialize=["top", "count"],  # all others are multiples of 16
    do_not_specialize_on_alignment=["u_sums", "q_sums"],
)
def weigh(
    scores, weights, low_weights, singles, field_sums, u_sums, q_sums, p_sums, padded, top, count, first, length,
    DIM: tl.constexpr, BLOCK: tl.constexpr, STRIP: tl.constexpr, COLUMNS: tl.constexpr, LOW_WEIGHTS: tl.constexpr,
    GRADIENT: tl.constexpr, KEEP: tl.constexpr, FORM: tl.constexpr,
):  # fmt: skip
    """Rounded weights of a strip of rows from their scores (count, length), and all sums except the forces.

    Each column of the strip has sums of its own, in float32 over at most ``length / COLUMNS`` sources.
    """
    local = tl.program_id(0) * STRIP + tl.arange(0, STRIP)
    inside = local < count
    rows = top + local
    numbers, field, head, blocks = regions(singles, padded, BLOCK, DIM)
    scale = tl.load(field_sums + DIM + 2)
    small = (1.0 / scale).to(tl.float32)
    lifted_rows = tl.load(singles + rows, mask=inside, other=1.0)
    h_rows = tl.load(singles + 3 * padded + rows, mask=inside, other=1.0)
    alpha = row_scale(lifted_rows, tl.load(head + DIM + 1))
    u = tl.zeros([STRIP, COLUMNS], tl.float32)
    q = tl.zeros([STRIP, COLUMNS], tl.float32)
    p = tl.zeros([STRIP, COLUMNS], tl.float32)
    for column in range(0, length, COLUMNS):
        beside = column + tl.arange(0, COLUMNS)
        sources = first + beside
        real = beside < length
        place = local.to(tl.int64)[:, None] * length + beside[None, :]
        mask = inside[:, None] & real[None, :]
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
        u += weighted
        if GRADIENT:
            sigma = tl.load(singles + 2 * padded + sources, mask=real, other=0.0) * small
            even = alpha[:, None] * sigma[None, :]
            rest = pull - even
            rounded = rest.to(tl.float16)
            held = rounded.to(tl.float32)
            tl.store(weights + place, rounded, mask=mask)
            if LOW_WEIGHTS:
                remainder = (rest - held).to(tl.float16)
                held += remainder.to(tl.float32)
                tl.store(low_weights + place, remainder, mask=mask)
            p += held
            q += widen - even
    q_sum = tl.zeros([STRIP], tl.float64)
    if GRADIENT:
        q_sum = scale * tl.sum(q.to(tl.float64), 1)
        p_sum = tl.sum(p.to(tl.float64), 1)
        if KEEP:
            p_sum += tl.load(p_sums + local, mask=inside, other=0.0)
        else:
            q_sum += alpha.to(tl.float64) * tl.load(field_sums + DIM)
        tl.store(p_sums + local, p_sum, mask=inside)
    add_sums(u_sums, q_sums, local, inside, scale * tl.sum(u.to(tl.float64), 1), q_sum, KEEP)


@triton.jit(do_not_specialize=["m", "total", "start", "middle", "top", "count", "padded"])
def finish_forces(
    z, means, w, products, dz, dmeans, singles, p_sums, field_sums, m, total, start, middle, top, count, padded,
    DIM: tl.constexpr, PITCH: tl.constexpr, BLOCK: tl.constexpr, PART: tl.constexpr,
    LOW: tl.constexpr, LOW_WEIGHTS: tl.constexpr, FORM: tl.constexpr,
):  # fmt: skip
    """Store the gradient in the points of some rows, from the product of weights and points (count, PITCH).

    With ``LOW_WEIGHTS`` that product includes the low half of the points.
    """
    local = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.program_id(1) * PART + tl.arange(0, PART)
    rows = top + local
    inside = local < count
    mask = inside[:, None] & (columns < DIM)[None, :]
    numbers, field, head, blocks = regions(singles, padded, BLOCK, DIM)
    unit = tl.load(head + DIM)
    high, low, x, centre = _rounded(z, means, head, rows, columns, total, m, unit, DIM, LOW, False)
    alpha = row_scale(tl.load(singles + rows, mask=inside, other=1.0), tl.load(head + DIM + 1))
    scale = tl.load(field_sums + DIM + 2).to(tl.float32)
    p = tl.load(p_sums + local, mask=inside, other=0.0).to(tl.float32)
    size = tl.load(field_sums + DIM + 1).to(tl.float32)
    own = p[:, None] * (x if LOW_WEIGHTS else own_part(high, x, scale * p, alpha, size))
    place = local.to(tl.int64)[:, None] * PITCH + columns[None, :]
    force = scale * (tl.load(products + place, mask=mask, other=0.0) - own)
    steady = tl.load(field_sums + columns, mask=columns < DIM, other=0.0).to(tl.float32)
    force += alpha[:, None] * (steady[None, :] - tl.load(field_sums + DIM).to(tl.float32) * x)
    weight = tl.load(w + rows, mask=inside, other=0.0).to(tl.float32).to(tl.float64)
    wide = unit.to(tl.float64)
    pull = 2.0 * tl.sqrt(tl.full((), FORM[0], tl.float64)) * INV_SQRT_PI / (wide * wide) * weight
    gradient = (force.to(tl.float64) * pull[:, None]).to(tl.float32)
    far_rows = rows.to(tl.int64)[:, None]
    codes = (rows < middle)[:, None]
    tl.store(dz + (far_rows - start) * DIM + columns[None, :], gradient, mask=mask & codes)
    tl.store(dmeans + (far_rows - middle) * DIM + columns[None, :], gradient, mask=mask & (codes == 0))
