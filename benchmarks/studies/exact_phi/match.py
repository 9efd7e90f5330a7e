"""The exact form of φ, part 1: d² of codes that were drawn from the prior, N(0, I), against their number m."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import torch

from segma_fast import cw_normality, silverman_gamma
from segma_fast.distance.exact_phi import exact_phi
from segma_fast.distance.formulas import FORMS, INV_SQRT_PI

DIMS = (2, 3, 10, 64)
SIZES = tuple(64 << i for i in range(9))  # 64 ... 16384
SEEDS = 16
DOUBLE_UP_TO = 4096  # codes, in float64; more are in float32, where d² is within 2e-5 max(1, κ/2000) of itself


def measure(dims: Sequence[int] = DIMS, sizes: Sequence[int] = SIZES, seeds: int = SEEDS) -> dict[str, Any]:
    """Mean and standard deviation of d² over the seeds, what theory expects, and the worst error of φ itself."""
    rows = []
    for dim in dims:
        for size in sizes:
            values = {phi: [distance(size, dim, phi, seed) for seed in range(seeds)] for phi in FORMS}
            means = {phi: fmean(found) for phi, found in values.items()}
            spreads = {f"{phi}_deviation": stdev(found) if seeds > 1 else 0.0 for phi, found in values.items()}
            rows.append({"dim": dim, "m": size, "exact_expected": expected_exact(size)} | means | spreads)
        print("match", rows[-1])
    of_dims = [{"dim": dim, "floor": floor(dim)} | worst_error(dim) for dim in dims]
    return {"seeds": seeds, "double_up_to": DOUBLE_UP_TO, "rows": rows, "dims": of_dims}


def distance(size: int, dim: int, phi: str, seed: int) -> float:
    """d² of ``size`` codes drawn from N(0, I), γ by the rule."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(size, dim, generator=generator, dtype=torch.float64)
    return float(cw_normality(codes if size <= DOUBLE_UP_TO else codes.float(), phi=phi))


def expected_exact(size: int) -> float:
    """Mean of d² under the exact form over all samples, the same in every dimension.

    The exact kernel is the mean over directions of the scalar product of one-dimensional Gaussians; so with
    independent z and z′ from N(0, I), ``E k(z, z′; 0) = E k(z, 0; 1) = k(0, 0; 2)``, and only ``k(z, z; 0) / m`` and
    the m pairs that are missing in the sum over z ≠ z′ remain.
    """
    gamma = silverman_gamma(size)
    return INV_SQRT_PI * (1 / math.sqrt(4 * gamma) - 1 / math.sqrt(4 + 4 * gamma)) / size


def floor(dim: int) -> float:
    """Limit of d² under the approximation as m → ∞ and γ → 0, for codes drawn from the prior."""
    return INV_SQRT_PI * (mean_root(0, 2, dim) - 2 * mean_root(2, 1, dim) + 0.5)


def mean_root(width: float, variance: float, dim: int) -> float:
    """Mean of ``(h + c |x|²)^(-1/2)`` over N(0, variance I) in D ≥ 2 dimensions, c = 4/(2D-3).

    ``(h + t)^(-1/2) = 2 π^(-1/2) ∫_0^∞ exp(-(h + t) u²) du``, of which the mean over x is known; with u = sinh y the
    trapezoidal rule needs few terms.
    """
    twice, step, total = 2 * variance * 4 / (2 * dim - 3), 0.02, 0.0
    for i in range(2000):
        u = math.sinh(i * step)
        log_value = -width * u * u - 0.5 * dim * math.log1p(twice * u * u)
        total += (0.5 if i == 0 else 1.0) * math.exp(max(log_value, -700.0)) * math.cosh(i * step)
    return 2 * INV_SQRT_PI * total * step


def worst_error(dim: int) -> dict[str, float]:
    """The relative error of the paper's φ_D where it is greatest, and the s where that is."""
    places = [10 ** (i / 100) for i in range(-300, 401)]
    errors = {(1 + 4 * s / (2 * dim - 3)) ** -0.5 / exact_phi(s, dim) - 1: s for s in places}
    worst = max(errors, key=abs)
    return {"worst_error": worst, "worst_at": errors[worst]}
