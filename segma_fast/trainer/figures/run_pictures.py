"""The pictures that a finished run leaves in its folder, including those specific to one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segma_fast.trainer import latent
from segma_fast.trainer.data import ImageData
from segma_fast.trainer.figures import plots, views
from segma_fast.trainer.figures.top_layer import draw_top_layer
from segma_fast.trainer.run import Run
from segma_fast.trainer.run_folder import METRICS

OWN_PICTURES: dict[str, Callable[[Any, ImageData, Path], list[Path]]] = {"cagem": draw_top_layer}
"""By model name: a function that draws the pictures specific to that model into a folder and returns their paths."""
CODES = 1000  # test images in the view of the codes


def save_pictures(run: Run, data: ImageData | None = None, columns: int = 10) -> list[Path]:
    """Draw the pictures of a run into its folder, from test images; the same pictures for the same model.

    Args:
        run: a trained model.
        data: its data set, if it is loaded already.
        columns: images a row.

    Returns:
        The paths of the pictures: samples, codes, reconstructions, interpolations, style transfer, confusions and
        learning curves, as far as the model and the data have them, and the model's own.
    """
    data = run.load_data() if data is None else data
    model, folder = run.model, run.folder
    images, labels = data.test_images.to(model.device), data.test_labels.to(model.device)
    kinds = labels if data.labelled else run.classify(images).argmax(1)
    first = torch.stack([(kinds == k).nonzero()[0, 0] for k in kinds.unique()])
    if len(first) == 1:
        first = torch.arange(min(5, len(images)), device=model.device)
    codes = views.map_of_codes(run, model.encode(images[:CODES]), labels[:CODES])[0]
    shown = views.mixed(kinds, columns * 5)
    captions = views.captions_of(run, shown.tolist(), views.known_labels(data, shown.tolist()))
    paths = [
        views.samples(run, columns).save(folder / "samples.png"),
        plots.save_figure(codes, folder / "codes.png"),
        views.reconstructions(run, images[shown], columns, captions).save(folder / "reconstructions.png"),
        views.interpolations(run, images[first], images[first.roll(-1)], columns).save(folder / "interpolations.png"),
    ]
    if model.components > 1:
        target = (latent.classify(model, images[first]) + model.components // 2) % model.components
        paths.append(views.transfers(run, images[first], target, columns).save(folder / "transfer.png"))
    if model.components > 1 and data.labelled:
        counts = _confusions(run, images, labels)
        named = run.names if model.names_classes(data.classes) else [f"component {name}" for name in run.names]
        paths.append(plots.save_confusion(counts, data.class_names, named, folder / "confusion.png", run.about))
    paths += plots.save_curves(folder / METRICS, model.terms, folder / "curves.png", run.about)
    draw = OWN_PICTURES.get(model.name)
    return paths + (draw(model, data, folder) if draw else [])


def _confusions(run: Run, images: Tensor, labels: Tensor) -> Tensor:
    """How often images of each class (rows) are taken for each component (columns)."""
    chosen = run.classify(images).argmax(1)
    components, classes = run.model.components, len(run.data.class_names)
    found = torch.bincount(labels * components + chosen, minlength=classes * components)
    return found.reshape(classes, components).cpu()
