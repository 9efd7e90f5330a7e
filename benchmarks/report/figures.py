"""The figures of the benchmark, drawn from its results alone."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.report.goals import by_case
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results
from segma_fast.trainer.files import replacing

STYLES = {  # colour-blind safe
    "native": ("#0072b2", "o"),
    "triton high": ("#0072b2", "o"),
    "cuda high": ("#009e73", "s"),
    "chunked": ("#e69f00", "v"),
    "compiled tiles": ("#d55e00", "^"),
    "reference": ("#555555", "D"),
    "compiled reference": ("#999999", "d"),
    "pykeops": ("#cc79a7", "P"),
}
NAMES = {"reference": "eager reference", "native": "native (ours)", "chunked": "chunked (ours, plain torch)"}


def draw(ax: Axes, records: list[Record], x: str, y: str, scale: float = 1.0) -> None:
    """A line a contender; a cross where one ended because larger batches took too long or did not fit."""
    for name, (colour, marker) in STYLES.items():
        found = [r for r in records if r.contender == name and (getattr(r, y) or 0) > 0]
        if not found:
            continue
        points = [(getattr(r, x), scale * getattr(r, y)) for r in found]
        ax.plot(*zip(*points, strict=True), marker, ls="-", color=colour, label=NAMES.get(name, name), ms=4, lw=1.4)
        if any(r.contender == name and r.reason for r in records):
            ax.plot(*points[-1], "x", color="black", ms=9, mew=1.2, zorder=3)


def finish(ax: Axes, x: str, y: str, title: str) -> None:
    ax.set(xlabel=x, ylabel=y, xscale="log", yscale="log")
    ax.set_title(title, fontsize=10)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1e-3 else f"{value:.0e}")
        axis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.3, which="major")


def scaling(results: Results, rate: float | None) -> Figure:
    """Time and memory against m; ``rate`` is the machine's float32 products in GFLOP/s, for the line of the limit."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    records = list(results.of("scaling"))
    dim = records[0].dim
    draw(left, records, "rows", "median_s", 1e3)
    rows = sorted({r.rows for r in records if r.measured})
    if rate:
        left.plot(rows, [3e-6 * m * m * dim / rate for m in rows], "k:", lw=1, label="3m²D at torch's sgemm rate")
    left.plot([], [], "x", color="black", ms=9, mew=1.2, label="larger: too slow, or no memory")
    finish(left, "codes m", "value and gradients, ms", f"Time, D = {dim}, K = 10")
    draw(right, records, "rows", "peak_mb")
    right.plot(rows, [4e-6 * m * m for m in rows], "k--", lw=1, label="one m×m matrix")
    right.set_ylim(bottom=0.05)
    finish(right, "codes m", "beyond inputs and gradients, MB", "Memory")
    handles, labels = left.get_legend_handles_labels()
    matrix = right.get_lines()[-1]
    figure.legend([*handles, matrix], [*labels, matrix.get_label()], fontsize=8, loc="outside lower center", ncols=5)
    return figure


def dimensions(results: Results) -> Figure:
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    ax = figure.subplots()
    records = [r for r in results.of("distance", rows=4096, components=10, dtype="float32", gradients=True, gamma=None)]
    draw(ax, [r for r in records if r.measured], "dim", "median_s", 1e3)
    finish(ax, "dimension D", "value and gradients, ms", "m = 4096, K = 10")
    ax.legend(fontsize=7)
    return figure


def errors(results: Results) -> Figure:
    """The gradient's error against the time, a line a contender from the smaller to the larger size."""
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    ax = figure.subplots()
    entries = by_case(results)
    for name, (colour, marker) in STYLES.items():
        found = [entries.get(case, {}).get(name) for case in (Case(1024, 64), Case(4096, 64))]
        points = [(1e3 * (r.median_s or 0), r.error_gradient) for r in found if r is not None and r.error_gradient]
        if points:
            ax.plot(*zip(*points, strict=True), color=colour, ls="-", lw=1, alpha=0.5)
            ax.plot(*points[0], marker, color=colour, ms=5, mfc="w")
            ax.plot(*points[-1], marker, color=colour, ms=8, label=NAMES.get(name, name))
    ax.plot([], [], "o", color="k", ms=5, mfc="w", label="m = 1024; filled: 4096")
    finish(ax, "value and gradients, ms", "relative error of the gradients", "m = 1024 and 4096, D = 64, K = 10")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.margins(0.2)
    ax.legend(fontsize=7)
    return figure


def training(results: Results) -> Figure:
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    ax = figure.subplots()
    draw(ax, list(results.of("training")), "rows", "share", 100)
    finish(ax, "batch", "share of the step, %", "The distance in a training step (dense network for MNIST)")
    ax.axhline(10, color="k", ls=":", lw=1, label="10 %")
    ax.legend(fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> Path:
    with replacing(path) as draft:
        figure.savefig(draft, dpi=110)
    return path
