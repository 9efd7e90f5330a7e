"""The variational models: bounds and likelihood against integrals on a grid, and what their codes mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from segma_fast.trainer.models import ImageModel, NetworkConfig
from segma_fast.trainer.models.adgm import ADGM, ADGMConfig
from segma_fast.trainer.models.base import Batch
from segma_fast.trainer.models.cagem import CaGeM, CaGeMConfig
from segma_fast.trainer.models.conditional import Pixels
from segma_fast.trainer.models.m1 import M1, M1Layer
from segma_fast.trainer.models.m1m2 import M1M2, M1M2Config
from segma_fast.trainer.models.m2 import M2
from segma_fast.trainer.models.variational import VariationalConfig, VariationalModel

SHAPE, CLASSES = (1, 2, 2), 3
NETWORK = NetworkConfig(latent_dim=1, hidden=(7,))
GRID = torch.linspace(-7, 7, 281, dtype=torch.float64)
STEP = 14 / 280

INFERENCE = {"encoder", "classifier", "top_encoder", "auxiliary"}


def pixels() -> Pixels:
    return Pixels(SHAPE, NETWORK, "binary")


def m2() -> M2:
    return M2(pixels(), CLASSES, VariationalConfig(), NETWORK)


def m1m2() -> M1M2:
    return M1M2(pixels(), CLASSES, M1M2Config(first_hidden=(5, 6)), NETWORK)


def m1m2_of_dead_codes() -> M1M2:
    model = m1m2()
    model.moments.zero_()
    return model


def adgm(skip: bool = False) -> ADGM:
    return ADGM(pixels(), CLASSES, ADGMConfig(skip=skip), NETWORK)


def cagem() -> CaGeM:
    return CaGeM(pixels(), CLASSES, CaGeMConfig(top_dim=1), NETWORK)


def m1() -> M1:
    ends = pixels()
    return M1(ends, M1Layer(ends.size, NETWORK), CLASSES)


BUILDERS: dict[str, Callable[[], ImageModel]] = {
    "m1": m1,
    "m2": m2,
    "m1m2": m1m2,
    "dead": m1m2_of_dead_codes,
    "adgm": adgm,
    "skip": lambda: adgm(skip=True),
    "cagem": cagem,
}


def made(name: str) -> ImageModel:
    torch.manual_seed(3)
    model = BUILDERS[name]().double()
    for path, parameter in model.named_parameters():
        inference = any(part in INFERENCE for part in path.split("."))
        torch.nn.init.normal_(parameter, std=0.15 if inference else 0.4)
        if inference and path.endswith("log_variance.bias"):
            parameter.data += 0.8  # wide proposals, or the importance weights have no variance
    return model


def images() -> Tensor:
    return (torch.arange(5)[:, None, None, None] * torch.tensor([[3, 1], [7, 2]]) // 4 % 2).double()


def normal(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    deviation = torch.exp(0.5 * log_variance)
    return torch.distributions.Normal(mean, deviation).log_prob(values).sum(-1)


def log_bernoulli(logits: Tensor) -> Tensor:
    """log p of every image, (N, points), given logits (points, pixels)."""
    observed = images().flatten(1)[:, None].expand(-1, len(logits), -1)
    return torch.distributions.Bernoulli(logits=logits.expand_as(observed)).log_prob(observed).sum(-1)


@torch.no_grad()
def exact_log_likelihood(model: ImageModel) -> Tensor:
    """log p(x) by integrating the generative model alone over a grid."""
    z = GRID[:, None]
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(GRID)
    total = []
    if isinstance(model, M1):
        found: Tensor = log_bernoulli(model.layer.decoder.mean_of(z)) + prior
        return (found.exp() * STEP).sum(-1).log()
    for y in torch.eye(CLASSES, dtype=torch.float64):
        label = y.expand(len(z), -1)
        if isinstance(model, CaGeM):
            p_of_y = (model.top_classifier.mean_of(z).softmax(-1) * y).sum(-1)
            density = model.prior.given(label, z)
            p_of_z1 = normal(z[:, None], density.mean, density.log_variance).exp()  # (z1, z2)
            mixed = (p_of_z1 * (prior.exp() * p_of_y) * STEP).sum(-1)
            total.append(log_bernoulli(model.decoder.mean_of(label, z)).exp() @ mixed * STEP)
        elif isinstance(model, M1M2) and not model.alive():  # N(0, 1)
            total.append(log_bernoulli(model.first.decoder.mean_of(z)).exp() @ prior.exp() * STEP / CLASSES)
        elif isinstance(model, M1M2):
            density = model.decoder.given(label, z)
            p_of_z1 = normal(z[:, None], density.mean, density.log_variance).exp()
            mixed = (p_of_z1 * prior.exp() * STEP).sum(-1) / CLASSES
            total.append(log_bernoulli(model.first.decoder.mean_of(z)).exp() @ mixed * STEP)
        elif isinstance(model, ADGM) and model.skip:
            a, of_z = GRID[:, None].repeat(len(GRID), 1), z.repeat_interleave(len(GRID), 0)
            label = y.expand(len(a), -1)
            density = model.auxiliary_prior.given(label, of_z)
            weight = normal(a, density.mean, density.log_variance).exp() * prior.repeat_interleave(len(GRID)).exp()
            likelihood = log_bernoulli(model.decoder.mean_of(label, of_z, a)).exp()
            total.append(likelihood @ weight * STEP**2 / CLASSES)
        else:
            assert isinstance(model, M2 | ADGM)
            total.append(log_bernoulli(model.decoder.mean_of(label, z)).exp() @ prior.exp() * STEP / CLASSES)
    return torch.stack(total).sum(0).log()


@pytest.mark.parametrize("name", BUILDERS)
def test_importance_weights_find_the_likelihood_of_the_generative_model(name: str) -> None:
    model = made(name)
    exact = exact_log_likelihood(model).detach()
    estimate = model.log_likelihood(images().repeat(2000, 1, 1, 1), 10, torch.Generator().manual_seed(1))
    assert estimate is not None
    mean = estimate.reshape(2000, -1).logsumexp(0) - math.log(2000)
    torch.testing.assert_close(mean, exact, rtol=0, atol=0.04)
    few = model.log_likelihood(images().repeat(2000, 1, 1, 1), 1, torch.Generator().manual_seed(1))
    assert few is not None
    mean = few.reshape(2000, -1).mean(0)
    assert (mean < exact + 0.05).all() and (mean < exact - 0.01).any()  # one sample is a bound


@pytest.mark.parametrize("name", ["m2", "m1m2", "adgm", "skip", "cagem"])
def test_bounds_of_the_loss_are_below_the_likelihood(name: str) -> None:
    model = made(name)
    assert isinstance(model, VariationalModel)
    exact = exact_log_likelihood(model).mean()
    rows = torch.arange(5).repeat(4000)
    pixels = (255 * images()).to(torch.uint8)
    model = model.float()
    _, terms = model(Batch(pixels[rows], rows[:0], len(rows), 0))
    unlabelled = terms["bound"]
    weight = model.below(images().float())[1].mean() if name == "m1m2" else 0.0  # M1's part of the bound
    assert unlabelled + weight < exact + 0.1
    both = pixels[torch.cat([rows[:5], rows])]
    given = [Batch(both, torch.full_like(rows, k), 5, len(rows)) for k in range(CLASSES)]
    each = [model(batch)[1]["labelled_bound"] for batch in given]
    assert torch.stack(each).logsumexp(0) + weight < exact + 0.1  # log p(x, y) of all classes


@pytest.mark.parametrize("name", BUILDERS)
def test_codes_decode_move_and_come_from_their_class(name: str) -> None:
    model = made(name).float().eval()
    pictures = images().float()
    if isinstance(model, M1):  # whose classes are learnt from labelled codes
        rows = torch.arange(5)
        model.settle((255 * pictures).to(torch.uint8), torch.tensor([0, 1, 2, 0, 1]), rows, rows)
    codes = model.encode(pictures)
    assert torch.equal(codes, model.encode(pictures))
    decoded = model.decode(codes)
    assert decoded.shape == pictures.shape and 0 <= decoded.min() and decoded.max() <= 1
    for posterior in model.posteriors(codes).values():
        torch.testing.assert_close(posterior.sum(1), torch.ones(5))
    source, target = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 1, 0, 2, 2])
    shift = model.direction(codes, source, target)
    assert shift.shape == codes.shape and (shift[1] == 0).all() and (shift[[0, 2, 3, 4]] != 0).any(1).all()
    torch.testing.assert_close(shift + model.direction(codes, target, source), torch.zeros_like(shift))
    drawn = model.sample(6, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn, model.sample(6, 2, generator=torch.Generator().manual_seed(0)))
    if not isinstance(model, M1):
        assert (drawn[:, :CLASSES] == torch.tensor([0.0, 0.0, 1.0])).all()
    assert model.sample(4, generator=torch.Generator().manual_seed(0)).shape == (4, codes.shape[1])
    assert model.sample(0).shape == (0, codes.shape[1]) and model.centres().shape == (CLASSES, codes.shape[1])
    with pytest.raises(ValueError, match=r"component must be in 0 ... 2, got 3"):
        model.sample(2, 3)


@pytest.mark.parametrize("name", BUILDERS)
def test_log_likelihood_is_exact_in_mixed_precision(name: str) -> None:
    model = made(name).float()
    with torch.autocast("cpu", torch.bfloat16):
        half = model.log_likelihood(images().float(), 3, torch.Generator().manual_seed(0))
    whole = model.log_likelihood(images().float(), 3, torch.Generator().manual_seed(0))
    assert half is not None and whole is not None and half.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0, atol=0.1)


def test_pixels_of_colour_images_are_normal() -> None:
    assert Pixels((1, 4, 4), NETWORK, "auto").kind == "binary"
    pixels = Pixels((3, 2, 2), NETWORK, "auto")
    assert pixels.kind == "gaussian" and torch.equal(pixels.observed(rgb := torch.rand(2, 3, 2, 2)), rgb)
    logits = torch.randn(2, 5, 12)
    expected = torch.distributions.Normal(logits.sigmoid(), 1.0).log_prob(rgb.flatten(1)[:, None]).sum(-1)
    torch.testing.assert_close(pixels.log_prob(rgb, logits), expected)


def test_a_class_that_the_top_layer_excludes_has_a_gradient() -> None:
    model = made("cagem").float()
    assert isinstance(model, CaGeM)
    with torch.no_grad():
        model.top_classifier.mean.bias[0] = -200.0
    x = model.pixels.features(images().float())
    loss = model.other_cross_entropy(x, model.infer(x)[0], torch.zeros(5, dtype=torch.int64))
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_class_is_sampled_where_the_top_layer_says_it_is() -> None:
    """z₂ of a class against p(z₂|y) ∝ p(z₂) p(y|z₂) on a grid."""
    model = made("cagem").float()
    assert isinstance(model, CaGeM)
    drawn = model.split(model.sample(20_000, 1, generator=torch.Generator().manual_seed(0)))[2][:, 0]
    grid = GRID.float()
    density = torch.exp(-grid.square() / 2) * model.top_classifier.mean_of(grid[:, None]).softmax(-1)[:, 1]
    density = density / density.sum()
    mean = (density * grid).sum()
    assert abs(drawn.mean() - mean) < 0.05
    assert abs(drawn.std() - (density * (grid - mean).square()).sum().sqrt()) < 0.05


def test_divergence_of_the_top_layer() -> None:
    """Against the divergence of torch's distributions, each class by its probability; 0 where z₂ ignores its inputs."""
    model = made("cagem").float()
    assert isinstance(model, CaGeM)
    found = model.top_divergence(images().float(), torch.Generator().manual_seed(3))
    x = model.pixels.features(images().float())
    (z1, _), log_q = model.infer(x, torch.Generator().manual_seed(3))
    top = model.top_encoder.given(x, model.one_hot[None], z1)
    prior, posterior = (
        torch.distributions.Normal(0.0, 1.0),
        torch.distributions.Normal(top.mean, top.log_variance.exp().sqrt()),
    )
    expected = (log_q.exp() * torch.distributions.kl_divergence(posterior, prior).sum(-1)).sum(1)
    assert expected.min() > 0.01
    torch.testing.assert_close(found, expected)
    assert model.top_encoder.log_variance is not None
    with torch.no_grad():
        for layer in (model.top_encoder.mean, model.top_encoder.log_variance):
            layer.weight.zero_()
            layer.bias.zero_()
    assert model.top_divergence(images().float(), torch.Generator().manual_seed(3)).abs().max() == 0
