"""The training step on a GPU: it never waits for the device, and compiled, in a CUDA graph, it is the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from segma_fast.distance.mixture import GaussianMixture, initial_means
from segma_fast.trainer.batches import gather
from segma_fast.trainer.models import AutoEncoder, Batch, NetworkConfig, SeGMA, SeGMAConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def model(precision: str | None = None) -> SeGMA:
    torch.manual_seed(0)
    prior = GaussianMixture(initial_means(10, 10, "simplex", 3.0))
    networks = AutoEncoder((1, 28, 28), NetworkConfig(latent_dim=10, hidden=(256, 256)))
    return SeGMA(networks, prior, SeGMAConfig(precision=precision)).cuda()


def batches(count: int) -> list[Batch]:
    images = torch.randint(256, (2000, 1, 28, 28), dtype=torch.uint8).cuda()
    rows = [torch.randperm(1900)[:100] for _ in range(count)]
    labels = (torch.arange(2000) % 10).cuda()
    return [gather(images, labels, some, torch.arange(1900, 2000)) for some in rows]


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, network: SeGMA) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    torch.nn.utils.clip_grad_value_(network.parameters(), 1.0)
    optimizer.step()


def test_step_never_waits_for_the_device() -> None:
    network, steps = model(), batches(4)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    descend(network(steps[0])[0], optimizer, network)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for step in steps[1:]:
            descend(network(step)[0], optimizer, network)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_compiled_step_trains_to_the_same_weights() -> None:
    network, steps = model("highest"), batches(12)
    twin = copy.deepcopy(network)
    compiled = torch.compile(twin, mode="reduce-overhead")
    for own, forward in ((network, network), (twin, compiled)):
        optimizer = torch.optim.Adam(own.parameters(), fused=True)
        for step in steps:
            descend(forward(step)[0], optimizer, own)
    for a, b in zip(network.parameters(), twin.parameters(), strict=True):
        assert (a - b).norm() <= 1e-3 * a.norm() + 1e-6
