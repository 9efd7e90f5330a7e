"""Conditional distributions of the variational models: of latent variables, and of pixels.

Tensors have the dimensions (rows N, classes K, features D); N or K is 1 where the values do not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segma_fast.trainer.models.autoencoder import NetworkConfig, convolutions
from segma_fast.trainer.models.base import ModelConfig

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class PixelConfig(ModelConfig):
    """Settings of models that have a likelihood of pixels."""

    pixels: Literal["auto", "binary", "gaussian"] = "auto"
    """distribution of the pixels: binary, sampled from the grey value in each step, or gaussian with a learned
    variance; auto: binary for grey images, gaussian for colour"""


def _exact(values: Tensor) -> Tensor:
    """Cast a network output under autocast to float32, because log densities are sums of many terms."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


@dataclass(frozen=True)
class Normal:
    """A normal distribution with diagonal covariance."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None, *, shared: bool = False) -> Tensor:
        """A sample, with independent noise for each row or, if ``shared``, the same noise for all rows."""
        shape = (1, *self.mean.shape[1:]) if shared else self.mean.shape
        noise = torch.randn(shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def log_prob(self, values: Tensor, counted: Tensor | float = 1.0) -> Tensor:
        """Log density, summed over the last dimension, or over those coordinates of which ``counted`` is 1."""
        squared = (values - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (counted * (LOG_2PI + self.log_variance + squared)).sum(-1)


def log_standard_normal(values: Tensor, counted: Tensor | float = 1.0) -> Tensor:
    """log N(values; 0, I), summed as in :meth:`Normal.log_prob`."""
    return -0.5 * (counted * (LOG_2PI + values.square())).sum(-1)


class _BatchNorm(nn.BatchNorm1d):
    """Of features (N, K, D), over rows and classes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view_as(x)


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Keep passes in training mode out of the running statistics of batch norm.

    They are still normalised by their own rows.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


class Conditional(nn.Module):
    """The normal distribution of a variable given others, computed by a ReLU network with broadcast inputs.

    Args:
        inputs: dimensions of the inputs.
        hidden: widths of the layers, at least one.
        outputs: dimension D of the variable.
        variance: whether the network outputs a variance.
        batch_norm: whether there is batch norm before each ReLU.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        hidden: Sequence[int],
        outputs: int,
        variance: bool = True,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("hidden and decoder_hidden must name at least one width for this model, got none")
        self.first = nn.ModuleList(nn.Linear(size, hidden[0], bias=i == 0) for i, size in enumerate(inputs))
        ends = [[_BatchNorm(width)] * batch_norm + [nn.ReLU()] for width in hidden]
        rest = [
            layer for (a, b), end in zip(pairwise(hidden), ends[1:], strict=True) for layer in (nn.Linear(a, b), *end)
        ]
        self.rest = nn.Sequential(*ends[0], *rest)
        self.mean = nn.Linear(hidden[-1], outputs)
        self.log_variance = nn.Linear(hidden[-1], outputs) if variance else None

    def _hidden(self, inputs: Sequence[Tensor]) -> Tensor:
        hidden: Tensor = self.rest(sum(layer(given) for layer, given in zip(self.first, inputs, strict=True)))
        return hidden

    def given(self, *inputs: Tensor) -> Normal:
        """The distribution, (N, K, D), for inputs (N or 1, K or 1, size)."""
        assert self.log_variance is not None
        hidden = self._hidden(inputs)
        return Normal(_exact(self.mean(hidden)), _exact(self.log_variance(hidden)).clamp(-10, 10))

    def mean_of(self, *inputs: Tensor) -> Tensor:
        """The mean of the distribution alone."""
        return _exact(self.mean(self._hidden(inputs)))


class Pixels(nn.Module):
    """Input and output of the networks: features of images, and the likelihood of an image given decoder features.

    Args:
        image_shape: (C, H, W).
        config: dense networks use the pixels directly, convolutional ones the convolutions of :class:`AutoEncoder`.
        kind: distribution of the pixels.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], config: NetworkConfig, kind: Literal["auto", "binary", "gaussian"]
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.kind = ("binary" if image_shape[0] == 1 else "gaussian") if kind == "auto" else kind
        front: list[nn.Module] = []
        back: list[nn.Module] = []
        shape: tuple[int, int, int] | None = None
        if config.network == "conv":
            front, back, shape = convolutions(image_shape, config.channels, config.upsampling)
        self.front = nn.Sequential(*front, nn.Flatten())
        self.back = nn.Sequential(nn.ReLU(), nn.Unflatten(1, shape), *back) if shape else nn.Identity()
        self.size = math.prod(shape or image_shape)
        self.log_variance = nn.Parameter(torch.zeros(())) if self.kind == "gaussian" else None

    def observed(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The target of the likelihood: pixels (N, C, H, W) in [0, 1], or binary pixels sampled from them."""
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
        logits = _exact(self.back(features.flatten(0, 1))).reshape(n, classes, -1)
        target = observed.flatten(1)[:, None]
        if self.log_variance is None:
            with torch.autocast(logits.device.type, enabled=False):
                lit: Tensor = (target @ logits.transpose(1, 2))[:, 0]
            return lit - F.softplus(logits).sum(-1)
        return Normal(logits.sigmoid(), self.log_variance.expand_as(target)).log_prob(target)
