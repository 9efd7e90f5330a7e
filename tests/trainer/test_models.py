"""Auto-encoders, the objective (9) against its terms by hand, and the configurations of the paper and its authors."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segma_fast import GaussianMixture, cw_distance_reference, fast_cw_distance, silverman_gamma
from segma_fast.distance.mixture import initial_means
from segma_fast.trainer.config import build_model, starting_config
from segma_fast.trainer.models import AutoEncoder, Batch, NetworkConfig, SeGMA, SeGMAConfig
from segma_fast.trainer.models.class_gaussians import ClassGaussians
from segma_fast.trainer.models.conditional import Pixels


def segma(objective: SeGMAConfig, components: int = 3) -> SeGMA:
    torch.manual_seed(0)
    network = AutoEncoder((1, 4, 4), NetworkConfig(latent_dim=2, hidden=(8,)))
    proportions = torch.arange(1.0, components + 1)
    return SeGMA(network, GaussianMixture(initial_means(components, 2, "normal", 2.0), proportions), objective)


def batch(unlabelled: int = 7, labelled: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (unlabelled + labelled, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.randint(3, (labelled,), generator=generator), unlabelled, labelled)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 48), (1, 17, 23), (2, 31, 16)])
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_autoencoder_takes_any_image_size(kind: str, shape: tuple[int, int, int]) -> None:
    network = AutoEncoder(shape, NetworkConfig(network=kind, latent_dim=5, hidden=(12, 9), channels=(4, 6, 8, 8)))
    images = torch.rand(3, *shape)
    codes = network.encode(images)
    decoded = network.decode(codes)
    assert codes.shape == (3, 5)
    assert decoded.shape == images.shape
    assert 0 < decoded.min() and decoded.max() < 1
    decoded.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.decoder.parameters())


@pytest.mark.parametrize("model", ["segma", "m2"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 48), (1, 17, 23), (2, 31, 16)])
def test_upsampling_without_a_checkerboard(model: str, shape: tuple[int, int, int]) -> None:
    """Equal features give equal pixels, but for the borders; transposed convolutions tell odd from even pixels."""
    spread = {}
    for upsampling in ("transposed", "nearest"):
        torch.manual_seed(0)
        config = NetworkConfig(network="conv", channels=(4, 6), hidden=(8,), upsampling=upsampling)  # type: ignore[arg-type]
        decoder = Pixels(shape, config, "auto").back if model == "m2" else AutoEncoder(shape, config).decoder
        start = next(i for i, layer in enumerate(decoder) if isinstance(layer, nn.Unflatten))
        decoded = decoder[start + 1 :](torch.ones(1, *decoder[start].unflattened_size)).detach()
        assert decoded.shape == (1, *shape)
        inside = decoded[..., 6:-6, 6:-6]
        spread[upsampling] = float((inside.amax((2, 3)) - inside.amin((2, 3))).max())
    assert spread["nearest"] < 1e-5 and spread["transposed"] > 1e-3


def test_upsampling_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="upsampling must be 'transposed' or 'nearest', got 'bilinear'"):
        NetworkConfig(upsampling="bilinear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="upsampling='nearest' is for network='conv', got network='dense'"):
        NetworkConfig(upsampling="nearest")
    config = starting_config("digits", model="amm").with_options(network="conv", upsampling="nearest")
    with pytest.raises(ValueError, match="upsampling must be 'transposed' for the model 'amm', got 'nearest'"):
        build_model(config, (1, 8, 8), 10)


def layer_sizes(module: nn.Module) -> list[int]:
    kinds = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
    return [m.out_channels if not isinstance(m, nn.Linear) else m.out_features for m in module if isinstance(m, kinds)]


@pytest.mark.parametrize(
    ("experiment", "shape", "encoder", "decoder"),
    [
        ("mnist", (1, 28, 28), [1024, 1024, 10], [1024, 1024, 784]),
        ("svhn", (3, 32, 32), [786] * 5 + [20], [786] * 5 + [3072]),
        ("celeba", (3, 64, 64), [32, 32, 64, 64, 786, 786, 32], [786, 786, 1024, 64, 32, 32, 3]),
    ],
)
def test_networks_of_the_paper(
    experiment: str, shape: tuple[int, int, int], encoder: list[int], decoder: list[int]
) -> None:
    network = AutoEncoder(shape, starting_config(experiment).network)
    assert layer_sizes(network.encoder) == encoder
    assert layer_sizes(network.decoder) == decoder


def test_glorot_uniform_start() -> None:
    weight = AutoEncoder((1, 28, 28), NetworkConfig(hidden=(1024,))).encoder[1].weight
    bound = math.sqrt(6 / (784 + 1024))
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_image_too_small_for_the_convolutions() -> None:
    with pytest.raises(ValueError, match=r"4 convolutions .* at least 16 pixels a side, got 8x8: at most 3 fit"):
        AutoEncoder((1, 8, 8), NetworkConfig(network="conv"))


@pytest.mark.parametrize("rows", ["all", "unlabelled"])
def test_objective_is_equation_9(rows: str) -> None:
    model = segma(SeGMAConfig(alpha=2.0, beta=3.0, rows=rows))
    images, labels, *_ = given = batch()
    loss, terms = model(given)
    images = images / 255
    counted = images if rows == "all" else images[:7]
    codes = model.autoencoder.encode(counted)
    mse = (counted - model.autoencoder.decode(codes)).square().sum((1, 2, 3)).mean()
    prior = model.prior
    gamma = silverman_gamma(len(counted), 3)
    distance = cw_distance_reference(codes, prior.means, prior.proportions, gamma=gamma)
    logits = torch.stack(
        [
            torch.log(p) + torch.distributions.MultivariateNormal(m, torch.eye(2)).log_prob(model.encode(images[7:]))
            for p, m in zip(prior.proportions, prior.means, strict=True)
        ],
        1,
    )
    entropy = F.cross_entropy(logits, labels)
    torch.testing.assert_close(loss, mse + 2 * distance.log() + 3 * entropy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(terms["reconstruction"], mse.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(terms["cross_entropy"], entropy.detach(), rtol=1e-5, atol=1e-6)
    assert not any(value.requires_grad for value in terms.values())


def test_unlabelled_rows_alone_give_no_cross_entropy() -> None:
    _, terms = segma(SeGMAConfig(beta=0.0))(batch(labelled=0))
    assert "cross_entropy" not in terms


@pytest.mark.parametrize(("experiment", "gamma"), [("mnist", 0.4467), ("svhn", 0.1778), ("celeba", 0.2126)])
def test_bandwidth_of_the_authors(experiment: str, gamma: float) -> None:
    config = starting_config(experiment, "authors")
    components = 4 if experiment == "celeba" else 10
    assert config.objective.gamma_rows == "unlabelled"
    assert silverman_gamma(config.batch_size, components) == pytest.approx(gamma, abs=5e-5)


@pytest.mark.parametrize("phi", ["approx", "exact"])
def test_form_of_phi_reaches_the_distance(phi: str) -> None:
    model = segma(SeGMAConfig(phi=phi))
    codes, gamma = torch.randn(20, 2), silverman_gamma(20, 3)
    prior = (model.prior.means, model.prior.proportions, model.prior.variances, gamma)
    assert torch.equal(model.distance(codes), fast_cw_distance(codes, *prior, phi=phi))


def test_gamma_rows_and_fixed_gamma_reach_the_distance() -> None:
    values = [
        segma(SeGMAConfig(gamma=gamma, gamma_rows=rows))(batch())[1]["log_distance"].item()
        for gamma, rows in [
            (None, "unlabelled"),
            (silverman_gamma(7, 3), "distance"),
            (None, "distance"),
            (silverman_gamma(12, 3), "distance"),
        ]
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert values[2] == pytest.approx(values[3], rel=1e-6)
    assert values[0] != pytest.approx(values[2], rel=1e-3)


def test_model_is_built_for_the_data() -> None:
    config = starting_config("digits")
    counts = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 5])
    model = build_model(config, (1, 8, 8), 10, counts)
    torch.testing.assert_close(model.prior.proportions, counts / 50)
    assert model.prior.components == 10
    wrong = dataclasses.replace(config, components=4)
    with pytest.raises(ValueError, match=r"components=4 for 10 classes.*beta"):
        build_model(wrong, (1, 8, 8), 10)


def test_classes_are_fitted_to_codes_once_there_is_a_fit() -> None:
    """Before it, and for the rules of the paper and without labels, equation (7) alone; a saved model keeps its fit."""
    torch.manual_seed(0)
    config = starting_config("digits")
    labels, images = torch.arange(300) % 10, torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8)
    model = build_model(config, (1, 8, 8), 10, torch.full((10,), 5))
    codes = model.encode(images)
    assert list(model.posteriors(codes)) == ["equation (7)"]
    model.settle(images, labels, torch.arange(50, 300), torch.arange(50))
    fitted, mixture = model.posteriors(codes).values()
    assert list(model.posteriors(codes)) == ["normal distributions of classes", "equation (7)"]
    alone = ClassGaussians(10, codes.shape[1])
    alone.fit(codes[50:], codes[:50], labels[:50])
    torch.testing.assert_close(fitted, alone.posterior(codes))
    torch.testing.assert_close(mixture, model.prior.posterior(codes))
    again = build_model(config, (1, 8, 8), 10)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(next(iter(again.posteriors(codes).values())), fitted)
    for preset, beta in (("paper", 10.0), ("authors", 10.0), (None, 0.0)):
        other = starting_config("digits", preset)
        other = dataclasses.replace(other, objective=dataclasses.replace(other.objective, beta=beta))
        without = build_model(other, (1, 8, 8), 10, torch.full((10,), 5))
        without.settle(images, labels, torch.arange(50, 300), torch.arange(50))
        assert list(without.posteriors(codes)) == ["equation (7)"]
