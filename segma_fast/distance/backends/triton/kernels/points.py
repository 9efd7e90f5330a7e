"""What the Triton kernels share: points in memory, their two halves, the workspace, and whether fp16 fits.

Points come as two arrays, codes (m, D) and means (K, D); point a is row a of their concatenation.
"""

from __future__ import annotations

import triton
import triton.language as tl

INV_SQRT_PI = tl.constexpr(0.5641895835477563)
LEAST = tl.constexpr(1e-25)  # smallest width of a pair, in squared units, whose r³ float32 can hold
HEAVIEST = tl.constexpr(49152.0)  # largest weight after scaling, before it is rounded to fp16
SPREAD = tl.constexpr(5e7)  # largest weight over the typical one: at 49152 / 5e7 = 1e-3 fp16 still has 11 bits
OUTWEIGHS = tl.constexpr(2.0)  # weight of one pair of a row over the typical weight of all its pairs
CLOSE = tl.constexpr(1e3)  # heaviest possible pair over all typical ones; a pair of close points is off by 2^-12 of it


@triton.constexpr_function
def degree(form):
    """The degree of Q in a form of φ_D, given as 1/c and the coefficients in powers of 2τ - 1; -1 for D = 1."""
    return len(form) - 2


@triton.jit
def polynomial(x, FORM: tl.constexpr):
    """Q and dQ/dx."""
    steep = x * 0.0 + FORM[len(FORM) - 1]
    q = steep * x + FORM[len(FORM) - 2]
    for k in tl.static_range(3, len(FORM)):
        steep = steep * x + q
        q = q * x + FORM[len(FORM) - k]
    return q, steep


@triton.jit
def profile_factors(square, h_rows, h_sources, FORM: tl.constexpr):
    """``Q``, ``P = Q + 2τ dQ/dτ`` and ``P - 2 dQ/dτ`` from r² and twice the widths h/c; see ``formulas.profile``."""
    # one width after the other: their sum would have the same rounding error for all points of one width
    x = square * h_rows[:, None] + (square * h_sources[None, :] - 1.0)
    q, steep = polynomial(x, FORM)
    pull = q + (x + 1.0) * (2.0 * steep)
    return q, pull, pull - 4.0 * steep


@triton.jit
def place_in_samples(programs):
    """Which of several samples this program works on, and its number among the ``programs`` of that sample."""
    return (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs


@triton.jit
def inputs_of_sample(sample, z, means, h, w, m, total, dim: tl.constexpr):
    """The points, widths and weights of one of several samples."""
    return z + sample * m * dim, means + sample * (total - m) * dim, h + sample * total, w + sample * total


@triton.jit
def workspace_of_sample(
    sample, halves, singles, doubles, tickets, padded, length, floats, counters, WIDTH: tl.constexpr, LOW: tl.constexpr
):  # fmt: skip
    """The same of the workspace: ``length`` rounded sources, ``floats`` and ``counters`` belong to each sample."""
    halves += sample * length * (2 * WIDTH if LOW else WIDTH)
    return halves, singles + sample * floats, doubles + sample * (padded + counters), tickets + sample * counters


@triton.jit
def row_pointers(z, means, rows, m, dim: tl.constexpr):
    """Where the points ``rows`` begin."""
    wide = rows.to(tl.int64)
    return tl.where(rows < m, z + wide * dim, means + (wide - m) * dim)


@triton.jit
def tile(rows, columns, dim: tl.constexpr):
    """Offsets of the coordinates ``columns`` of consecutive ``rows`` from the first row."""
    return rows[:, None] * dim + columns[None, :]


@triton.jit
def load_points(z, means, rows, total, m, columns, dim: tl.constexpr):
    """Coordinates ``columns`` of the points ``rows``, and 0 beyond the last of either."""
    place = rows.to(tl.int64)[:, None] * dim + columns[None, :]
    code = (rows < m)[:, None] & (columns < dim)[None, :]
    mean = ((rows >= m) & (rows < total))[:, None] & (columns < dim)[None, :]
    points = tl.load(z + place, mask=code, other=0.0)
    return points + tl.load(means + place - m.to(tl.int64) * dim, mask=mean, other=0.0)


@triton.jit
def add_sums(u_sums, q_sums, rows, inside, u, q, keep):
    if keep:
        u += tl.load(u_sums + rows, mask=inside, other=0.0)
        q += tl.load(q_sums + rows, mask=inside, other=0.0)
    tl.store(u_sums + rows, u, mask=inside)
    tl.store(q_sums + rows, q, mask=inside)


@triton.jit
def split(x, LOW: tl.constexpr):
    """x as the sum of one or two fp16 numbers, and that sum in float32."""
    high = x.to(tl.float16)
    low = (x - high.to(tl.float32)).to(tl.float16)
    return high, low, (high.to(tl.float32) + low.to(tl.float32)) if LOW else high.to(tl.float32)


@triton.jit
def far_scale(lifted, far):
    """``s_b = (l_b + far)^(-3/2)``: r³ of the pair of b and a typical point."""
    r = tl.rsqrt(lifted + far)
    return r * r * r


@triton.jit
def row_scale(lifted, far):
    """``α_a``, so that ``α_a s_b ≈ r³`` where a or b is a typical point."""
    return far_scale(lifted, far) / far_scale(far, far)


@triton.jit
def own_part(high, x, p, alpha, size):
    """The x of rows to multiply by p, the sum of their weights, when the forces omit the low half of x_b.

    ``size`` is the sum of ``|σ_b|``. If one pair outweighs all typical pairs, its row omits the low half too, so that
    equal points exert no force on each other.
    """
    lacks = tl.abs(p) > alpha * size * OUTWEIGHS
    return tl.where(lacks[:, None], high.to(tl.float32), x)


@triton.jit
def regions(singles, padded, BLOCK: tl.constexpr, WIDTH: tl.constexpr):
    """Parts of the float32 workspace: four numbers per block, the far field per block, then centre, unit, far and 0."""
    blocks = padded // BLOCK
    numbers = singles + 4 * padded
    field = numbers + 4 * blocks
    centre = field + blocks.to(tl.int64) * WIDTH
    return numbers, field, centre, blocks


@triton.jit
def judge(numbers, blocks, total):
    """Whether fp16 products can hold the cloud, and the scale of the weights rounded to fp16, a power of 2."""
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
    fits = (tl.sum(misfits, 0) < 2.0) & (most <= usual * SPREAD) & (most <= tl.sum(size, 0) * CLOSE)
    exponent = (tl.maximum(most / HEAVIEST, usual).to(tl.int32, bitcast=True) >> 23) + 1
    return fits, (tl.minimum(exponent, 254) << 23).to(tl.float32, bitcast=True)
