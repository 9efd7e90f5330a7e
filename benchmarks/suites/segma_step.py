"""SeGMA's training step: its time with each backend, and the share of the distance in it.

The network is that of ``--experiment mnist`` (dense), the images are noise of that size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from segma_fast.bench.records import Record
from segma_fast.bench.timing import take_turns
from segma_fast.distance.mixture import GaussianMixture, initial_means
from segma_fast.trainer.config import EXPERIMENTS
from segma_fast.trainer.models import AutoEncoder, Batch, NetworkConfig, SeGMA, SeGMAConfig
from segma_fast.trainer.models.base import as_pixels, squared_error

NETWORK: NetworkConfig = EXPERIMENTS["mnist"]["network"]
SHAPE, COMPONENTS, LABELLED = (1, 28, 28), 10, 100
STEPS = 5  # after which the weights are compared
SECONDS = 2.0  # of timing for one backend at one batch


@dataclass
class Step:
    """A model of its own and its optimiser; a call is one step on the same images."""

    model: SeGMA
    optimizer: torch.optim.Optimizer
    images: Tensor
    labels: Tensor

    @classmethod
    def make(cls, batch: int, backend: str, device: torch.device) -> Step:
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        prior = GaussianMixture(initial_means(COMPONENTS, NETWORK.latent_dim, "simplex", 5.0))
        model = SeGMA(AutoEncoder(SHAPE, NETWORK), prior, SeGMAConfig(backend=backend)).to(device)  # type: ignore[arg-type]
        images = torch.randint(256, (batch, *SHAPE), dtype=torch.uint8, generator=generator).to(device)
        labels = (torch.arange(LABELLED) % COMPONENTS).to(device)
        return cls(model, torch.optim.Adam(model.parameters(), 3e-4, fused=True), images, labels)

    def __call__(self) -> None:
        labelled = len(self.labels)
        loss, _ = self.model(Batch(self.images, self.labels, len(self.images) - labelled, labelled))
        self._descend(loss)

    def bare(self) -> None:
        """The same step with encoder, decoder and loss called one after the other."""
        unlabelled = len(self.images) - len(self.labels)
        pixels = as_pixels(self.images)
        codes, settings = self.model.autoencoder.encode(pixels), self.model.settings
        counted = codes if settings.rows == "all" else codes[:unlabelled]
        errors = squared_error(pixels[: len(counted)], self.model.autoencoder.decode(counted))
        loss = errors.mean() + settings.alpha * self.model.distance(counted, unlabelled, log=True)
        posterior = self.model.prior.log_posterior(codes[unlabelled:])
        self._descend(loss + settings.beta * torch.nn.functional.nll_loss(posterior, self.labels))

    def distance(self) -> Callable[[], Any]:
        """Value and gradients of the step's distance alone."""
        with torch.no_grad():
            codes = self.model.encode(self.images)
        inputs = (codes.requires_grad_(), *(p for p in self.model.prior.parameters() if p.requires_grad))
        return lambda: torch.autograd.grad(self.model.distance(codes, log=True), inputs, allow_unused=True)

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten().double().cpu() for p in self.model.parameters()])


def measure(batch: int, backends: list[str], device: torch.device) -> list[Record]:
    """A record of each backend: seconds a step, the distance's share, and how far the weights are from the first's."""
    steps = {backend: Step.make(batch, backend, device) for backend in backends}
    for step in steps.values():
        for _ in range(STEPS):
            step()
    first = steps[backends[0]].weights()
    apart = {name: ((step.weights() - first).norm() / first.norm()).item() for name, step in steps.items()}
    distances = {f"{name}'s distance": step.distance() for name, step in steps.items()}
    for distance in distances.values():
        distance()
    times = take_turns({**steps, **distances}, SECONDS, device)
    found = []
    for name in backends:
        whole, part = times[name].summary(), times[f"{name}'s distance"].summary()
        record = Record("training", name, batch, NETWORK.latent_dim, COMPONENTS, device.type, difference=apart[name])
        found.append(replace(record, **whole, share=part["median_s"] / whole["median_s"]))
    return found
