"""Codes far smaller and far larger than the widths, clusters far apart, and the ends of the numbers' range."""

from __future__ import annotations

import mpmath
import pytest
import torch
from cases import DEVICE, evaluate, near_optimum, relative_error, skip_unless_served, truth
from torch import Tensor

from segma_fast import fast_cw_distance


def by_differences(z: Tensor, means: Tensor, gamma: float) -> tuple[Tensor, list[Tensor]]:
    """Equation (8) for uniform weights and unit variances with all differences of coordinates, and its gradients."""

    def total(a: Tensor, b: Tensor, variance: float) -> Tensor:
        width = variance + 2 * gamma
        s = (a[:, None] - b).square().sum(-1) / (2 * width)
        return (1 + 4 * s / (2 * a.shape[1] - 3)).rsqrt().mean() / (2 * torch.pi * width) ** 0.5

    return evaluate(lambda a, b: total(a, a, 0.0) - 2 * total(a, b, 1.0) + total(b, b, 2.0), [z, means])


@pytest.mark.parametrize("dim", [2, 10, 64, 130])
@pytest.mark.parametrize("scale", [1e-3, 1e-4, 3e-6, 1e-9, 1e-15])
def test_codes_far_smaller_than_the_widths(optimised: str, scale: float, dim: int) -> None:
    """Collapsed codes still have a direction."""
    skip_unless_served(optimised, torch.float32, dim)
    points = [scale * t for t in near_optimum(150, 3, dim)]
    expected, gradients = truth(points)
    value, found = evaluate(fast_cw_distance, points, backend=optimised)
    assert relative_error(value, expected) <= 2e-5
    assert all(relative_error(*pair) <= 1e-5 for pair in zip(found, gradients, strict=True))


@pytest.mark.parametrize("scale", [1e-4, 1e-8, 0.0])
def test_a_part_of_the_codes_collapsed(optimised: str, scale: float) -> None:
    z, means = near_optimum(300, 3, 20)
    z[::3] *= scale
    expected, gradients = truth((z, means))
    value, found = evaluate(fast_cw_distance, (z, means), backend=optimised)
    assert relative_error(value, expected) <= 2e-5
    assert all(relative_error(*pair) <= 3e-5 for pair in zip(found, gradients, strict=True))


@pytest.mark.parametrize("dim", [6, 20])
@pytest.mark.parametrize("apart", [1e3, 1e5])
def test_clusters_far_apart_in_float64(backend: str, apart: float, dim: int) -> None:
    skip_unless_served(backend, torch.float64, dim)
    points = [t.double() for t in near_optimum(60, 4, dim)]
    for t in points:
        t[1::2] += apart
    expected, gradients = by_differences(*points, gamma=0.3)
    value, found = evaluate(fast_cw_distance, points, backend=backend, gamma=0.3)
    assert relative_error(value, expected) <= 1e-11
    assert all(relative_error(*pair) <= 1e-16 * apart * 1e3 for pair in zip(found, gradients, strict=True))


@pytest.mark.parametrize("size", [1e16, 1e19, 1e30, 1e37])
def test_huge_coordinates_in_float32(backend: str, size: float) -> None:
    """Each code is alone, and only its product with itself counts."""
    points = [size * t for t in near_optimum(12, 2, 5)]
    expected, _ = truth(points)
    value, gradients = evaluate(fast_cw_distance, points, backend=backend)
    assert relative_error(value, expected) <= 1e-5
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dim", [5, 40])
@pytest.mark.parametrize(
    "widths", [(1e300, 1.0), (1.0, 1e300), (1e300, 1e300), (0.0, 1e-70), (1e25, 1e25), (1e13, 0.1)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_widths_at_the_ends(backend: str, dtype: torch.dtype, widths: tuple[float, float], dim: int) -> None:
    """Values and the gradients of the widths, against arithmetic with 400 digits."""
    skip_unless_served(backend, torch.float64, dim)
    points = [t.to(dtype) for t in near_optimum(12, 2, dim)]
    given = [torch.tensor(v, dtype=torch.float64, device=DEVICE) for v in widths]
    value, gradients = evaluate(lambda z, m, v, g: fast_cw_distance(z, m, None, v, g, backend=backend), points + given)
    assert value.dtype == dtype and value >= 0 and value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    expected, *slopes = with_many_digits(points, *widths)
    rounding = 1e-15 * (widths[0] + widths[1]) ** -0.5  # of the sums that d² is a difference of
    assert value.item() == pytest.approx(torch.tensor(expected, dtype=dtype).item(), rel=2e-7, abs=rounding)
    for gradient, slope in zip(gradients[2:], slopes, strict=True):
        assert gradient.item() == pytest.approx(slope, rel=1e-9, abs=10 * rounding / max(*widths))


def with_many_digits(points: list[Tensor], variance: float, gamma: float) -> tuple[float, float, float]:
    """d² of uniform weights and its derivatives in the variance of all components and in γ."""
    z, means = (t.double().tolist() for t in points)
    with mpmath.workdps(400):
        v, g = mpmath.mpf(variance), mpmath.mpf(gamma)
        slope = mpmath.mpf(4) / (2 * len(z[0]) - 3)

        def total(a: list[list[float]], b: list[list[float]], times: int) -> tuple[mpmath.mpf, mpmath.mpf, mpmath.mpf]:
            """The mean of k over all pairs, and its derivatives in v and γ; k = (2π(times v + 2γ) + πct)^(-1/2)."""
            k = k_w = mpmath.mpf(0)
            for x in a:
                for y in b:
                    t = mpmath.fsum((mpmath.mpf(i) - mpmath.mpf(j)) ** 2 for i, j in zip(x, y, strict=True))
                    inside = 2 * mpmath.pi * (times * v + 2 * g) + mpmath.pi * slope * t
                    k, k_w = k + inside**-0.5, k_w - mpmath.pi * inside**-1.5
            pairs = len(a) * len(b)
            return k / pairs, times * k_w / pairs, 2 * k_w / pairs

        parts = zip(total(z, z, 0), total(z, means, 1), total(means, means, 2), strict=True)
        value, by_variance, by_gamma = (float(codes - 2 * cross + prior) for codes, cross, prior in parts)
    return value, by_variance, by_gamma


def test_coincident_rows_give_no_negative_value(backend: str) -> None:
    skip_unless_served(backend, torch.float64, 4)
    z = torch.randn(1, 4, dtype=torch.float64, device=DEVICE).expand(30, 4) * 1e3
    value = fast_cw_distance(z, z[:3].clone(), variances=0.0, gamma=1e-3, backend=backend)
    assert 0 <= value <= 1e-12
