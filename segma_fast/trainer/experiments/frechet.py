"""The Fréchet distance between images and a data set, in the features of Inception or of a classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.hub import get_dir

from segma_fast.trainer.data import ImageData, cache_folder
from segma_fast.trainer.data.config import DataConfig, library
from segma_fast.trainer.experiments.classifier import trained_classifier
from segma_fast.trainer.models.base import ImageModel
from segma_fast.trainer.run_folder import DataInfo, checksum

Features = Literal["auto", "inception", "classifier"]
INCEPTION_FEATURES = 2048
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"  # as torch-fidelity calls it
BATCH = 500


class FrechetDistance:
    """Fréchet distances to the test images of a data set, by torchmetrics.

    Args:
        data: data set whose test images serve as real images.
        config: configuration of the data set; its cache folder keeps the classifier.
        device: device that computes the features.
        features: ``"inception"``, ``"classifier"``, or ``"auto"`` for Inception if its weights are available.
        inception_weights: the file of the weights; default where torch-fidelity keeps it.

    Attributes:
        features: description of the feature extractor, for the tables.
        extractor: exact identifier of the feature extractor; for a classifier it has a checksum of the weights.
        is_inception: whether the features are Inception's, as in published results.

    Raises:
        ValueError: if Inception is requested but it or its weights are missing, or if the weights cannot be read.
    """

    def __init__(
        self,
        data: ImageData,
        config: DataConfig,
        device: torch.device,
        features: Features = "auto",
        inception_weights: Path | None = None,
    ) -> None:
        fid = library("torchmetrics.image.fid").FrechetInceptionDistance
        missing = missing_inception(inception_weights)
        if missing and (features == "inception" or inception_weights is not None):
            raise ValueError(missing)
        self.device = device
        self.is_inception = features != "classifier" and not missing
        if not self.is_inception:
            file = cache_folder(config) / f"classifier-{DataInfo.of(data).checksum:08x}.pt"
            classifier, accuracy = trained_classifier(data, file, device)
            self.features = f"classifier of {data.name} ({accuracy:.1%} of the test images right)"
            self.extractor = f"classifier-{checksum(classifier.state_dict().values()):08x}"
            self._metric = fid(classifier, reset_real_features=False).to(device)
        else:
            self.features = self.extractor = "Inception v3"
            weights = str(inception_weights or _kept_weights())
            try:
                torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity does not set weights_only
                self._metric = fid(
                    INCEPTION_FEATURES, reset_real_features=False, feature_extractor_weights_path=weights
                )
            except Exception as error:  # of many kinds
                raise ValueError(
                    f"{weights} does not hold Inception's weights, expected {INCEPTION_FILE} of torch-fidelity"
                ) from error
            self._metric = self._metric.to(device)
        self._update(data.test_images.split(BATCH), real=True)

    def of(self, images: Iterable[Tensor]) -> float:
        """The distance of batches of images (n, C, H, W), uint8 or in [0, 1], to the real ones."""
        self._metric.reset()
        self._update(images, real=False)
        return float(self._metric.compute())

    def floor(self, images: Tensor, count: int) -> float:
        """The distance of ``count`` random images out of other real ones (N, C, H, W): that of a perfect model."""
        some = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        return self.of(images[some[:count]].split(BATCH))

    @torch.no_grad()
    def _update(self, images: Iterable[Tensor], *, real: bool) -> None:
        for batch in images:
            pixels = (batch * 255).round().to(torch.uint8) if batch.is_floating_point() else batch
            if self.is_inception and pixels.shape[1] == 1:
                pixels = pixels.expand(-1, 3, -1, -1)
            self._metric.update(pixels.to(self.device), real=real)


def missing_inception(weights: Path | None = None) -> str | None:
    """Why Inception's features are not available here and how to fix that, or None if they are."""
    if find_spec("torch_fidelity") is None:
        return "Inception's features need the package torch-fidelity: pip install 'segma-fast[inception]'"
    file = weights or _kept_weights()
    if not file.exists():
        return (
            f"Inception's weights are not at {file}: download {INCEPTION_FILE} from the releases of torch-fidelity "
            "(toshas/torch-fidelity on GitHub) to there, or name the file with --inception-weights"
        )
    return None


def _kept_weights() -> Path:
    return Path(get_dir()) / "checkpoints" / INCEPTION_FILE


def samples(model: ImageModel, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of images decoded from samples of the prior, ``count`` in all, (n, C, H, W) in [0, 1]."""
    for start in range(0, count, BATCH):
        codes = model.sample(min(BATCH, count - start), generator=generator)
        yield model.decode_sample(codes, generator)


Pairs = Literal["any", "same class", "other class"]


def interpolations(
    model: ImageModel,
    images: Tensor,
    count: int,
    generator: torch.Generator,
    pairs: Pairs = "any",
    labels: Tensor | None = None,
) -> Iterator[Tensor]:
    """Batches of interpolations between random pairs of images (N, C, H, W), at t uniform in (0, 1).

    ``pairs`` other than ``"any"`` need the images' classes (N,); ``"other class"`` needs two classes at least.
    """
    for start in range(0, count, BATCH):
        n = min(BATCH, count - start)
        first, second = torch.randint(len(images), (2, n), generator=generator, device=images.device)
        if labels is not None and pairs != "any":
            second = _partners(labels, first, pairs == "same class", generator)
        codes, others = model.encode(images[first]), model.encode(images[second])
        t = torch.rand(n, 1, generator=generator, device=images.device)
        yield model.decode(torch.lerp(codes, others, t))


def _partners(labels: Tensor, rows: Tensor, same: bool, generator: torch.Generator) -> Tensor:
    """For each of some rows (n,) a random one of its class, or of any other class."""
    by_class, counts = labels.argsort(), labels.bincount()
    own, before = counts[labels[rows]], (counts.cumsum(0) - counts)[labels[rows]]
    part = torch.rand(len(rows), generator=generator, device=labels.device, dtype=torch.float64)
    if same:
        return by_class[before + (part * own).long()]
    place = (part * (len(labels) - own)).long()
    return by_class[place + own * (place >= before)]


def reconstructions(model: ImageModel, images: Tensor, count: int) -> Iterator[Tensor]:
    """Batches of random images out of (N, C, H, W), ``count`` at most, after encoding and decoding."""
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]
    for rows in chosen.split(BATCH):
        yield model.decode(model.encode(images[rows.to(images.device)]))
