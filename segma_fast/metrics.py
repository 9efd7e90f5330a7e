"""What a trained model is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segma_fast.models.segma import SeGMA, as_pixels, squared_error

EVALUATION_ROWS = 1000  # rows that go through the networks at once


@dataclass(frozen=True)
class Evaluation:
    """Figures on a test set."""

    test_error: float
    """share of test images whose class is not found: by equation (7), or for an unsupervised model by the best
    one-to-one mapping of components to classes; NaN for one component, which cannot tell classes apart"""
    reconstruction: float
    """squared error summed over pixels, mean over images, equation (1)"""
    distance: float
    """d² between the codes of the test set and the prior, equation (8), with γ by the paper's rule"""


@torch.no_grad()
def evaluate(model: SeGMA, images: Tensor, labels: Tensor, classes: int) -> Evaluation:
    """Evaluate on images (N, C, H, W), uint8, with labels (N,), both on the model's device."""
    codes, errors = [], []
    for batch in images.split(EVALUATION_ROWS):
        code = model.encode(batch)
        codes.append(code)
        errors.append(squared_error(as_pixels(batch), model.decode(code)))
    z = torch.cat(codes)
    predicted = model.prior.joint_log_prob(z).argmax(1)
    if model.names_classes(classes):
        error = (predicted != labels).float().mean().item()
    elif model.prior.components == 1 < classes:
        error = math.nan
    else:
        error = mapped_error(predicted, labels, model.prior.components, classes)
    return Evaluation(error, torch.cat(errors).mean().item(), model.distance(z).item())


def mapped_error(predicted: Tensor, labels: Tensor, components: int, classes: int) -> float:
    """Share of wrong rows under the best one-to-one mapping of components to classes."""
    from scipy.optimize import linear_sum_assignment

    counts = torch.bincount(predicted * classes + labels, minlength=components * classes)
    table = counts.reshape(components, classes).cpu().numpy()
    rows, columns = linear_sum_assignment(-table)
    return float(1 - np.asarray(table)[rows, columns].sum() / len(labels))
