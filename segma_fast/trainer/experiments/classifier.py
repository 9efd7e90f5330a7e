"""A small classifier of a data set, whose features are used for the FID where Inception's weights are not available."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from segma_fast.trainer.data import ImageData
from segma_fast.trainer.files import replacing

FEATURES = 128
BATCH, MOST_STEPS, MOST_PASSES = 128, 1500, 4
LEARNING_RATE = 2e-3


class Classifier(nn.Module):
    """Three convolutions and two dense layers, with batch normalisation.

    Args:
        channels: channels of the images, C.
        classes: K.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.num_features = FEATURES
        self.body = nn.Sequential(
            *_block(channels, 32, kernel=4, stride=2, pool=1),
            *_block(32, 64, kernel=3, stride=1, pool=2),
            *_block(64, 128, kernel=3, stride=1, pool=2),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(9 * 128, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), uint8, to the activations of the penultimate layer, (N, 128)."""
        features: Tensor = self.body(images.float() / 255 - 0.5)
        return features


def _block(inward: int, outward: int, kernel: int, stride: int, pool: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inward, outward, kernel, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outward), nn.ReLU(), *[nn.MaxPool2d(pool, ceil_mode=True)] * (pool > 1)]


def trained_classifier(data: ImageData, file: Path, device: torch.device) -> tuple[Classifier, float]:
    """The classifier of a data set, loaded from ``file``, or trained and saved there.

    It only extracts features and is not compared with the models: it is trained with all labels, in at most 1500 steps
    of 128 rows.

    Args:
        data: the data set.
        file: file that keeps the classifier, written atomically.
        device: device for training and inference.

    Returns:
        The classifier in evaluation mode, and its accuracy on the test images.
    """
    kept = _read(file, Classifier(data.image_shape[0], data.classes))
    if kept is not None:
        return kept[0].to(device).eval(), kept[1]
    print(f"training a classifier, whose features the Fréchet distances compare; kept in {file}", flush=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(data.image_shape[0], data.classes).to(device)
        _train(model, data.train_images, data.train_labels, device)
    accuracy = _accuracy(model, data.test_images, data.test_labels, device)
    try:
        with replacing(file) as draft:
            torch.save({"model": model.state_dict(), "accuracy": accuracy}, draft)
    except (OSError, RuntimeError) as error:
        warnings.warn(f"the classifier could not be kept in {file}: {error}", stacklevel=2)
    return model, accuracy


def _train(model: Classifier, images: Tensor, labels: Tensor, device: torch.device) -> None:
    steps = min(MOST_STEPS, math.ceil(MOST_PASSES * len(images) / BATCH))
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in tqdm(range(steps), desc="classifier for the FID's features", unit=" step", disable=None, leave=False):
        rows = torch.randint(len(images), (BATCH,))
        scores = model.head(model(images[rows].to(device)))
        loss = F.cross_entropy(scores, labels[rows].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def _accuracy(model: Classifier, images: Tensor, labels: Tensor, device: torch.device) -> float:
    found = [model.head(model(batch.to(device))).argmax(1).cpu() for batch in images.split(1000)]
    return (torch.cat(found) == labels).float().mean().item()


def _read(file: Path, model: Classifier) -> tuple[Classifier, float] | None:
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(content["model"])
        return model, float(content["accuracy"])
    except Exception:  # missing or damaged: it is trained again
        return None
