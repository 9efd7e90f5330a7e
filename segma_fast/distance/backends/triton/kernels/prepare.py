"""The first launch: prepare the points in the form that the second launch reads.

``prepare`` centres points, divides them by a power of two and rounds them once, to one fp16 number or to a sum of two;
everything later is computed from the rounded points. It also computes the far field of the kernel, ``r³ ≈ α_a s_b``, so
that only a small remainder is left for the product with fp16 weights, and the data that tell whether fp16 can
hold the cloud at all. ``lay_out`` prepares the points for the kernels that use differences.
"""

from __future__ import annotations

import triton
import triton.language as tl

from segma_fast.distance.backends.triton.kernels.points import (
    LEAST,
    far_scale,
    inputs_of_sample,
    load_points,
    place_in_samples,
    regions,
    row_pointers,
    split,
    workspace_of_sample,
)

SAMPLE = tl.constexpr(16)  # points from which the unit of length is taken
HEADROOM = tl.constexpr(5)  # a point at a usual distance from the centre is about 2^5 units away from it
FARTHEST = tl.constexpr(8e37)  # coordinate in units: differences of two stay finite
CLOSE_BY = tl.constexpr(2.0**-8)  # squared distances over the typical size: if less, fp16 needs another unit
CLOSEST = tl.constexpr(2.0**-24)  # smallest such unit, squared, over that size: float32 still holds r³ of the widths
LARGEST = tl.constexpr(3.6e9)  # squared distance from the centre that fp16 coordinates reach, (6e4)²


@triton.jit
def _sampled(i, total):
    """Row of the i-th point of a sample: in steps of the golden ratio, which avoid any period in the data."""
    return ((((i * 40503) & 65535) * total.to(tl.int64)) >> 16).to(tl.int32)


@triton.jit
def _middle(a, b, c, d):
    """The mean of the two middle values of four."""
    lower = tl.maximum(tl.minimum(a, b), tl.minimum(c, d))
    upper = tl.minimum(tl.maximum(a, b), tl.maximum(c, d))
    return 0.5 * lower + 0.5 * upper


@triton.jit
def centre_of(z, means, total, m, columns, dim: tl.constexpr, GROUPS: tl.constexpr):
    """A robust centre of the cloud, coordinate by coordinate, which outliers do not move.

    It is the mean of the medians of ``GROUPS`` groups of four points, without the smallest and the largest median.
    """
    group = 4 * tl.arange(0, GROUPS)
    points = ()
    for i in tl.static_range(4):
        rows = _sampled(group + i, total)
        points = points + (load_points(z, means, rows, total, m, columns, dim).to(tl.float32),)
    middles = _middle(points[0], points[1], points[2], points[3])
    least = tl.min(middles, 0)
    most = tl.max(middles, 0)
    inner = (middles > least[None, :]) & (middles < most[None, :])
    count = tl.sum(inner.to(tl.float32), 0)
    mean = tl.sum(tl.where(inner, middles, 0.0), 0) / tl.maximum(count, 1.0)
    return tl.where(count > 0.0, mean, 0.5 * least + 0.5 * most)


