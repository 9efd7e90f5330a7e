"""Micro-batches: the gradient of the whole batch, the same random numbers twice, and bounded memory."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

from segma_fast import fast_cw_distance, large_batch, sigreg
from segma_fast.distance.mixture import GaussianMixture, initial_means
from segma_fast.trainer.models import AutoEncoder, Batch, NetworkConfig, SeGMA, SeGMAConfig

ENCODERS = {
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)),
    "conv": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.Linear(144, 3)),
    "batch-norm in evaluation": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3)).eval(),
}


def gradients(encoder: nn.Module, micro_batch: int | None, rows: int = 23) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of an encoder's weights, its inputs and means, by distance, variance and a term of means."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(rows, 1, 8, 8, generator=generator).requires_grad_()
    means = torch.randn(4, 3, generator=generator).requires_grad_()
    codes = large_batch.encode(encoder, images, micro_batch=micro_batch)
    loss = fast_cw_distance(codes, means, log=True) + codes.var() + means.square().sum()
    leaves = [*encoder.parameters(), images, means]
    return loss.detach(), list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("micro_batch", [1, 4, 22, 23, 1000])
@pytest.mark.parametrize("name", ENCODERS)
def test_gradient_is_that_of_the_whole_batch(name: str, micro_batch: int) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS[name]()
    loss, expected = gradients(encoder, None)
    found_loss, found = gradients(encoder, micro_batch)
    torch.testing.assert_close(found_loss, loss, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_several_inputs_and_outputs_and_further_losses() -> None:
    layer, x, scale = nn.Linear(5, 2), torch.randn(11, 5), torch.rand(11, 1)

    def both(rows: Tensor, factor: Tensor) -> list[Tensor]:
        codes = layer(rows) * factor
        return [codes, codes.square().sum(1)]

    found = []
    for micro_batch in (None, 3):
        codes, errors = large_batch.encode(both, x, scale, micro_batch=micro_batch)
        loss = errors.mean() + fast_cw_distance(codes, torch.zeros(1, 2))
        found.append(torch.autograd.grad(loss, list(layer.parameters())))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("options", [{"views": 2}, {"groups": torch.arange(24) % 5}])
def test_pairs_that_are_left_out_may_be_in_two_micro_batches(options: dict[str, Any]) -> None:
    layer, views = nn.Linear(5, 2), torch.randn(2, 12, 5)
    found = []
    for micro_batch in (None, 7):
        codes = large_batch.encode(layer, views.flatten(0, 1), micro_batch=micro_batch)
        found.append(torch.autograd.grad(sigreg(codes, **options), list(layer.parameters())))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)


def test_dropout_draws_the_same_numbers_again() -> None:
    weight, x = torch.ones(6, requires_grad=True), torch.rand(50, 6) + 1
    dropout = nn.Dropout(0.5)
    codes = large_batch.encode(lambda rows: dropout(rows * weight), x, micro_batch=7)
    torch.rand(1000)  # other draws in between
    factors = torch.rand(50, 6)
    (codes * factors).sum().backward()
    kept = codes.detach() != 0
    assert 0.3 < kept.float().mean() < 0.7 and len(kept.unique(dim=0)) > 10
    torch.testing.assert_close(weight.grad, (2 * kept * x * factors).sum(0))


def test_autocast_is_replayed_and_no_gradient_costs_one_pass() -> None:
    calls = 0
    layer, x = nn.Linear(4, 2), torch.randn(9, 4)

    def encoder(rows: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        codes: Tensor = layer(rows)
        assert codes.dtype == torch.bfloat16
        return codes

    with torch.autocast("cpu", torch.bfloat16):
        codes = large_batch.encode(encoder, x, micro_batch=3)
        with torch.no_grad():
            large_batch.encode(encoder, x, micro_batch=3)
    assert calls == 6
    fast_cw_distance(codes, torch.zeros(1, 2)).backward()
    assert calls == 9 and layer.weight.grad is not None


class Holder:
    """An object that is no module, holds one deep inside, and encodes by a function of a function."""

    def __init__(self, network: nn.Module) -> None:
        self.networks = {"inner": [network]}

    def encode(self, x: Tensor) -> Tensor:
        return (lambda rows: self.networks["inner"][0](rows))(x)


@pytest.mark.parametrize("micro_batch", [4, 100])
@pytest.mark.parametrize("wrap", ["module", "method", "lambda", "partial", "held", "compiled"])
def test_batch_norm_in_training_is_refused(wrap: str, micro_batch: int) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    wrapped = {
        "module": network,
        "method": network.forward,
        "lambda": lambda x: network(x),
        "partial": functools.partial(lambda x, scale: network(x) * scale, scale=2),
        "held": functools.partial(Holder(network).encode),
        "compiled": torch.compile(network, backend="eager"),
    }[wrap]
    with pytest.raises(ValueError, match=r"BatchNorm1d.* in training.*group or layer norm"):
        large_batch.encode(wrapped, torch.randn(8, 4), micro_batch=micro_batch)
    assert large_batch.encode(wrapped, torch.randn(8, 4), micro_batch=None).shape == (8, 4)
    network.eval()
    assert large_batch.encode(wrapped, torch.randn(8, 4), micro_batch=micro_batch).shape == (8, 4)


class Unregistered(nn.Module):
    """A module whose layers are in a plain list."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("micro_batch", [4, 100])
