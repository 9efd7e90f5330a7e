"""The exact φ_D, and the polynomial by which kernels evaluate it.

``φ_D(s) = ₁F₁(½; D/2; -s)`` is the mean of ``exp(-s u²)`` over one coordinate u of the unit sphere in R^D. With
``c = 2/(D + 12)`` and ``τ = 1/(1 + c s)`` in (0, 1], ``φ_D = τ^(1/2) Q_D(2τ - 1)`` for a smooth Q_D, which a
polynomial of low degree approximates: degree 17 at D = 2, 11 at D = 10, 6 at D = 64 for float32
(``docs/derivation.md``, "The exact form"). ``csrc/common/exact_phi.h`` is the same in C++.
"""

from __future__ import annotations

import math
from functools import lru_cache

NODES = 64
"""Chebyshev nodes: more than any degree used, so that the truncated terms are known"""
NOISE = 2e-15
"""Chebyshev coefficients smaller than this may be nothing but rounding error"""
TOLERANCES = {False: (1.5e-7, 1.6e-6), True: (8e-13, 8e-13)}
"""largest relative errors of φ and of φ′ by truncation, for single (False) and for double precision (True)"""


def exact_phi(s: float, dim: int) -> float:
    """``φ_D(s)`` for s ≥ 0 and D ≥ 1, with a relative error of 1e-14.

    Raises:
        ValueError: if s is negative or not finite, or D < 1.
    """
    if dim < 1 or not 0 <= s < math.inf:
        raise ValueError(f"expected finite s >= 0 and dim >= 1, got s={s}, dim={dim}")
    return math.exp(-s) if dim == 1 else _over_the_sphere(s, dim, 0) / _over_the_sphere(0.0, dim, 0)


def _over_the_sphere(s: float, dim: int, power: int) -> float:
    """``∫_0^∞ u^power exp(-s u²) sech^(D-1) x dx`` with ``u = tanh x``: u has the distribution on the sphere.

    The trapezoidal rule converges faster than any power of its step here, and all terms are positive.
    """
    step = min(0.1, 0.3 / math.sqrt(s + 0.5 * (dim - 1)))
    terms = [0.5 if power == 0 else 0.0]
    while True:
        x = len(terms) * step
        u = math.tanh(x)
        log_cosh = -0.5 * math.log1p(-u * u) if x < 1 else x + math.log1p(math.exp(-2 * x)) - math.log(2)
        exponent = s * u * u + (dim - 1) * log_cosh
        if exponent > 50:
            return math.fsum(terms) * step
        terms.append(u**power * math.exp(-exponent))


def exact_slope(dim: int) -> float:
    """``c = 2/(D + 12)``, the choice that needs low degrees in every dimension."""
    return 2.0 / (dim + 12)


@lru_cache(maxsize=64)
def exact_coefficients(dim: int, double: bool) -> tuple[float, ...]:
    """Coefficients of Q_D in powers of ``2τ - 1``, lowest first, for D ≥ 2; some milliseconds at the first call.

    Args:
        dim: the dimension D.
        double: True for double precision, with relative errors of φ and φ′ within 1e-12; False for single precision,
            with φ within 2e-7 and φ′ within 2e-6.
    """
    slope, whole = exact_slope(dim), _over_the_sphere(0.0, dim, 0)
    halves = [math.pi * (2 * i + 1) / (4 * NODES) for i in range(NODES)]  # half the nodes' angles: τ = cos² half
    cosines = [math.cos(math.pi * i / (2 * NODES)) for i in range(4 * NODES)]  # k * angle would be rounded
    steep = [  # P = Q + 2τ dQ/dτ = -(2/c) φ′ τ^(-3/2), where -φ′ is the mean of u² exp(-s u²)
        2 / slope * _over_the_sphere(math.tan(a) ** 2 / slope, dim, 2) / whole / math.cos(a) ** 3 for a in halves
    ]
    series = [
        2 / NODES * math.fsum(p * cosines[k * (2 * i + 1) % (4 * NODES)] for i, p in enumerate(steep))
        for k in range(NODES)
    ]
    series[0] /= 2
    while abs(series[-1]) < NOISE:
        series.pop()
    series = _solve(series)
    return _in_powers(series[: _degree(series, *TOLERANCES[double]) + 1])


def _solve(steep: list[float]) -> list[float]:
    """Chebyshev coefficients of Q from those of ``P = Q + 2 (1 + x) dQ/dx``, x = 2τ - 1."""
    series, this, next_ = [], 0.0, 0.0  # coefficients k and k + 1 of dQ/dx; the first counts twice
    for k in range(len(steep) - 1, 0, -1):
        series.append((steep[k] - 2 * this - 2 * next_) / (1 + 2 * k))
        this, next_ = next_ + 2 * k * series[-1], this
    return [steep[0] - this - next_, *reversed(series)]


def _degree(series: list[float], value_tolerance: float, slope_tolerance: float) -> int:
    """The lowest degree > 0 at which the truncated terms are within the tolerances of Q and P everywhere."""
    angles = [math.pi * i / NODES for i in range(NODES + 1)]
    terms = [[(a * value, a * steep) for value, steep in (_term(k, b) for b in angles)] for k, a in enumerate(series)]
    whole = [[math.fsum(part) for part in zip(*place, strict=True)] for place in zip(*terms, strict=True)]
    cut = [[0.0, 0.0] for _ in angles]
    least = len(series) - 1
    for k in range(len(series) - 1, 1, -1):
        for lost, term in zip(cut, terms[k], strict=True):
            lost[0] += term[0]
            lost[1] += term[1]
        if all(
            abs(lost[0]) <= value_tolerance * q and abs(lost[1]) <= slope_tolerance * p
            for lost, (q, p) in zip(cut, whole, strict=True)
        ):
            least = k - 1
    return least


def _term(k: int, angle: float) -> tuple[float, float]:
    """T_k at x = cos(angle), and its contribution to P, ``T_k + 2 (1 + x) T_k'``."""
    x, sine = math.cos(angle), math.sin(angle)
    slope = k * math.sin(k * angle) / sine if sine > 1e-9 else float(k * k) if x > 0 else 0.0
    return math.cos(k * angle), math.cos(k * angle) + 2 * (1 + x) * slope


def _in_powers(series: list[float]) -> tuple[float, ...]:
    """Convert Chebyshev coefficients to coefficients of powers, by the recurrence T_{k+1} = 2x T_k - T_{k-1}."""
    powers = [0.0] * len(series)
    before, this = [0.0] * len(series), [1.0] + [0.0] * (len(series) - 1)
    for k, a in enumerate(series):
        powers = [p + a * t for p, t in zip(powers, this, strict=True)]
        twice = [0.0] + [(1 if k == 0 else 2) * t for t in this[:-1]]
        before, this = this, [t - b for t, b in zip(twice, before, strict=True)]
    return tuple(powers)
