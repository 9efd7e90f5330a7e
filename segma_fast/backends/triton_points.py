"""Points as the Triton kernels read them, and their preparation for matrix products in fp16.

Points come as two arrays, codes (m, D) and means (K, D); point a is row a of both together. ``prepare`` centres them,
divides them by a power of two and rounds them once, to one fp16 number or to a sum of two; all that follows is taken
from what was rounded. It also says how the kernel looks from afar, ``r³ ≈ α_a s_b``, so that what remains for the
product with fp16 weights is small, and whether fp16 can hold it at all.
"""

from __future__ import annotations

import triton
import triton.language as tl

SAMPLE = tl.constexpr(16)  # points from which the centre and the unit of length are taken
HEADROOM = tl.constexpr(5)  # a point at a usual distance from the centre is about 2^5 units away from it
LARGEST = tl.constexpr(3.6e9)  # squared distance from the centre that fp16 coordinates reach, (6e4)²
HEAVIEST = tl.constexpr(49152.0)  # of the weights that are rounded to fp16
SPREAD = tl.constexpr(5e7)  # of their sizes: at 49152 / 5e7 = 1e-3 fp16 still has 11 bits


@triton.constexpr_function
def inverse_slope(dim):
    """1/c of ``formulas.slope``, exact in every format; 1 in one dimension, where no form needs it."""
    return (2 * dim - 3) / 4 if dim > 1 else 1.0


@triton.jit
def row_pointers(z, means, rows, m, dim: tl.constexpr):
    """Where the points ``rows`` begin."""
    wide = rows.to(tl.int64)
    return tl.where(rows < m, z + wide * dim, means + (wide - m) * dim)


@triton.jit
def tile(rows, columns, dim: tl.constexpr):
    """Where the coordinates ``columns`` of consecutive ``rows`` are, from the first row on."""
    return rows[:, None] * dim + columns[None, :]


@triton.jit
def add_sums(u_sums, q_sums, rows, inside, u, q, keep):
    if keep:
        u += tl.load(u_sums + rows, mask=inside, other=0.0)
        q += tl.load(q_sums + rows, mask=inside, other=0.0)
    tl.store(u_sums + rows, u, mask=inside)
    tl.store(q_sums + rows, q, mask=inside)


@triton.jit
def load_points(z, means, rows, total, m, columns, dim: tl.constexpr):
    """Coordinates ``columns`` of the points ``rows``, and 0 beyond the last of either."""
    place = rows.to(tl.int64)[:, None] * dim + columns[None, :]
    code = (rows < m)[:, None] & (columns < dim)[None, :]
    mean = ((rows >= m) & (rows < total))[:, None] & (columns < dim)[None, :]
    points = tl.load(z + place, mask=code, other=0.0)
    return points + tl.load(means + place - m.to(tl.int64) * dim, mask=mean, other=0.0)


