"""AMM and SAMM: networks of every size, the two games, the penalty by hand, and codes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from segma_fast.trainer.config import build_model, starting_config
from segma_fast.trainer.metrics import mapped_error
from segma_fast.trainer.models import Batch, ImageModel, NetworkConfig
from segma_fast.trainer.models.amm import AMM, AMMConfig
from segma_fast.trainer.models.amm_networks import gradient_penalty
from segma_fast.trainer.models.samm import SAMM, SAMMConfig
from segma_fast.trainer.step import make_optimizers

SHAPES = [("dense", (1, 8, 8)), ("dense", (3, 7, 5)), ("mnist", (1, 28, 28)), ("svhn", (3, 32, 32))]


def model(name: str = "samm", shape: tuple[int, int, int] = (1, 8, 8), **settings: object) -> ImageModel:
    kind = SAMMConfig if name == "samm" else AMMConfig
    network = NetworkConfig(latent_dim=5, hidden=(12, 9))
    config = dataclasses.replace(starting_config(model=name), network=network, objective=kind(**settings))
    counts = torch.tensor([1.0, 2, 1, 4]) if name == "samm" else None
    return build_model(config, shape, 4, counts)


def batch(shape: tuple[int, int, int]) -> Batch:
    images = torch.randint(256, (7, *shape), dtype=torch.uint8)
    return Batch(images, torch.tensor([3, 0, 1]), 4, 3)


@pytest.mark.parametrize("factorisation", ["class-first", "code-first"])
@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
def test_shapes_and_games(architecture: str, shape: tuple[int, int, int], factorisation: str) -> None:
    samm = model("samm", shape, architecture=architecture, factorisation=factorisation)
    games = samm.optimizer_groups()
    assert sorted(id(p) for own in games for p in own) == sorted(map(id, samm.parameters()))
    for game, names in enumerate(({"penalty", "real", "fake"}, {"generator"})):
        samm.zero_grad()
        loss, terms = samm(batch(shape), game)
        loss.backward()
        assert loss.isfinite() and set(terms) == names
        assert not any(value.requires_grad or value.ndim for value in terms.values())
        assert all(p.grad is None for p in games[1 - game]) and all(p.requires_grad for p in samm.parameters())
        assert sum(p.grad.abs().sum() for p in games[game] if p.grad is not None).isfinite()
    assert all(p.grad is not None for p in games[1])
    samm.eval()
    codes = samm.encode(torch.rand(6, *shape))
    assert codes.shape == (6, 4 + 5) and codes.dtype == torch.float32
    torch.testing.assert_close(codes[:, :4].sum(1), torch.ones(6))
    images = samm.decode(codes)
    assert images.shape == (6, *shape) and 0 <= images.min() and images.max() <= 1


def test_losses_are_the_equations() -> None:
    amm = model("amm", gradient_penalty=0.0).eval()
    images, labels, *_ = batch((1, 8, 8))
    images = images[:4]
    torch.manual_seed(3)
    losses = [amm(Batch(images, labels[:0], 4, 0), game)[0] for game in (0, 0, 1)]
    torch.manual_seed(3)
    for i, loss in enumerate(losses):
        real = amm.discriminator(images / 255, *amm.encoder(images / 255)).sigmoid()
        fake = amm.discriminator(*amm.synthesise(4)).sigmoid()
        expected = -real.log() - (1 - fake).log() if i < 2 else -(1 - real).log() - fake.log()
        torch.testing.assert_close(loss, expected.mean())
        if i < 2:
            torch.rand(4, 1)  # the places on the lines of the penalty


def test_gradient_penalty_of_a_linear_discriminator() -> None:
    weights = [torch.randn(n, requires_grad=True) for n in (12, 4, 5)]

    def linear(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor, labelled: int) -> torch.Tensor:
        return sum(part.flatten(1) @ w for part, w in zip((x, y, z), weights, strict=True))

    triples = [(torch.rand(6, 1, 3, 4), torch.rand(6, 4), torch.rand(6, 5)) for _ in range(2)]
    penalty = gradient_penalty(linear, *triples)
    expected = (torch.cat(weights).norm() - 1) ** 2
    torch.testing.assert_close(penalty, expected)
    torch.testing.assert_close(torch.autograd.grad(penalty, weights), torch.autograd.grad(expected, weights))


def test_given_classes_reach_the_code_of_class_first_alone() -> None:
    images, one_hot = torch.rand(3, 1, 8, 8), torch.eye(4)
    for factorisation, same in (("class-first", False), ("code-first", True)):
        encoder = model(factorisation=factorisation).eval().encoder
        (y, z), (other_y, other_z) = (encoder(images, one_hot[[k, k]], noise=False) for k in (0, 2))
        assert torch.equal(y[0], other_y[0]) and torch.equal(y[1:], one_hot[[0, 0]])
        assert torch.equal(z[0], other_z[0]) and torch.equal(z[1:], other_z[1:]) == same


def test_codes_of_the_prior() -> None:
    samm = model().eval()
    assert isinstance(samm, SAMM)
    centres = samm.centres()
    assert torch.equal(centres[:, :4], torch.eye(4))
    source, target = torch.tensor([0, 3]), torch.tensor([2, 1])
    assert torch.equal(samm.direction(centres[source], source, target), centres[target] - centres[source])
    one, again = (samm.sample(3000, 2, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, again) and torch.equal(one[:, :4], torch.eye(4)[2].expand(3000, 4))
    torch.testing.assert_close(one[:, 4:].mean(0), centres[2, 4:], atol=0.1, rtol=0)
    torch.testing.assert_close(samm.sample(4000)[:, :4].mean(0), torch.tensor([1, 2, 1, 4]) / 8, atol=0.05, rtol=0)
    with torch.no_grad():
        samm.prior.log_variance.normal_()
    y, bayes = samm.posteriors(one[:50]).values()
    assert torch.equal(y, one[:50, :4])
    deviations = (0.5 * samm.prior.log_variance).exp()
    likelihood = torch.distributions.Normal(centres[:, 4:], deviations).log_prob(one[:50, None, 4:]).sum(2)
    torch.testing.assert_close(bayes, (likelihood + samm.proportions.log()).softmax(1))


def test_generators_have_a_learning_rate_of_their_own() -> None:
    config = starting_config(model="amm").with_options(learning_rate=1e-3, generator_rate=0.3)
    amm = build_model(config, (1, 8, 8), 10)
    discriminator, generators = make_optimizers(amm, config)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in (discriminator, generators)]
    assert rates == [[1e-3], [pytest.approx(3e-4)]]
    assert {id(p) for p in generators.param_groups[0]["params"]} == {id(p) for p in amm.optimizer_groups()[1]}


@pytest.mark.parametrize(("architecture", "shape"), [("mnist", (1, 28, 28)), ("svhn", (3, 32, 32))])
def test_convolutions_without_dropout(architecture: str, shape: tuple[int, int, int]) -> None:
    for dropout in (True, False):
        amm = model("amm", shape, architecture=architecture, dropout=dropout)
        used = max(module.p for module in amm.modules() if isinstance(module, torch.nn.Dropout))
        assert used == (0 if not dropout else 0.2 if architecture == "mnist" else 0.1)


def test_clusters_are_named_by_their_most_frequent_class() -> None:
    assert not model("amm").names_classes(4) and model().names_classes(4)
    predicted, labels = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 0, 0, 1])
    assert mapped_error(predicted, labels, 3, 2, AMM.mapping) == pytest.approx(1 / 6)


def test_wrong_sizes_and_settings_are_named() -> None:
    with pytest.raises(ValueError, match="architecture='svhn' with images of 8x8"):
        model(architecture="svhn")
    conv = dataclasses.replace(starting_config(model="amm"), network=NetworkConfig(network="conv"), components=3)
    with pytest.raises(ValueError, match="network='conv' with images of 8x8"):
        build_model(conv, (1, 8, 8), 10)
    assert build_model(conv, (1, 28, 28), 10).decoder.maps
    with pytest.raises(ValueError, match="components=3 for 4 classes.*model amm"):
        build_model(dataclasses.replace(starting_config(model="samm"), components=3), (1, 8, 8), 4)
    for wrong in (
        {"factorisation": "both"},
        {"gradient_penalty": -1.0},
        {"generator_rate": 0.0},
        {"discriminator": "none"},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be .*{next(iter(wrong.values()))}"):
            SAMMConfig(**wrong)
