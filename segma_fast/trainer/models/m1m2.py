"""M1 and M2 stacked, of "Semi-supervised learning with deep generative models" (Kingma et al. 2014).

M2 models samples of M1's codes. M1 gets no gradient from M2, so it learns what it would learn alone. The authors train
M1 to the end first. Here M2 trains from the start, on codes that change as long as M1 does (``first_steps``).

Like the authors, M2 leaves out the dead coordinates of M1's codes, those that hardly depend on the image: the mean of
q(z₁|x) has a standard deviation of 0.1 or less over recent images. They are N(0, 1) in the joint model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.base import register
from segma_fast.trainer.models.conditional import Normal, Pixels, log_standard_normal
from segma_fast.trainer.models.m1 import M1Layer
from segma_fast.trainer.models.m2 import M2
from segma_fast.trainer.models.variational import VariationalConfig, VariationalModel

DEAD = 0.1  # standard deviation of the mean of a coordinate, up to which it is dead
MEMORY = 0.99  # decay per step of the running moments


@dataclass(frozen=True)
class M1M2Config(VariationalConfig):
    """Settings of M1+M2; networks and latent_dim are M2's."""

    first_dim: int | None = None
    """dimension of M1's codes; default --latent-dim"""
    first_hidden: tuple[int, ...] = ()
    """widths of M1's dense layers; default those of M2"""
    first_steps: int | None = None
    """M1 trains for this many steps, and M2 alone goes on; default: M1 trains to the end"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_steps is not None and self.first_steps < 0:
            raise ValueError(f"first_steps must be >= 0, got {self.first_steps}")
        if min([1 if self.first_dim is None else self.first_dim, *self.first_hidden]) < 1:
            raise ValueError(f"first_dim and first_hidden must be >= 1, got {self.first_dim}, {self.first_hidden}")

    def with_hidden(self, widths: tuple[int, ...]) -> Self:
        return replace(self, first_hidden=widths[: len(self.first_hidden) or None])


@register("m1m2")
class M1M2(M2):
    """M2 on samples of M1's codes, whose distribution given class and z is normal.

    Args:
        pixels: image features and pixel likelihood.
        classes: K.
        settings: weights of the loss, and sizes of M1.
        network: layer widths and latent dimension D of M2.
    """

    title = "M1+M2"
    Config = M1M2Config
    settings: M1M2Config
    moments: Tensor

    def __init__(self, pixels: Pixels, classes: int, settings: M1M2Config, network: NetworkConfig) -> None:
        dim, hidden = settings.first_dim or network.latent_dim, settings.first_hidden or network.hidden
        super().__init__(pixels, classes, settings, network, dim)
        self.first = M1Layer(pixels.size, replace(network, latent_dim=dim, hidden=hidden, decoder_hidden=None))
        self.register_buffer("moments", torch.tensor([[0.0], [1.0]]).repeat(1, dim))  # of the means of codes

    @classmethod
    def defaults(cls, experiment: str) -> dict[str, Any]:
        found = M2.defaults(experiment)
        if experiment == "digits":
            return found | {"objective": M1M2Config(), "learning_rate": 2e-3}
        if experiment == "mnist":
            objective = M1M2Config(first_dim=50, first_hidden=(600, 600), first_steps=30_000)
            return found | {"objective": objective, "learning_rate": 3e-4}
        return found | {"objective": M1M2Config(first_dim=300, first_hidden=(300,))}

    @staticmethod
    def counts_steps(settings: M1M2Config) -> bool:
        return VariationalModel.counts_steps(settings) or settings.first_steps is not None

    def alive(self) -> Tensor:
        """1 for the coordinates that M2 models and 0 for the dead ones, (D,)."""
        mean, square = self.moments.unbind()
        return (square - mean.square() > DEAD**2).to(mean)

    def stopped(self) -> bool:
        """Whether a step on the CPU can leave out M1's decoder and gradient; a captured step of a GPU cannot branch."""
        last = self.settings.first_steps
        if last is None or self.steps is None or not self.training or self.steps.device.type != "cpu":
            return False
        return bool(self.steps > last)

    def below(self, observed: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """A sample of M1's code without gradient, its weight log p(x|z) - log q(z|x), and minus M1's bound.

        After M1's last step, weight and bound are 0 while training, which does not use them.
        """
        if self.stopped():
            with torch.no_grad():
                posterior = self.first.encoder.given(self.pixels.features(observed))
                codes, mean = posterior.sample(generator)[:, 0], posterior.mean[:, 0]
            weight, loss = codes.new_zeros(len(codes)), codes.new_zeros(())
        else:
            codes, weight, mean = self.first(self.pixels, observed, generator)
            loss = -(weight + log_standard_normal(codes)).mean()
            if self.steps is not None and self.settings.first_steps is not None:
                loss = loss * (
                    self.steps <= self.settings.first_steps
                )  # on a GPU Adam's momentum still moves M1 a little
        if self.training:
            now = torch.stack([mean.detach().mean(0), mean.detach().square().mean(0)])
            self.moments.lerp_(now.to(self.moments), 1 - MEMORY)
        alive = self.alive()
        kept, dead = codes.detach() * alive, codes.detach() * (1 - alive)
        return kept[:, None], weight.detach() + log_standard_normal(dead, 1 - alive), loss

    def log_observed(self, observed: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return self.decoder.given(y, z).log_prob(x, self.alive())

    def observe(self, pixels: Tensor) -> Tensor:
        return self.first.encoder.mean_of(self.pixels.features(pixels)) * self.alive()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """By the mean of p(z₁|y, z₂), with dead coordinates at 0."""
        return self._decode_first(self._given(codes).mean * self.alive())

    @torch.no_grad()
    def decode_sample(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """By a sample of p(z₁|y, z₂), with dead coordinates from N(0, 1)."""
        given = self._given(codes)
        noise = torch.randn(given.mean.shape, generator=generator, device=given.mean.device)
        return self._decode_first(torch.where(self.alive() > 0, given.sample(generator), noise))

    def _given(self, codes: Tensor) -> Normal:
        y, z = codes[:, None].split([self.components, self.latent_dim], -1)
        return self.decoder.given(y, z)

    def _decode_first(self, codes: Tensor) -> Tensor:
        return self.pixels.decode(self.first.decoder.mean_of(codes)[:, 0]).float()