@triton.jit
def _sampled(i, total):
    return ((i * total.to(tl.int64)) // SAMPLE).to(tl.int32)


@triton.jit
def _sampled_point(i: tl.constexpr, z, means, total, m, columns, dim: tl.constexpr):
    begin = row_pointers(z, means, _sampled(i, total), m, dim)
    return tl.load(begin + columns, mask=columns < dim, other=0.0).to(tl.float32)


@triton.jit
def _middle(a, b, c, d):
    """Halfway between the two middle ones of four."""
    lower = tl.maximum(tl.minimum(a, b), tl.minimum(c, d))
    upper = tl.minimum(tl.maximum(a, b), tl.maximum(c, d))
    return 0.5 * lower + 0.5 * upper


@triton.jit
def _centre(z, means, total, m, columns, dim: tl.constexpr):
    """A point in the middle of the cloud, which a few points far away do not move: a middle of middles of four."""
    middles = ()
    for i in tl.static_range(0, 16, 4):
        a = _sampled_point(i, z, means, total, m, columns, dim)
        b = _sampled_point(i + 1, z, means, total, m, columns, dim)
        c = _sampled_point(i + 2, z, means, total, m, columns, dim)
        d = _sampled_point(i + 3, z, means, total, m, columns, dim)
        middles = middles + (_middle(a, b, c, d),)
    return _middle(middles[0], middles[1], middles[2], middles[3])


@triton.jit
def _usual_size(z, means, h, centre, total, m, columns, dim: tl.constexpr):
    """``h/c + |x - centre|²`` of the median of the sample."""
    order = tl.arange(0, SAMPLE)
    rows = _sampled(order, total)
    x = load_points(z, means, rows, total, m, columns, dim).to(tl.float32) - centre[None, :]
    x = tl.where(columns[None, :] < dim, x, 0.0).to(tl.float64)
    size = tl.load(h + rows) * inverse_slope(dim) + tl.sum(x * x, 1)
    before = (size[None, :] < size[:, None]) | ((size[None, :] == size[:, None]) & (order[None, :] < order[:, None]))
    return tl.sum(tl.where(tl.sum(before.to(tl.int32), 1) == SAMPLE // 2, size, 0.0), 0)


@triton.jit
def _unit(size):
    """The power of two in which a length of ``size^(1/2)`` is about 2^HEADROOM, as float32."""
    exponent = ((size.to(tl.int64, bitcast=True) >> 52) & 2047).to(tl.int32) - 1023
    exponent = tl.minimum(tl.maximum((exponent >> 1) - HEADROOM, -100), 100)
    return ((exponent + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def split(x, LOW: tl.constexpr):
    """x as the sum of one or two fp16 numbers, and that sum in float32."""
    high = x.to(tl.float16)
    low = (x - high.to(tl.float32)).to(tl.float16)
    return high, low, (high.to(tl.float32) + low.to(tl.float32)) if LOW else high.to(tl.float32)


@triton.jit
def far_scale(lifted, far):
    """``s_b = (l_b + far)^(-3/2)``: r³ of a pair of which one is b and the other a usual point."""
    r = tl.rsqrt(lifted + far)
    return r * r * r


@triton.jit
def regions(singles, padded, BLOCK: tl.constexpr, WIDTH: tl.constexpr):
    """Parts of the float32 workspace: four numbers a block, the far field of each, and centre, unit, far and zero."""
    blocks = padded // BLOCK
    numbers = singles + 3 * padded
    field = numbers + 4 * blocks
    centre = field + blocks.to(tl.int64) * WIDTH
    return numbers, field, centre, blocks


@triton.jit
def _clear(tickets, counters):
    for first in range(0, counters, 256):
        places = first + tl.arange(0, 256)
        tl.store(tickets + places, tl.zeros([256], tl.int32), mask=places < counters)


@triton.jit(do_not_specialize=["m", "total", "padded", "counters"])
def lay_out(
    z, means, h, w, flat, tickets, m, total, padded, counters, DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Coordinate by coordinate, then h/c (D = 1: h) and weights: (D + 2, padded), for one block of points."""
    block = tl.program_id(0)
    if block == 0:
        _clear(tickets, counters)
    rows = block * BLOCK + tl.arange(0, BLOCK)
    inside = rows < total
    start = row_pointers(z, means, rows, m, DIM)
    place = flat + rows
    real = flat.dtype.element_ty
    for d in tl.static_range(DIM):
        tl.store(place, tl.load(start + d, mask=inside, other=0.0).to(real))
        place += padded.to(tl.int64)
    tl.store(place, (tl.load(h + rows, mask=inside, other=1.0) * inverse_slope(DIM)).to(real))
    tl.store(place + padded.to(tl.int64), tl.load(w + rows, mask=inside, other=0.0).to(real))


@triton.jit(do_not_specialize=["m", "total", "padded", "first", "last", "counters"])
def prepare(
    z, means, h, w, halves, singles, doubles, tickets, m, total, padded, first, last, counters,
    DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, LOW: tl.constexpr, CENTRED: tl.constexpr,
    LIMIT: tl.constexpr,
):  # fmt: skip
    """Fill the workspace for one block of points; the fp16 coordinates only of the points ``first:last``."""
    columns = tl.arange(0, WIDTH)
    block = tl.program_id(0)
    centre = tl.zeros([WIDTH], tl.float32)
    if CENTRED:
        centre = tl.where(columns < DIM, _centre(z, means, total, m, columns, DIM), 0.0)
    size = _usual_size(z, means, h, centre, total, m, columns, DIM)
    unit = _unit(size)
    square = unit.to(tl.float64) * unit.to(tl.float64)
    far = (size / square).to(tl.float32)
    numbers, field, head, blocks = regions(singles, padded, BLOCK, WIDTH)
    if block == 0:
        tl.store(head + columns, centre)
        tl.store(head + WIDTH, unit)
        tl.store(head + WIDTH + 1, far)
        tl.store(head + WIDTH + 2, 0.0)
        _clear(tickets, counters)

    rows = block * BLOCK + tl.arange(0, BLOCK)
    x = load_points(z, means, rows, total, m, columns, DIM).to(tl.float32)
    x = tl.where((rows < total)[:, None] & (columns < DIM)[None, :], (x - centre[None, :]) * (1.0 / unit), 0.0)
    high, low, x = split(x, LOW)
    if (block * BLOCK >= first) & (block * BLOCK < last):
        place = (rows - first).to(tl.int64)[:, None] * WIDTH + columns[None, :]
        tl.store(halves + place, high)
        if LOW:
            tl.store(halves + (last - first).to(tl.int64) * WIDTH + place, low)
    exact = x.to(tl.float64)
    norm = tl.sum(exact * exact, 1)
    width = tl.load(h + rows, mask=rows < total, other=1.0) * inverse_slope(DIM) / square  # h/c
    lifted = (width + norm).to(tl.float32)
    seen = lifted.to(tl.float64) - norm  # the width that all pairs of this point see; k_aa takes the same
    tl.store(doubles + rows, tl.where(tl.abs(seen - width) <= 1e-4 * width, seen, width))
    weight = tl.load(w + rows, mask=rows < total, other=0.0).to(tl.float32)
    sigma = weight * far_scale(lifted, far)
    tl.store(singles + rows, lifted)
    tl.store(singles + padded + rows, weight)
    tl.store(singles + 2 * padded + rows, sigma)

    near = tl.rsqrt(width.to(tl.float32))
    misfit = tl.where(norm <= LIMIT * width, 0.0, 1.0) + tl.where(norm <= LARGEST, 0.0, 2.0)
    tl.store(numbers + block, tl.max(tl.abs(weight) * near * near * near, 0))
    tl.store(numbers + blocks + block, tl.sum(tl.abs(sigma), 0))
    tl.store(numbers + 2 * blocks + block, tl.sum(tl.where(rows < total, misfit, 0.0), 0))
    tl.store(numbers + 3 * blocks + block, tl.sum(sigma.to(tl.float64), 0).to(tl.float32))
    pull = tl.sum(exact * sigma.to(tl.float64)[:, None], 0)
    tl.store(field + block.to(tl.int64) * WIDTH + columns, pull.to(tl.float32))


@triton.jit
def judge(numbers, blocks, total):
    """Whether fp16 products can hold the cloud, and the size of the weights that are rounded to fp16."""
    lanes = tl.arange(0, 256)
    heaviest = tl.zeros([256], tl.float32)
    size = tl.zeros([256], tl.float32)
    misfits = tl.zeros([256], tl.float32)
    for first in range(0, blocks, 256):
        mask = first + lanes < blocks
        heaviest = tl.maximum(heaviest, tl.load(numbers + first + lanes, mask=mask, other=0.0))
        size += tl.load(numbers + blocks + first + lanes, mask=mask, other=0.0)
        misfits += tl.load(numbers + 2 * blocks + first + lanes, mask=mask, other=0.0)
    most = tl.max(heaviest, 0)
    usual = tl.sum(size, 0) / total.to(tl.float32)
    fits = (tl.sum(misfits, 0) < 2.0) & (most <= usual * SPREAD)
    return fits, tl.maximum(most / HEAVIEST, usual)
