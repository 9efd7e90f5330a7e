"""AMM, the Adversarially Learned Mixture Model: a game over images, classes and codes; ``samm.py`` adds labels.

A discriminator D distinguishes triples (x, y, z) from the data, with inferred y and z, from triples of the mixture
prior, with synthesised x. Choices where the paper gives no details:

- In the penalty (18), D is the logit; inferred and synthesised rows are paired by their position in the batch.
- The discriminator is updated first; the generator update draws new samples.
- Labelled and unlabelled rows go through the networks as one batch, so batch norm statistics cover both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segma_fast.trainer.models.amm_networks import Shape, gradient_penalty
from segma_fast.trainer.models.amm_tables import SIZES, build_networks, choose_architecture
from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.base import (
    Batch,
    ClassMapping,
    ImageModel,
    ModelConfig,
    StepPlan,
    Task,
    as_pixels,
    register,
)


@dataclass(frozen=True)
class AMMConfig(ModelConfig):
    """Settings of AMM."""

    betas: ClassVar[tuple[float, float]] = (0.5, 0.999)

    factorisation: Literal["class-first", "code-first"] = "code-first"
    """order of inference: q(y|x) q(z|x,y), equation (6), or q(z|x) q(y|x,z), equation (7), as in the paper's tables"""
    architecture: Literal["auto", "dense", "mnist", "svhn"] = "auto"
    """dense, for any images, or the paper's convolutions for 28x28 or 32x32; auto: the latter with --network conv"""
    gradient_penalty: float = 10.0
    """weight of the gradient penalty, equation (18)"""
    generator_rate: float = 1.0
    """learning rate of encoder, decoder and prior, as a multiple of that of the discriminator"""
    dropout: bool = True
    """whether the paper's convolutions have the dropout of its tables; dense networks have none"""

    def __post_init__(self) -> None:
        for name, known in (
            ("factorisation", ("class-first", "code-first")),
            ("architecture", ("auto", "dense", *SIZES)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not 0 <= self.gradient_penalty < math.inf:
            raise ValueError(f"gradient_penalty must be finite and >= 0, got {self.gradient_penalty}")
        if not 0 < self.generator_rate < math.inf:
            raise ValueError(f"generator_rate must be finite and > 0, got {self.generator_rate}")

    @property
    def label_use(self) -> Literal["required", "optional", "none"]:
        return "none"

    @property
    def heads(self) -> int:
        """Number of games that have their own last layers in the discriminator."""
        return 1


@register("amm")
class AMM(ImageModel):
    """Encoder, decoder and mixture prior against a discriminator.

    A code is [y | z], K + L numbers: probabilities of the classes and the continuous code.

    Args:
        image_shape: (C, H, W).
        network: sizes; ``latent_dim`` is L.
        settings: settings of the model.
        proportions: p(y), (K,).
    """

    Config: ClassVar[type[AMMConfig]] = AMMConfig
    title = "AMM"
    terms = ("generator", "penalty", "real", "fake")
    mapping: ClassVar[ClassMapping] = "many-to-one"

    def __init__(self, image_shape: Shape, network: NetworkConfig, settings: AMMConfig, proportions: Tensor) -> None:
        super().__init__()
        self.components = len(proportions)
        self.settings = settings
        if network.upsampling != "transposed":
            raise ValueError(f"upsampling must be 'transposed' for the model {self.name!r}, got {network.upsampling!r}")
        architecture = choose_architecture(settings.architecture, network.network, image_shape)
        self.encoder, self.decoder, self.prior, self.discriminator = build_networks(
            architecture,
            image_shape,
            self.components,
            network,
            settings.factorisation == "class-first",
            settings.heads,
            settings.dropout,
        )
        self.proportions: Tensor
        self.register_buffer("proportions", proportions.float())

    @classmethod
    def defaults(cls, experiment: str) -> dict[str, Any]:
        """The paper's settings for svhn; for the other experiments dense networks with settings tuned for them."""
        own: dict[str, Any] = {"learning_rate": 1e-3, "network": NetworkConfig(latent_dim=16, hidden=(512, 512))}
        own["objective"] = cls.Config(gradient_penalty=0.3)
        if experiment == "digits":
            own |= {"learning_rate": 2e-3, "network": NetworkConfig(latent_dim=8, hidden=(128, 128))}
        elif experiment == "svhn":
            own |= cls.convolutional(experiment)
        return own

    @classmethod
    def convolutional(cls, experiment: str) -> dict[str, Any]:
        """Settings for the paper's networks: for svhn the paper's, for mnist those that learn the classes."""
        own: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 100, "labelled_batch_size": 100}
        own["network"] = NetworkConfig(network="conv", latent_dim=64)
        own["objective"] = cls.Config(gradient_penalty=1.0, generator_rate=0.3, dropout=False)
        if experiment == "svhn":
            own |= {"learning_rate": 2e-4, "objective": cls.Config(gradient_penalty=0.01)}
        return own

    @classmethod
    def build(cls, settings: AMMConfig, network: NetworkConfig, task: Task) -> AMM:
        """A new model; the classes of the prior are equally likely. See :meth:`ImageModel.build`."""
        return cls(task.image_shape, network, settings, torch.full((task.components,), 1 / task.components))

    @classmethod
    def check(cls, settings: AMMConfig, network: NetworkConfig, step: StepPlan) -> None:
        """Reject what adversarial training does not support: micro-batches, and torch.compile (double backward)."""
        super().check(settings, network, step)
        if step.unlabelled + step.labelled < 2:
            raise ValueError(f"batch_size={step.unlabelled}: batch norm needs at least 2 rows a step")
        if step.compile:
            raise ValueError(f"compile with the model {cls.name!r}: its gradient penalty cannot be compiled")

    def optimizer_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of the discriminator, and those of all other networks."""
        generators = (self.encoder, self.decoder, self.prior)
        return [list(self.discriminator.parameters()), [p for network in generators for p in network.parameters()]]

    def rate_factors(self) -> dict[nn.Parameter, float]:
        return dict.fromkeys(self.optimizer_groups()[1], self.settings.generator_rate)

    def forward(self, batch: Batch, game: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one game; arguments as in :meth:`ImageModel.forward`, noise from torch's global generator.

        Args:
            batch: the images and labels of this step.
            game: 0 for the discriminator, equations (13) and (14) with the penalty (18); 1 for the generators, with
                opposite targets (algorithms 1 and 2). The loss averages the means over unlabelled and labelled rows.

        Returns:
            The loss, 0-d, and its terms. Game 0: ``penalty``, and D as a mean probability for inferred (``real``) and
            synthesised (``fake``) triples. Game 1: ``generator``, its loss.
        """
        x, labelled = as_pixels(batch.images), len(batch.labels)
        parts = [rows for rows in (batch.unlabelled, labelled) if rows]
        with torch.set_grad_enabled(torch.is_grad_enabled() and game == 1):
            given = F.one_hot(batch.labels, self.components).float() if labelled else None
            inferred = (x, *self.encoder(x, given))
            synthesised = self.synthesise(len(x))
        self.discriminator.requires_grad_(game == 0)
        real, fake = (self.discriminator(*triples, labelled) for triples in (inferred, synthesised))
        self.discriminator.requires_grad_(True)
        sign = 1 if game == 0 else -1
        rows = F.softplus(-sign * real) + F.softplus(sign * fake)
        loss = torch.stack([part.mean() for part in rows.split(parts)]).mean()
        if game == 1:
            return loss, {"generator": loss.detach()}
        penalty = gradient_penalty(self.discriminator, inferred, synthesised, labelled)
        terms = {"penalty": penalty.detach(), "real": real.sigmoid().mean(), "fake": fake.sigmoid().mean()}
        return loss + self.settings.gradient_penalty * penalty, {name: term.detach() for name, term in terms.items()}

    def synthesise(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sample n triples from p(y) p(z|y) p(x|y, z), equation (11): x (n, C, H, W), y (n, K), z (n, L)."""
        y = F.one_hot(torch.multinomial(self.proportions, n, replacement=True), self.components).float()
        mean, log_variance = self.prior(y)
        z = mean.float() + (0.5 * log_variance.float()).exp() * torch.randn_like(mean, dtype=torch.float32)
        return self.decoder(y, z).float(), y, z

    def _mixture(self) -> tuple[Tensor, Tensor]:
        """Means and log variances of p(z|y), (K, L) each."""
        mean, log_variance = self.prior(torch.eye(self.components, device=self.device))
        return mean.detach().float(), log_variance.detach().float()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Means, without noise: y is the softmax of the mean of equation (8)."""
        return torch.cat(self.encoder(as_pixels(images), noise=False), 1).float()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self.decoder(codes[:, : self.components], codes[:, self.components :])
        return images.float()

    @torch.no_grad()
    def posteriors(self, codes: Tensor) -> dict[str, Tensor]:
        """The inferred y, and the posterior of equation (19) given z."""
        y, z = codes[:, : self.components], codes[:, self.components :]
        mean, log_variance = self._mixture()
        distances = (z[:, None] - mean).square() / log_variance.exp() + log_variance
        return {"q(y|x)": y, "equation (19)": (self.proportions.log() - 0.5 * distances.sum(2)).softmax(1)}

    @torch.no_grad()
    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        chosen = self.chosen(n, component, self.proportions, generator)
        mean, log_variance = (part[chosen] for part in self._mixture())
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        y = F.one_hot(chosen, self.components).float()
        return torch.cat([y, mean + (0.5 * log_variance).exp() * noise], 1)

    def direction(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """``[e_target - e_source | μ_target - μ_source]``."""
        centres = self.centres()
        return centres[target] - centres[source]

    @torch.no_grad()
    def centres(self) -> Tensor:
        """``[e_k | μ_k]``."""
        return torch.cat([torch.eye(self.components, device=self.device), self._mixture()[0]], 1)

    def names_classes(self, classes: int) -> bool:
        return False
