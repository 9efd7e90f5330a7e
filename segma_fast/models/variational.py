"""What the variational models share: conditional networks, the likelihood of pixels, and the semi-supervised bound.

A model gives the log weights ``w_y = log p(x, y, z…) - log q(z…|x, y)`` of every class y with one sample of its latent
variables, and ``log q(y|x)``. The bounds and the importance-weighted likelihood follow from them:

    with a label      log p(x, y) ≥ E w_y
    without           log p(x)    ≥ E Σ_y q(y|x) (w_y - log q(y|x))
    S samples         log p(x)    ≥ E log 1/S Σ_s Σ_y exp w_y

Tensors have rows, classes and features, (N, K, D), with 1 in place of N or K where nothing depends on it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segma_fast.models.autoencoder import NetworkConfig, convolutions
from segma_fast.models.base import ImageModel, ModelConfig, as_pixels

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class VariationalConfig(ModelConfig):
    """Settings of the variational models."""

    classifier_weight: float = 60.0
    """weight of the cross-entropy on labelled rows; 60 is 0.1 times the rows a label of MNIST with 100 labels"""
    pixels: Literal["binary", "gaussian"] = "binary"
    """their distribution: black or white, drawn from the grey value in each step, or normal with a learnt variance"""

    def __post_init__(self) -> None:
        if not 0 <= self.classifier_weight < math.inf:
            raise ValueError(f"classifier_weight must be finite and >= 0, got {self.classifier_weight}")


@dataclass(frozen=True)
class Normal:
    """A normal distribution with diagonal covariance."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def log_prob(self, values: Tensor) -> Tensor:
        """Summed over the last dimension."""
        squared = (values - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (LOG_2PI + self.log_variance + squared).sum(-1)


def log_standard_normal(values: Tensor) -> Tensor:
    """log N(values; 0, I), summed over the last dimension."""
    return -0.5 * (LOG_2PI + values.square()).sum(-1)


class Conditional(nn.Module):
    """The normal distribution of a variable given others: a network of ReLU layers, whose inputs are broadcast.

    Args:
        inputs: dimensions of the inputs.
        hidden: widths of the layers, at least one.
        outputs: dimension D of the variable.
        variance: whether the network gives one.
    """

    def __init__(self, inputs: Sequence[int], hidden: Sequence[int], outputs: int, variance: bool = True) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(size, hidden[0], bias=i == 0) for i, size in enumerate(inputs))
        rest = [layer for a, b in pairwise(hidden) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.rest = nn.Sequential(nn.ReLU(), *rest)
        self.mean = nn.Linear(hidden[-1], outputs)
        self.log_variance = nn.Linear(hidden[-1], outputs) if variance else None

    def _hidden(self, inputs: Sequence[Tensor]) -> Tensor:
        hidden: Tensor = self.rest(sum(layer(given) for layer, given in zip(self.first, inputs, strict=True)))
        return hidden

    def given(self, *inputs: Tensor) -> Normal:
        """The distribution, (N, K, D), for inputs (N or 1, K or 1, size)."""
        assert self.log_variance is not None
        hidden = self._hidden(inputs)
        return Normal(self.mean(hidden), self.log_variance(hidden).clamp(-10, 10))

    def mean_of(self, *inputs: Tensor) -> Tensor:
        """Its mean alone."""
        mean: Tensor = self.mean(self._hidden(inputs))
        return mean


class Pixels(nn.Module):
    """Both ends of the networks: images as features, and the likelihood of an image given a decoder's last features.

    Args:
        image_shape: (C, H, W).
        config: dense networks take the pixels themselves, convolutional ones those of :class:`AutoEncoder`.
        kind: of distribution.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], config: NetworkConfig, kind: Literal["binary", "gaussian"]
    ) -> None:
        super().__init__()
        self.image_shape, self.kind = image_shape, kind
        front, back, shape = convolutions(image_shape, config.channels) if config.network == "conv" else ([], [], None)
        self.front = nn.Sequential(*front, nn.Flatten())
        self.back = nn.Sequential(nn.ReLU(), nn.Unflatten(1, shape), *back) if shape else nn.Identity()
        self.size = math.prod(shape or image_shape)
        self.log_variance = nn.Parameter(torch.zeros(())) if kind == "gaussian" else None

    def observed(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the likelihood is of: pixels (N, C, H, W) in [0, 1], or black and white drawn from them."""
        return torch.bernoulli(pixels, generator=generator) if self.kind == "binary" else pixels

    def features(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to features (N, 1, F)."""
        features: Tensor = self.front(images)
        return features[:, None]

    def decode(self, features: Tensor) -> Tensor:
        """A decoder's features (N, F) to the means of the pixels, (N, C, H, W)."""
        pixels: Tensor = self.back(features).sigmoid()
        return pixels.reshape(-1, *self.image_shape)

    def log_prob(self, observed: Tensor, features: Tensor) -> Tensor:
        """log p(image | features) of images (N, C, H, W) given features (N, K, F): (N, K)."""
        n, classes = features.shape[:2]
        logits: Tensor = self.back(features.flatten(0, 1)).reshape(n, classes, -1)
        target = observed.flatten(1)[:, None]
        if self.log_variance is None:
            found: Tensor = (target @ logits.transpose(1, 2))[:, 0] - F.softplus(logits).sum(-1)
            return found
        return Normal(logits.sigmoid(), self.log_variance.expand_as(target)).log_prob(target)


class VariationalModel(ImageModel):
    """A model with classes y and latent variables, trained on the bounds above and a classifier's cross-entropy.

    Args:
        pixels: both ends of the networks.
        classes: K.
        settings: weights and rules of the loss.
    """

    terms = ("bound", "labelled_bound", "cross_entropy")

    def __init__(self, pixels: Pixels, classes: int, settings: VariationalConfig) -> None:
        super().__init__()
        self.pixels, self.components, self.settings = pixels, classes, settings
        self.supervised = True
        self.register_buffer("one_hot", torch.eye(classes), persistent=False)

    one_hot: Tensor

    @abstractmethod
    def infer(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Any, Tensor]:
        """What the class depends on, with its sample, and ``log q(y|x)``, (N, K), for features (N, 1, F)."""

    @abstractmethod
    def log_weights(
        self, observed: Tensor, x: Tensor, state: Any, y: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """``w_y`` of classes y, one-hot, (N or 1, K or 1, K), with what :meth:`infer` has found: (N, K or 1)."""

    def other_cross_entropy(self, x: Tensor, state: Any, labels: Tensor) -> Tensor:
        """The cross-entropy of a second classifier, 0-d, for models that have one."""
        return x.new_zeros(())

    def below(self, observed: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, 1, F) of the images, the log weight (N,) of what was drawn for them, and its own loss, 0-d."""
        x = self.pixels.features(observed)
        return x, x.new_zeros(len(x)), x.new_zeros(())

    def forward(
        self,
        images: Tensor,
        unlabelled: Tensor,
        labelled: Tensor,
        labels: Tensor,
        micro_batch: int | None = None,
        game: int = 0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Minus both bounds, mean over rows, and the cross-entropy; see :meth:`ImageModel.forward`."""
        observed = self.pixels.observed(as_pixels(images[torch.cat([unlabelled, labelled])]))
        count = len(unlabelled)
        x, _, loss = self.below(observed)
        state, log_posterior = self.infer(x[:count])
        weights = self.log_weights(observed[:count], x[:count], state, self.one_hot[None])
        bound = (log_posterior.exp() * (weights - log_posterior)).sum(1).mean()
        loss = loss - bound
        terms = {"bound": bound.detach()}
        if len(labels):
            state, log_posterior = self.infer(x[count:])
            own = self.log_weights(observed[count:], x[count:], state, self.one_hot[labels][:, None])
            labelled_bound = own.mean()
            cross_entropy = F.nll_loss(log_posterior, labels) + self.other_cross_entropy(x[count:], state, labels)
            loss = loss - labelled_bound + self.settings.classifier_weight * cross_entropy
            terms |= {"labelled_bound": labelled_bound.detach(), "cross_entropy": cross_entropy.detach()}
        return loss, terms

    @torch.no_grad()
    def log_likelihood(self, images: Tensor, samples: int, generator: torch.Generator) -> Tensor | None:
        """Importance-weighted estimate of log p(x) in nats, of pixels drawn black or white: (N, C, H, W) -> (N,)."""
        observed = self.pixels.observed(as_pixels(images), generator)
        found = []
        for _ in range(samples):
            x, weight, _ = self.below(observed, generator)
            state, _ = self.infer(x, generator)
            found.append(weight + self.log_weights(observed, x, state, self.one_hot[None], generator).logsumexp(1))
        return torch.stack(found).logsumexp(0) - math.log(samples)

    def names_classes(self, classes: int) -> bool:
        return self.supervised and self.components == classes

    def posteriors(self, codes: Tensor) -> dict[str, Tensor]:
        """The classifier q(y|x), whose probabilities begin a code."""
        return {"q(y|x)": codes[:, : self.components]}

    def classes(self, source: Tensor, target: Tensor) -> Tensor:
        """The difference of two one-hot classes, (n, K)."""
        return self.one_hot[target] - self.one_hot[source]
