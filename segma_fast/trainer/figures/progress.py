"""Pictures of a model while it trains, for TensorBoard."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from segma_fast.trainer import latent
from segma_fast.trainer.figures.grids import picture_grid
from segma_fast.trainer.models.base import ImageModel, as_pixels

ROWS = COLUMNS = 10


def pictures(model: ImageModel, images: Tensor) -> dict[str, Image.Image]:
    """Samples, a component a row, and images with their reconstructions below.

    Args:
        model: at any time of its training; it stays in its mode, and only a generator of its own draws numbers.
        images: (n, C, H, W), uint8 or in [0, 1], on the model's device, of which the first ten are shown.
    """
    training, generator = model.training, torch.Generator(model.device).manual_seed(0)
    model.eval()
    rows = [latent.sample_components(model, COLUMNS, k, generator=generator) for k in range(model.components)[:ROWS]]
    shown = images[:COLUMNS]
    pairs = torch.stack([as_pixels(shown), model.decode(model.encode(shown))])
    model.train(training)
    return {"samples": picture_grid(torch.cat(rows)), "reconstructions": picture_grid(pairs)}
