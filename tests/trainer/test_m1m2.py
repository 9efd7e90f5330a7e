"""M1+M2: codes that are dead, an M1 that stops, and images that are samples of the whole model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segma_fast.trainer.models import NetworkConfig
from segma_fast.trainer.models.base import Batch
from segma_fast.trainer.models.conditional import Pixels
from segma_fast.trainer.models.m1m2 import M1M2, M1M2Config

NETWORK = NetworkConfig(latent_dim=2, hidden=(5,))
SHAPE, CLASSES = (1, 2, 2), 3


def made(settings: M1M2Config) -> M1M2:
    torch.manual_seed(0)
    return M1M2(Pixels(SHAPE, NETWORK, "binary"), CLASSES, settings, NETWORK)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (5, *SHAPE), generator=generator, dtype=torch.uint8)
    return Batch(pixels, torch.tensor([1, 2]), 3, 2)


def test_codes_that_do_not_depend_on_the_image_are_left_out() -> None:
    """Their second coordinate is dead: M2 sees 0 there, and its loss has no part of it."""
    model = made(M1M2Config())
    assert model.alive().tolist() == [1, 1]  # before anything is known
    with torch.no_grad():
        model.first.encoder.mean.weight[0] *= 5
        model.first.encoder.mean.weight[1] = 0
    for _ in range(500):
        model(batch())
    assert model.alive().tolist() == [1, 0]
    assert (model.observe(batch().images / 255)[..., 1] == 0).all()
    model(batch())[0].backward()
    bias = model.decoder.mean.bias.grad
    assert bias is not None and bias[0] != 0 and bias[1] == 0


def test_the_first_model_has_no_gradient_after_its_steps() -> None:
    model = made(M1M2Config(first_steps=2))

    def largest_gradients() -> tuple[float, float]:
        model.zero_grad()
        model(batch())[0].backward()
        return gradient(model.first), gradient(model.decoder)

    def gradient(part: torch.nn.Module) -> float:
        return max([float(p.grad.abs().max()) for p in part.parameters() if p.grad is not None], default=0.0)

    found = [largest_gradients() for _ in range(4)]
    assert all(first > 0 for first, _ in found[:2]) and all(first == 0 for first, _ in found[2:])
    assert all(p.grad is None for p in model.first.parameters())  # on a CPU they cost nothing
    assert all(second > 0 for _, second in found)
    assert "steps" in model.state_dict()  # so a run that goes on knows
    with pytest.raises(ValueError, match="first_steps must be >= 0, got -1"):
        M1M2Config(first_steps=-1)


def test_samples_of_images_sample_the_layer_between() -> None:
    """p(z₁|y, z₂) with the variance of the model, N(0, 1) in the dead coordinate; the mean of both is what decodes."""
    model = made(M1M2Config())
    model.moments[:, 1] = 0
    seen: list[Tensor] = []
    model._decode_first = lambda codes: seen.append(codes) or codes  # type: ignore[method-assign, func-returns-value]
    codes = model.sample(1, 2).expand(20_000, -1)
    model.decode(codes)
    model.decode_sample(codes, torch.Generator().manual_seed(0))
    mean, drawn = (found[:, 0] for found in seen)
    given = model._given(codes[:1])
    mean, drawn = mean.detach(), drawn.detach()
    assert (mean[:, 1] == 0).all() and torch.equal(mean[0, 0], given.mean[0, 0, 0])
    deviation = (0.5 * given.log_variance[0, 0, 0]).exp().item()
    assert abs(drawn[:, 0].mean() - mean[0, 0]) < 4 * deviation / 20_000**0.5
    assert drawn[:, 0].std() == pytest.approx(deviation, rel=0.03)
    assert abs(drawn[:, 1].mean()) < 0.03 and drawn[:, 1].std() == pytest.approx(1, rel=0.03)
