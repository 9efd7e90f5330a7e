"""What ``docs/exact_phi.md`` says of training: the tables of the parts ``digits`` and ``cwae``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean
from typing import Any

from benchmarks.report.tables import table
from segma_fast.distance.formulas import FORMS

TEST_IMAGES = 359
NAMES = {"approx": "approximation", "exact": "exact"}
SCORES = ("fit_exact", "drawn_exact", "fit_approx", "drawn_approx")
D2 = ("exact d² of the codes", "of drawn ones", "approximate d² of the codes", "of drawn ones")


def number(value: float, digits: int = 2) -> str:
    """As 3.2e-5 or 0.012."""
    if value >= 1e-3:
        return f"{value:.{max(0, digits - 1 - math.floor(math.log10(value)))}f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def span(values: list[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def mean_of(runs: list[dict[str, Any]], **settings: Any) -> dict[str, float]:
    """The mean over seeds of all that is a number."""
    same = [run for run in runs if all(run[name] == value for name, value in settings.items())]
    return {name: fmean(run[name] for run in same) for name in same[0] if name != "phi"}


def digit_values(found: dict[str, Any]) -> dict[str, str]:
    runs = found["runs"]
    values = {"digits_epochs": str(found["epochs"]), "digits_seeds": str(len({run["seed"] for run in runs}))}
    for dim in sorted({run["dim"] for run in runs}):
        header = ["α", "φ", "test error", "reconstruction", *D2, "spread"]
        values[f"digits_{dim}"] = table(header, digit_rows(runs, dim))
        equal = list(equal_alphas(runs, dim))
        values[f"digits_factor_{dim}"] = span([same / alpha for alpha, same, _ in equal], 1)
        better = [100 * (1 - ratio) for *_, ratio in equal]
        values[f"digits_better_{dim}"], values[f"digits_most_{dim}"] = span(better, 0), f"{max(better):.0f}"
        pairs = [
            tuple(mean_of(runs, dim=dim, alpha=a, phi=phi)["test_error"] for phi in FORMS) for a in alphas_of(runs)
        ]
        values[f"digits_worse_{dim}"] = span([100 * (exact - approx) for approx, exact in pairs], 1)
        values[f"digits_noise_{dim}"] = f"{100 * fmean(map(noise, runs_of(runs, dim))):.1f}"
        drawn = mean_of(runs, dim=dim)
        values[f"digits_room_{dim}"] = f"{drawn['drawn_approx'] / drawn['drawn_exact']:.0f}"
    return values


def digit_rows(runs: list[dict[str, Any]], dim: int) -> Iterator[list[str]]:
    for alpha in alphas_of(runs):
        for phi in FORMS:
            mean = mean_of(runs, dim=dim, alpha=alpha, phi=phi)
            line = [f"{alpha:g}", NAMES[phi], f"{100 * mean['test_error']:.1f} %", f"{mean['reconstruction']:.3f}"]
            yield [*line, *(number(mean[name], 3) for name in SCORES), f"{mean['spread']:.2f}"]


def equal_alphas(runs: list[dict[str, Any]], dim: int) -> Iterator[tuple[float, float, float]]:
    """For each α of the exact form the α at which the approximation reconstructs as well, between two that were tried.

    With it, the ratio of both fits there, by the exact d²: below 1 where the exact form fits better.
    """
    ladder = [mean_of(runs, dim=dim, alpha=alpha, phi="approx") for alpha in alphas_of(runs)]
    for alpha in alphas_of(runs):
        exact = mean_of(runs, dim=dim, alpha=alpha, phi="exact")
        for low, high in pairwise(ladder):
            if low["reconstruction"] <= exact["reconstruction"] < high["reconstruction"]:
                part = (exact["reconstruction"] - low["reconstruction"]) / (
                    high["reconstruction"] - low["reconstruction"]
                )
                same, fit = (low[n] ** (1 - part) * high[n] ** part for n in ("alpha", "fit_exact"))
                yield alpha, same, exact["fit_exact"] / fit


def cwae_values(found: dict[str, Any]) -> dict[str, str]:
    runs, rows = found["runs"], []
    values = {"cwae_alpha": f"{found['alpha']:g}", "cwae_epochs": str(found["epochs"])}
    for dim in sorted({run["dim"] for run in runs}):
        for phi in FORMS:
            mean = mean_of(runs, dim=dim, phi=phi)
            values[f"cwae_{phi}_{dim}"] = f"{mean['fit_exact'] / mean['drawn_exact']:.{0 if phi == 'approx' else 1}f}"
            moments = [f"{mean['variance']:.2f}", f"{mean['kurtosis']:.1f}", f"{mean['reconstruction']:.3f}"]
            rows.append([str(dim), NAMES[phi], *moments, *(number(mean[name], 3) for name in SCORES)])
    header = ["D", "φ", "variance", "kurtosis", "reconstruction", *D2]
    return values | {"cwae_table": table(header, rows)}


def noise(run: dict[str, Any]) -> float:
    """The standard error of a test error, as a share of ``TEST_IMAGES``."""
    return math.sqrt(run["test_error"] * (1 - run["test_error"]) / TEST_IMAGES)


def alphas_of(runs: list[dict[str, Any]]) -> list[float]:
    return sorted({run["alpha"] for run in runs})


def runs_of(runs: list[dict[str, Any]], dim: int) -> list[dict[str, Any]]:
    return [run for run in runs if run["dim"] == dim]
