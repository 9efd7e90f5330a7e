"""Figure 2 of the CaGeM paper: a two-dimensional top layer, and the images decoded at the points of a mesh over it."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from segma_fast.trainer.data import ImageData
from segma_fast.trainer.figures import grids, plots
from segma_fast.trainer.models.cagem import CaGeM

POINTS = 2000  # test images in the scatter plot
SIDE = 12  # points per side of the mesh of the most probable classes
SMALL_SIDE = 5  # points per side of the mesh of each class


def draw_top_layer(model: CaGeM, data: ImageData, folder: Path) -> list[Path]:
    """Write top_layer.png: images at a mesh of z₂, the z₂ of the test images, and images of each class at a mesh.

    Args:
        model: a model with ``top_dim`` 2; nothing is drawn for others.
        data: data set whose test images are shown.
        folder: folder for the picture.

    Returns:
        The path of the picture, if one is drawn.
    """
    if model.top_dim != 2:
        return []
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    codes = torch.cat([model.encode(batch) for batch in data.test_images[:POINTS].to(model.device).split(500)])
    top = model.split(codes)[2].cpu()
    low, high = top.quantile(0.02, 0).tolist(), top.quantile(0.98, 0).tolist()
    figure = Figure(figsize=(17, 5.6), dpi=100, layout="constrained")
    left, middle, right = figure.subplots(1, 3)

    mesh = _mesh(low, high, SIDE).to(model.device)
    probable = model.top_classifier.mean_of(mesh).argmax(1)
    left.imshow(grids.compose(_images(model, mesh, probable, SIDE)), cmap="gray", vmin=0, vmax=255)
    left.set_title("Images at the mesh, each of the most probable class")

    plots.scatter(middle, top, data.test_labels[:POINTS], data.class_names)
    middle.add_patch(Rectangle((low[0], low[1]), high[0] - low[0], high[1] - low[1], fill=False, color="black"))
    middle.set_title("z₂ of the test images, and the mesh's bounds")

    columns = math.ceil(math.sqrt(model.components))
    mesh = _mesh(low, high, SMALL_SIDE).to(model.device)
    cells = []
    for component in range(model.components):
        chosen = torch.full((len(mesh),), component, device=model.device)
        cells.append(_images(model, mesh, chosen, SMALL_SIDE))
    cells += [torch.ones_like(cells[0])] * (-len(cells) % columns)
    whole = torch.cat([torch.cat(cells[i : i + columns], 1) for i in range(0, len(cells), columns)])
    right.imshow(grids.compose(whole), cmap="gray", vmin=0, vmax=255)
    right.set_title(f"Images of each class, {columns} classes a row, each at the mesh")
    for axes in (left, right):
        axes.set_axis_off()
    return [plots.save_figure(figure, folder / "top_layer.png")]


def _mesh(low: list[float], high: list[float], side: int) -> Tensor:
    """Points (side², 2), in rows from the top of the plane to its bottom."""
    across = torch.linspace(low[0], high[0], side)
    down = torch.linspace(high[1], low[1], side)
    return torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).reshape(-1, 2)


def _images(model: CaGeM, mesh: Tensor, chosen: Tensor, side: int) -> Tensor:
    """(side, side, C, H, W)."""
    with torch.no_grad():
        codes = model.at(mesh, chosen)
    images: Tensor = model.decode(codes).unflatten(0, (side, side))
    return images
