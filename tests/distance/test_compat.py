"""Other people's interfaces: cw-torch against the package itself, gmum/cwae-pytorch against its formulas by hand."""

from __future__ import annotations

import math
from typing import Any

import cw_torch.gamma
import cw_torch.metric
import pytest
import torch
from cases import DEVICE, relative_error
from torch import Tensor

import segma_fast.compat.cw_torch as ours_package
from segma_fast import cw_normality, silverman_gamma
from segma_fast.compat import cwae
from segma_fast.compat.cw_torch import gamma as ours_gamma
from segma_fast.compat.cw_torch import metric as ours

SHAPES = [(1, 4), (2, 2), (7, 3), (64, 10), (129, 33), (300, 257), (40, 1000)]
PUBLIC = ("cw", "cw_normality", "cw_normality_no_scale", "silverman_rule_of_thumb", "silverman_rule_of_thumb_sample")


def sample(rows: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (1.3 * torch.randn(rows, dim, generator=generator, dtype=torch.float64) + 0.2).to(DEVICE, dtype)


def with_gradients(function: object, *inputs: Tensor) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    value = function(*leaves)  # type: ignore[operator]
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert relative_error(a, b) <= tolerance or (a - b).norm() <= 1e-9


def test_every_public_name_is_there() -> None:
    for theirs, module in ((cw_torch.metric, ours), (cw_torch.gamma, ours_gamma)):
        names = {name for name in vars(theirs) if not name.startswith("_")} - {"Union", "torch"}
        assert names == set(module.__all__)
    assert set(PUBLIC) == set(ours_package.__all__)
    assert cw_torch.metric.cw_normality_scale_factor == pytest.approx(ours.cw_normality_scale_factor, abs=1e-11)
    assert cw_torch.metric.cw_scale_factor == pytest.approx(ours.cw_scale_factor, abs=1e-11)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 2e-4)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["cw_normality", "cw_normality_no_scale"])
def test_normality_is_that_of_cw_torch(name: str, shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    for gamma in (0.05, 0.7, 30.0):
        inputs = (sample(*shape, dtype=dtype), torch.tensor(gamma, dtype=dtype, device=DEVICE))
        theirs = with_gradients(getattr(cw_torch.metric, name), *(tensor.double() for tensor in inputs))
        assert_same(with_gradients(getattr(ours, name), *inputs), [t.to(dtype) for t in theirs], tolerance)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_two_samples_are_those_of_cw_torch(shape: tuple[int, int]) -> None:
    for gamma in (0.05, 0.7, 30.0):
        inputs = (sample(*shape), sample(*shape, seed=1) + 0.5, torch.tensor(gamma, dtype=torch.float64, device=DEVICE))
        assert_same(with_gradients(ours.cw, *inputs), with_gradients(cw_torch.metric.cw, *inputs), 1e-8)


def test_bandwidths_are_those_of_cw_torch() -> None:
    deviation, count = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), torch.tensor(50)
    for arguments in ((deviation, count), (deviation, 50), (0.7, 50)):
        found = ours_gamma.silverman_rule_of_thumb(*arguments)
        assert torch.equal(found, cw_torch.gamma.silverman_rule_of_thumb(*arguments))
    points = sample(30, 4)
    theirs = with_gradients(cw_torch.gamma.silverman_rule_of_thumb_sample, points)
    assert_same(with_gradients(ours_gamma.silverman_rule_of_thumb_sample, points), theirs, 1e-12)
    for wrong in ((torch.ones(2), 3), (-1.0, 3), (1.0, 0)):
        with pytest.raises(ValueError, match="must be one number"):
            ours_gamma.silverman_rule_of_thumb(*wrong)


def test_known_values() -> None:
    zeros_and_ones = torch.stack([torch.zeros(32), torch.ones(32)]).to(DEVICE)
    half = torch.tensor(0.5)
    assert ours.cw_normality(zeros_and_ones, half).item() == pytest.approx(0.05858594277, rel=1e-6)
    assert ours.cw_normality_no_scale(zeros_and_ones, half).item() == pytest.approx(0.20768175975, rel=1e-6)
    zeros = torch.zeros(8, 32, device=DEVICE)
    assert ours.cw_normality_no_scale(zeros, torch.tensor(1.0)).item() == pytest.approx(0.07411361933, rel=1e-5)