@triton.jit
def _median(size):
    """The upper of the two middle values of ``SAMPLE`` numbers."""
    order = tl.arange(0, SAMPLE)
    before = (size[None, :] < size[:, None]) | ((size[None, :] == size[:, None]) & (order[None, :] < order[:, None]))
    return tl.sum(tl.where(tl.sum(before.to(tl.int32), 1) == SAMPLE // 2, size, 0.0), 0)


@triton.jit
def norms_of_sample(z, means, centre, total, m, columns, dim: tl.constexpr):
    """``|x - centre|²`` of the points of the sample, over some columns."""
    rows = _sampled(tl.arange(0, SAMPLE), total)
    x = load_points(z, means, rows, total, m, columns, dim).to(tl.float32) - centre[None, :]
    x = tl.where(columns[None, :] < dim, x, 0.0).to(tl.float64)
    return tl.sum(x * x, 1)


@triton.jit
def usual_sizes(norms, h, total, WIDE: tl.constexpr):
    """The typical size of the sample, and the square of the length from which the unit is taken.

    The size is the median of ``h/c + |x - centre|²``, or 0 if fp16 does not reach from the widths to the points. The
    squared length is the same median, or less if the whole sample is close to the centre.
    """
    size = _median(tl.load(h + _sampled(tl.arange(0, SAMPLE), total)) * WIDE + norms)
    most = tl.max(norms, 0)
    wanted, least = most / CLOSE_BY, size * CLOSEST
    length = tl.where((most == 0.0) | (wanted > size), size, tl.maximum(wanted, least))
    return tl.where((most == 0.0) | (wanted >= least), size, 0.0), length


@triton.jit
def unit_of(size):
    """The power of two in which a length of ``size^(1/2)`` is about 2^HEADROOM, as float32."""
    exponent = ((size.to(tl.int64, bitcast=True) >> 52) & 2047).to(tl.int32) - 1023
    exponent = tl.minimum(tl.maximum((exponent >> 1) - HEADROOM, -100), 100)
    return ((exponent + 127) << 23).to(tl.float32, bitcast=True)


@triton.constexpr_function
def coarseness(dim):
    """The step to which the centre of fp16 and bfloat16 points is rounded, in units: a power of two.

    It is about the size of a typical coordinate. The rounded centre has few bits, so nearly all differences from it are
    exact in fp16, and it is 0 unless the cloud is far from the origin.
    """
    return 2.0 ** (HEADROOM.value + 2 - (dim.bit_length() - 1) // 2)


@triton.jit
def coarse_centre(centre, unit, dim: tl.constexpr):
    """The centre in whole steps; one that is so already stays as it is."""
    step = unit * coarseness(dim)
    return tl.floor(centre / step + 0.5) * step


@triton.jit
def _clear(tickets, counters):
    for first in range(0, counters, 256):
        places = first + tl.arange(0, 256)
        tl.store(tickets + places, tl.zeros([256], tl.int32), mask=places < counters)


@triton.jit(do_not_specialize=["m", "total", "padded", "counters"])
def lay_out(
    z, means, h, w, flat, tickets, m, total, padded, counters, floats, DIM: tl.constexpr, BLOCK: tl.constexpr,
    WIDE: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Store one block of points as (D + 2, padded): first the coordinates, then h/c and weights. Also store the unit.

    ``WIDE`` is 1/c. With ``SAMPLES`` this is done for several samples, each with ``floats`` of ``flat``.
    """
    block = tl.program_id(0)
    if SAMPLES:
        sample, block = place_in_samples(padded // BLOCK)
        z, means, h, w = inputs_of_sample(sample, z, means, h, w, m, total, DIM)
        flat += sample * floats
        tickets += sample * counters
    columns = tl.arange(0, 8)
    order = tl.arange(0, SAMPLE)
    some = load_points(z, means, _sampled(order, total), total, m, columns, DIM).to(tl.float64)
    others = load_points(z, means, _sampled((order + 1) % SAMPLE, total), total, m, columns, DIM)
    gap = some - others.to(tl.float64)
    unit = unit_of(_median(tl.load(h + _sampled(order, total)) * WIDE + tl.sum(gap * gap, 1)))
    if block == 0:
        _clear(tickets, counters)
        tl.store(flat + (DIM + 2) * padded.to(tl.int64), unit)
    rows = block * BLOCK + tl.arange(0, BLOCK)
    inside = rows < total
    start = row_pointers(z, means, rows, m, DIM)
    place = flat + rows
    for d in tl.static_range(DIM):
        x = tl.load(start + d, mask=inside, other=0.0).to(tl.float32)
        near = tl.minimum(tl.maximum(x * (1.0 / unit), -FARTHEST), FARTHEST)
        tl.store(place, tl.where(tl.abs(x) < float("inf"), near, x))
        place += padded.to(tl.int64)
    square = unit.to(tl.float64) * unit.to(tl.float64)
    width = tl.load(h + rows, mask=inside, other=1.0) * WIDE / square
    tl.store(place, tl.maximum(tl.where(inside, width, 1.0), LEAST).to(tl.float32))
    tl.store(place + padded.to(tl.int64), tl.load(w + rows, mask=inside, other=0.0).to(tl.float32))


@triton.jit
def describe(
    rows, norm, h, w, square, far, singles, doubles, numbers, block, blocks, total, padded,
    WIDE: tl.constexpr, LIMIT: tl.constexpr,
):  # fmt: skip
    """Store what pairs need besides coordinates, and data to judge whether fp16 fits; return ``w_b s_b``."""
    inside = rows < total
    width = tl.load(h + rows, mask=inside, other=1.0) * WIDE / square  # h/c
    lifted = (width + norm).to(tl.float32)
    seen = lifted.to(tl.float64) - norm  # the width that all pairs of this point use; k_aa must use the same
    seen = tl.where(tl.abs(seen - width) <= 1e-4 * width, seen, width)
    tl.store(doubles + rows, seen)
    weight = tl.load(w + rows, mask=inside, other=0.0).to(tl.float32)
    sigma = weight * far_scale(lifted, far)
    tl.store(singles + rows, lifted)
    tl.store(singles + padded + rows, weight)
    tl.store(singles + 2 * padded + rows, sigma)
    tl.store(singles + 3 * padded + rows, (2.0 * seen).to(tl.float32))
    near = tl.rsqrt(width.to(tl.float32))
    misfit = tl.where(norm <= LIMIT * width, 0.0, 1.0) + tl.where(norm <= LARGEST, 0.0, 2.0)
    misfit += tl.where(width * (8 / LIMIT) <= far, 0.0, 2.0)  # so wide that all weights of its row would be tiny
    tl.store(numbers + block, tl.max(tl.abs(weight) * near * near * near, 0))
    tl.store(numbers + blocks + block, tl.sum(tl.abs(sigma), 0))
    tl.store(numbers + 2 * blocks + block, tl.sum(tl.where(inside, misfit, 0.0), 0))
    tl.store(numbers + 3 * blocks + block, tl.sum(sigma.to(tl.float64), 0).to(tl.float32))
    return sigma


@triton.jit(do_not_specialize=["m", "total", "padded", "first", "last", "counters"])
def prepare(
    z, means, h, w, halves, singles, doubles, tickets, m, total, padded, first, last, counters, floats,
    DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, LOW: tl.constexpr, COARSE: tl.constexpr,
    LIMIT: tl.constexpr, WIDE: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Fill the workspace for one block of points; the fp16 coordinates only of the points ``first:last``.

    With ``SAMPLES`` this is done for several samples, each with ``floats`` of ``singles``.
    """
    columns = tl.arange(0, WIDTH)
    block = tl.program_id(0)
    if SAMPLES:
        sample, block = place_in_samples(padded // BLOCK)
        z, means, h, w = inputs_of_sample(sample, z, means, h, w, m, total, DIM)
        halves, singles, doubles, tickets = workspace_of_sample(
            sample, halves, singles, doubles, tickets, padded, last - first, floats, counters, WIDTH, LOW
        )
    centre = tl.where(columns < DIM, centre_of(z, means, total, m, columns, DIM, BLOCK), 0.0)
    size, length = usual_sizes(norms_of_sample(z, means, centre, total, m, columns, DIM), h, total, WIDE)
    unit = unit_of(length)
    if COARSE:
        centre = coarse_centre(centre, unit, DIM)
    square = unit.to(tl.float64) * unit.to(tl.float64)
    far = (size / square).to(tl.float32)  # 0 marks all points as misfits
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
    sigma = describe(
        rows, norm, h, w, square, far, singles, doubles, numbers, block, blocks, total, padded, WIDE, LIMIT
    )
    pull = tl.sum(exact * sigma.to(tl.float64)[:, None], 0)
    tl.store(field + block.to(tl.int64) * WIDTH + columns, pull.to(tl.float32))
