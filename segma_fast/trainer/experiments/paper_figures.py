"""The paper's figures 3 to 8 of a trained model: grids of images with their classes, distances of means, the codes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from segma_fast.trainer.data import ImageData
from segma_fast.trainer.figures import plots, views
from segma_fast.trainer.run import Run

COLUMNS = 10
ALPHA = 0.5  # of equation (11), as in figure 8
CODES = 2000  # test images in the two-dimensional view


def draw_figures(run: Run, data: ImageData, folder: Path) -> list[Path]:
    """Write the figures of a model whose components correspond to the classes; the same for the same model.

    Args:
        run: trained with labels, one component a class.
        data: its data set; the figures show test images.
        folder: receives ``samples.png`` (figures 3 to 5), ``interpolations.png`` (6), ``transfer.png`` (7),
            ``intensity.png`` (8), ``means.png`` and ``codes.png``.
    """
    generator = torch.Generator().manual_seed(0)
    images, labels = data.test_images, data.test_labels
    present = labels.unique()
    rows = torch.arange(len(present)).repeat_interleave(2 if len(present) < 5 else 1)
    source = present[rows]
    target = present[(rows + 1 + torch.randint(len(present) - 1, rows.shape, generator=generator)) % len(present)]
    start = torch.stack([images[_any_of(labels, k, generator)] for k in source.tolist()])
    end = torch.stack([images[_any_of(labels, k, generator)] for k in target.tolist()])
    codes = run.encode(images[:CODES])
    return [
        views.samples(run, COLUMNS).save(folder / "samples.png"),
        views.interpolations(run, start, end, COLUMNS).save(folder / "interpolations.png"),
        views.transfers(run, start, target, COLUMNS).save(folder / "transfer.png"),
        views.intensities(run, start, target, ALPHA, COLUMNS).save(folder / "intensity.png"),
        plots.save_distances(run.model.centres(), run.names, folder / "means.png"),
        plots.save_figure(views.map_of_codes(run, codes, labels[:CODES])[0], folder / "codes.png"),
    ]


def _any_of(labels: Tensor, label: int, generator: torch.Generator) -> int:
    own = (labels == label).nonzero().flatten()
    return int(own[torch.randint(len(own), (1,), generator=generator)])
