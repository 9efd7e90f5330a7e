"""What the variational models share: conditional networks, the likelihood of pixels, and the semi-supervised bound.

A model gives the log weights ``w_y = log p(x, y, z…) - log q(z…|x, y)`` of every class y with one sample of its latent
variables, and ``log q(y|x)``. The bounds and the importance-weighted likelihood follow from them:

    with a label      log p(x, y) ≥ E w_y
    without           log p(x)    ≥ E Σ_y q(y|x) (w_y - log q(y|x))
    S samples         log p(x)    ≥ E log 1/S Σ_s Σ_y exp w_y

The running statistics of batch norm are those of the rows without labels, which go through the networks with every
class, as all rows do in evaluation. The few labelled rows, always the same and each with its own class, differ.

Tensors have the dimensions (rows N, classes K, features D); N or K is 1 where the values do not depend on it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.base import Batch, ImageModel, Task, as_pixels
from segma_fast.trainer.models.conditional import PixelConfig, Pixels, running_statistics_kept


@dataclass(frozen=True)
class VariationalConfig(PixelConfig):
    """Settings of the variational models."""

    classifier_weight: float = 60.0
    """weight of the cross-entropy on labelled rows; 60 = 0.1 × 600, the rows per label of MNIST with 100 labels"""

    labelled_weight: float | None = None
    """weight of the bound of labelled rows, where that of unlabelled ones has 1; default the share of training rows
    that have a label, so that every row counts alike"""

    warm_up: int = 0
    """steps in which the weight of the latent terms of the bounds grows from 0 to 1"""
    batch_norm: bool = False
    """batch norm in the networks of the latent variables"""
    samples: int = 1
    """samples of the latent variables for each row of a step, whose bounds are averaged"""

    def __post_init__(self) -> None:
        if self.warm_up < 0:
            raise ValueError(f"warm_up must be >= 0, got {self.warm_up}")
        if self.samples < 1:
            raise ValueError(f"samples must be >= 1, got {self.samples}")
        for name in ("classifier_weight", "labelled_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value}")


class VariationalModel(ImageModel):
    """A model with classes y and latent variables, trained on the bounds above and a classifier's cross-entropy.

    Args:
        pixels: image features and pixel likelihood.
        classes: K.
        settings: weights and rules of the loss.
        network: widths, and the dimension D of z.
    """

    terms = ("bound", "labelled_bound", "cross_entropy")
    ways = ("from class to class with the same z", "away from another class with the same z")

    Config = VariationalConfig
    one_hot: Tensor
    steps: Tensor | None

    def __init__(self, pixels: Pixels, classes: int, settings: VariationalConfig, network: NetworkConfig) -> None:
        super().__init__()
        self.pixels, self.components, self.settings = pixels, classes, settings
        self.latent_dim = network.latent_dim
        self.supervised, self.labelled_weight = True, 1.0
        self.register_buffer("one_hot", torch.eye(classes), persistent=False)
        self.register_buffer("steps", torch.zeros(()) if self.counts_steps(settings) else None)

    @classmethod
    def build(cls, settings: VariationalConfig, network: NetworkConfig, task: Task) -> Self:
        """See :meth:`ImageModel.build`.

        Raises:
            ValueError: if there are labels but not one component per class.
        """
        if task.labelled:
            cls.check_one_a_class(task)
        pixels = Pixels(task.image_shape, network, settings.pixels)
        model = cls(pixels, task.components, settings, network)
        model.supervised = task.labelled
        own = settings.labelled_weight
        model.labelled_weight = task.labelled_share if own is None else own
        return model

    @staticmethod
    def counts_steps(settings: Any) -> bool:
        """Whether the loss depends on the number of steps so far."""
        return bool(settings.warm_up)

    @abstractmethod
    def infer(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Any, Tensor]:
        """The sampled variables that the class depends on, and ``log q(y|x)``, (N, K), for features (N, 1, F)."""

    @abstractmethod
    def log_weights(
        self, observed: Tensor, x: Tensor, state: Any, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """``w_y``, (N, K or 1), of one-hot classes y, (N or 1, K or 1, K), given the ``state`` from :meth:`infer`.

        In two parts, of which ``w_y`` is the sum: log p(x|…), and the latent terms.
        """

    def other_cross_entropy(self, x: Tensor, state: Any, labels: Tensor) -> Tensor:
        """The cross-entropy of a second classifier, 0-d, for models that have one."""
        return x.new_zeros(())

    def below(self, observed: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, 1, F) of images; if a lower model samples them, its log weight (N,) and loss (0-d), else 0."""
        x = self.pixels.features(observed)
        return x, x.new_zeros(len(x)), x.new_zeros(())

    def forward(self, batch: Batch, game: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The negative bounds, mean over rows, plus the cross-entropy; see :meth:`ImageModel.forward`."""
        samples = self.settings.samples
        observed = self.pixels.observed(as_pixels(batch.images)).repeat_interleave(samples, 0)
        count, labels, warmth = samples * batch.unlabelled, batch.labels.repeat_interleave(samples), self._warmth()
        x, _, loss = self.below(observed)
        state, log_posterior = self.infer(x[:count])
        likelihood, latent = self.log_weights(observed[:count], x[:count], state, self.one_hot[None])
        bound = (log_posterior.exp() * (likelihood + warmth * (latent - log_posterior))).sum(1).mean()
        loss = loss - bound
        terms = {"bound": bound.detach()}
        if len(labels):
            with running_statistics_kept(self):
                state, log_posterior = self.infer(x[count:])
                y = self.one_hot[labels][:, None]
                likelihood, latent = self.log_weights(observed[count:], x[count:], state, y)
                other = self.other_cross_entropy(x[count:], state, labels)
            labelled_bound = (likelihood + warmth * latent).mean()
            cross_entropy = F.nll_loss(log_posterior, labels) + other
            loss = loss - self.labelled_weight * labelled_bound + self.settings.classifier_weight * cross_entropy
            terms |= {"labelled_bound": labelled_bound.detach(), "cross_entropy": cross_entropy.detach()}
        return loss, terms

    def _warmth(self) -> Tensor | float:
        """Count a step, and return the weight of the latent terms in it."""
        if self.steps is None or not self.training:
            return 1.0
        self.steps += 1
        return (self.steps / max(self.settings.warm_up, 1)).clamp(max=1)

    @torch.no_grad()
    def log_likelihood(self, images: Tensor, samples: int, generator: torch.Generator) -> Tensor | None:
        """Importance-weighted estimate of log p(x) in nats, of sampled binary pixels: (N, C, H, W) -> (N,)."""
        observed = self.pixels.observed(as_pixels(images), generator)
        found = []
        for _ in range(samples):
            x, weight, _ = self.below(observed, generator)
            state, _ = self.infer(x, generator)
            likelihood, latent = self.log_weights(observed, x, state, self.one_hot[None], generator)
            found.append(weight + (likelihood + latent).logsumexp(1))
        return torch.stack(found).logsumexp(0) - math.log(samples)

    def names_classes(self, classes: int) -> bool:
        return self.supervised and self.components == classes

    def posteriors(self, codes: Tensor) -> dict[str, Tensor]:
        """The classifier q(y|x), the first K columns of a code."""
        return {"q(y|x)": codes[:, : self.components]}

    @torch.no_grad()
    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """The class, one-hot, and z ~ N(0, I): (n, K + D)."""
        chosen = self.chosen(n, component, self.one_hot.mean(0), generator)
        z = torch.randn(n, self.latent_dim, generator=generator, device=self.device)
        return torch.cat([self.one_hot[chosen], z], 1)

    def direction(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """The shift from one class to another with the same z."""
        return F.pad(self.one_hot[target] - self.one_hot[source], (0, self.latent_dim))

    def centres(self) -> Tensor:
        """Each class, one-hot, with z = 0."""
        return F.pad(self.one_hot, (0, self.latent_dim))
