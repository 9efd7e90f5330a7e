"""Evaluation metrics of a trained model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from segma_fast.trainer.models.base import ClassMapping, ImageModel, as_pixels, squared_error

EVALUATION_ROWS = 1000  # images per forward pass
LIKELIHOOD_ROWS = {"cpu": 100, "cuda": 2000}  # images per forward pass of the estimate of log p(x)


@dataclass(frozen=True)
class Evaluation:
    """Metrics on a test set."""

    test_error: float
    """fraction of test images that the model's main classifier gets wrong; for models trained
    without labels under the best mapping of components to classes; NaN for a single component, and for data without
    labels"""
    reconstruction: float
    """squared error summed over pixels, mean over images, equation (1)"""
    distance: float
    """d² between the codes of the test set and the prior, equation (8), with γ by the paper's rule; NaN for models that
    do not minimise it"""
    classifier: str = ""
    """name of the main classifier, and of the mapping of components to classes if there is one; empty for data without
    labels"""
    other_errors: Mapping[str, float] = field(default_factory=dict)
    """test errors of the model's other classifiers, by classifier name; without labels, also that of the main one under
    the other mapping, one-to-one or many-to-one"""


@torch.no_grad()
def evaluate(model: ImageModel, images: Tensor, labels: Tensor | None, classes: int) -> Evaluation:
    """Evaluate on images (N, C, H, W), uint8, with labels (N,) if they are known, both on the model's device."""
    was_training = model.training
    model.eval()
    codes, errors = [], []
    for batch in images.split(EVALUATION_ROWS):
        code = model.encode(batch)
        codes.append(code)
        errors.append(squared_error(as_pixels(batch), model.decode(code)))
    z = torch.cat(codes)
    reconstruction, distance = torch.cat(errors).mean().item(), model.distance(z).item()
    if labels is None:
        model.train(was_training)
        return Evaluation(math.nan, reconstruction, distance)
    predicted = {name: posterior.argmax(1) for name, posterior in model.posteriors(z).items()}
    by_classifier = {name: class_error(model, found, labels, classes) for name, found in predicted.items()}
    mapped = ""
    if not model.names_classes(classes) and model.components > 1:
        mapped = f" and the best {model.mapping} mapping"
        other: ClassMapping = "one-to-one" if model.mapping == "many-to-one" else "many-to-one"
        main = next(iter(predicted.values()))
        by_classifier[f"the best {other} mapping"] = mapped_error(main, labels, model.components, classes, other)
    own, *others = by_classifier
    model.train(was_training)
    return Evaluation(
        by_classifier[own],
        reconstruction,
        distance,
        own + mapped,
        {name: by_classifier[name] for name in others},
    )


def class_error(model: ImageModel, predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Fraction of rows whose predicted component (N,) does not match their label (N,); see :class:`Evaluation`."""
    if model.names_classes(classes):
        return (predicted != labels).float().mean().item()
    if model.components == 1 < classes:
        return math.nan
    return mapped_error(predicted, labels, model.components, classes, model.mapping)


def mapped_error(
    predicted: Tensor,
    labels: Tensor,
    components: int,
    classes: int,
    mapping: ClassMapping = "one-to-one",
) -> float:
    """Fraction of misclassified rows under the best mapping of components to classes."""
    from scipy.optimize import linear_sum_assignment

    counts = torch.bincount(predicted * classes + labels, minlength=components * classes)
    table = counts.reshape(components, classes).cpu().numpy()
    if mapping == "many-to-one":
        right = table.max(axis=1).sum()
    else:
        rows, columns = linear_sum_assignment(-table)
        right = np.asarray(table)[rows, columns].sum()
    return float(1 - right / len(labels))


@dataclass(frozen=True)
class ImportanceSampling:
    """How log p(x) is estimated."""

    samples: int = 100
    """for each image; 0 leaves the estimate out"""
    images: int = 1000
    """how many test images, at random, because test sets may be in order of difficulty; all if there are no more"""


@dataclass(frozen=True)
class LogLikelihood:
    """Mean of log p(x) in nats over some images."""

    mean: float
    """NaN for models without log p(x)"""
    standard_error: float
    """of the mean, by the spread over images"""
    images: int


def mean_log_likelihood(model: ImageModel, images: Tensor, by: ImportanceSampling) -> LogLikelihood:
    """The estimate for some of the images (N, C, H, W)."""
    generator = torch.Generator(model.device).manual_seed(0)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: by.images]
    parts = []
    for rows in chosen.split(LIKELIHOOD_ROWS.get(model.device.type, 100)):
        found = model.log_likelihood(images[rows.to(images.device)].to(model.device), by.samples, generator)
        if found is None:
            return LogLikelihood(math.nan, math.nan, 0)
        parts.append(found)
    every = torch.cat(parts).double()
    return LogLikelihood(every.mean().item(), (every.std() / math.sqrt(len(every))).item(), len(every))
