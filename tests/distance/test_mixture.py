"""The prior: densities and posteriors against torch.distributions, samples by their moments, starting means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from segma_fast import GaussianMixture
from segma_fast.distance.mixture import initial_means

PROPORTIONS = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
VARIANCES = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
MEANS = torch.tensor([[0.0, 1, 2, -1], [3, 0, 0, 1], [-2, 2, -2, 0]], dtype=torch.float64)


@pytest.fixture
def mixture() -> GaussianMixture:
    return GaussianMixture(MEANS, PROPORTIONS, VARIANCES)


def components() -> Independent:
    return Independent(Normal(MEANS, VARIANCES.sqrt()[:, None].expand(3, 4)), 1)


@pytest.mark.parametrize("shape", [(4,), (6, 4), (2, 5, 4)])
def test_density_and_posterior(mixture: GaussianMixture, shape: tuple[int, ...]) -> None:
    z = 2 * torch.randn(shape, dtype=torch.float64)
    expected = MixtureSameFamily(Categorical(PROPORTIONS), components()).log_prob(z)
    joint = components().log_prob(z[..., None, :]) + PROPORTIONS.log()
    assert mixture.log_prob(z).shape == shape[:-1]
    assert torch.allclose(mixture.log_prob(z), expected)
    assert torch.allclose(mixture.joint_log_prob(z), joint)
    assert torch.allclose(mixture.posterior(z), joint.exp() / joint.exp().sum(-1, keepdim=True))
    assert torch.allclose(mixture.log_posterior(z), joint - expected[..., None])


def test_posterior_far_from_every_mean(mixture: GaussianMixture) -> None:
    mixture.set_proportions(torch.tensor([0.0, 1.0, 1.0]))
    for z in (torch.full((1, 4), 1e4, dtype=torch.float64), MEANS):
        assert torch.allclose(mixture.posterior(z).sum(-1), torch.ones(len(z), dtype=torch.float64))
        assert not mixture.posterior(z)[:, 0].any()
        assert mixture.log_prob(z).isfinite().all()


def test_gradients_reach_codes_and_means(mixture: GaussianMixture) -> None:
    z = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, _: mixture.log_posterior(z), (z, mixture.means))
    assert [name for name, _ in mixture.named_parameters()] == ["means"]


def test_moments_of_samples(mixture: GaussianMixture) -> None:
    n = 100_000
    z = mixture.sample(n, generator=torch.Generator().manual_seed(0)).detach()
    mean = PROPORTIONS @ MEANS
    spread = (PROPORTIONS * VARIANCES).sum() * torch.eye(4) + (MEANS - mean).mT @ (
        PROPORTIONS[:, None] * (MEANS - mean)
    )
    assert z.dtype == torch.float64
    assert torch.allclose(z.mean(0), mean, atol=6 * math.sqrt(spread.diagonal().max() / n))
    assert torch.allclose(z.mT.cov(), spread, atol=0.1)
    assert torch.allclose(mixture.posterior(z).mean(0), PROPORTIONS, atol=0.01)


@pytest.mark.parametrize("component", [0, 2])
def test_samples_of_one_component(mixture: GaussianMixture, component: int) -> None:
    z = mixture.sample(50_000, component, generator=torch.Generator().manual_seed(0)).detach()
    assert torch.allclose(z.mean(0), MEANS[component], atol=0.05)
    assert torch.allclose(z.var(0), VARIANCES[component], rtol=0.05)


def test_samples_of_given_components() -> None:
    mixture = GaussianMixture(MEANS, variances=1e-12)
    wanted = torch.tensor([2, 0, 1, 1])
    assert torch.allclose(mixture.sample(4, wanted), MEANS[wanted], atol=1e-4)
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert torch.equal(mixture.sample(9, generator=seeds[0]), mixture.sample(9, generator=seeds[1]))
    assert mixture.sample(0).shape == mixture.sample(0, 1).shape == (0, 4)


@pytest.mark.parametrize("n, component", [(-1, None), (3, 3), (3, -1), (2, torch.tensor([0, 5]))])
def test_bad_samples(mixture: GaussianMixture, n: int, component: int | Tensor | None) -> None:
    with pytest.raises(ValueError, match="n must be >= 0, got -1" if n < 0 else r"component must be in 0 ... 2, got"):
        mixture.sample(n, component)


def test_proportions(mixture: GaussianMixture) -> None:
    assert torch.allclose(GaussianMixture(MEANS).proportions, torch.full((3,), 1 / 3, dtype=torch.float64))
    mixture.set_proportions(torch.tensor([1, 3, 4]))
    assert torch.allclose(mixture.proportions, torch.tensor([0.125, 0.375, 0.5], dtype=torch.float64))
    assert torch.equal(mixture.state_dict()["proportions"], mixture.proportions)
    for bad in ([1, 2], [-1, 1, 1], [0, 0, 0], [math.nan, 1, 1], [math.inf, 1, 1]):
        with pytest.raises(ValueError, match=r"proportions must be \(3,\) numbers >= 0, not all 0, got"):
            mixture.set_proportions(torch.tensor(bad))
    assert mixture.proportions[2] == 0.5
    for array in (np.array([1, 3, 4])[::-1], np.array([4, 3, 1], ">f8"), np.array([4, 3, 1], np.uint64)):
        mixture.set_proportions(array)  # type: ignore[arg-type]
        assert mixture.proportions.tolist() == [0.5, 0.375, 0.125]


@pytest.mark.parametrize("variances", [0.0, -1.0, math.nan, math.inf, torch.ones(2), torch.tensor([1.0, 0.0, 1.0])])
def test_bad_mixtures(variances: float | Tensor) -> None:
    with pytest.raises(ValueError, match="variances must be"):
        GaussianMixture(MEANS, variances=variances)
    for means in (MEANS[0], MEANS[:0], MEANS[:, :0]):
        with pytest.raises(ValueError, match=r"means must have shape \(K, D\)"):
            GaussianMixture(means)


@pytest.mark.parametrize(
    "means",
    [None, MEANS.tolist(), MEANS.numpy(), MEANS.int(), MEANS + 0j, MEANS.to_sparse(), MEANS.to(torch.float8_e4m3fn)],
)
def test_means_of_another_type(means: Any) -> None:
    with pytest.raises(TypeError, match="means must (be a|have a real)"):
        GaussianMixture(means)


NOT_NUMBERS = (
    "x",
    b"5",
    {},
    1j,
    [None],
    ["1"],
    [[1, 2], [3]],
    [True, False, True],
    torch.ones(3, dtype=torch.bool),
    torch.ones(3) + 0j,
    torch.ones(3).to_sparse(),
    torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.quint8),
)


@pytest.mark.parametrize("wrong", NOT_NUMBERS)
def test_what_holds_no_numbers(mixture: GaussianMixture, wrong: Any) -> None:
    for name, call in (
        ("proportions", lambda: GaussianMixture(MEANS, wrong)),
        ("proportions", lambda: mixture.set_proportions(wrong)),
        ("variances", lambda: GaussianMixture(MEANS, variances=wrong)),
        ("component", lambda: mixture.sample(3, wrong)),
    ):
        with pytest.raises(TypeError, match=f"{name} must"):
            call()


def test_numbers_in_lists_and_arrays() -> None:
    for kind in (list, tuple, np.array, torch.tensor):
        mixture = GaussianMixture(MEANS, kind([1, 3, 4]), kind([0.1, 2.0, 3.0]))
        assert torch.equal(mixture.proportions, torch.tensor([0.125, 0.375, 0.5], dtype=torch.float64))
        assert mixture.variances[0].item() == pytest.approx(0.1, abs=1e-7)
    assert GaussianMixture(MEANS, variances=[0.1, 0.1, 0.1]).variances[0].item() == 0.1
    with pytest.raises(ValueError, match=r"proportions must be \(3,\) numbers"):
        GaussianMixture(MEANS, [0.5, 0.5])


def test_without_values() -> None:
    """Shapes alone, as for a model that is built on another device later."""
    mixture = GaussianMixture(MEANS.to("meta"), [1, 2, 3], 2.0)
    assert mixture.variances.shape == mixture.proportions.shape == (3,) and mixture.variances.is_meta
    with pytest.raises(ValueError, match="variances and means must be on one device, got meta and cpu"):
        GaussianMixture(MEANS, variances=torch.ones(3, device="meta"))


def test_numbers_of_samples(mixture: GaussianMixture) -> None:
    for wrong in (2.5, 2.0, True, np.True_, "2", None, torch.tensor(2)):
        with pytest.raises(TypeError, match="n must be an int, got"):
            mixture.sample(wrong)
    assert mixture.sample(np.int64(3)).shape == (3, 4)
    assert mixture.sample(3, np.int64(1)).shape == mixture.sample(3, [0, 1, 2]).shape == (3, 4)
    for floats in (1.5, 1.0, [0.0, 1.0], torch.ones(2)):
        with pytest.raises(TypeError, match="component must be integers, got"):
            mixture.sample(2, floats)
    for shape in ((3,), (1,), (2, 1)):
        with pytest.raises(ValueError, match=r"component must be one integer or \(2,\) of them, got shape"):
            mixture.sample(2, torch.ones(shape, dtype=torch.int64))
    with pytest.raises(TypeError, match="generator must be a torch.Generator or None, got int"):
        mixture.sample(2, generator=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.uint16, torch.int32])
def test_components_of_any_integer_dtype(dtype: torch.dtype) -> None:
    """A tensor of bytes is no mask."""
    wanted = torch.tensor([1, 0, 1])
    assert torch.allclose(GaussianMixture(MEANS, variances=1e-12).sample(3, wanted.to(dtype)), MEANS[wanted], atol=1e-4)


@pytest.mark.parametrize(
    "z, error, message",
    [
        ([[0.0] * 4], TypeError, "z must be a torch.Tensor"),
        (torch.ones(2, 4, dtype=torch.int64), TypeError, "z must have a real floating-point dtype, got torch.int64"),
        (torch.ones(2, 4) + 0j, TypeError, "z must have a real .* got torch.complex64"),
        (torch.ones(2, 4).to_sparse(), TypeError, "z must be a dense"),
        (torch.tensor(1.0), ValueError, r"z must have 4 columns, got shape \(\)"),
        (torch.ones(2, 4, device="meta"), ValueError, "z and means must be on one device, got meta and cpu"),
    ],
)
def test_codes_of_another_type(mixture: GaussianMixture, z: Any, error: type[Exception], message: str) -> None:
    for method in (mixture.joint_log_prob, mixture.log_prob, mixture.posterior, mixture.log_posterior):
        with pytest.raises(error, match=message):
            method(z)


def test_codes_of_another_dimension(mixture: GaussianMixture) -> None:
    for method in (mixture.log_prob, mixture.posterior, mixture.log_posterior):
        with pytest.raises(ValueError, match=r"z must have 4 columns, got shape \(2, 5\)"):
            method(torch.zeros(2, 5, dtype=torch.float64))


def test_means_are_copied() -> None:
    start = MEANS.clone()
    mixture = GaussianMixture(start)
    start.zero_()
    assert torch.equal(mixture.means.detach(), MEANS)
    assert (mixture.components, mixture.dim) == (3, 4)


@pytest.mark.parametrize(
    "components, dim, scale, norm", [(10, 10, 0.1, 0.10), (10, 20, 2.0, 1.41), (4, 32, 1.0, 0.354), (3, 7, 1.0, None)]
)
def test_means_on_coordinates(components: int, dim: int, scale: float, norm: float | None) -> None:
    means = initial_means(components, dim, "coordinates", scale)
    own = torch.arange(dim) % components == torch.arange(components)[:, None]
    assert means.shape == (components, dim) and means.dtype == torch.float32
    assert (means - own * scale * components / dim).abs().max() < 6e-3
    assert norm is None or torch.allclose(means.norm(dim=1), torch.full((components,), norm), atol=8e-3)


def test_means_on_coordinates_at_the_edges() -> None:
    assert not initial_means(1, 5).any()
    assert initial_means(400, 10, "coordinates", 0.1).std().item() == pytest.approx(0.1, rel=0.05)


def test_other_starting_means() -> None:
    generator = torch.Generator().manual_seed(0)
    assert initial_means(300, 20, "normal", 0.5, generator=generator).std().item() == pytest.approx(0.5, rel=0.05)
    sphere = initial_means(50, 7, "sphere", 3.0, generator=generator)
    assert torch.allclose(sphere.norm(dim=1), torch.full((50,), 3.0))
    for components, dim in ((2, 1), (4, 3), (5, 9), (8, 7)):
        simplex = initial_means(components, dim, "simplex", 2.0)
        gaps = torch.pdist(simplex)
        assert simplex.shape == (components, dim)
        assert torch.allclose(simplex.norm(dim=1), torch.full((components,), 2.0))
        assert torch.allclose(gaps, gaps.mean().expand_as(gaps), rtol=1e-4)
        assert torch.allclose(simplex.sum(0), torch.zeros(dim), atol=1e-5)
    assert not initial_means(1, 4, "simplex").any()


def test_bad_starting_means() -> None:
    for shape, name in (((0, 3), "components"), ((3, 0), "dim")):
        with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
            initial_means(*shape)
    for wrong in (2.0, True, "2", None, torch.tensor(2)):
        for numbers, name in (((wrong, 3), "components"), ((3, wrong), "dim")):
            with pytest.raises(TypeError, match=f"{name} must be an int, got"):
                initial_means(*numbers)
    for scale, error in ((math.nan, ValueError), (math.inf, ValueError), ("x", TypeError), (1j, TypeError)):
        with pytest.raises(error, match="scale must be"):
            initial_means(3, 3, scale=scale)
    with pytest.raises(TypeError, match="generator must be a torch.Generator or None, got int"):
        initial_means(3, 3, generator=0)
    assert initial_means(np.int64(2), np.int32(5), scale=np.float32(2)).shape == (2, 5)
    with pytest.raises(ValueError, match="a simplex in 3 dimensions has 4 corners, got components=5"):
        initial_means(5, 3, "simplex")
    with pytest.raises(ValueError, match="init=None is unknown"):
        initial_means(3, 3, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="init='cube' is unknown.*simplex"):
        initial_means(3, 3, "cube")  # type: ignore[arg-type]
