"""CaGeM, "Semi-supervised generation with cluster-aware generative models" (Maaløe et al. 2017), of two layers.

    p(z₂) p(y|z₂) p(z₁|y, z₂) p(x|y, z₁),   q(z₁|x) q(y|z₁, x) q(z₂|x, y, z₁)

Without labels the classes are clusters. The ELBO is that of ``variational.py``, with p(y|z₂) in place of a prior of
y. On labelled rows the loss contains the cross-entropy of both classifiers, q(y|x) and p(y|x). With that of q(y|x)
alone, z₂ collapses to its prior and p(y|x) learns nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.base import as_pixels, register
from segma_fast.trainer.models.conditional import Conditional, Pixels, log_standard_normal
from segma_fast.trainer.models.variational import VariationalConfig, VariationalModel

CLASSIFIER_SAMPLES = 10  # samples of z₁ and z₂ over which both classifiers are averaged
PROPOSALS = 64  # samples of p(z₂), of which one is kept for each sample of a class


@dataclass(frozen=True)
class CaGeMConfig(VariationalConfig):
    """Settings of CaGeM."""

    top_dim: int = 32
    """dimension of z₂, the top layer; with 2 a run draws the paper's figure 2"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_dim < 1:
            raise ValueError(f"top_dim must be >= 1, got {self.top_dim}")

    @property
    def label_use(self) -> Literal["required", "optional", "none"]:
        return "optional"


