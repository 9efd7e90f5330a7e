"""What a model owes the trainer, the evaluator and the explorer; a new model is one file beside this one.

The file defines a subclass of :class:`ImageModel`, its settings as a subclass of :class:`ModelConfig`, and names it by
:func:`register`. Everything else (the loop, checkpoints, metrics, pictures, commands) works with what stands here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from segma_fast.trainer.models.autoencoder import NetworkConfig

MODELS: dict[str, type[ImageModel]] = {}
"""Every model by its name on the command line."""


@dataclass(frozen=True)
class ModelConfig:
    """A model's own settings, fields of its subclasses; they are flags of ``segma-fast train --model NAME``."""

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """of Adam"""

    @property
    def label_use(self) -> Literal["required", "optional", "none"]:
        """Whether training takes labelled rows: always, where there are some, or never."""
        return "required"

    def with_hidden(self, widths: tuple[int, ...]) -> Self:
        """The settings beside a network whose dense layers have these widths; for models that have further ones."""
        return self


@dataclass(frozen=True)
class Task:
    """What a model is built for."""

    image_shape: tuple[int, int, int]
    """(C, H, W)"""
    classes: int
    """of the data set"""
    components: int
    """that the model shall have"""
    labelled: bool
    """whether it is trained with labels"""
    label_counts: Tensor | None = None
    """labelled rows of each class, (classes,); None without labels, and where trained weights will be loaded"""


@dataclass(frozen=True)
class StepPlan:
    """How a training takes its steps: what a model may refuse before anything is loaded."""

    unlabelled: int
    """rows without a label, over all processes"""
    labelled: int
    """rows with one"""
    micro_batch: int | None
    """see :class:`Batch`"""
    compile: bool
    """whether :meth:`ImageModel.forward` goes through torch.compile"""
    device: torch.device


class Batch(NamedTuple):
    """What a model is given of one step: the rows of this process, those without a label first."""

    images: Tensor
    """(n + l, C, H, W), uint8 or floating point in [0, 1]"""
    labels: Tensor
    """classes of the last l images, (l,), int64; l = 0 without labels"""
    unlabelled_total: int
    """n, summed over all processes"""
    labelled_total: int
    """l, summed over all processes"""
    micro_batch: int | None = None
    """images that go through the networks at once, for models that can; None for all"""

    @property
    def unlabelled(self) -> int:
        """n: how many of the images have no label."""
        return len(self.images) - len(self.labels)


class ImageModel(nn.Module, ABC):
    """Images (N, C, H, W) in [0, 1] to codes (N, D) and back, with K components that stand for classes or clusters.

    Methods marked "no gradient" are called in evaluation mode and draw from the given generator alone.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ModelConfig]]
    title: ClassVar[str]
    """name in tables"""
    terms: ClassVar[tuple[str, ...]]
    """what :meth:`forward` gives beside the loss: columns of metrics.csv"""
    mapping: ClassVar[Literal["one-to-one", "many-to-one"]] = "one-to-one"
    """how the components of a model without labels are matched with classes"""
    shares_batches: ClassVar[bool] = False
    """whether :meth:`forward` gives the loss of the whole batch where several processes have a share of it each"""
    components: int
    """K: rows of a picture of samples, and columns of the class probabilities"""

    @classmethod
    def defaults(cls, experiment: str) -> dict[str, Any]:
        """Fields of the training configuration that differ from the experiment's own."""
        return {}

    @classmethod
    @abstractmethod
    def build(cls, settings: Any, network: NetworkConfig, task: Task) -> ImageModel:
        """A new model with random weights from torch's generator.

        Args:
            settings: the model's own, of its ``Config``.
            network: sizes of the networks.
            task: images, classes and labels.

        Raises:
            ValueError: for settings that do not fit the task.
        """

    @classmethod
    def check(cls, settings: Any, network: NetworkConfig, step: StepPlan) -> None:
        """Check settings, networks and steps before anything is loaded.

        Raises:
            ValueError: for what the model does not take.
        """
        if step.micro_batch is not None:
            raise ValueError(f"micro_batch={step.micro_batch}: the model {cls.name!r} takes no micro-batches")

    @abstractmethod
    def forward(self, batch: Batch, game: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch.

        Args:
            batch: the images and labels of this step.
            game: whose loss, a number in the order of :meth:`optimizer_groups`.

        Returns:
            The loss, 0-d, and some of :attr:`terms`, 0-d and detached.
        """

    def optimizer_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of each optimiser; a step plays all games in turn, each with its own loss."""
        return [list(self.parameters())]

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), uint8 or in [0, 1], to codes (N, D) in float32; no gradient."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, D) to images (N, C, H, W) in [0, 1], float32; no gradient."""

    @abstractmethod
    def posteriors(self, codes: Tensor) -> dict[str, Tensor]:
        """Probabilities of the components given codes, (N, D) -> (N, K), by each of the model's classifiers.

        The first is the model's own; of all, the test error is reported.
        """

    @abstractmethod
    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Codes (n, D) of the model's prior.

        Args:
            n: how many.
            component: one for all codes, (n,) one for each, or None to draw them by the prior.
            generator: random numbers, on the model's device.

        Raises:
            ValueError: for n < 0 or a component outside 0 … K-1.
        """

    @abstractmethod
    def direction(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """What takes codes (n, D) from components ``source`` to ``target``, both (n,), as in equation (10): (n, D)."""

    @abstractmethod
    def centres(self) -> Tensor:
        """A typical code of each component, (K, D), for pictures."""

    def distance(self, codes: Tensor) -> Tensor:
        """d² of codes (m, D) to the prior, equation (8), 0-d; NaN for models that do not minimise it."""
        return codes.new_full((), torch.nan)

    def log_likelihood(self, images: Tensor, samples: int, generator: torch.Generator) -> Tensor | None:
        """Estimates of log p(x) in nats, (N, C, H, W) -> (N,), each a lower bound in the mean; None if not defined."""
        return None

    def names_classes(self, classes: int) -> bool:
        """Whether the components stand for the classes of the data, because it was trained with labels."""
        return self.components == classes

    @classmethod
    def check_one_a_class(cls, task: Task, otherwise: str = "") -> None:
        """Raise ``ValueError`` unless there are as many components as classes; ``otherwise`` ends the advice."""
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
        """The components (n,) that :meth:`sample` is asked for, checked, or drawn by proportions (K,)."""
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
    """Make a model known by a name of the command line."""

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
