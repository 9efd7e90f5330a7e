"""M1, M2 and both stacked, of "Semi-supervised learning with deep generative models" (Kingma et al. 2014).

M1: p(z) p(x|z), and a classifier of the codes. M2: p(y) p(z) p(x|y, z) with q(y|x) q(z|x, y). M1+M2 puts M2 on samples
of M1's codes; M1 learns beside it and gets none of its gradient, so that it becomes what it would be alone, and M2 sees
it change for a while, where the authors train M1 to its end first.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from segma_fast.models.autoencoder import NetworkConfig
from segma_fast.models.base import as_pixels, register
from segma_fast.models.conditional import Conditional, Pixels, log_standard_normal
from segma_fast.models.m1 import M1Layer
from segma_fast.models.variational import VariationalConfig, VariationalModel


@register("m2")
class M2(VariationalModel):
    """A variational auto-encoder of which the class is one latent variable.

    Args:
        pixels: both ends of the networks.
        classes: K.
        settings: weights of the loss.
        network: widths and D.
        inputs: dimension of what is modelled; default that of the pixels.
    """

    title = "M2"

    def __init__(
        self,
        pixels: Pixels,
        classes: int,
        settings: VariationalConfig,
        network: NetworkConfig,
        inputs: int | None = None,
    ) -> None:
        super().__init__(pixels, classes, settings, network)
        size = pixels.size if inputs is None else inputs
        back = network.hidden[::-1] if network.decoder_hidden is None else network.decoder_hidden
        self.classifier = Conditional([size], network.hidden, classes, variance=False)
        self.encoder = Conditional([size, classes], network.hidden, network.latent_dim)
        self.decoder = Conditional([classes, network.latent_dim], back, size, variance=inputs is not None)

    @classmethod
    def defaults(cls, experiment: str) -> dict[str, Any]:
        hidden = (128,) if experiment == "digits" else (500,)
        found: dict[str, Any] = {"network": NetworkConfig(latent_dim=50, hidden=hidden)}
        if experiment == "digits":
            return found | {"network": NetworkConfig(latent_dim=16, hidden=hidden), "learning_rate": 1e-3}
        if experiment != "mnist":
            found = {"network": NetworkConfig(network="conv", latent_dim=50, hidden=(300, 300))}
        return found

    def infer(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Any, Tensor]:
        return None, self.classifier.mean_of(x)[:, 0].log_softmax(-1)

    def log_weights(
        self, observed: Tensor, x: Tensor, state: Any, y: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        posterior = self.encoder.given(x, y)
        z = posterior.sample(generator)
        prior = log_standard_normal(z) - math.log(self.components)
        return self.log_observed(observed, x, y, z) + prior - posterior.log_prob(z)

    def log_observed(self, observed: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """log p(x|y, z), (N, K)."""
        return self.pixels.log_prob(observed, self.decoder.mean_of(y, z))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The probabilities of the classes and the mean of q(z|x, y) for the most probable, (N, K + D)."""
        x = self.observe(as_pixels(images))
        _, log_posterior = self.infer(x)
        best = self.one_hot[log_posterior.argmax(1)][:, None]
        return torch.cat([log_posterior.exp(), self.encoder.mean_of(x, best)[:, 0]], 1).float()

    def observe(self, pixels: Tensor) -> Tensor:
        """The features (N, 1, F) of images, without noise."""
        return self.pixels.features(pixels)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        y, z = codes[:, None].split([self.components, self.latent_dim], -1)
        return self.pixels.decode(self.decoder.mean_of(y, z)[:, 0]).float()


@register("m1m2")
class M1M2(M2):
    """M2 on samples of M1's codes, whose distribution given class and z is normal; both have the same widths and D."""

    title = "M1+M2"

    def __init__(self, pixels: Pixels, classes: int, settings: VariationalConfig, network: NetworkConfig) -> None:
        flat = replace(network, network="dense", decoder_hidden=None)
        super().__init__(pixels, classes, settings, flat, network.latent_dim)
        self.first = M1Layer(pixels.size, network)

    def below(self, observed: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """A sample of M1's code without gradient, its weight log p(x|z) - log q(z|x), and minus M1's bound."""
        codes, weight = self.first(self.pixels, observed, generator)
        bound = weight + log_standard_normal(codes)
        return codes.detach()[:, None], weight.detach(), -bound.mean()

    def log_observed(self, observed: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return self.decoder.given(y, z).log_prob(x)

    def observe(self, pixels: Tensor) -> Tensor:
        return self.first.encoder.mean_of(self.pixels.features(pixels))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        y, z = codes[:, None].split([self.components, self.latent_dim], -1)
        return self.pixels.decode(self.first.decoder.mean_of(self.decoder.mean_of(y, z))[:, 0]).float()
