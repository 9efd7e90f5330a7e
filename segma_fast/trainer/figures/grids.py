"""Draws and writes pictures: grids of images, and scatter plots of codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segma_fast.trainer import latent
from segma_fast.trainer.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALLEST_SIDE = 64  # images are enlarged by an integer factor to at least this height
GAP = 4


def save_grid(images: Tensor, path: Path) -> Path:
    """Write images (rows, columns, C, H, W) in [0, 1], C = 1 or 3, as one PNG on a white background.

    Raises:
        ValueError: if the path is a folder or does not end in .png.
    """
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ValueError(f"pictures are written to files that end in .png, got {path}")
    grid = compose(images)
    with replacing(path) as draft:
        Image.fromarray(grid).save(draft)
    return path


def compose(images: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images (rows, columns, C, H, W) in [0, 1], C = 1 or 3, as one grid, uint8, (height, width[, 3])."""
    scale = max(1, -(-SMALLEST_SIDE // images.shape[-2]))
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    pixels = pixels.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    rows, columns, channels, height, width = pixels.shape
    canvas = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), 255, dtype=torch.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
            canvas[:, top : top + height, left : left + width] = pixels[row, column]
    array = canvas[0].numpy() if channels == 1 else canvas.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array)


def save_codes(codes: Tensor, labels: Tensor, means: Tensor, class_names: Sequence[str], path: Path) -> Path:
    """Write a scatter plot of codes (n, D), coloured by their labels (n,), with the component means (K, D)."""
    from matplotlib.figure import Figure

    points, centres = (t.cpu() for t in latent.to_two_dimensions(codes, means))
    figure = Figure(figsize=(7, 6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    scatter(axes, points, labels, class_names)
    axes.scatter(centres[:, 0], centres[:, 1], s=150, marker="X", color="white", edgecolors="black", zorder=3)
    for index, (x, y) in enumerate(centres.tolist()):
        axes.annotate(str(index), (x, y), xytext=(8, 6), textcoords="offset points", fontsize=11, weight="bold")
    embedded = codes.shape[1] > 2
    axes.set_title("Codes of the test set and component means (crosses)" + (", t-SNE" if embedded else ""))
    return save_figure(figure, path)


def scatter(axes: Axes, points: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
    """Points (n, 2) in the colours of their labels (n,), with a legend."""
    from matplotlib import colormaps

    palette = colormaps["tab10" if len(class_names) <= 10 else "turbo"]
    kept = labels.cpu()
    for index, name in enumerate(class_names):
        colour = palette(index if len(class_names) <= 10 else index / (len(class_names) - 1))
        own = points[kept == index]
        axes.scatter(own[:, 0], own[:, 1], s=9, color=colour, alpha=0.7, linewidths=0, label=escape_label(name))
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(title="class", markerscale=2, frameon=False, bbox_to_anchor=(1.0, 1.0), loc="upper left", fontsize=8)


def save_figure(figure: Figure, path: Path, **options: Any) -> Path:
    """Write a matplotlib figure atomically."""
    with replacing(path) as draft:
        figure.savefig(draft, **options)
    return path


def escape_label(name: str) -> str:
    """Escape a class name for matplotlib: no math mode, and shown in the legend even with a leading underscore."""
    return "\u200b" + name.replace("$", r"\$")
