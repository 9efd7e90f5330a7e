"""M2 of "Semi-supervised learning with deep generative models" (Kingma et al. 2014).

p(y) p(z) p(x|y, z) with q(y|x) q(z|x, y).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.base import as_pixels, register
from segma_fast.trainer.models.conditional import Conditional, Pixels, log_standard_normal
from segma_fast.trainer.models.variational import VariationalConfig, VariationalModel


@register("m2")
class M2(VariationalModel):
    """A variational auto-encoder with the class as a latent variable.

    Args:
        pixels: image features and pixel likelihood.
        classes: K.
        settings: weights of the loss.
        network: layer widths and latent dimension D.
        inputs: dimension of the modelled features; default that of the pixel features.
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
        hidden, outward, normed = network.hidden, network.decoder_widths, settings.batch_norm
        self.classifier = Conditional([size], hidden, classes, variance=False, batch_norm=normed)
        self.encoder = Conditional([size, classes], hidden, network.latent_dim, batch_norm=normed)
        self.decoder = Conditional([classes, network.latent_dim], outward, size, inputs is not None, normed)

    @classmethod
    def defaults(cls, experiment: str) -> dict[str, Any]:
        if experiment == "digits":
            return {"network": NetworkConfig(latent_dim=16, hidden=(128,)), "learning_rate": 1e-3}
        if experiment == "mnist":
            return {"network": NetworkConfig(latent_dim=50, hidden=(500,)), "learning_rate": 1e-3}
        return {"network": NetworkConfig(network="conv", latent_dim=50, hidden=(300, 300))}

    def infer(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Any, Tensor]:
        return None, self.classifier.mean_of(x)[:, 0].log_softmax(-1)

    def log_weights(
        self, observed: Tensor, x: Tensor, state: Any, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        posterior = self.encoder.given(x, y)
        z = posterior.sample(generator)
        prior = log_standard_normal(z) - math.log(self.components)
        return self.log_observed(observed, x, y, z), prior - posterior.log_prob(z)

    def log_observed(self, observed: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """log p(x|y, z), (N, K)."""
        return self.pixels.log_prob(observed, self.decoder.mean_of(y, z))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The class probabilities, and the mean of q(z|x, y) for the most probable y, (N, K + D)."""
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