def test_an_integer_tensor_is_a_bandwidth() -> None:
    points, other, one = sample(50, 6), sample(50, 6, 1), torch.tensor(1)
    for name, inputs in (("cw_normality", [points]), ("cw_normality_no_scale", [points]), ("cw", [points, other])):
        theirs = getattr(cw_torch.metric, name)(*inputs, one)
        assert relative_error(getattr(ours, name)(*inputs, one), theirs) <= 1e-6
    assert torch.equal(cwae.cw(points, one), cwae.cw(points, 1.0))
    assert torch.equal(cwae.cw_sampling(points, other, one), cwae.cw_sampling(points, other, 1.0))


def test_bandwidth_in_a_graph() -> None:
    def scaled(points: Tensor) -> Tensor:
        return points.sum() * ours_gamma.silverman_rule_of_thumb(1.5, points.shape[0])

    points = sample(50, 3)
    found = torch.compile(scaled, fullgraph=True, backend="eager")(points)
    assert relative_error(found, scaled(points)) <= 1e-12


def test_inputs_that_the_original_does_not_mean() -> None:
    points = sample(9, 3)
    for function, columns in ((cwae.cw_1d, 1), (cwae.cw_2d, 2)):
        with pytest.raises(ValueError, match=rf"{columns} columns, got shape \(9, 3\)"):
            function(points, 0.5)
    with pytest.raises(TypeError, match="y must have a real floating-point dtype, got torch.complex64"):
        cwae.cw(points, torch.tensor(0.5 + 3j))


@pytest.mark.parametrize("wrong", [None, [[1.0, 2.0]], "x", 3, torch.ones(4, 1, dtype=torch.int64)])
def test_errors_have_the_names_of_the_originals(wrong: Any) -> None:
    points = sample(4, 1)
    for name, call in (
        ("X", lambda: cwae.cw(wrong)),
        ("X", lambda: cwae.cw_1d(wrong)),
        ("X", lambda: cwae.cw_2d(wrong)),
        ("first_sample", lambda: cwae.cw_sampling(wrong, points)),
        ("second_sample", lambda: cwae.cw_sampling(points, wrong)),
        ("sample", lambda: ours.cw_normality(wrong, 1.0)),
        ("sample", lambda: ours.cw_normality_no_scale(wrong, 1.0)),
        ("first_sample", lambda: ours.cw(wrong, points, 1.0)),
        ("second_sample", lambda: ours.cw(points, wrong, 1.0)),
        ("target_sample", lambda: ours_gamma.silverman_rule_of_thumb_sample(wrong)),
    ):
        with pytest.raises(TypeError, match=f"^{name} must (be a torch.Tensor|have a real)"):
            call()
    for call in (ours.cw, cwae.cw_sampling):
        with pytest.raises(ValueError, match="^first_sample and second_sample must have the same number of columns"):
            call(points, sample(4, 2), 1.0)


@pytest.mark.parametrize("wrong", ["x", True, 1j, [1.0], torch.ones(()).to(torch.float8_e5m2), torch.tensor(1j)])
def test_errors_of_bandwidths_have_the_names_of_the_originals(wrong: Any) -> None:
    points = sample(4, 1)
    for name, call in (
        ("y", lambda: cwae.cw(points, wrong)),
        ("y", lambda: cwae.cw_1d(points, wrong)),
        ("y", lambda: cwae.cw_sampling(points, points, wrong)),
        ("gamma", lambda: ours.cw_normality(points, wrong)),
        ("gamma", lambda: ours.cw(points, points, wrong)),
        ("sample_stddev", lambda: ours_gamma.silverman_rule_of_thumb(wrong, 3)),
        ("sample_count", lambda: ours_gamma.silverman_rule_of_thumb(1.0, wrong)),
    ):
        with pytest.raises(TypeError, match=f"^{name} must (be a number|have a real)"):
            call()
    with pytest.raises(TypeError, match="gamma must be a number or a torch.Tensor, got None"):
        ours.cw_normality(points, None)
    with pytest.raises(ValueError, match=r"target_sample must hold two numbers or more in rows, got shape \(1, 1\)"):
        ours_gamma.silverman_rule_of_thumb_sample(points[:1])


