"""ADGM and its skip form, of "Auxiliary deep generative models" (Maaløe et al. 2016).

The auxiliary variable a makes the inference of class and code more expressive:

    q(a|x) q(y|a, x) q(z|a, y, x),   p(y) p(z) p(x|y, z) p(a|x, y, z),   with skip p(a|y, z) p(x|a, y, z)

The networks have batch norm, which the authors used and the SeGMA paper left out, only if ``batch_norm`` is set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.base import as_pixels, register
from segma_fast.trainer.models.conditional import Conditional, Pixels, log_standard_normal
from segma_fast.trainer.models.variational import VariationalConfig, VariationalModel

CLASSIFIER_SAMPLES = 10  # samples of a over which q(y|x) is averaged


@dataclass(frozen=True)
class ADGMConfig(VariationalConfig):
    """Settings of ADGM."""

    labelled_weight: float | None = 1.0
    """weight of the bound of labelled rows, where that of unlabelled ones has 1"""
    skip: bool = False
    """the skip form, whose image depends on the auxiliary variable too"""
    auxiliary_dim: int | None = None
    """dimension of the auxiliary variable; default --latent-dim"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.auxiliary_dim is not None and self.auxiliary_dim < 1:
            raise ValueError(f"auxiliary_dim must be >= 1, got {self.auxiliary_dim}")


@register("adgm")
class ADGM(VariationalModel):
    """M2 with an auxiliary variable.

    Args:
        pixels: image features and pixel likelihood.
        classes: K.
        settings: weights of the loss, and whether to use the skip form.
        network: layer widths and latent dimension D.
    """

    title = "ADGM"
    Config = ADGMConfig

    def __init__(self, pixels: Pixels, classes: int, settings: ADGMConfig, network: NetworkConfig) -> None:
        super().__init__(pixels, classes, settings, network)
        size, dim, hidden = pixels.size, network.latent_dim, network.hidden
        auxiliary = settings.auxiliary_dim or dim
        self.skip = settings.skip
        network_of = partial(Conditional, batch_norm=settings.batch_norm)
        self.auxiliary = network_of([size], hidden, auxiliary)
        self.classifier = network_of([auxiliary, size], hidden, classes, variance=False)
        self.encoder = network_of([auxiliary, classes, size], hidden, dim)
        self.auxiliary_prior = network_of([classes, dim] + [size] * (not settings.skip), hidden, auxiliary)
        inputs = [classes, dim] + [auxiliary] * settings.skip
        self.decoder = network_of(inputs, network.decoder_widths, size, variance=False)

    @classmethod
    def defaults(cls, experiment: str) -> dict[str, Any]:
        if experiment == "digits":
            return {"network": NetworkConfig(latent_dim=16, hidden=(128, 128)), "learning_rate": 1e-3}
        found: dict[str, Any] = {"decay": 0.75, "decay_every": 200}
        if experiment == "mnist":
            network = NetworkConfig(latent_dim=100, hidden=(500, 500))
            objective = ADGMConfig(labelled_weight=None, warm_up=1800, batch_norm=True)
            return found | {"network": network, "objective": objective, "epochs": 1000, "learning_rate": 1e-3}
        network = NetworkConfig(network="conv", latent_dim=300, hidden=(500, 500))
        return found | {"network": network}

    def infer(self, x: Tensor, generator: torch.Generator | None = None, *, shared: bool = False) -> tuple[Any, Tensor]:
        """A sample a (N, 1, A) with log q(a|x), and log q(y|a, x)."""
        posterior = self.auxiliary.given(x)
        a = posterior.sample(generator, shared=shared)
        return (a, posterior.log_prob(a)), self.classifier.mean_of(a, x)[:, 0].log_softmax(-1)

    def log_weights(
        self, observed: Tensor, x: Tensor, state: Any, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        a, log_q_of_a = state
        posterior = self.encoder.given(a, y, x)
        z = posterior.sample(generator)
        if self.skip:
            log_p_of_a = self.auxiliary_prior.given(y, z).log_prob(a)
            features = self.decoder.mean_of(y, z, a)
        else:
            log_p_of_a = self.auxiliary_prior.given(y, z, x).log_prob(a)
            features = self.decoder.mean_of(y, z)
        log_p_of_y_and_z = log_standard_normal(z) - math.log(self.components)
        latent = log_p_of_y_and_z + log_p_of_a - log_q_of_a - posterior.log_prob(z)
        return self.pixels.log_prob(observed, features), latent

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """q(y|x) averaged over samples of a, and the mean of q(z|a, y, x) for the most probable y, (N, K + D)."""
        x = self.pixels.features(as_pixels(images))
        generator = torch.Generator(x.device).manual_seed(0)
        found = [self.infer(x, generator, shared=True)[1] for _ in range(CLASSIFIER_SAMPLES)]
        probabilities = torch.stack(found).exp().mean(0)
        best = self.one_hot[probabilities.argmax(1)][:, None]
        z = self.encoder.mean_of(self.auxiliary.mean_of(x), best, x)
        return torch.cat([probabilities, z[:, 0]], 1).float()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode class and z; the skip form uses the mean of the auxiliary variable."""
        y, z = codes.split([self.components, self.latent_dim], -1)
        a = [self.auxiliary_prior.mean_of(y, z)] if self.skip else []
        return self.pixels.decode(self.decoder.mean_of(y, z, *a)).float()
