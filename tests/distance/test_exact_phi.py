"""The exact φ_D and its polynomial against mpmath, and the distance with it against equation (8) in many digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from cases import (
    BACKENDS,
    DEVICE,
    condition,
    evaluate,
    five_inputs,
    near_optimum,
    relative_error,
    skip_unless_served,
    truth,
)
from torch import Tensor

from segma_fast import cw_normality, cw_two_sample, fast_cw_distance, silverman_gamma
from segma_fast.distance.backends import extension
from segma_fast.distance.exact_phi import exact_coefficients, exact_phi, exact_slope
from segma_fast.distance.formulas import form_of, phi_of, profile

FEW = [
    *range(2, 17),
    19,
    20,
    21,
    31,
    32,
    33,
    63,
    64,
    65,
    100,
    127,
    128,
    129,
    255,
    256,
    257,
    512,
    1000,
    1024,
    2048,
    4096,
]
PLACES = [0.0, 1e-6, 1e-3, 0.03, 0.2, 0.5, 1.0, 2.0, 4.0, 9.0, 30.0, 200.0, 5e3]  # c s, along the whole of (0, 1] for τ
LIMITS = {False: (2e-7, 2e-6), True: (1e-12, 1e-12)}  # of φ and φ', relative


def hypergeometric(s: Any, dim: int) -> tuple[Any, Any]:
    """φ_D(s) and its derivative, in the digits that mpmath is set to."""
    half = mpmath.mpf(dim) / 2
    value = mpmath.hyp1f1(mpmath.mpf(1) / 2, half, -s, maxterms=10**6)
    return value, -mpmath.hyp1f1(mpmath.mpf(3) / 2, half + 1, -s, maxterms=10**6) / dim


def by_polynomial(s: Any, slope: float, coefficients: tuple[float, ...]) -> tuple[Any, Any]:
    """φ and φ' as the kernels have them, in the digits that mpmath is set to."""
    tau = 1 / (1 + mpmath.mpf(slope) * s)
    q = steep = mpmath.mpf(0)
    for coefficient in reversed(coefficients):
        steep = steep * (2 * tau - 1) + q
        q = q * (2 * tau - 1) + mpmath.mpf(coefficient)
    return mpmath.sqrt(tau) * q, -mpmath.mpf(slope) / 2 * tau * mpmath.sqrt(tau) * (q + 4 * tau * steep)


def rounded(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(torch.tensor(coefficients, dtype=torch.float32).tolist())


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 64, 4096, 10**6])
@pytest.mark.parametrize("s", [0.0, 1e-9, 0.3, 1.0, 7.0, 300.0, 1e5])
def test_exact_phi_is_the_hypergeometric_function(dim: int, s: float) -> None:
    with mpmath.workdps(30):
        expected = float(hypergeometric(mpmath.mpf(s), dim)[0]) if dim > 1 else math.exp(-s)
    assert exact_phi(s, dim) == pytest.approx(expected, rel=2e-14, abs=0)


def test_closed_forms() -> None:
    for s in (0.1, 1.0, 5.0, 40.0):
        half = torch.tensor(s / 2, dtype=torch.float64)
        assert exact_phi(s, 2) == pytest.approx(torch.special.i0e(half).item(), rel=1e-14)
        assert exact_phi(s, 3) == pytest.approx(math.sqrt(math.pi / s) / 2 * math.erf(math.sqrt(s)), rel=1e-14)
        four = torch.special.i0e(half) + torch.special.i1e(half)
        assert exact_phi(s, 4) == pytest.approx(four.item(), rel=1e-14)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dim", FEW)
def test_polynomial_within_the_limits(dim: int, double: bool) -> None:
    """Everywhere between s = 0 and infinity, with the coefficients as the kernels round them."""
    coefficients, slope = exact_coefficients(dim, double), exact_slope(dim)
    coefficients = coefficients if double else rounded(coefficients)
    with mpmath.workdps(40):
        for place in PLACES:
            s = mpmath.mpf(place) / mpmath.mpf(slope)
            for value, expected, limit in zip(
                by_polynomial(s, slope, coefficients), hypergeometric(s, dim), LIMITS[double], strict=True
            ):
                assert abs(value / expected - 1) <= limit, (place, value, expected)
        limit_at_infinity = mpmath.gamma(mpmath.mpf(dim) / 2) / mpmath.gamma(mpmath.mpf(dim - 1) / 2)
        q = sum(mpmath.mpf(a) * (-1) ** k for k, a in enumerate(coefficients))
        assert abs(q / (mpmath.sqrt(mpmath.mpf(slope)) * limit_at_infinity) - 1) <= LIMITS[double][0]