def test_where_cw_torch_fails() -> None:
    points = sample(50, 6)
    with pytest.raises(AttributeError):
        cw_torch.metric.cw_normality(points, 0.5)
    assert torch.equal(ours.cw_normality(points, 0.5), ours.cw_normality(points, torch.tensor(0.5)))
    halves = points.half()
    assert relative_error(ours.cw_normality(halves, 0.5), ours.cw_normality(halves.double(), 0.5)) <= 1e-4
    line = sample(50, 1)
    assert cw_torch.metric.cw_normality(line, torch.tensor(0.5)).isnan()
    assert relative_error(ours.cw_normality(line, 0.5), cwae.cw_1d(line, 0.5)) <= 1e-12


def hand_cw(x: Tensor, y: Tensor | float) -> Tensor:
    """Equation (4) as gmum/cwae-pytorch scales it."""
    n, dim = x.shape
    y = torch.as_tensor(y, dtype=x.dtype, device=x.device)
    slope = 1 / (2 * dim - 3)
    pairs = (x[:, None] - x).square().sum(2)
    own = (y + slope * pairs).rsqrt().sum() / n**2
    return (1 + y).rsqrt() + own - 2 / n * (y + 0.5 + slope * x.square().sum(1)).rsqrt().sum()


@pytest.mark.parametrize("shape", [(5, 8), (64, 10), (129, 33), (7, 2)])
def test_cwae_against_its_formula(shape: tuple[int, int]) -> None:
    x = sample(*shape)
    default = (4 / (3 * shape[0])) ** 0.4
    assert_same(with_gradients(cwae.cw, x), with_gradients(lambda z: hand_cw(z, default), x), 1e-9)
    y = torch.tensor(0.3, dtype=torch.float64, device=DEVICE)
    assert_same(with_gradients(cwae.cw, x, y), with_gradients(hand_cw, x, y), 1e-9)
    other = sample(*shape, seed=1)
    expected = with_gradients(lambda a, b: ours.cw(a, b, silverman_gamma(shape[0])), x, other)
    assert_same(with_gradients(cwae.cw_sampling, x, other), expected, 1e-12)


def test_cwae_in_one_and_two_dimensions() -> None:
    x = sample(60, 1)
    y = torch.tensor(0.3, dtype=torch.float64, device=DEVICE)

    def hand(x: Tensor, y: Tensor) -> Tensor:
        def density(gap: Tensor, variance: Tensor) -> Tensor:
            return (2 * math.pi * variance).rsqrt() * torch.exp(-(gap**2) / (2 * variance))

        zero = torch.zeros_like(y)
        return density(x - x.mT, 2 * y).mean() + density(zero, 2 + 2 * y) - 2 * density(x, 1 + 2 * y).mean()

    assert_same(with_gradients(cwae.cw_1d, x, y), with_gradients(hand, x, y), 1e-9)
    assert torch.equal(cwae.cw_1d(x[:, 0], y), cwae.cw_1d(x, y))
    plane = sample(60, 2)
    expected = 2 * math.sqrt(math.pi) * cw_normality(plane, y, phi="exact")
    assert relative_error(cwae.cw_2d(plane, y), expected) <= 1e-12
    assert cwae.cw_2d(plane).isfinite()


def test_cwae_choice() -> None:
    assert [cwae.cw_choose(dim) for dim in (1, 2, 5, 8, 100)] == [cwae.cw_1d, cwae.cw_2d, cwae.cw, cwae.cw, cwae.cw]
    with pytest.raises(ValueError, match="z_dim must be >= 1, got 0"):
        cwae.cw_choose(0)
    for wrong in (2.0, True, "2", None, torch.tensor(2)):
        with pytest.raises(TypeError, match="z_dim must be an int, got"):
            cwae.cw_choose(wrong)
