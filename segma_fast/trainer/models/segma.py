"""SeGMA: an auto-encoder whose codes are fitted to a Gaussian mixture, one component per class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segma_fast import large_batch
from segma_fast.distance.dispatch import check_phi, choose_backend
from segma_fast.distance.formulas import silverman_gamma
from segma_fast.distance.functional import fast_cw_distance
from segma_fast.distance.mixture import GaussianMixture, MeansInit, initial_means
from segma_fast.distance.precision import choose_precision
from segma_fast.distance.process_group import Group, rank_and_size, world
from segma_fast.trainer.models.autoencoder import AutoEncoder, NetworkConfig
from segma_fast.trainer.models.base import (
    Batch,
    ImageModel,
    ModelConfig,
    StepPlan,
    Task,
    as_pixels,
    register,
    squared_error,
)
from segma_fast.trainer.models.class_gaussians import ClassGaussians


@dataclass(frozen=True)
class SeGMAConfig(ModelConfig):
    """Equation (9), ``MSE + α log d² + β CE``, and the choices that the paper leaves open."""

    alpha: float = 5.0
    """weight α of log d²"""
    beta: float = 10.0
    """weight β of the cross-entropy on labelled rows; 0 for unsupervised SeGMA"""
    rows: Literal["all", "unlabelled"] = "all"
    """rows that count for MSE and d²: all, as the paper says, or unlabelled, as the authors' code does"""
    gamma: float | None = None
    """bandwidth γ; default (4/(3N))^(2/5) with N rows per component, counted according to --gamma-rows"""
    gamma_rows: Literal["distance", "unlabelled"] = "distance"
    """rows counted for N: all rows that enter d², or only the unlabelled ones"""
    phi: Literal["approx", "exact"] = "approx"
    """φ of the distance: the paper's approximation, or exact, which needs a smaller alpha"""
    backend: str = "auto"
    """implementation of the distance; segma-fast info lists them"""
    precision: str | None = None
    """highest, high or medium; default torch's float32 matmul precision"""
    means_init: MeansInit = "simplex"
    """where SeGMA's means start"""
    means_scale: float = 5.0
    """how far from the origin they start"""
    means_rate: float = 1.0
    """learning rate of the means, as a multiple of that of the networks"""
    classifier: Literal["mixture", "fitted"] = "fitted"
    """what gives a code its class: the mixture, by equation (7), or a normal distribution of any covariance for each
    class, fitted to the codes of labelled and other images before each evaluation; training does not depend on it"""

    def __post_init__(self) -> None:
        if not (0 <= self.alpha < math.inf and 0 <= self.beta < math.inf):
            raise ValueError(f"alpha and beta must be finite and >= 0, got alpha={self.alpha}, beta={self.beta}")
        if self.gamma is not None and not 0 < self.gamma < math.inf:
            raise ValueError(f"gamma must be finite and > 0 or None, got {self.gamma}")
        if not math.isfinite(self.means_scale):
            raise ValueError(f"means_scale must be finite, got {self.means_scale}")
        if not 0 <= self.means_rate < math.inf:
            raise ValueError(f"means_rate must be finite and >= 0, got {self.means_rate}")

    @property
    def label_use(self) -> Literal["required", "optional", "none"]:
        return "required" if self.beta > 0 else "none"