@pytest.mark.skipif(extension.MODULE is None, reason=f"native code: {extension.REASON}")
def test_every_dimension_has_a_polynomial() -> None:
    """D = 2 … 4096: close to φ at two places of s each, the same in Python and in C++."""
    assert extension.MODULE is not None
    for dim in range(2, 4097):
        for double in (False, True):
            slope, coefficients = extension.MODULE.polynomial(dim, double)
            assert slope == exact_slope(dim)
            assert len(coefficients) <= (44 if double else 18) if dim < 9 else (30 if double else 12)
            if double and dim % 16 and dim > 64:
                continue
            for tau in (0.5, 0.03):
                s = (1 / tau - 1) / slope
                q = math.fsum(a * (2 * tau - 1) ** k for k, a in enumerate(coefficients))
                assert math.sqrt(tau) * q == pytest.approx(exact_phi(s, dim), rel=1e-12 if double else 2e-7)
    for dim in (2, 3, 10, 100, 5000):
        ours, theirs = exact_coefficients(dim, False), extension.MODULE.polynomial(dim, False)[1]
        assert theirs == pytest.approx(ours, abs=1e-11)
    with pytest.raises(ValueError, match="dim=1, expected at least 2"):
        extension.MODULE.polynomial(1, False)


@pytest.mark.parametrize("s, dim", [(-1.0, 3), (math.nan, 3), (math.inf, 3), (1.0, 0)])
def test_bad_arguments(s: float, dim: int) -> None:
    with pytest.raises(ValueError, match=f"expected finite s >= 0 and dim >= 1, got s={s}, dim={dim}"):
        exact_phi(s, dim)


@pytest.mark.parametrize("dim", [2, 3, 10, 64])
def test_profile_and_its_derivatives(dim: int) -> None:
    t = torch.logspace(-3, 4, 30, dtype=torch.float64)[:, None].requires_grad_()
    h = torch.logspace(-4, 2, 7, dtype=torch.float64)[None].requires_grad_()
    k, k_t, k_h = profile(t.expand(30, 7), h.expand(30, 7), dim, "exact")
    by_t, by_h = torch.autograd.grad(k.sum(), (t, h))
    assert torch.allclose(by_t, k_t.sum(1, keepdim=True), rtol=1e-10)
    assert torch.allclose(by_h, k_h.sum(0, keepdim=True), rtol=1e-10)
    assert torch.allclose(k, (math.pi * h) ** -0.5 * phi_of(t / h, dim, "exact"), rtol=1e-12)
    with mpmath.workdps(30):
        for i, j in ((0, 0), (12, 3), (20, 6), (29, 0)):
            width = h[0, j].item()
            value = hypergeometric(mpmath.mpf(t[i, 0].item()) / width, dim)[0] / mpmath.sqrt(mpmath.pi * width)
            assert float(value) == pytest.approx(k[i, j].item(), rel=2e-12)


def test_one_dimension_has_one_form() -> None:
    assert form_of(1, "exact") == form_of(1, "approx")
    points = near_optimum(20, 3, 1)
    assert torch.equal(fast_cw_distance(*points, phi="exact"), fast_cw_distance(*points))


def equation_8(z: Tensor, means: Tensor, weights: Tensor, variances: Tensor, gamma: float) -> float:
    """Equation (8) with mpmath's φ_D, a pair at a time."""
    dim = z.shape[1]

    def product(a: Tensor, b: Tensor, variance: float) -> Any:
        width = mpmath.mpf(variance) + 2 * mpmath.mpf(gamma)
        squared = sum((mpmath.mpf(p) - mpmath.mpf(q)) ** 2 for p, q in zip(a.tolist(), b.tolist(), strict=True))
        phi = mpmath.exp(-squared / (2 * width)) if dim == 1 else hypergeometric(squared / (2 * width), dim)[0]
        return phi / mpmath.sqrt(2 * mpmath.pi * width)

    mixture = list(zip(weights.tolist(), means, variances.tolist(), strict=True))
    codes = sum(product(a, b, 0) for a in z for b in z) / len(z) ** 2
    cross = sum(p * product(a, b, v) for a in z for p, b, v in mixture) / len(z)
    prior = sum(p * q * product(a, b, v + u) for p, a, v in mixture for q, b, u in mixture)
    return float(codes - 2 * cross + prior)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 20, 300])
def test_every_backend_is_equation_8(backend: str, dim: int) -> None:
    skip_unless_served(backend, torch.float64, dim)
    z, means = (points.double() for points in near_optimum(6, 3, dim))
    weights, variances = torch.tensor([0.2, 0.5, 0.3]).double(), torch.tensor([0.0, 0.7, 2.5]).double()
    with mpmath.workdps(30):
        expected = equation_8(z, means, weights, variances, 0.4)
    others = (weights.to(DEVICE), variances.to(DEVICE), 0.4)
    assert fast_cw_distance(z, means, *others, backend=backend, phi="exact").item() == pytest.approx(
        expected, rel=1e-11
    )
    single = fast_cw_distance(z.float(), means.float(), *others, backend=backend, phi="exact")
    assert single.item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("m, components, dim", [(40, 3, 2), (40, 3, 4), (700, 9, 20), (3, 700, 20), (100, 3, 300)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-5), (torch.float64, 1e-10)])
