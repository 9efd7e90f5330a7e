"""The pictures of ``docs/exact_phi.md``, drawn from the results."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from scipy.special import kve

from segma_fast.distance.formulas import silverman_gamma
from segma_fast.trainer.files import replacing

COLOURS = {"approx": "#c0392b", "exact": "#1f5fa8"}
LABELS = {"approx": "approximation", "exact": "exact form"}
MARKERS = {"approx": "s", "exact": "o"}


def match(figure: Figure, found: dict[str, Any]) -> None:
    """d² against m, one colour a form and one line a dimension, with what theory says of both."""
    axes = figure.add_subplot()
    for entry in found["dims"]:
        rows = [row for row in found["rows"] if row["dim"] == entry["dim"]]
        sizes = [row["m"] for row in rows]
        for phi in COLOURS:
            axes.plot(sizes, [r[phi] for r in rows], color=COLOURS[phi], marker=MARKERS[phi], markersize=3.5, lw=1)
        axes.annotate(
            f"D = {entry['dim']}",
            (sizes[-1], rows[-1]["approx"]),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=COLOURS["approx"],
        )
    lines = [row for row in found["rows"] if row["dim"] == found["dims"][0]["dim"]]
    sizes = [row["m"] for row in lines]
    axes.plot(sizes, [row["exact_expected"] for row in lines], color="black", lw=1, ls="--")
    axes.annotate(
        "expected, any D",
        (sizes[5], lines[5]["exact_expected"]),
        xytext=(-8, -16),
        textcoords="offset points",
        ha="right",
    )
    axes.annotate(
        "all D",
        (sizes[-1], lines[-1]["exact"]),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        color=COLOURS["exact"],
    )
    for phi in COLOURS:
        axes.plot([], [], color=COLOURS[phi], marker=MARKERS[phi], markersize=3.5, label=LABELS[phi])
    axes.set(xscale="log", yscale="log", xlabel="m, codes drawn from N(0, I)", ylabel="d²")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlim(sizes[0] * 0.8, sizes[-1] * 2)
    axes.legend(frameon=False, loc="lower left")


def particles(figure: Figure, found: dict[str, Any]) -> None:
    """Variance against D, and the coordinates in three dimensions."""
    left, right = figure.subplots(1, 2)
    largest = max(row["m"] for row in found["rows"])
    for phi in COLOURS:
        for size, style in ((largest, "-"), (min(row["m"] for row in found["rows"]), ":")):
            rows = [row for row in found["rows"] if row["phi"] == phi and row["m"] == size]
            dims, variances = [row["dim"] for row in rows], [row["variance"] for row in rows]
            label = f"{LABELS[phi]}, m = {size}"
            left.plot(dims, variances, style, color=COLOURS[phi], marker=MARKERS[phi], markersize=4, label=label)
    known = [entry for entry in found["limit"] if entry["variance"]]
    smooth = np.geomspace(3.2, known[-1]["dim"], 100)
    left.plot(smooth, (2 * smooth - 3) / (2 * (smooth - 3)), color="black", lw=1, ls="--", label="approximation, m → ∞")
    dims = [entry["dim"] for entry in found["limit"]]
    left.set(xscale="log", yscale="log", xlabel="D", ylabel="variance of a coordinate (target: 1)", ylim=(0.75, 14))
    _plain_ticks(left, dims, [1, 2, 3, 5, 10])
    left.legend(frameon=False, fontsize=8)
    _coordinates(right, found)


def _coordinates(axes: Axes, found: dict[str, Any]) -> None:
    edges = np.array(found["edges"])
    for phi, counts in found["coordinates"].items():
        density = np.array(counts[:-1]) / (sum(counts) * np.diff(edges))
        label = LABELS[phi] + (f" ({counts[-1]} of {sum(counts)} lie outside)" if counts[-1] else "")
        style: dict[str, Any] = {"fill": True, "alpha": 0.45} if phi == "exact" else {"lw": 1.3}
        axes.stairs(density, edges, baseline=1e-9, color=COLOURS[phi], label=label, **style)
    x = np.linspace(edges[0], edges[-1], 400)
    axes.plot(x, np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi), color="black", lw=1, label="N(0, 1)")
    limit = _limit_density(x, silverman_gamma(max(row["m"] for row in found["rows"])))
    axes.plot(x, limit, color="black", lw=1, ls="--", label="approximation, m → ∞")
    axes.set(xlabel="a coordinate, D = 3", ylabel="density", yscale="log", xlim=(edges[0], edges[-1]), ylim=(2e-4, 60))
    axes.set_xticks([-10, -5, 0, 5, 10])
    axes.set_yticks([1e-3, 1e-2, 1e-1, 1])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _limit_density(x: Any, gamma: float) -> Any:
    """A coordinate's density under what minimises the approximation for D = 3: characteristic function g(bκ)/g(εκ)."""
    k = np.linspace(0, 60, 6001)[1:]
    wide, narrow = (math.sqrt(width * 3 / 4) * k for width in (2 + 4 * gamma, 4 * gamma))  # h/c, c = 4/3
    ratio = wide * kve(1, wide) / (narrow * kve(1, narrow)) * np.exp(narrow - wide)
    return (np.cos(np.outer(x, k)) @ ratio + 0.5) * (k[1] - k[0]) / math.pi


def digits(figure: Figure, found: dict[str, Any]) -> None:
    """How well codes fit the prior against the reconstruction error, a point for each α."""
    dims = sorted({run["dim"] for run in found["runs"]})
    for dim, axes in zip(dims, np.atleast_1d(figure.subplots(1, len(dims))), strict=True):
        for phi in COLOURS:
            runs = [run for run in found["runs"] if run["dim"] == dim and run["phi"] == phi]
            alphas = sorted({run["alpha"] for run in runs})
            x, y = ([scale * fmean(r[name] for r in runs if r["alpha"] == a) for a in alphas] for name, scale in AXES)
            axes.plot(x, y, color=COLOURS[phi], marker=MARKERS[phi], markersize=5, lw=1, label=LABELS[phi])
            offset = (0, 7) if phi == "approx" else (0, -15)
            for place, alpha in zip(zip(x, y, strict=True), alphas, strict=True):
                axes.annotate(
                    f"{alpha:g}", place, xytext=offset, textcoords="offset points", ha="center", color=COLOURS[phi]
                )
        axes.set(title=f"codes of {dim} dimensions", xlabel="reconstruction error of the test set")
        axes.set_ylabel("1000 · exact d² of the codes")
        axes.margins(0.12)
        axes.legend(frameon=False)


AXES = (("reconstruction", 1.0), ("fit_exact", 1e3))


def _plain_ticks(axes: Axes, x: list[int], y: list[int]) -> None:
    for axis, ticks in ((axes.xaxis, x), (axes.yaxis, y)):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
        axis.set_ticks(ticks)
        axis.set_ticks([], minor=True)


PICTURES: dict[str, tuple[Callable[[Figure, dict[str, Any]], None], float]] = {
    "match": (match, 4.4),
    "particles": (particles, 4.0),
    "digits": (digits, 4.2),
}


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write the picture of each part into a folder."""
    paths = []
    for part, (show, height) in PICTURES.items():
        figure = Figure(figsize=(9, height), dpi=120, layout="constrained")
        show(figure, results[part]["found"])
        paths.append(folder / f"exact_phi_{part}.png")
        with replacing(paths[-1]) as draft:
            figure.savefig(draft)
    return paths
