"""The profile of a pair as the kernels have it, over NumPy arrays, against 50 digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segma_fast.distance.backends import extension

mpmath = pytest.importorskip("mpmath")
pytestmark = pytest.mark.skipif(extension.MODULE is None, reason=f"native code: {extension.REASON}")

DISTANCES = [0.0, 1e-30, 1e-12, 1e-3, 0.3, 1.0, 7.0, 1e3, 1e12, 1e30]
WIDTHS = [1e-12, 1e-6, 1e-3, 0.1, 1.0, 3.0, 1e3, 1e6, 1e12]


def exact(t: float, h: float, dim: int) -> tuple[Any, Any, Any, Any]:
    """k, dk/dt and dk/dh from the definition, and the size of the two terms of dk/dh in one dimension."""
    t, h = mpmath.mpf(t), mpmath.mpf(h)
    if dim == 1:
        k = mpmath.exp(-t / h) / mpmath.sqrt(mpmath.pi * h)
        return k, -k / h, k * (t / h**2 - 1 / (2 * h)), k * (t / h**2 + 1 / (2 * h))
    c = mpmath.mpf(4) / (2 * dim - 3)
    k = 1 / mpmath.sqrt(mpmath.pi * (h + c * t))
    k_h = -k / (2 * (h + c * t))
    return k, c * k_h, k_h, -k_h


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 64, 4096])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_native_profile_against_50_digits(dim: int, dtype: type[np.floating[Any]]) -> None:
    """Within a few units of the last place; in one dimension the exponent's own rounding, t/h, comes on top."""
    assert extension.MODULE is not None
    distances = np.array(DISTANCES, dtype)[:, None]
    widths = np.array(WIDTHS, dtype)
    results = extension.MODULE.profile(distances, widths, dim)
    assert all(result.dtype == dtype and result.shape == (len(DISTANCES), len(WIDTHS)) for result in results)
    unit, least, greatest = (float(getattr(np.finfo(dtype), name)) for name in ("eps", "tiny", "max"))
    with mpmath.workdps(50):
        for (i, j), _ in np.ndenumerate(results[0]):
            t, h = float(distances[i, 0]), float(widths[j])
            *expected, terms = exact(t, h, dim)
            tolerance = unit * (5 + (t / h if dim == 1 else 0))
            for name, result, truth, size in zip(
                ("k", "k_t", "k_h"), results, expected, (*map(abs, expected[:2]), terms), strict=True
            ):
                if size > greatest / 10:  # r^3 is formed on the way
                    continue
                error = abs(mpmath.mpf(float(result[i, j])) - truth)
                # Below the least normal number 1e3 units hold: the factors underflow before their product does.
                assert error <= tolerance * size + least * 1e3, (name, t, h, float(result[i, j]), truth)


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 10, 64, 4096])
@pytest.mark.parametrize("dtype, limits", [(np.float64, (3e-12, 3e-12, 3e-11)), (np.float32, (1e-6, 4e-6, 1e-5))])
def test_native_profile_of_the_exact_form(
    dim: int, dtype: type[np.floating[Any]], limits: tuple[float, float, float]
) -> None:
    assert extension.MODULE is not None
    scaled = np.array([0.0, 1e-6, 1e-2, 0.3, 1.0, 4.0, 20.0, 1e3], dtype)[:, None] * max(1, dim) / 2  # t/h
    widths = np.array([1e-3, 0.1, 1.0, 1e3], dtype)
    distances = scaled * widths
    results = extension.MODULE.profile(distances, np.broadcast_to(widths, distances.shape), dim, "exact")
    half = mpmath.mpf(dim) / 2
    with mpmath.workdps(40):
        for (i, j), _ in np.ndenumerate(distances):
            t, h = mpmath.mpf(float(distances[i, j])), mpmath.mpf(float(widths[j]))
            if dim == 1 and t / h > 5:  # the exponent's own rounding
                continue
            phi = mpmath.hyp1f1(0.5, half, -t / h, maxterms=10**6)
            slope = -mpmath.hyp1f1(1.5, half + 1, -t / h, maxterms=10**6) / dim
            root = 1 / mpmath.sqrt(mpmath.pi * h)
            k_h = -root / h * (phi / 2 + t / h * slope)
            # dk/dh may vanish, as for D = 3 far away: relative to what its terms are there
            sizes = (root * phi, root / h * slope, root / h * phi / (1 + t / h * 2 / (dim + 12) * (dim > 1)))
            for result, truth, size, limit in zip(
                results, (root * phi, root / h * slope, k_h), sizes, limits, strict=True
            ):
                assert abs(mpmath.mpf(float(result[i, j])) - truth) <= limit * abs(size), (float(t), float(h))


def test_native_profile_broadcasts_and_chooses_the_dtype() -> None:
    assert extension.MODULE is not None
    profile = extension.MODULE.profile
    assert [float(part) for part in profile(0, 1, 2)] == pytest.approx(
        [np.pi**-0.5, -2 * np.pi**-0.5, -0.5 * np.pi**-0.5]
    )
    assert profile(np.ones((3, 1)), np.ones((1, 2)), 3)[0].shape == (3, 2)
    assert profile(np.ones((0, 1)), np.ones((1, 2)), 3)[0].shape == (0, 2)
    single, double = np.ones(2, np.float32), np.ones(2)
    assert profile(single, single, 3)[0].dtype == np.float32
    assert profile(single, double, 3)[0].dtype == profile([1, 2], 1, 3)[0].dtype == np.float64
    transposed = np.arange(6.0).reshape(2, 3).T
    assert np.array_equal(profile(transposed, 1.0, 3)[0], profile(transposed.copy(), 1.0, 3)[0])


def test_native_profile_names_wrong_arguments() -> None:
    assert extension.MODULE is not None
    with pytest.raises(ValueError, match="dim=0, expected at least 1"):
        extension.MODULE.profile(1.0, 1.0, 0)
    with pytest.raises(ValueError, match="phi='EXACT', expected 'approx' or 'exact'"):
        extension.MODULE.profile(1.0, 1.0, 2, "EXACT")
    with pytest.raises(ValueError, match="broadcast"):
        extension.MODULE.profile([1, 2], [1, 2, 3], 2)
