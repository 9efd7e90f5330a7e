"""Plots of a run: its codes, the distances of its means, its learning curves and its confusions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from segma_fast.trainer import latent
from segma_fast.trainer.data import UNLABELLED
from segma_fast.trainer.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONG = 3  # letters of a class name beyond which labels below a plot are turned
MARKERS = "osv^Dd<>Pp"
MOST_NAMES = 30  # classes in a legend; more do not fit


def draw_codes(
    codes: Tensor, labels: Tensor, means: Tensor, class_names: Sequence[str], mean_names: Sequence[str], about: str = ""
) -> tuple[Figure, Axes, Tensor]:
    """A scatter plot of codes (n, D), coloured by their labels (n,), with the component means (K, D) and their names.

    Returns:
        The figure, its axes, and where the codes are on them, (n, 2).
    """
    points, centres = (t.cpu() for t in latent.to_two_dimensions(codes, means))
    figure = _figure(7, 6)
    axes = figure.add_subplot()
    scatter(axes, points, labels, class_names)
    axes.scatter(centres[:, 0], centres[:, 1], s=70, marker="X", color="white", edgecolors="black", zorder=3)
    for index, (x, y) in enumerate(centres.tolist()):
        name = mean_names[index].replace("$", r"\$")
        axes.annotate(name, (x, y), xytext=(8, 6), textcoords="offset points", fontsize=11, weight="bold")
    embedded = ""
    if codes.shape[1] > 2:
        embedded = ", by t-SNE, without units"
        axes.set_xticks([])
        axes.set_yticks([])
    _title(axes, f"Codes of test images and component means (crosses){embedded}", about)
    return figure, axes, points


def scatter(axes: Axes, points: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
    """Points (n, 2) in the colours and markers of their labels (n,), with a legend."""
    from matplotlib import colormaps

    few = len(class_names) <= 10
    palette = colormaps["tab10" if few else "turbo"]
    kept = labels.cpu()
    for index, name in enumerate(class_names):
        colour = palette(index if few else index / (len(class_names) - 1))
        own = points[kept == index]
        marker = MARKERS[index % len(MARKERS)]
        axes.scatter(
            own[:, 0], own[:, 1], s=9, marker=marker, color=colour, alpha=0.7, linewidths=0, label=escape_label(name)
        )
    axes.set_aspect("equal", adjustable="datalim")
    if len(class_names) > MOST_NAMES or tuple(class_names) == UNLABELLED:
        return
    axes.legend(title="class", markerscale=2, frameon=False, bbox_to_anchor=(1.0, 1.0), loc="upper left", fontsize=8)


def save_curves(metrics: Path, terms: Sequence[str], path: Path, about: str = "") -> list[Path]:
    """Write the learning curves: the terms of the loss and the test error of a metrics.csv, against epochs.

    Args:
        metrics: metrics.csv of a run.
        terms: columns of the terms of the loss.
        path: PNG to write.
        about: a line below the title.

    Returns:
        The path, or nothing if the file holds no numbers.
    """
    curves = {name: _curve(metrics, name) for name in ("loss", *terms, "test_error")}
    shown = [name for name, points in curves.items() if points]
    if not shown:
        return []
    figure = _figure(2.6 * min(len(shown), 3) + 0.6, 2.4 * -(-len(shown) // 3) + 0.6)
    all_axes = figure.subplots(-(-len(shown) // 3), min(len(shown), 3), squeeze=False).flatten()
    for axes, name in zip(all_axes, shown, strict=False):
        points = curves[name]
        factor = 100 if name == "test_error" else 1
        axes.plot(
            [x for x, _ in points],
            [factor * y for _, y in points],
            "o-" if name == "test_error" else "-",
            color="#0072b2",
            lw=1.2,
            ms=3,
        )
        if name == "test_error":
            axes.set_ylim(bottom=0)
        axes.set_title(name.replace("_", " ") + (", %" if name == "test_error" else ""), fontsize=9)
        axes.set_xlabel("epochs", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    for axes in all_axes[len(shown) :]:
        axes.set_axis_off()
    figure.suptitle(f"Learning curves\n{escape_label(about)}".strip(), fontsize=10)
    return [save_figure(figure, path)]


def _curve(metrics: Path, column: str) -> list[tuple[float, float]]:
    """Epochs and values of a column of metrics.csv; lines that are damaged are left out, and so is a missing file."""
    found: list[tuple[float, float]] = []
    with suppress(OSError, UnicodeDecodeError, csv.Error), metrics.open(newline="") as file:
        for line in csv.DictReader(file):
            with suppress(KeyError, TypeError, ValueError):
                found.append((float(line["epoch"]), float(line[column])))
    return found


def save_confusion(
    counts: Tensor, names: Sequence[str], components: Sequence[str], path: Path, about: str = ""
) -> Path:
    """Write how often test images of each class (rows) were taken for each component (columns).

    Args:
        counts: (classes, K), integers.
        names: of the classes.
        components: names of the components; the classes' own if the model knows them.
        path: PNG to write.
        about: a line below the title.
    """
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    texts = [[str(n) if n else "" for n in row] for row in counts.tolist()]
    kind = "class" if list(names) == list(components) else "component"
    figure, axes = _heat_map(share, texts, components, names)
    axes.set_xlabel(f"{kind} that the model chooses")
    axes.set_ylabel("class of the test image")
    _title(axes, "Test images by class and choice", about)
    return save_figure(figure, path)


def save_distances(means: Tensor, names: Sequence[str], path: Path) -> Path:
    """Write the distances between component means (K, D) as a heat map."""
    distances = torch.cdist(means, means).cpu()
    texts = [[f"{x:.2g}" for x in row] for row in distances.tolist()]
    figure, axes = _heat_map(distances, texts, names, names)
    _title(axes, "Distances between component means, in standard deviations of a component", "")
    return save_figure(figure, path)


def save_figure(figure: Figure, path: Path, **options: Any) -> Path:
    """Write a matplotlib figure, whole or not at all."""
    with replacing(path) as draft:
        figure.savefig(draft, **options)
    return path


def escape_label(name: str) -> str:
    """Escape a class name for matplotlib: no math mode, and shown in the legend even with a leading underscore."""
    return "\u200b" + name.replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _title(axes: Axes, title: str, about: str) -> None:
    axes.set_title(f"{title}\n{escape_label(about)}" if about else title, fontsize=10)


def _heat_map(
    values: Tensor, texts: Sequence[Sequence[str]], columns: Sequence[str], rows: Sequence[str]
) -> tuple[Figure, Axes]:
    """Values (rows, columns) as shades from white to blue, with a text in each cell."""
    figure = _figure(2.2 + 0.5 * len(columns), 1.8 + 0.45 * len(rows))
    axes = figure.add_subplot()
    axes.imshow(values.numpy(), cmap="Blues", vmin=0)
    middle = 0.6 * values.max().item()
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            colour = "white" if values[i, j] > middle else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    long = max(map(len, columns)) > LONG
    shown = list(map(escape_label, columns))
    axes.set_xticks(range(len(columns)), shown, rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(range(len(rows)), list(map(escape_label, rows)))
    return figure, axes