@register("segma")
class SeGMA(ImageModel):
    """Auto-encoder, prior and objective together.

    With β = 0 it is unsupervised SeGMA; with β = 0 and one component it is CWAE.

    Args:
        autoencoder: images to codes of dimension D and back.
        prior: the mixture in D dimensions.
        settings: weights and rules of the loss.
    """

    Config = SeGMAConfig
    title = "SeGMA"
    terms = ("reconstruction", "log_distance", "cross_entropy")
    shares_batches = True

    def __init__(self, autoencoder: AutoEncoder, prior: GaussianMixture, settings: SeGMAConfig) -> None:
        super().__init__()
        if autoencoder.latent_dim != prior.dim:
            raise ValueError(f"codes have dimension {autoencoder.latent_dim}, the prior {prior.dim}: must be equal")
        self.autoencoder = autoencoder
        self.prior = prior
        self.settings = settings
        self.components = prior.components
        fitted = settings.classifier == "fitted" and settings.beta > 0
        self.classes = ClassGaussians(prior.components, prior.dim) if fitted else None

    @classmethod
    def build(cls, settings: SeGMAConfig, network: NetworkConfig, task: Task) -> SeGMA:
        """A new model with mixture proportions from the label counts; see :meth:`ImageModel.build`.

        Raises:
            ValueError: if β > 0 and there is not one component per class.
        """
        if settings.beta > 0:
            cls.check_one_a_class(task, ", or set beta to 0 for an unsupervised model")
        means = initial_means(task.components, network.latent_dim, settings.means_init, settings.means_scale)
        return cls(AutoEncoder(task.image_shape, network), GaussianMixture(means, task.label_counts), settings)

    @classmethod
    def check(cls, settings: SeGMAConfig, network: NetworkConfig, step: StepPlan) -> None:
        """Check precision, φ and backend; ``ValueError`` if one is not available."""
        choose_precision(settings.precision)
        check_phi(settings.phi)
        choose_backend(settings.backend, step.device, torch.float32, network.latent_dim)

    def rate_factors(self) -> dict[nn.Parameter, float]:
        return {self.prior.means: self.settings.means_rate}

    def forward(self, batch: Batch, game: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, equation (9).

        With several processes, each gets its share of the batch; the mean over the processes of the losses, and of the
        gradients, is that of the whole batch.

        Args:
            batch: the images and labels of this step; without labels there is no cross-entropy. With micro-batches the
                gradient is the same; memory holds one micro-batch and all codes (:mod:`segma_fast.large_batch`).
            game: 0, the only one.

        Returns:
            The loss, 0-d, and its terms for the record, detached: ``reconstruction`` (squared error summed over
            pixels, mean over rows), ``log_distance`` and, with β > 0, ``cross_entropy``.
        """
        settings, group = self.settings, world()
        _, processes = rank_and_size(group)
        images, unlabelled = batch.images, batch.unlabelled
        everything = settings.rows == "all"
        own_count = len(images) if everything else unlabelled
        if batch.micro_batch is None:
            codes, errors = self._errors(images, own_count)
        else:
            codes, errors = large_batch.encode(
                lambda some, counted: self._errors(some, int(counted.sum())),
                images,
                torch.arange(len(images)) < own_count,
                micro_batch=batch.micro_batch,
            )
        count = batch.unlabelled_total + (batch.labelled_total if everything else 0)
        reconstruction = errors.sum() * (processes / count)
        log_distance = self.distance(codes[:own_count], batch.unlabelled_total, log=True, process_group=group)
        loss = reconstruction + settings.alpha * log_distance
        terms = {"reconstruction": reconstruction.detach(), "log_distance": log_distance.detach()}
        if settings.beta > 0 and batch.labelled_total:
            log_posterior = self.prior.log_posterior(codes[unlabelled:])
            cross_entropy = F.nll_loss(log_posterior, batch.labels, reduction="sum")
            cross_entropy = cross_entropy * (processes / batch.labelled_total)
            loss = loss + settings.beta * cross_entropy
            terms["cross_entropy"] = cross_entropy.detach()
        return loss, terms

    def _errors(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Codes of all images, and squared errors of the first ``count`` images; 0 for the others."""
        pixels = as_pixels(images)
        codes = self.autoencoder.encode(pixels).float()
        errors = squared_error(pixels[:count], self.autoencoder.decode(codes[:count]).float())
        return codes, F.pad(errors, (0, len(images) - count))

    def distance(
        self,
        codes: Tensor,
        unlabelled_rows: int | None = None,
        *,
        log: bool = False,
        process_group: Group | None = None,
    ) -> Tensor:
        """d² between the codes (m, D) of all processes and the prior, equation (8), or its logarithm; 0-d."""
        settings, prior = self.settings, self.prior
        gamma = settings.gamma
        if gamma is None and settings.gamma_rows == "unlabelled" and unlabelled_rows is not None:
            gamma = silverman_gamma(unlabelled_rows, prior.components)
        return fast_cw_distance(
            codes,
            prior.means,
            prior.proportions,
            prior.variances,
            gamma,
            log=log,
            phi=settings.phi,
            backend=settings.backend,
            precision=settings.precision,
            process_group=process_group,
        )

    def names_classes(self, classes: int) -> bool:
        """Whether the components correspond to the classes: trained with labels and one component per class."""
        return self.settings.beta > 0 and self.components == classes

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), uint8 or floating point in [0, 1], to codes (N, D) in float32."""
        return self.autoencoder.encode(as_pixels(images)).float()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, D) to images (N, C, H, W) in [0, 1], float32."""
        return self.autoencoder.decode(codes).float()

    def settle(self, images: Tensor, labels: Tensor, unlabelled: Tensor, labelled: Tensor) -> None:
        """Fit the classes of the fitted classifier."""
        if self.classes is not None:
            self.classes.fit_images(self.encode, images, labels, unlabelled, labelled)

    @torch.no_grad()
    def posteriors(self, codes: Tensor) -> dict[str, Tensor]:
        """Equation (7), and before it the fitted classifier if there is one that has been fitted."""
        found = {"equation (7)": self.prior.posterior(codes)}
        if self.classes is not None and self.classes.is_fitted:
            return {"normal distributions of classes": self.classes.posterior(codes)} | found
        return found

    @torch.no_grad()
    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """See :meth:`GaussianMixture.sample`."""
        return self.prior.sample(n, component, generator=generator)

    def direction(self, codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """``μ_target - μ_source``, equation (10)."""
        means = self.centres()
        return means[target] - means[source]

    def centres(self) -> Tensor:
        """The means of the components, (K, D)."""
        return self.prior.means.detach()
