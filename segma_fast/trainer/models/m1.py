"""M1 of "Semi-supervised learning with deep generative models" (Kingma et al. 2014): a VAE followed by a classifier.

The authors classify the codes with a transductive support vector machine. Here each class is a normal distribution of
codes with a full covariance, fitted to all codes, of which those with a label keep it (semi-supervised expectation
maximisation, :mod:`segma_fast.trainer.models.class_gaussians`). This makes it possible to sample a class and to move
between classes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.base import Batch, ImageModel, Task, as_pixels, register
from segma_fast.trainer.models.class_gaussians import ClassGaussians
from segma_fast.trainer.models.conditional import Conditional, PixelConfig, Pixels, log_standard_normal


class M1Layer(nn.Module):
    """q(z|x) and the network of p(x|z): from image features to codes, and from codes to decoder features.

    Args:
        size: number of features F.
        network: layer widths and latent dimension D.
    """

    def __init__(self, size: int, network: NetworkConfig) -> None:
        super().__init__()
        self.latent_dim = network.latent_dim
        self.encoder = Conditional([size], network.hidden, network.latent_dim)
        self.decoder = Conditional([network.latent_dim], network.decoder_widths, size, variance=False)

    def forward(
        self, pixels: Pixels, observed: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """For images (N, C, H, W) a sample z (N, D) of q(z|x), ``log p(x|z) - log q(z|x)``, (N,), and q's mean."""
        posterior = self.encoder.given(pixels.features(observed))
        z = posterior.sample(generator)
        weight = pixels.log_prob(observed, self.decoder.mean_of(z)) - posterior.log_prob(z)
        return z[:, 0], weight[:, 0], posterior.mean[:, 0]


@register("m1")
class M1(ImageModel):
    """A variational auto-encoder and the normal distributions of its labelled codes.

    Args:
        pixels: image features and pixel likelihood.
        layer: encoder and decoder.
        classes: K.
    """

    title = "M1"
    Config = PixelConfig
    terms = ("bound",)

    def __init__(self, pixels: Pixels, layer: M1Layer, classes: int) -> None:
        super().__init__()
        self.pixels, self.layer, self.components = pixels, layer, classes
        self.classes = ClassGaussians(classes, layer.latent_dim)

    @classmethod
    def defaults(cls, experiment: str) -> dict[str, Any]:
        if experiment == "digits":
            return {"network": NetworkConfig(latent_dim=16, hidden=(128, 128)), "learning_rate": 3e-3}
        if experiment == "mnist":
            return {"network": NetworkConfig(latent_dim=50, hidden=(600, 600))}
        network = NetworkConfig(network="conv", latent_dim=300, hidden=(300,))
        return {"network": network}

    @classmethod
    def build(cls, settings: PixelConfig, network: NetworkConfig, task: Task) -> M1:
        """See :meth:`ImageModel.build`."""
        cls.check_one_a_class(task)
        pixels = Pixels(task.image_shape, network, settings.pixels)
        return cls(pixels, M1Layer(pixels.size, network), task.classes)

    def forward(self, batch: Batch, game: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The negative bound, mean over all rows."""
        observed = self.pixels.observed(as_pixels(batch.images))
        codes, weight, _ = self.layer(self.pixels, observed)
        bound = (weight + log_standard_normal(codes)).mean()
        return -bound, {"bound": bound.detach()}

    def settle(self, images: Tensor, labels: Tensor, unlabelled: Tensor, labelled: Tensor) -> None:
        """Fit the classes to codes of all labelled images and of up to 10,000 others."""
        self.classes.fit_images(self.encode, images, labels, unlabelled, labelled)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The mean of q(z|x), (N, D)."""
        mean: Tensor = self.layer.encoder.mean_of(self.pixels.features(as_pixels(images)))
        return mean[:, 0].float()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        return self.pixels.decode(self.layer.decoder.mean_of(codes)).float()

    def posteriors(self, codes: Tensor) -> dict[str, Tensor]:
        """By the normal distributions; classes without a label have probability 0."""
        return {"normal distributions of classes": self.classes.posterior(codes)}

    @torch.no_grad()
    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Sample the normal distribution of a class; without a class, the prior N(0, I)."""
        self.check_count(n)
        z = torch.randn(n, self.layer.latent_dim, generator=generator, device=self.device)
        if component is None:
            return z
        return self.classes.at(self.chosen(n, component, self.classes.proportions, generator), z)

    def direction(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        means = self.classes.means
        return means[target] - means[source]

    def centres(self) -> Tensor:
        return self.classes.means

    @torch.no_grad()
    def log_likelihood(self, images: Tensor, samples: int, generator: torch.Generator) -> Tensor | None:
        """Importance-weighted estimate with p(z) = N(0, I), of sampled binary pixels: (N, C, H, W) -> (N,)."""
        observed = self.pixels.observed(as_pixels(images), generator)
        found = [
            weight + log_standard_normal(z)
            for z, weight, _ in (self.layer(self.pixels, observed, generator) for _ in range(samples))
        ]
        return torch.stack(found).logsumexp(0) - math.log(samples)