def test_batch_norm_that_no_module_shows_is_refused(micro_batch: int) -> None:
    x, weight, calls = torch.randn(8, 4), torch.randn(4, 4, requires_grad=True), []

    def later(rows: Tensor) -> Tensor:
        calls.append(rows)
        return norm(rows @ weight) if len(calls) > 1 or micro_batch > 4 else rows @ weight

    norm = nn.BatchNorm1d(4)
    encoders = {
        "unregistered": Unregistered(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        "a function": lambda rows: nn.functional.batch_norm(rows @ weight, None, None, training=True),
        "scripted": torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))).forward,
        "in a later micro-batch": later,
    }
    for encoder in encoders.values():
        with pytest.raises(ValueError, match=r"got (a batch norm|BatchNorm1d.*) in training"):
            large_batch.encode(encoder, x, micro_batch=micro_batch)
    unregistered = Unregistered(nn.Linear(4, 4), nn.BatchNorm1d(4).eval())
    assert large_batch.encode(unregistered, x, micro_batch=micro_batch).shape == (8, 4)


def test_batch_norm_before_the_encoder_is_that_of_the_whole_batch() -> None:
    features = nn.BatchNorm1d(4)(torch.randn(8, 4))
    expected = features.sum()
    assert torch.allclose(large_batch.encode(nn.Identity(), features, micro_batch=4).sum(), expected)
    by_number = large_batch.encode(lambda rows: features[rows], torch.arange(8), micro_batch=4)
    assert torch.allclose(by_number.sum(), expected)


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_is_no_batch_norm(affine: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3, affine=affine))
    images = torch.randn(5, 3, 4, 4)
    for encoder in (network, lambda rows: network(rows)):
        assert torch.allclose(large_batch.encode(encoder, images, micro_batch=2), network(images), atol=1e-6)


def test_compiled_module_inside_a_function_stays_compiled() -> None:
    counter = torch._dynamo.testing.CompileCounter()
    network = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), backend=counter, fullgraph=True)
    for _ in range(3):
        large_batch.encode(lambda rows: network(rows), torch.randn(8, 4), micro_batch=4).sum().backward()
    assert counter.frame_count == 1
    norm = torch.compile(nn.BatchNorm1d(4), backend="eager")
    with pytest.raises(ValueError, match="BatchNorm1d.* in training"):
        large_batch.encode(lambda rows: norm(rows), torch.randn(8, 4), micro_batch=4)


def test_layers_that_work_in_place() -> None:
    x = torch.randn(9, 4)
    kept = x.clone()
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))
    expected = torch.autograd.grad(network(x.clone()).square().sum(), list(network.parameters()))
    for wants_gradient in (False, True):
        x.requires_grad_(wants_gradient)
        found = large_batch.encode(network, x, micro_batch=4)
        for ours, theirs in zip(
            torch.autograd.grad(found.square().sum(), list(network.parameters())), expected, strict=True
        ):
            torch.testing.assert_close(ours, theirs)
        assert torch.equal(x.detach(), kept)