@register("cagem")
class CaGeM(VariationalModel):
    """A variational auto-encoder with two latent layers; the clusters are in the upper one.

    A code is ``(q(y|x), z₁, z₂, p(y|x))``; the last K columns only carry the output of the generative classifier.

    Args:
        pixels: image features and pixel likelihood.
        classes: K.
        settings: weights of the loss, and the dimension of z₂.
        network: widths and the dimension of z₁.
    """

    title = "CaGeM"
    ways = ("from class to class with the same z₂", "away from another class with the same z₂")
    Config = CaGeMConfig

    def __init__(self, pixels: Pixels, classes: int, settings: CaGeMConfig, network: NetworkConfig) -> None:
        super().__init__(pixels, classes, settings, network)
        size, dim, top, hidden = pixels.size, network.latent_dim, settings.top_dim, network.hidden
        self.top_dim = top
        network_of = partial(Conditional, batch_norm=settings.batch_norm)
        self.encoder = network_of([size], hidden, dim)
        self.classifier = network_of([dim, size], hidden, classes, variance=False)
        self.top_encoder = network_of([size, classes, dim], hidden, top)
        self.top_classifier = network_of([top], hidden, classes, variance=False)
        self.prior = network_of([classes, top], hidden, dim)
        self.decoder = network_of([classes, dim], network.decoder_widths, size, variance=False)

    @classmethod
    def defaults(cls, experiment: str) -> dict[str, Any]:
        if experiment == "digits":
            found: dict[str, Any] = {"network": NetworkConfig(latent_dim=16, hidden=(128, 128)), "learning_rate": 1e-3}
            return found | {"objective": CaGeMConfig(top_dim=8)}
        if experiment == "mnist":
            network = NetworkConfig(latent_dim=64, hidden=(500, 500))
            return {"network": network, "learning_rate": 1e-3, "objective": CaGeMConfig(warm_up=1800, batch_norm=True)}
        network = NetworkConfig(network="conv", latent_dim=64, hidden=(500, 500))
        return {"network": network}

    def infer(self, x: Tensor, generator: torch.Generator | None = None, *, shared: bool = False) -> tuple[Any, Tensor]:
        """A sample z₁ (N, 1, D) with log q(z₁|x), and log q(y|z₁, x)."""
        posterior = self.encoder.given(x)
        z1 = posterior.sample(generator, shared=shared)
        return (z1, posterior.log_prob(z1)), self.classifier.mean_of(z1, x)[:, 0].log_softmax(-1)

    def log_weights(
        self, observed: Tensor, x: Tensor, state: Any, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        z1, log_q_of_z1 = state
        posterior = self.top_encoder.given(x, y, z1)
        z2 = posterior.sample(generator)
        log_p_of_y = (self.top_classifier.mean_of(z2).log_softmax(-1) * y).sum(-1)
        log_p_of_z1 = self.prior.given(y, z2).log_prob(z1)
        likelihood = self.pixels.log_prob(observed, self.decoder.mean_of(y, z1))
        latent = log_p_of_z1 + log_p_of_y + log_standard_normal(z2) - log_q_of_z1 - posterior.log_prob(z2)
        return likelihood, latent

    def other_cross_entropy(self, x: Tensor, state: Any, labels: Tensor) -> Tensor:
        """The cross-entropy of p(y|x), with one sample of z₂ per class, weighted by q(y|z₁, x)."""
        z1, _ = state
        inferred = self.classifier.mean_of(z1, x)[:, 0].log_softmax(-1)
        z2 = self.top_encoder.given(x, self.one_hot[None], z1).sample()
        return F.nll_loss(self._generative_classifier(z2, inferred), labels)

    def _generative_classifier(self, z2: Tensor, inferred: Tensor) -> Tensor:
        """log p(y|x), (N, K): p(y|z₂) at samples z₂ of q(z₂|x, ỹ, z₁), (N, K, D), averaged over ỹ by q(ỹ|z₁, x)."""
        return (inferred[..., None] + self.top_classifier.mean_of(z2).log_softmax(-1)).logsumexp(1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Both classifiers, averaged over samples, and the means of q(z₁|x) and q(z₂|x, y, z₁) for the likeliest y."""
        x = self.pixels.features(as_pixels(images))
        generator = torch.Generator(x.device).manual_seed(0)
        inferred, generated = [], []
        for _ in range(CLASSIFIER_SAMPLES):
            (z1, _), log_posterior = self.infer(x, generator, shared=True)
            z2 = self.top_encoder.given(x, self.one_hot[None], z1).sample(generator, shared=True)
            inferred.append(log_posterior.exp())
            generated.append(self._generative_classifier(z2, log_posterior).exp())
        probabilities = torch.stack(inferred).mean(0)
        z1 = self.encoder.mean_of(x)
        z2 = self.top_encoder.mean_of(x, self.one_hot[probabilities.argmax(1)][:, None], z1)
        return torch.cat([probabilities, z1[:, 0], z2[:, 0], torch.stack(generated).mean(0)], 1).float()

    @torch.no_grad()
    def top_divergence(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The mean of KL(q(z₂|x, y, z₁) ‖ N(0, I)) over y ~ q(y|z₁, x), in nats, (N,): near 0 if z₂ is not used."""
        x = self.pixels.features(as_pixels(images))
        (z1, _), log_posterior = self.infer(x, generator)
        top = self.top_encoder.given(x, self.one_hot[None], z1)
        divergence = 0.5 * (top.mean.square() + top.log_variance.exp() - 1 - top.log_variance).sum(-1)
        return (log_posterior.exp() * divergence).sum(1)

    def split(self, codes: Tensor) -> list[Tensor]:
        """The four parts of codes (N, ·)."""
        return list(codes.split([self.components, self.latent_dim, self.top_dim, self.components], -1))

    def posteriors(self, codes: Tensor) -> dict[str, Tensor]:
        """Both classifiers."""
        y, _, _, generated = self.split(codes)
        return {"q(y|x)": y, "p(y|x)": generated}

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        y, z1, _, _ = self.split(codes)
        return self.pixels.decode(self.decoder.mean_of(y, z1)).float()

    @torch.no_grad()
    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """z₂ ~ N(0, I), y ~ p(y|z₂), z₁ ~ p(z₁|y, z₂); given y, z₂ is resampled with weights p(y|z₂)."""
        self.check_count(n)
        top = torch.randn(n, self.top_dim, generator=generator, device=self.device)
        if component is None:
            probabilities = self.top_classifier.mean_of(top).softmax(-1)
            chosen = torch.multinomial(probabilities, 1, generator=generator)[:, 0] if n else probabilities.argmax(-1)
        else:
            chosen = self.chosen(n, component, self.one_hot.mean(0), generator)
            many = torch.randn(n, PROPOSALS, self.top_dim, generator=generator, device=self.device)
            log_p = self.top_classifier.mean_of(many).log_softmax(-1)
            own = log_p.gather(-1, chosen[:, None, None].expand(-1, PROPOSALS, 1))[..., 0]
            kept = torch.multinomial(own.softmax(-1), 1, generator=generator)[:, 0] if n else chosen
            top = many[torch.arange(len(kept), device=kept.device), kept]
        return self.at(top, chosen, generator)

    def at(self, top: Tensor, chosen: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Codes of classes (n,) at points (n, D₂) of the top layer, with z₁ sampled or, without generator, its mean."""
        y = self.one_hot[chosen]
        prior = self.prior.given(y, top)
        z1 = prior.mean if generator is None else prior.sample(generator)
        return torch.cat([y, z1, top, self.top_classifier.mean_of(top).softmax(-1)], 1)

    @torch.no_grad()
    def direction(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """The shift from one class to another at the same z₂, including the change in the mean of z₁."""
        top = self.split(codes)[2]
        return self.at(top, target) - self.at(top, source)

    @torch.no_grad()
    def centres(self) -> Tensor:
        """Each class at the mean of its z₂."""
        generator = torch.Generator(self.device).manual_seed(0)
        tops = [self.split(self.sample(200, k, generator=generator))[2].mean(0) for k in range(self.components)]
        return self.at(torch.stack(tops), torch.arange(self.components, device=self.device))