def test_all_five_gradients(
    optimised: str, m: int, components: int, dim: int, dtype: torch.dtype, tolerance: float
) -> None:
    skip_unless_served(optimised, dtype, dim)
    inputs = five_inputs(dtype, m, components, dim)
    _, expected = truth(inputs, phi="exact")
    _, gradients = evaluate(fast_cw_distance, inputs, backend=optimised, phi="exact")
    for gradient, exact in zip(gradients, expected, strict=True):
        assert relative_error(gradient, exact) <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize("m, components, dim", [(513, 1, 2), (513, 10, 3), (1025, 10, 10), (513, 9, 64), (513, 1, 64)])
@pytest.mark.parametrize("offset", [0.0, 20.0])
def test_float32_at_a_perfect_match(optimised: str, m: int, components: int, dim: int, offset: float) -> None:
    points = near_optimum(m, components, dim, offset)
    expected, expected_gradients = truth(points, phi="exact")
    value, gradients = evaluate(fast_cw_distance, points, backend=optimised, phi="exact", precision="highest")
    assert relative_error(value, expected) <= 2e-4
    for gradient, exact in zip(gradients, expected_gradients, strict=True):
        assert relative_error(gradient, exact) <= 1e-4


def with_gamma(backend: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda z, means, gamma: fast_cw_distance(z, means, gamma=gamma, backend=backend, phi="exact")


@pytest.mark.parametrize("dim", [2, 3, 4, 12])
def test_float32_with_equal_means(optimised: str, dim: int) -> None:
    """What the documentation promises where most cancels: 20 times as much as for the paper's form."""
    z, means = near_optimum(500, 1, dim)[0], torch.zeros(100, dim, device=DEVICE)
    gamma = torch.tensor(silverman_gamma(500, 100), dtype=torch.float64, device=DEVICE)
    expected, (codes, _, width) = evaluate(with_gamma("reference"), (z, means, gamma), torch.float64)
    value, gradients = evaluate(with_gamma(optimised), (z, means, gamma))
    assert relative_error(value, expected) <= 20 * 2e-5 * max(1, condition(z, means, expected) / 1000)
    assert relative_error(gradients[0], codes) <= 2e-5
    assert relative_error(gradients[2], width) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("dim", [2, 3, 10, 64])
@pytest.mark.parametrize("components", [1, 10])
def test_float32_at_a_perfect_match_of_many(optimised: str, components: int, dim: int) -> None:
    if DEVICE.type == "cpu" and optimised in ("triton", "cuda"):
        pytest.skip("too many pairs for an interpreter")
    points = near_optimum(8192 if optimised == "chunked" and DEVICE.type == "cpu" else 16384, components, dim)
    double = "native" if "native" in BACKENDS else "chunked"
    expected, expected_gradients = evaluate(fast_cw_distance, points, torch.float64, phi="exact", backend=double)
    value, gradients = evaluate(fast_cw_distance, points, backend=optimised, phi="exact", precision="highest")
    assert relative_error(value, expected) <= 1e-3
    assert relative_error(gradients[0], expected_gradients[0]) <= 1e-2
    log, log_gradients = evaluate(fast_cw_distance, points, backend=optimised, phi="exact", log=True)
    assert log.isfinite() and all(gradient.isfinite().all() for gradient in log_gradients)
    assert log.item() == pytest.approx(math.log(expected.item()), abs=2e-3)


@pytest.mark.parametrize("dim", [2, 3, 10, 64])
@pytest.mark.parametrize("m", [500, 4000])
def test_expected_value_at_a_perfect_match(m: int, dim: int) -> None:
    """``E d² = π^(-1/2) ((4γ)^(-1/2) - (4 + 4γ)^(-1/2)) / m`` for m codes from N(0, I), in every dimension."""
    gamma = silverman_gamma(m)
    expected = math.pi**-0.5 * ((4 * gamma) ** -0.5 - (4 + 4 * gamma) ** -0.5) / m
    found = [cw_normality(torch.randn(m, dim, dtype=torch.float64), phi="exact").item() for _ in range(12)]
    assert sum(found) / len(found) == pytest.approx(expected, rel=0.5)


@pytest.mark.parametrize("dim", [2, 10])
def test_equal_samples(optimised: str, dim: int) -> None:
    z, _ = near_optimum(200, 3, dim)
    assert cw_two_sample(z, z.clone(), phi="exact", backend=optimised).item() <= 1e-7
    value, gradients = evaluate(cw_two_sample, (z, z.clone()), phi="exact", backend=optimised, log=True)
    assert value.isfinite() and all(gradient.isfinite().all() for gradient in gradients)