def test_distributed_data_parallel_encoder_is_refused(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        encoder = nn.parallel.DistributedDataParallel(nn.Linear(4, 2))
        with pytest.raises(ValueError, match="wrapped in DistributedDataParallel.*forward calls large_batch.encode"):
            large_batch.encode(encoder, torch.randn(8, 4), micro_batch=4)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("inputs", "micro_batch", "error", "message"),
    [
        ((torch.ones(4, 2),), 0, ValueError, "micro_batch must be >= 1, got 0"),
        *(
            ((torch.ones(4, 2),), wrong, TypeError, "micro_batch must be an int or None, got")
            for wrong in (2.0, "2", True, np.True_, torch.tensor(2), np.ones(1))
        ),
        ((torch.ones(4, 2), torch.ones(3)), 2, ValueError, r"same number of rows, got \[4, 3\]"),
        ((), 2, TypeError, "at least one tensor"),
        (([1, 2],), 2, TypeError, "inputs must be a torch.Tensor .* got list"),
        ((torch.ones(4, 2).to_sparse(),), 2, TypeError, "inputs must be a dense torch.Tensor, got .*sparse_coo"),
        ((torch.tensor(1.0),), 2, ValueError, r"inputs must have rows, got a tensor of shape \(\)"),
    ],
)
def test_wrong_arguments(inputs: tuple[object, ...], micro_batch: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        large_batch.encode(lambda *x: x[0], *inputs, micro_batch=micro_batch)


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_encoder_that_is_none(micro_batch: int | None) -> None:
    with pytest.raises(TypeError, match="encoder must be a module or function, got NoneType"):
        large_batch.encode(None, torch.ones(4, 2), micro_batch=micro_batch)


def test_numpy_number_of_rows() -> None:
    assert large_batch.encode(nn.Linear(2, 3), torch.ones(4, 2), micro_batch=np.int64(3)).shape == (4, 3)


@pytest.mark.parametrize("micro_batch", [None, 2, 10])
@pytest.mark.parametrize(
    ("encoder", "error", "message"),
    [
        (lambda x: {"codes": x}, TypeError, "tuple of them, got dict"),
        (lambda x: (x, None), TypeError, "got a tuple with NoneType"),
        (lambda x: x.mean(), ValueError, r"one row for each input row, got shape \(\) for"),
        (lambda x: (x, x.mean(0, keepdim=True)), ValueError, r"got shape \(1, 2\) for [24] rows"),
    ],
)
def test_wrong_output_is_named(encoder: Any, error: type, message: str, micro_batch: int | None) -> None:
    with pytest.raises(error, match=message):
        large_batch.encode(encoder, torch.ones(4, 2), micro_batch=micro_batch)


@pytest.mark.parametrize("rows", ["all", "unlabelled"])
@pytest.mark.parametrize("network", ["dense", "conv"])
def test_objective_in_micro_batches(network: str, rows: str) -> None:
    torch.manual_seed(0)
    autoencoder = AutoEncoder((1, 8, 8), NetworkConfig(network, 3, (16,), channels=(4, 4)))
    model = SeGMA(autoencoder, GaussianMixture(initial_means(3, 3, "normal", 2.0)), SeGMAConfig(rows=rows))
    images = torch.randint(256, (30, 1, 8, 8), dtype=torch.uint8)
    labels = torch.randint(3, (11,))
    found = []
    for micro_batch in (None, 4, 17):
        loss, terms = model(Batch(images, labels, 19, 11, micro_batch))
        found.append([loss.detach(), *terms.values(), *torch.autograd.grad(loss, list(model.parameters()))])
    for other in found[1:]:
        for ours, whole in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_is_that_of_a_micro_batch() -> None:
    root = Path(__file__).parents[2]

    def peak(batch: int, micro_batch: int) -> float:
        command = [sys.executable, "-m", "benchmarks.suites.test_large_batch", str(batch), str(micro_batch)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout)
        return float(found["extra_mb"])

    small, large, at_once = peak(256, 128), peak(1536, 128), peak(1536, 0)
    assert large - small < 0.2 * (at_once - small), (small, large, at_once)
