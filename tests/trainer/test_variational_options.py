"""Options of the variational models' loss: weights, warm-up, batch norm, several samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segma_fast.trainer.models import NetworkConfig
from segma_fast.trainer.models.adgm import ADGM, ADGMConfig
from segma_fast.trainer.models.base import Batch, Task
from segma_fast.trainer.models.cagem import CaGeM
from segma_fast.trainer.models.conditional import Pixels
from segma_fast.trainer.models.m2 import M2
from segma_fast.trainer.models.variational import VariationalConfig, VariationalModel

SHAPE, CLASSES = (1, 2, 2), 3
NETWORK = NetworkConfig(latent_dim=1, hidden=(7,))


def pixels() -> Pixels:
    return Pixels(SHAPE, NETWORK, "binary")


def images() -> Tensor:
    return (torch.arange(5)[:, None, None, None] * torch.tensor([[3, 1], [7, 2]]) // 4 % 2).double()


@pytest.mark.parametrize("weight", [None, 0.25])
def test_weight_of_the_labelled_bound(weight: float | None) -> None:
    task = Task((1, 2, 2), CLASSES, CLASSES, True, torch.tensor([2, 1, 1]), rows=40)
    losses = []
    for settings in (VariationalConfig(labelled_weight=weight), VariationalConfig(labelled_weight=0.0)):
        torch.manual_seed(0)
        model = M2.build(settings, NETWORK, task)
        torch.manual_seed(1)
        loss, terms = model(Batch((255 * images()).to(torch.uint8), torch.tensor([1, 2]), 3, 2))
        losses.append(loss)
    expected = -(0.1 if weight is None else weight) * terms["labelled_bound"]  # 4 labels of 40 rows
    torch.testing.assert_close(losses[0] - losses[1], expected)
    assert ADGMConfig().labelled_weight == 1
    with pytest.raises(ValueError, match="labelled_weight must be finite and >= 0, got -1"):
        VariationalConfig(labelled_weight=-1)


@pytest.mark.parametrize("kind", [M2, ADGM, CaGeM])
def test_latent_terms_warm_up(kind: type[VariationalModel]) -> None:
    """Their weight is 1/2, then 1 for ever in training with 2 steps of it; a bound is linear in the weight."""

    def bounds(warm_up: int, steps: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = kind(pixels(), CLASSES, kind.Config(warm_up=warm_up), NETWORK)
        found = []
        for _ in range(steps):
            torch.manual_seed(1)
            _, terms = model(Batch((255 * images()).to(torch.uint8), torch.tensor([1, 2]), 3, 2))
            found.append(torch.stack([terms["bound"], terms["labelled_bound"]]))
        model.eval()
        torch.manual_seed(1)
        found.append(
            torch.stack(
                list(model(Batch((255 * images()).to(torch.uint8), torch.tensor([1, 2]), 3, 2))[1].values())[:2]
            )
        )
        return found

    cold, whole = bounds(10**7, 1)
    half, *rest = bounds(2, 3)
    torch.testing.assert_close(half, (cold + whole) / 2)
    assert all(torch.equal(one, whole) for one in rest)
    assert torch.equal(bounds(0, 1)[0], whole)
    with pytest.raises(ValueError, match="warm_up must be >= 0, got -1"):
        VariationalConfig(warm_up=-1)


@pytest.mark.parametrize("kind", [M2, ADGM, CaGeM])
def test_batch_norm_of_the_networks(kind: type[VariationalModel]) -> None:
    torch.manual_seed(0)
    model = kind(pixels(), CLASSES, kind.Config(batch_norm=True), NETWORK)
    batch = Batch((255 * images()).to(torch.uint8), torch.tensor([1, 2]), 3, 2)
    for _ in range(3):
        model(batch)[0].backward()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert len(norms) >= 3 and all(norm.num_batches_tracked >= 3 for norm in norms)
    assert all(norm.weight.grad is not None for norm in norms)
    model.eval()
    torch.testing.assert_close(model.encode(images().float())[:2], model.encode(images().float()[:2]))


@pytest.mark.parametrize("kind", [M2, ADGM, CaGeM])
def test_running_statistics_are_those_of_rows_without_labels(kind: type[VariationalModel]) -> None:
    """In evaluation rows go through with every class; labelled rows do not and are always the same."""
    found = []
    rows = (255 * images()).to(torch.uint8)
    for known, labels in ((rows[3:], [1, 2]), (rows[3:], [0, 1]), (255 - rows[3:], [1, 2])):
        torch.manual_seed(0)
        model = kind(pixels(), CLASSES, kind.Config(batch_norm=True), NETWORK)
        start = [value.clone() for name, value in model.named_buffers() if "running" in name]
        model(Batch(torch.cat([rows[:3], known]), torch.tensor(labels), 3, 2))[0].backward()
        found.append([value for name, value in model.named_buffers() if "running" in name])
    assert all(not torch.equal(*both) for both in zip(start, found[0], strict=True))
    for others in found[1:]:
        torch.testing.assert_close(others, found[0], rtol=0, atol=0)


@pytest.mark.parametrize("kind", [M2, ADGM, CaGeM])
def test_bounds_are_means_over_samples(kind: type[VariationalModel]) -> None:
    """Of one step with 4,000 samples a row, and of 4,000 rows with one: the same mean, and gradients of all."""
    found = []
    rows = (255 * images()).to(torch.uint8)
    for samples, copies in ((4000, 1), (1, 4000)):
        torch.manual_seed(0)
        model = kind(pixels(), CLASSES, kind.Config(samples=samples), NETWORK)
        free, known = rows[:3].repeat(copies, 1, 1, 1), rows[3:].repeat(copies, 1, 1, 1)
        _, terms = model(Batch(torch.cat([free, known]), torch.tensor([1, 2]).repeat(copies), len(free), len(known)))
        found.append(torch.stack([terms["bound"], terms["labelled_bound"]]))
    torch.testing.assert_close(found[0], found[1], atol=0.1, rtol=0)
    with pytest.raises(ValueError, match="samples must be >= 1, got 0"):
        VariationalConfig(samples=0)
