"""Latent operations against the equations, and the pictures' pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segma_fast import GaussianMixture
from segma_fast.trainer import latent
from segma_fast.trainer.figures.grids import GAP, save_grid
from segma_fast.trainer.figures.plots import draw_codes, save_figure
from segma_fast.trainer.metrics import evaluate, mapped_error
from segma_fast.trainer.models import AutoEncoder, NetworkConfig, SeGMA, SeGMAConfig


@pytest.fixture
def model() -> SeGMA:
    means = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
    network = AutoEncoder((1, 4, 4), NetworkConfig(latent_dim=3, hidden=(8,)))
    return SeGMA(network, GaussianMixture(means), SeGMAConfig())


@pytest.fixture
def images() -> Tensor:
    return torch.randint(256, (5, 1, 4, 4), dtype=torch.uint8)


def test_transfer_is_equation_10(model: SeGMA, images: Tensor) -> None:
    source, target = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 1, 0, 2, 0])
    moved = latent.transfer(model, images, source, target, steps=5)
    z = model.encode(images)
    shift = model.prior.means[target] - model.prior.means[source]
    for place, t in enumerate((0, 0.25, 0.5, 0.75, 1)):
        torch.testing.assert_close(moved[:, place], model.decode(z + t * shift))
    own = latent.transfer(model, images, None, target, steps=2)
    torch.testing.assert_close(own, latent.transfer(model, images, latent.classify(model, images), target, steps=2))


def test_transfer_goes_beyond(model: SeGMA, images: Tensor) -> None:
    source, target = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 1, 0, 2, 0])
    moved = latent.transfer(model, images, source, target, steps=4, until=1.5)
    shift = model.prior.means[target] - model.prior.means[source]
    torch.testing.assert_close(moved[:, -1], model.decode(model.encode(images) + 1.5 * shift))
    torch.testing.assert_close(moved[:, 1], model.decode(model.encode(images) + 0.5 * shift))
    for wrong in (float("nan"), float("inf"), 1e39):
        with pytest.raises(ValueError, match=r"until must be from -1e\+06 to 1e\+06, got"):
            latent.transfer(model, images, source, target, until=wrong)


def test_spread_of_samples(model: SeGMA) -> None:
    codes, mean = model.sample(6, 1, generator=torch.Generator().manual_seed(3)), model.prior.means[1]
    for spread in (0.0, 0.5, 2.0):
        drawn = latent.sample_components(model, 6, 1, spread=spread, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(drawn[0], model.decode(mean + spread * (codes - mean)))
    with pytest.raises(ValueError, match="spread must be from 0 to"):
        latent.sample_components(model, 6, 1, spread=-0.1)


def test_the_same_codes_in_every_class(model: SeGMA) -> None:
    codes, means = model.sample(6, 1, generator=torch.Generator().manual_seed(3)), model.prior.means
    drawn = latent.sample_in_every_class(model, 6, 1, generator=torch.Generator().manual_seed(3))
    assert drawn.shape == (6, 3, 1, 4, 4)
    for k in range(3):
        torch.testing.assert_close(drawn[:, k], model.decode(codes - means[1] + means[k]))


def test_intensify_is_equation_11(model: SeGMA, images: Tensor) -> None:
    source, away = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 2, 0, 2, 0])
    moved = latent.intensify(model, images, source, away, alpha=0.7, steps=2)
    shift = model.prior.means[source] - model.prior.means[away]
    torch.testing.assert_close(moved[:, 1], model.decode(model.encode(images) + 0.7 * shift))
    torch.testing.assert_close(moved[:, 0], model.decode(model.encode(images)))


def test_interpolation_runs_from_one_code_to_the_other(model: SeGMA, images: Tensor) -> None:
    first, second = images[:2], images[2:4]
    lines = latent.interpolate(model, first, second, steps=3)
    a, b = model.encode(first), model.encode(second)
    for place, code in enumerate((a, (a + b) / 2, b)):
        torch.testing.assert_close(lines[:, place], model.decode(code))


def test_samples_come_from_their_component(model: SeGMA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "decode", lambda codes: codes.reshape(-1, 1, 1, 3))
    codes = latent.sample_components(model, 4000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(codes.mean(1)[:, 0, 0], model.prior.means.detach(), atol=0.08, rtol=0)
    one = latent.sample_components(model, 4000, component=2)
    assert one.shape[0] == 1
    torch.testing.assert_close(one.mean((0, 1))[0, 0], model.prior.means[2].detach(), atol=0.08, rtol=0)


def test_classify_takes_the_most_probable_component(model: SeGMA, images: Tensor) -> None:
    expected = model.prior.posterior(model.encode(images)).argmax(1)
    assert torch.equal(latent.classify(model, images), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: latent.transfer(m, x, None, torch.full((5,), 3)), r"target must be in 0 \.\.\. 2, got \[3"),
        (lambda m, x: latent.interpolate(m, x, x, steps=1), "steps must be >= 2, got 1"),
        (lambda m, x: latent.interpolate(m, x, x[:2]), "same number of images, got 5 and 2"),
        (lambda m, x: latent.sample_components(m, 0), "n must be >= 1, got 0"),
        (lambda m, x: latent.sample_components(m, 2, component=7), r"component must be in 0 \.\.\. 2, got 7"),
    ],
)
def test_impossible_requests(model: SeGMA, images: Tensor, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(model, images)


def test_plane_keeps_two_dimensions_and_separates_clusters() -> None:
    flat = torch.randn(6, 2)
    points, centres = latent.to_two_dimensions(flat, flat[:3])
    assert torch.equal(points, flat) and torch.equal(centres, flat[:3])
    means = 50 * torch.eye(4)
    labels = torch.arange(4).repeat_interleave(20)
    points, centres = latent.to_two_dimensions(means[labels] + torch.randn(80, 4), means)
    assert torch.equal(torch.cdist(points, centres).argmin(1), labels)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_each_image_in_its_place(tmp_path: Path, channels: int) -> None:
    images = torch.rand(2, 3, channels, 70, 60)
    pixels = np.asarray(Image.open(save_grid(images, tmp_path / "new" / "grid.png")))
    assert pixels.shape[:2] == (2 * (70 + GAP) + GAP, 3 * (60 + GAP) + GAP)
    shown = pixels[GAP + 74 : GAP + 144, GAP + 128 : GAP + 188].reshape(70, 60, -1)
    expected = (images[1, 2] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(shown, expected)
    assert (pixels[:GAP] == 255).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_code_view_is_a_picture(tmp_path: Path) -> None:
    codes, means = torch.randn(40, 2), torch.randn(12, 2)
    names = ["$\\frac$", "_hidden", *map(str, range(10))]
    path = save_figure(draw_codes(codes, torch.arange(40) % 12, means, names, names)[0], tmp_path / "codes.png")
    assert np.asarray(Image.open(path)).std() > 5


def test_evaluation_figures(model: SeGMA) -> None:
    images = torch.randint(256, (1203, 1, 4, 4), dtype=torch.uint8)
    labels = latent.classify(model, images)
    labels[:100] = (labels[:100] + 1) % 3
    result = evaluate(model, images, labels, 3)
    assert result.test_error == pytest.approx(100 / 1203)
    error = (images / 255 - model.decode(model.encode(images))).square().sum((1, 2, 3)).mean().item()
    assert result.reconstruction == pytest.approx(error, rel=1e-5)
    with torch.no_grad():
        assert result.distance == pytest.approx(model.distance(model.encode(images)).item(), rel=1e-5)


def test_mapped_error_takes_the_best_mapping() -> None:
    predicted, labels = torch.tensor([2, 2, 2, 0, 0, 1, 3]), torch.tensor([0, 0, 1, 2, 2, 1, 1])
    assert mapped_error(predicted, labels, components=4, classes=3) == pytest.approx(2 / 7)
    assert mapped_error(torch.zeros(4, dtype=torch.int64), torch.tensor([0, 1, 1, 1]), 1, 2) == pytest.approx(0.25)
