"""Sums of waves of projections, and their derivative: one sine and cosine a number, rotations for all frequencies.

A program of one warp holds a few rows of its columns, so that a sum over rows stays in one thread.
"""

import triton
import triton.language as tl


@triton.jit
def cosine_and_sine(a, DOUBLE: tl.constexpr):
    """To the last bit or two, and 0 for |a| > π; the library's functions take ten times the code."""
    n = tl.floor(a * 0.6366197723675814 + 0.5)
    if DOUBLE:
        r = (a - n * 1.5707963267948966) - n * 6.123233995736766e-17
    else:
        r = (a - n * 1.57079637050628662109375) + n * 4.371139000186241e-08
    square = -(r * r)
    TERMS: tl.constexpr = 8 if DOUBLE else 4  # of Taylor's series, in Horner's form, |r| <= π/4
    cosine, sine = tl.full(a.shape, 1.0, a.dtype), tl.full(a.shape, 1.0, a.dtype)
    for i in tl.static_range(TERMS):
        cosine = 1.0 + square * cosine * (1.0 / ((2 * TERMS - 2 * i) * (2 * TERMS - 2 * i - 1)))
        sine = 1.0 + square * sine * (1.0 / ((2 * TERMS - 2 * i) * (2 * TERMS - 2 * i + 1)))
    sine *= r
    quadrant = n.to(tl.int32) & 3
    swapped = (quadrant & 1) == 1
    c, s = tl.where(swapped, sine, cosine), tl.where(swapped, cosine, sine)
    far = tl.abs(a) > 3.141592653589793
    c, s = tl.where((quadrant + 1) & 2 == 2, -c, c), tl.where(quadrant & 2 == 2, -s, s)
    return tl.where(far, 0.0, c), tl.where(far, 0.0, s)


@triton.jit
def sum_waves(
    projected, steps, sums, rows, slices, frequencies, share,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Add to ``sums`` (chunks, T, 2, R) the waves of projections (rows, R); a chunk is ``share`` rows."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < slices
    step = tl.load(steps + column, mask=inside, other=0.0)
    chunk = tl.program_id(1).to(tl.int64)
    last = tl.minimum((chunk + 1) * share, rows)
    place = sums + chunk * frequencies * 2 * slices + column
    for first in range(chunk * share, last, ROWS):
        row = first + tl.arange(0, ROWS)
        taken = (row < last)[:, None] & inside[None, :]
        angle = tl.load(projected + row[:, None] * slices + column[None, :], mask=taken, other=0.0) * step[None, :]
        cosine, sine = cosine_and_sine(angle, DOUBLE)
        c, s = tl.where(taken, cosine, 0.0), sine
        for k in range(frequencies):
            at = place + k * 2 * slices
            tl.store(at, tl.load(at, mask=inside, other=0.0) + tl.sum(c, 0), mask=inside)
            at += slices
            tl.store(at, tl.load(at, mask=inside, other=0.0) + tl.sum(s, 0), mask=inside)
            c, s = c * cosine - s * sine, s * cosine + c * sine


@triton.jit
def differentiate_waves(
    projected, steps, factors, rows, slices, frequencies,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Replace projections by ``Σ_k factors[0, k] cos(k a) - factors[1, k] sin(k a)``, factors being (2, T, R)."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < slices
    step = tl.load(steps + column, mask=inside, other=0.0)
    row = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    taken = (row < rows)[:, None] & inside[None, :]
    place = projected + row[:, None] * slices + column[None, :]
    angle = tl.load(place, mask=taken, other=0.0) * step[None, :]
    cosine, sine = cosine_and_sine(angle, DOUBLE)
    c, s = tl.zeros_like(angle), tl.zeros_like(angle)
    for i in range(frequencies):  # Horner's rule, from the highest frequency
        at = factors + (frequencies - 1 - i) * slices + column
        c += tl.load(at, mask=inside, other=0.0)[None, :]
        s += tl.load(at + frequencies * slices, mask=inside, other=0.0)[None, :]
        c, s = c * cosine - s * sine, s * cosine + c * sine
    tl.store(place, c, mask=taken)
