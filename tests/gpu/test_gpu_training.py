"""The training step on a GPU: it never waits for the device; compiled, or captured in a CUDA graph, it is the same."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segma_fast.distance.mixture import GaussianMixture, initial_means
from segma_fast.trainer.batches import gather
from segma_fast.trainer.config import starting_config
from segma_fast.trainer.loop import train
from segma_fast.trainer.models import MODELS, AutoEncoder, Batch, NetworkConfig, SeGMA, SeGMAConfig
from segma_fast.trainer.side_by_side import train_side_by_side

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


def run(folder: Path, model: str, **options: Any) -> dict[str, Tensor]:
    """Weights after two epochs of the digits in few steps: two networks against each other magnify each rounding."""
    options = {"epochs": 2, "batch_size": 250} | options
    config = dataclasses.replace(starting_config("digits", model=model), run_dir=folder, **options)
    return {name: t.double().cpu() for name, t in train(config, resume=folder.exists()).model.state_dict().items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], most: float = 1e-4) -> None:
    """All weights together: some have no gradient but rounding, of which Adam makes steps of full length."""
    ours, theirs = (torch.cat([weight.flatten() for weight in weights.values()]) for weights in (found, expected))
    assert (ours - theirs).norm() <= most * theirs.norm()


@pytest.mark.parametrize("model", sorted(MODELS))
def test_captured_steps_train_to_the_same_weights(tmp_path: Path, model: str) -> None:
    most = 1e-2 if model in ("amm", "samm") else 1e-4
    assert_same(run(tmp_path / "graph", model), run(tmp_path / "eager", model, cuda_graph=False), most)


def test_captured_steps_resume(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "segma", decay=0.5, decay_every=1)
    run(tmp_path / "parts", "segma", decay=0.5, decay_every=1, epochs=1)
    assert_same(run(tmp_path / "parts", "segma", decay=0.5, decay_every=1), whole)
    assert_same(run(tmp_path / "parts", "segma", decay=0.5, decay_every=1, device="cpu"), whole)  # nothing left to do


def test_side_by_side_trains_to_the_weights_of_each_alone(tmp_path: Path) -> None:
    """Captured steps on a stream for each, with random numbers of its own: M2 samples in each step."""
    configs = []
    for name, seed in (("segma", 0), ("m2", 0), ("m2", 1)):
        base = starting_config("digits", None, name)
        configs.append(dataclasses.replace(base, epochs=3, seed=seed, run_dir=tmp_path / f"{name}{seed}"))
    for config, found in zip(configs, train_side_by_side(configs), strict=True):
        assert not isinstance(found, FloatingPointError)
        alone = train(dataclasses.replace(config, run_dir=tmp_path / "alone" / config.run_dir.name))
        assert_same(found.model.state_dict(), alone.model.state_dict())
