"""slices=R: in each direction the exact distance in one dimension, unbiased over directions, in every backend."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import BACKENDS, DEVICE, evaluate, near_optimum, relative_error, seeded
from torch import Tensor

from segma_fast import CWDistanceLoss, CWNormalityLoss, SIGReg, cw_normality, fast_cw_distance, large_batch, sigreg
from segma_fast.distance.slices.directions import draw_directions, project
from segma_fast.distance.slices.operators import WAVES

SLICED = [name for name in ("reference", *WAVES) if name in BACKENDS]
SWIFT = [name for name in SLICED if name != "triton" or DEVICE.type != "cpu"]  # not interpreted


def one_by_one(z: Tensor, means: Tensor, *others: Any, slices: int, drawn_in: torch.dtype = torch.float64) -> Tensor:
    """The mean of the distances in one dimension, along the directions that a call in ``drawn_in`` draws."""
    directions = draw_directions(z.shape[1], slices, z.to(drawn_in), seeded())
    projected = [project(points, directions.to(points.dtype), slices).unbind(1) for points in (z, means)]
    pairs = zip(*projected, strict=True)
    return torch.stack([fast_cw_distance(x[:, None], y[:, None], *others, phi="exact") for x, y in pairs]).mean()


def mixture(dim: int, m: int = 70, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    z, means = near_optimum(m, 3, dim)
    weights = torch.tensor([0.2, 0.3, 0.5])
    variances = torch.tensor([0.4, 1.0, 0.0])
    return [tensor.to(DEVICE, dtype) for tensor in (z, means, weights, variances, torch.tensor(0.3))]


@pytest.mark.interpreted
@pytest.mark.parametrize("name", SLICED)
@pytest.mark.parametrize("dim", [2, 10, 63, 64, 100])
def test_each_direction_has_the_exact_distance_in_one_dimension(dim: int, name: str) -> None:
    points = mixture(dim)
    slices = 2 * dim + 3 if dim < 64 else 7
    options = {"slices": slices, "backend": name}
    expected, exact = evaluate(one_by_one, points, slices=slices)
    sliced: Callable[..., Tensor] = lambda *given, **more: fast_cw_distance(*given, phi="exact", **more)  # noqa: E731
    value, gradients = evaluate(sliced, points, generator=seeded(), **options)
    assert relative_error(value, expected) <= 1e-10
    for found, wanted in zip(gradients, exact, strict=True):
        assert relative_error(found, wanted) <= 1e-8


@pytest.mark.parametrize("name", SWIFT)
@pytest.mark.parametrize(("dtype", "near", "nearer"), [(torch.float32, 2e-5, 2e-4), (torch.float64, 1e-11, 1e-9)])
@pytest.mark.parametrize(("gamma", "spread", "m"), [(0.5, 1.0, 401), (0.01, 1.0, 130), (0.5, 8.0, 65), (40.0, 1.0, 9)])
def test_frequencies_suffice(
    gamma: float, spread: float, m: int, dtype: torch.dtype, near: float, nearer: float, name: str
) -> None:
    """Also for narrow kernels and codes spread far beyond the target."""
    z = spread * torch.randn(m, 5, dtype=torch.float64)
    origin = z.new_zeros(1, 5)
    unsliced, options = (origin, None, 1.0, gamma), {"phi": "exact", "slices": 11, "backend": name}
    expected, (exact,) = evaluate(lambda z: one_by_one(z, *unsliced, slices=11, drawn_in=dtype), (z,))
    value, (gradient,) = evaluate(lambda z: cw_normality(z, gamma, generator=seeded(), **options), (z.to(dtype),))
    assert value.dtype == gradient.dtype == dtype
    assert relative_error(value, expected) <= near
    assert relative_error(gradient, exact) <= nearer


@pytest.mark.parametrize("name", [name for name in SWIFT if name != "reference"])
def test_gradcheck(name: str) -> None:
    inputs = [tensor.requires_grad_() for tensor in mixture(3, m=6)]
    inputs[3] = torch.tensor([0.4, 1.0, 0.5], dtype=torch.float64, requires_grad=True)

    def distance(z: Tensor, means: Tensor, weights: Tensor, variances: Tensor, gamma: Tensor) -> Tensor:
        options = {"phi": "exact", "slices": 9, "frequencies": 60, "generator": seeded(), "backend": name}
        return fast_cw_distance(z, means, weights / weights.sum(), variances, gamma, **options)

    assert torch.autograd.gradcheck(distance, inputs)
    (gradient,) = torch.autograd.grad(distance(*inputs), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        gradient.sum().backward()


def test_the_reference_has_a_second_derivative() -> None:
    options = {"slices": 9, "frequencies": 20, "backend": "reference"}
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda z: sigreg(z, generator=seeded(), **options), z)


def test_generator() -> None:
    z = torch.randn(20, 8)
    state = torch.get_rng_state()
    first, again = (sigreg(z, slices=5, generator=seeded()) for _ in range(2))
    generator = seeded()
    assert first == again == sigreg(z, slices=5, generator=generator) != sigreg(z, slices=5, generator=generator)
    assert torch.equal(state, torch.get_rng_state())
    assert sigreg(z, slices=5) != sigreg(z, slices=5)
    torch.manual_seed(3)
    one = sigreg(z, slices=5)
    torch.manual_seed(3)
    assert one == sigreg(z, slices=5)


@pytest.mark.parametrize("name", SLICED)
@pytest.mark.parametrize("dim", [5, 70])
def test_several_samples(dim: int, name: str) -> None:
    z = torch.randn(2, 3, 9, dim, requires_grad=True)
    options = {"slices": 40, "frequencies": 9, "backend": name}
    values = sigreg(z, reduction="none", generator=seeded(), **options)
    (gradient,) = torch.autograd.grad(values.sum(), z)
    for i in range(2):
        for j in range(3):
            value, (own,) = evaluate(lambda z: sigreg(z, generator=seeded(), **options), (z[i, j],))
            assert torch.equal(value, values[i, j].detach())
            assert torch.allclose(own, gradient[i, j], rtol=1e-5, atol=1e-7)
    assert torch.equal(sigreg(z, generator=seeded(), **options), values.mean())


def test_modules() -> None:
    z, means = torch.randn(2, 30, 8), torch.randn(3, 8)
    module = SIGReg(slices=16, generator=seeded())
    assert module(z) == sigreg(z, slices=16, generator=seeded())
    assert module(z) != module(z)
    assert "slices=16" in repr(module)
    other = pickle.loads(pickle.dumps(copy.deepcopy(module)))
    assert other(z) == module(z)
    options = {"phi": "exact", "slices": 16}
    assert CWNormalityLoss(generator=seeded(), **options)(z[0]) == cw_normality(z[0], generator=seeded(), **options)
    found = CWDistanceLoss(log=True, generator=seeded(), **options)(z[0], means)
    assert found == fast_cw_distance(z[0], means, generator=seeded(), **options).double().log().float()


def test_transforms() -> None:
    z = torch.randn(4, 30, 8)
    call: Callable[[Tensor], Tensor] = lambda z: sigreg(z, slices=20, frequencies=17)  # noqa: E731
    torch.manual_seed(1)
    found = torch.func.vmap(call, randomness="same")(z)
    gradients = torch.func.vmap(torch.func.grad(call), randomness="different")(z)
    torch.manual_seed(1)
    directions = sigreg(z, reduction="none", slices=20, frequencies=17)
    assert torch.allclose(found, directions, rtol=1e-6)
    assert gradients.shape == z.shape
    with pytest.raises(RuntimeError, match="once only"):
        torch.func.grad(lambda z: torch.func.grad(call)(z).sum())(z[0])


@pytest.mark.parametrize("dim", [8, 100])
def test_compile(dim: int) -> None:
    z = torch.randn(30, dim, requires_grad=True)
    call: Callable[[Tensor], Tensor] = lambda z: sigreg(z, slices=20)  # noqa: E731
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    expected, (exact,) = evaluate(call, (z,))
    torch.manual_seed(1)
    value = compiled(z)
    value.backward()
    assert z.grad is not None
    assert relative_error(value.detach(), expected) <= 1e-5
    assert relative_error(z.grad, exact) <= 1e-4


def test_one_graph_for_any_number_of_rows_and_samples() -> None:
    torch.compiler.reset()
    compiled = torch.compile(lambda z: SIGReg(None, slices=8)(z), fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=False, recompile_limit=2):
        for samples, rows in ((2, 30), (3, 20), (4, 50), (5, 60)):
            z = torch.randn(samples, rows, 16)
            assert (compiled(z) / sigreg(z, None) - 1).abs() < 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_and_autocast(dtype: torch.dtype) -> None:
    z = torch.randn(40, 16).to(dtype).requires_grad_()
    expected, (exact,) = evaluate(lambda z: sigreg(z, slices=30, generator=seeded()), (z.float(),))
    value = sigreg(z, slices=30, generator=seeded())
    value.backward()
    assert value.dtype == torch.float32
    assert z.grad is not None and z.grad.dtype == dtype
    assert torch.equal(value.detach(), expected)
    assert relative_error(z.grad, exact) <= 1e-2
    for name in ("native", "chunked"):
        if name in SLICED:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                wide = z.detach().float().requires_grad_()
                found = sigreg(wide, slices=30, generator=seeded(), backend=name)
                found.backward()
            assert relative_error(found.detach(), value.detach()) <= 1e-6
            assert wide.grad is not None and relative_error(wide.grad, exact) <= 1e-5


def test_micro_batches() -> None:
    x, encoder = torch.randn(40, 6), torch.nn.Linear(6, 4)
    gradients = []
    for encode in (encoder, lambda x: large_batch.encode(encoder, x, micro_batch=7)):
        encoder.zero_grad()
        sigreg(encode(x), slices=20, generator=seeded()).backward()
        assert encoder.weight.grad is not None
        gradients.append(encoder.weight.grad.clone())
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"slices": 0}, ValueError, "slices must be >= 1, got 0"),
        ({"slices": 2.5}, TypeError, "slices must be an int, got 2.5"),
        ({"slices": True}, TypeError, "slices must be an int, got True"),
        ({"slices": 4, "phi": "approx"}, ValueError, "phi='exact'.*got 'approx'"),
        ({"slices": 4, "frequencies": 0}, ValueError, "frequencies must be >= 1, got 0"),
        ({"frequencies": 3}, ValueError, "frequencies must be used with slices"),
        ({"generator": seeded()}, ValueError, "generator must be used with slices"),
        ({"slices": 4, "generator": 3}, TypeError, "generator must be a torch.Generator or None, got int"),
    ],
)
def test_errors(options: dict[str, Any], error: type[Exception], message: str) -> None:
    z = torch.randn(10, 3)
    options = {"phi": "exact"} | options
    for call in (cw_normality, lambda z, **given: fast_cw_distance(z, z[:2], **given)):
        with pytest.raises(error, match=message):
            call(z, **options)
    with pytest.raises(error, match=message):
        CWNormalityLoss(**options)
    if options.pop("phi") == "exact":
        with pytest.raises(error, match=message):
            sigreg(z, **options)


def test_errors_of_shape() -> None:
    with pytest.raises(ValueError, match="D = 1"):
        sigreg(torch.randn(10, 1), slices=3)
    with pytest.raises(ValueError, match="without slices"):
        sigreg(torch.randn(10, 2), slices=3, groups=torch.arange(10))
    with pytest.raises(TypeError, match="floating"):
        sigreg(torch.ones(10, 2, dtype=torch.int64), slices=3)
    with pytest.raises(ValueError, match="at least one row"):
        sigreg(torch.ones(0, 2), slices=3)
