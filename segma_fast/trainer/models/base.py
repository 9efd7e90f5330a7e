"""The interface that a model implements for training, evaluation and commands; a new model is one file in this folder.

The file defines a subclass of :class:`ImageModel` and, for its settings, a subclass of :class:`ModelConfig`, and
registers the model under a name with :func:`register`. Everything else (the loop, checkpoints, metrics, pictures,
commands) only uses the interface defined here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from segma_fast.trainer.models.autoencoder import NetworkConfig

ClassMapping = Literal["one-to-one", "many-to-one"]
MODELS: dict[str, type[ImageModel]] = {}
"""Every model by its name on the command line."""


@dataclass(frozen=True)
class ModelConfig:
    """Model-specific settings; the fields of a subclass become flags of ``segma-fast train --model NAME``."""

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """betas of Adam"""

    @property
    def label_use(self) -> Literal["required", "optional", "none"]:
        """Whether training uses labelled rows: always, if there are any, or never."""
        return "required"

    def with_hidden(self, widths: tuple[int, ...]) -> Self:
        """The settings adapted to these dense layer widths, for models with additional dense layers of their own."""
        return self


@dataclass(frozen=True)
class Task:
    """The data and labels that a model is built for."""

    image_shape: tuple[int, int, int]
    """(C, H, W)"""
    classes: int
    """number of classes in the data set"""
    components: int
    """number of components that the model gets"""
    labelled: bool
    """whether it is trained with labels"""
    label_counts: Tensor | None = None
    """number of labelled rows per class, (classes,); None without labels or if trained weights will be loaded"""
    rows: int | None = None
    """training rows, with a label or without; None if trained weights will be loaded"""

    @property
    def labelled_share(self) -> float:
        """Labelled rows over training rows; 1 where they are not known."""
        if self.label_counts is None or self.rows is None:
            return 1.0
        return float(self.label_counts.sum()) / self.rows


@dataclass(frozen=True)
class StepPlan:
    """Batch sizes and options of a training step, which a model may reject before anything is loaded."""

    unlabelled: int
    """unlabelled rows per step, over all processes"""
    labelled: int
    """labelled rows per step, over all processes"""
    micro_batch: int | None
    """see :class:`Batch`"""
    compile: bool
    """whether :meth:`ImageModel.forward` goes through torch.compile"""
    device: torch.device


class Batch(NamedTuple):
    """The input of a model in one step: the rows of this process, unlabelled rows first."""

    images: Tensor
    """(n + l, C, H, W), uint8 or floating point in [0, 1]"""
    labels: Tensor
    """classes of the last l images, (l,), int64; l = 0 without labels"""
    unlabelled_total: int
    """n, summed over all processes"""
    labelled_total: int
    """l, summed over all processes"""
    micro_batch: int | None = None
    """images per forward pass, for models that support micro-batches; None for all"""

    @property
    def unlabelled(self) -> int:
        """n: how many of the images have no label."""
        return len(self.images) - len(self.labels)


class ImageModel(nn.Module, ABC):
    """Images (N, C, H, W) in [0, 1] to codes (N, D) and back, with K components that stand for classes or clusters.

    Methods marked "no gradient" are called in evaluation mode and draw random numbers only from the given generator.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ModelConfig]]
    title: ClassVar[str]
    """name in tables"""
    terms: ClassVar[tuple[str, ...]]
    """the terms that :meth:`forward` returns besides the loss; columns of metrics.csv"""
    mapping: ClassVar[ClassMapping] = "one-to-one"
    """how the components of a model without labels are matched with classes"""
    ways: ClassVar[tuple[str, str]] = ("z + t (μ_target − μ_source)", "z + α (μ_source − μ_other)")
    """in captions: how :meth:`direction` leads to another class, and away from one"""
    shares_batches: ClassVar[bool] = False
    """whether :meth:`forward` computes the loss of the whole batch when it is split over several processes"""
    components: int
    """K: number of components; a picture of samples has K rows, the class probabilities have K columns"""

    @classmethod
    def defaults(cls, experiment: str) -> dict[str, Any]:
        """Fields of the training configuration in which this model differs from the experiment's defaults."""
        return {}

    @classmethod
    def convolutional(cls, experiment: str) -> dict[str, Any]:
        """The same as :meth:`defaults` for convolutional networks, where they need other settings."""
        return cls.defaults(experiment)

    @classmethod
    @abstractmethod
    def build(cls, settings: Any, network: NetworkConfig, task: Task) -> ImageModel:
        """A new model with random weights from torch's generator.

        Args:
            settings: the model's settings, an instance of its ``Config``.
            network: sizes of the networks.
            task: images, classes and labels.

        Raises:
            ValueError: for settings that do not fit the task.
        """

    @classmethod
    def check(cls, settings: Any, network: NetworkConfig, step: StepPlan) -> None:
        """Check settings, networks and steps before anything is loaded.

        Raises:
            ValueError: for anything that the model does not support.
        """
        if step.micro_batch is not None:
            raise ValueError(f"micro_batch={step.micro_batch}: the model {cls.name!r} takes no micro-batches")

    @abstractmethod
    def forward(self, batch: Batch, game: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch.

        Args:
            batch: the images and labels of this step.
            game: index of the game whose loss is wanted, in the order of :meth:`optimizer_groups`.

        Returns:
            The loss, 0-d, and some of :attr:`terms`, 0-d and detached.
        """

    def optimizer_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of each optimiser, one per game; a step updates all in turn, each with its own loss."""
        return [list(self.parameters())]

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """What the learning rate of some parameters is multiplied by; of all others, 1."""
        return {}

    def settle(self, images: Tensor, labels: Tensor, unlabelled: Tensor, labelled: Tensor) -> None:
        """Fit what no gradient trains; called before each evaluation and checkpoint, no gradient.

        Args:
            images: all training images, (N, C, H, W), uint8.
            labels: their classes (N,), of which only those of the labelled rows may be used.
            unlabelled, labelled: rows that are trained on without and with their label, on the CPU.
        """

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), uint8 or in [0, 1], to codes (N, D) in float32; no gradient."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, D) to images (N, C, H, W) in [0, 1], float32; no gradient."""

    def decode_sample(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The same, for samples of images: layers between code and image are sampled too, but pixels are means."""
        return self.decode(codes)

    @abstractmethod
    def posteriors(self, codes: Tensor) -> dict[str, Tensor]:
        """Probabilities of the components given codes, (N, D) -> (N, K), by each of the model's classifiers.

        The first classifier is the model's main one; the test error is reported for all.
        """

    @abstractmethod
    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Sample codes (n, D) from the model's prior.

        Args:
            n: number of codes.
            component: one component for all codes, a tensor (n,) for one each, or None to draw them from the prior.
            generator: random number generator on the model's device.

        Raises:
            ValueError: for n < 0 or a component outside 0 … K-1.
        """

    @abstractmethod
    def direction(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """The shift (n, D) of codes (n, D) from components ``source`` to ``target``, both (n,), as in equation (10)."""

    @abstractmethod
    def centres(self) -> Tensor:
        """A typical code of each component, (K, D), for pictures."""

    def distance(self, codes: Tensor) -> Tensor:
        """d² of codes (m, D) to the prior, equation (8), 0-d; NaN for models that do not minimise it."""
        return codes.new_full((), torch.nan)

    def log_likelihood(self, images: Tensor, samples: int, generator: torch.Generator) -> Tensor | None:
        """Estimates of log p(x) in nats, (N, C, H, W) -> (N,), lower bounds in expectation; None if not defined."""
        return None

    def names_classes(self, classes: int) -> bool:
        """Whether the components correspond to the classes of the data, because the model was trained with labels."""
        return self.components == classes

    @classmethod
    def check_one_a_class(cls, task: Task, otherwise: str = "") -> None:
        """Raise ``ValueError`` unless there are as many components as classes; ``otherwise`` ends the message."""
        if task.components != task.classes:
            raise ValueError(
                f"components={task.components} for {task.classes} classes: with labels the model {cls.name!r} has one "
                f"a class; leave components out{otherwise}"
            )

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @staticmethod
    def check_count(n: int) -> None:
        """Raise ``ValueError`` for a number of samples below 0."""
        if n < 0:
            raise ValueError(f"n must be >= 0, got {n}")

    def chosen(self, n: int, component: int | Tensor | None, proportions: Tensor, generator: Any) -> Tensor:
        """The components (n,) for :meth:`sample`: the given ones, checked, or drawn with probabilities (K,)."""
        self.check_count(n)
        if component is None:
            if n == 0:
                return torch.empty(0, dtype=torch.int64, device=proportions.device)
            return torch.multinomial(proportions, n, replacement=True, generator=generator)
        chosen = torch.as_tensor(component, device=proportions.device).expand(n)
        if n and not (0 <= int(chosen.min()) and int(chosen.max()) < len(proportions)):
            raise ValueError(f"component must be in 0 ... {len(proportions) - 1}, got {component}")
        return chosen


Kind = TypeVar("Kind", bound=type[ImageModel])


def register(name: str) -> Callable[[Kind], Kind]:
    """Register a model under its command-line name."""

    def add(model: Kind) -> Kind:
        model.name = name
        MODELS[name] = model
        return model

    return add


def as_pixels(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]; floating-point images as they are."""
    return images if images.is_floating_point() else images.float() / 255


def squared_error(images: Tensor, decoded: Tensor) -> Tensor:
    """Squared error summed over the pixels of each image, (N, ...) -> (N,), equation (1)."""
    return (images - decoded).square().flatten(1).sum(1)
