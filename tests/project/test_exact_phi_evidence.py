"""``benchmarks/studies/exact_phi`` in a very short form, and the page that it drew."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks import RESULTS, ROOT
from benchmarks.studies.exact_phi import cwae, digits, figures, match, page, particles, training_tables

FOUND = RESULTS / "exact_phi.json"
PAGE = ROOT / "docs" / "exact_phi.md"


def test_match() -> None:
    found = match.measure(dims=(2, 10), sizes=(256, 1024), seeds=8)
    for row in found["rows"]:
        assert row["exact"] == pytest.approx(row["exact_expected"], rel=0.3)
        assert row["approx"] > 2 * row["exact"]
    assert [entry["worst_error"] for entry in found["dims"]] == pytest.approx([-0.3076, -0.0228], abs=1e-3)
    assert match.floor(10) == pytest.approx(match.distance(8192, 10, "approx", 0), rel=0.3)


@pytest.mark.parametrize("width, variance, dim", [(0.0, 2.0, 2), (2.0, 1.0, 3), (0.0, 2.0, 64)])
def test_mean_root(width: float, variance: float, dim: int) -> None:
    from scipy.integrate import quad
    from scipy.stats import chi2

    slope = 4 / (2 * dim - 3)
    expected = quad(lambda t: chi2.pdf(t, dim) / math.sqrt(width + slope * variance * t), 0, math.inf)[0]
    assert match.mean_root(width, variance, dim) == pytest.approx(expected, rel=1e-6)


def test_particles() -> None:
    found = particles.measure(dims=(3,), sizes={60: 2}, iterations=50, rounds=4)
    approx, exact = found["rows"]
    assert approx["variance"] > 1.15 > exact["variance"] > 0.8
    assert exact["d2"] < 0.2 * approx["d2"] and exact["d2"] < exact["d2_drawn"]
    assert all(sum(counts) == 180 for counts in found["coordinates"].values())


def test_limit_is_students() -> None:
    """Moments of the formula against those of Student's distribution with D - 1 degrees of freedom."""
    from scipy.stats import t

    dim = 10
    variance, excess = t.stats(dim - 1, scale=math.sqrt((2 * dim - 3) / (2 * (dim - 1))), moments="vk")
    found = particles.limit(dim)
    assert (found["variance"], found["kurtosis"]) == pytest.approx((variance, 3 + excess))


def test_digits() -> None:
    found = digits.measure(dims=(2,), alphas=(5.0,), seeds=(0,), epochs=1)
    assert [run["phi"] for run in found["runs"]] == ["approx", "exact"]
    for run in found["runs"]:
        assert all(math.isfinite(value) for name, value in run.items() if name != "phi")
        assert run["fit_exact"] > run["drawn_exact"] and run["drawn_approx"] > run["drawn_exact"]


def test_cwae() -> None:
    found = cwae.measure(dims=(2,), seeds=(0,), epochs=1)
    assert [run["phi"] for run in found["runs"]] == ["approx", "exact"]
    assert all(math.isfinite(value) for run in found["runs"] for name, value in run.items() if name != "phi")


def test_what_the_page_says_in_words() -> None:
    """Findings that are part of the text: a new measurement that contradicts them needs another text."""
    found = {part: entry["found"] for part, entry in json.loads(FOUND.read_text(encoding="utf-8")).items()}
    mean_of = training_tables.mean_of
    for run in found["digits"]["runs"]:
        if run["dim"] == 2 and run["seed"] == 0:
            pair = [mean_of(found["digits"]["runs"], dim=2, alpha=run["alpha"], phi=phi) for phi in ("approx", "exact")]
            assert pair[0]["fit_exact"] > pair[1]["fit_exact"] and pair[0]["fit_approx"] < pair[1]["fit_approx"]
    for dim in (2, 3, 5, 10):
        approx, exact = (mean_of(found["cwae"]["runs"], dim=dim, phi=phi) for phi in ("approx", "exact"))
        assert approx["kurtosis"] > 3 > exact["kurtosis"] and approx["reconstruction"] < exact["reconstruction"]
        assert approx["fit_approx"] < approx["drawn_approx"] or dim > 3
    for row in found["particles"]["rows"]:
        assert row["variance"] < 1 if row["phi"] == "exact" else row["variance"] > 0.99


def test_page_and_pictures_are_drawn_from_the_results(tmp_path: Path) -> None:
    results = json.loads(FOUND.read_text(encoding="utf-8"))
    assert page.page(results) == PAGE.read_text(encoding="utf-8")
    for picture in figures.draw(results, tmp_path):
        assert picture.stat().st_size > 10_000 and f"images/{picture.name}" in PAGE.read_text(encoding="utf-8")


def test_unknown_part(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.studies.exact_phi.__main__ import main  # not above: it sets OpenMP's variables

    monkeypatch.setattr(sys, "argv", ["exact_phi", "--only", "match,nothing"])
    with pytest.raises(SystemExit):
        main()
