"""M1 of "Semi-supervised learning with deep generative models" (Kingma et al. 2014): a VAE followed by a classifier.

The authors classify the codes with a support vector machine or nearest neighbours. Here each class is a normal
distribution of codes. Its mean is that of the labelled codes of the class; its variance, per coordinate, is the pooled
variance within the classes (linear discriminant analysis). This makes it possible to sample a class and to move between
classes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.base import Batch, ImageModel, Task, as_pixels, register
from segma_fast.trainer.models.conditional import Conditional, PixelConfig, Pixels, log_standard_normal

MEMORY = 0.9  # decay per step of the running sums over labelled codes, so that they follow changing codes


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
    ) -> tuple[Tensor, Tensor]:
        """A sample z (N, D) of q(z|x) and ``log p(x|z) - log q(z|x)``, (N,), for images (N, C, H, W)."""
        posterior = self.encoder.given(pixels.features(observed))
        z = posterior.sample(generator)
        weight = pixels.log_prob(observed, self.decoder.mean_of(z)) - posterior.log_prob(z)
        return z[:, 0], weight[:, 0]


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
    sums: Tensor
    squares: Tensor
    counts: Tensor

    def __init__(self, pixels: Pixels, layer: M1Layer, classes: int) -> None:
        super().__init__()
        self.pixels, self.layer, self.components = pixels, layer, classes
        self.register_buffer("sums", torch.zeros(classes, layer.latent_dim))
        self.register_buffer("squares", torch.zeros(classes, layer.latent_dim))
        self.register_buffer("counts", torch.zeros(classes))

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
        """The negative bound, mean over all rows; the labelled codes update the running means."""
        observed = self.pixels.observed(as_pixels(batch.images))
        codes, weight = self.layer(self.pixels, observed)
        bound = (weight + log_standard_normal(codes)).mean()
        if self.training:
            self._remember(codes[batch.unlabelled :].detach(), batch.labels)
        return -bound, {"bound": bound.detach()}

    @torch.no_grad()
    def _remember(self, codes: Tensor, labels: Tensor) -> None:
        own = nn.functional.one_hot(labels, self.components).to(codes).T  # (K, l)
        new = ((self.sums, own @ codes), (self.squares, own @ codes.square()), (self.counts, own.sum(1)))
        for running, now in new:
            running.mul_(MEMORY).add_(now)

    def _classes(self) -> tuple[Tensor, Tensor]:
        """Means (K, D) and the variance (D,) within classes."""
        means = torch.where(self.counts[:, None] > 0, self.sums / self.counts[:, None], 0.0)
        within = (self.squares - self.sums * means).sum(0) / self.counts.sum().clamp(min=1e-6)
        return means, within.clamp(min=1e-3)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The mean of q(z|x), (N, D)."""
        mean: Tensor = self.layer.encoder.mean_of(self.pixels.features(as_pixels(images)))
        return mean[:, 0].float()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        return self.pixels.decode(self.layer.decoder.mean_of(codes)).float()

    def posteriors(self, codes: Tensor) -> dict[str, Tensor]:
        """By the distances to the means; classes without a label have probability 0."""
        means, variance = self._classes()
        scores = -0.5 * ((codes[:, None] - means).square() / variance).sum(-1)
        return {"means of classes": (scores + (self.counts > 0).log()).softmax(-1)}

    @torch.no_grad()
    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Sample the normal distribution of a class; without a class, or if it has no labels, the prior N(0, I)."""
        self.check_count(n)
        z = torch.randn(n, self.layer.latent_dim, generator=generator, device=self.device)
        if component is None:
            return z
        means, variance = self._classes()
        chosen = self.chosen(n, component, self.counts, generator)
        return torch.where(self.counts[chosen, None] > 0, means[chosen] + variance.sqrt() * z, z)

    def direction(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        means, _ = self._classes()
        return means[target] - means[source]

    def centres(self) -> Tensor:
        return self._classes()[0]

    @torch.no_grad()
    def log_likelihood(self, images: Tensor, samples: int, generator: torch.Generator) -> Tensor | None:
        """Importance-weighted estimate with p(z) = N(0, I), of sampled binary pixels: (N, C, H, W) -> (N,)."""
        observed = self.pixels.observed(as_pixels(images), generator)
        found = [
            weight + log_standard_normal(z)
            for z, weight in (self.layer(self.pixels, observed, generator) for _ in range(samples))
        ]
        return torch.stack(found).logsumexp(0) - math.log(samples)
