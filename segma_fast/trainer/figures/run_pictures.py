"""The pictures that a finished run leaves in its folder, including those specific to one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from segma_fast.trainer import latent
from segma_fast.trainer.data import ImageData
from segma_fast.trainer.figures import grids
from segma_fast.trainer.figures.top_layer import draw_top_layer
from segma_fast.trainer.models.base import ImageModel, as_pixels

OWN_PICTURES: dict[str, Callable[[Any, ImageData, Path], list[Path]]] = {"cagem": draw_top_layer}
"""By model name: a function that draws the pictures specific to that model into a folder and returns their paths."""


def save_all(model: ImageModel, data: ImageData, folder: Path, columns: int = 10) -> list[Path]:
    """Write the pictures of a finished run, from test images; deterministic for a given model."""
    device = model.device
    generator = torch.Generator(device).manual_seed(0)
    images, labels = data.test_images.to(device), data.test_labels.to(device)
    classes = torch.arange(data.classes, device=device)
    first = torch.stack([(labels == k).nonzero()[0, 0] for k in classes if (labels == k).any()])
    shown = images[: columns * 5]
    rows = shown.split(columns)
    pairs = [t for row in rows if len(row) == columns for t in (as_pixels(row), model.decode(model.encode(row)))]
    paths = [
        grids.save_grid(latent.sample_components(model, columns, generator=generator), folder / "samples.png"),
        grids.save_codes(
            model.encode(images[:1000]),
            labels[:1000],
            model.centres(),
            data.class_names,
            folder / "codes.png",
        ),
    ]
    if pairs:
        paths.append(grids.save_grid(torch.stack(pairs), folder / "reconstructions.png"))
    start, end = images[first], images[first.roll(-1)]
    lines = latent.interpolate(model, start, end, columns)
    ends = (as_pixels(start)[:, None], as_pixels(end)[:, None])
    paths.append(grids.save_grid(torch.cat([ends[0], lines, ends[1]], 1), folder / "interpolations.png"))
    if model.components > 1:
        source = latent.classify(model, start)
        target = (source + model.components // 2) % model.components
        moved = latent.transfer(model, start, source, target, columns)
        paths.append(grids.save_grid(torch.cat([ends[0], moved], 1), folder / "transfer.png"))
    draw = OWN_PICTURES.get(model.name)
    return paths + (draw(model, data, folder) if draw else [])
