"""The paper's figures 3 to 8 of a trained model: grids of images with their classes, distances of means, the codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from segma_fast.trainer import latent
from segma_fast.trainer.data import ImageData
from segma_fast.trainer.figures import grids
from segma_fast.trainer.models.base import ImageModel, as_pixels

COLUMNS = 10
ALPHA = 0.5  # of equation (11), as in figure 8
CODES = 2000  # test images in the two-dimensional view
LONG = 3  # letters of a class name beyond which labels take two lines


def draw_figures(model: ImageModel, data: ImageData, folder: Path, name: str = "") -> list[Path]:
    """Write the figures of a model whose components correspond to the classes; deterministic for a given model.

    Args:
        model: trained with labels, one component a class.
        data: its data set; the figures show test images.
        folder: receives ``samples.png`` (figures 3 to 5), ``interpolations.png`` (6), ``transfer.png`` (7),
            ``intensity.png`` (8), ``means.png`` and ``codes.png``.
        name: name of the model, for the titles.
    """
    device = model.device
    generator = torch.Generator().manual_seed(0)
    images, labels = data.test_images, data.test_labels
    names = data.class_names
    space = "\n" if _are_long(names) else " "
    present = labels.unique()
    rows = torch.arange(len(present)).repeat_interleave(2 if len(present) < 5 else 1)
    source = present[rows]
    target = present[(rows + 1 + torch.randint(len(present) - 1, rows.shape, generator=generator)) % len(present)]
    start = torch.stack([images[_any_of(labels, k, generator)] for k in source.tolist()]).to(device)
    end = torch.stack([images[_any_of(labels, k, generator)] for k in target.tolist()]).to(device)
    first, last = as_pixels(start)[:, None], as_pixels(end)[:, None]
    pairs = [f"{names[a]}{space}→ {names[b]}" for a, b in zip(source.tolist(), target.tolist(), strict=True)]
    steps = [f"{t:.2f}" for t in torch.linspace(0, 1, COLUMNS).tolist()]

    sampled = latent.sample_components(model, COLUMNS, generator=torch.Generator(device).manual_seed(0))
    between = latent.interpolate(model, start, end, COLUMNS)
    moved = latent.transfer(model, start, source.to(device), target.to(device), COLUMNS)
    strengthened = latent.intensify(model, start, source.to(device), target.to(device), ALPHA, COLUMNS)
    away = [f"{names[a]}{space}away from {names[b]}" for a, b in zip(source.tolist(), target.tolist(), strict=True)]
    scaled = [f"{t:.2f}" for t in torch.linspace(0, ALPHA, COLUMNS).tolist()]
    end_of_title = f"\n{name}" if name else ""
    return [
        save_labelled(sampled, names, [], f"Samples of each component{end_of_title}", folder / "samples.png"),
        save_labelled(
            torch.cat([first, between, last], 1),
            pairs,
            ["real", *steps, "real"],
            f"Interpolations between test images, t = 0 … 1{end_of_title}",
            folder / "interpolations.png",
        ),
        save_labelled(
            torch.cat([first, moved], 1),
            pairs,
            ["real", *steps],
            f"Style transfer, z + t (μ_target − μ_source){end_of_title}",
            folder / "transfer.png",
        ),
        save_labelled(
            torch.cat([first, strengthened], 1),
            away,
            ["real", *scaled],
            f"Intensity, z + α (μ_source − μ_other), α = 0 … {ALPHA}{end_of_title}",
            folder / "intensity.png",
        ),
        save_distances(model.centres(), names, folder / "means.png"),
        grids.save_codes(
            model.encode(images[:CODES].to(device)).cpu(),
            labels[:CODES],
            model.centres().cpu(),
            names,
            folder / "codes.png",
        ),
    ]


def _are_long(names: Sequence[str]) -> bool:
    return max(map(len, names)) > LONG


def _any_of(labels: Tensor, label: int, generator: torch.Generator) -> int:
    own = (labels == label).nonzero().flatten()
    return int(own[torch.randint(len(own), (1,), generator=generator)])


def save_labelled(images: Tensor, rows: Sequence[str], columns: Sequence[str], title: str, path: Path) -> Path:
    """Write images (rows, columns, C, H, W) in [0, 1] as a grid with the names of its rows and columns."""
    from matplotlib.figure import Figure

    grid = grids.compose(images)
    height, width = grid.shape[:2]
    dpi = 120
    figure = Figure(figsize=(width / dpi + 2.2, height / dpi + 1.0), dpi=dpi, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(grid, cmap="gray", vmin=0, vmax=255)
    cell = [(size - grids.GAP) / count for size, count in ((height, images.shape[0]), (width, images.shape[1]))]
    axes.set_yticks([grids.GAP / 2 + cell[0] * (i + 0.5) for i in range(len(rows))], map(grids.escape_label, rows))
    axes.set_xticks([grids.GAP / 2 + cell[1] * (i + 0.5) for i in range(len(columns))], columns)
    axes.tick_params(length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=10)
    return grids.save_figure(figure, path, bbox_inches="tight")


def save_distances(means: Tensor, names: Sequence[str], path: Path) -> Path:
    """Write the distances between component means (K, D) as a heat map."""
    from matplotlib.figure import Figure

    distances = torch.cdist(means, means).cpu().numpy()
    count = len(names)
    figure = Figure(figsize=(2.5 + 0.5 * count, 2 + 0.5 * count), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(distances, cmap="viridis")
    for i in range(count):
        for j in range(count):
            dark = distances[i, j] < 0.6 * distances.max()
            axes.text(j, i, f"{distances[i, j]:.2g}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
    shown = list(map(grids.escape_label, names))
    long = _are_long(names)
    axes.set_xticks(range(count), shown, rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(range(count), shown)
    axes.set_title("Distances between component means (σ = 1)")
    figure.colorbar(drawn, shrink=0.8)
    return grids.save_figure(figure, path)
