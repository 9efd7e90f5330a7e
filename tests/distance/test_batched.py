"""Several samples in one call of an operator, by vmap and in sigreg: each as if it were alone."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from cases import DEVICE, evaluate, near_optimum, relative_error, skip_unless_served
from torch import Tensor, func

from segma_fast import cw_normality, fast_cw_distance, sigreg
from segma_fast.distance.derivatives import BLOCK_ELEMENTS, second_derivative
from segma_fast.distance.formulas import FORMS
from segma_fast.distance.operators import ENERGY, GRADIENT

SAME_BITS = ("native", "chunked")  # a batch takes the way of a single sample, and no compiler fuses it otherwise


def samples(count: int, m: int, components: int, dim: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """z, means, h and w of several samples as the operators take them, at different places and of different widths."""
    pairs = [near_optimum(m, components, dim, offset=0.3 * i, seed=i) for i in range(count)]
    z, means = (torch.stack(parts).to(dtype) for parts in zip(*pairs, strict=True))
    generator = torch.Generator().manual_seed(1)
    h = torch.rand(count, m + components, generator=generator, dtype=torch.float64) + 0.3
    w = torch.rand(count, m + components, generator=generator, dtype=torch.float64) / m
    w[:, m:] *= -m / components
    return z, means, h.to(DEVICE), w.to(DEVICE)


def same(found: Tensor, expected: Tensor, backend: str, tolerance: float = 1e-6) -> bool:
    """Equal, with NaN in the same places: a GPU's minimum of NaN and a number is the number, others spread the NaN."""
    if not torch.equal(found.isnan(), expected.isnan()):
        return False
    found, expected = found.nan_to_num(nan=0.0), expected.nan_to_num(nan=0.0)
    if backend in SAME_BITS:
        return torch.equal(found, expected)
    return found.shape == expected.shape and (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("phi", FORMS)
@pytest.mark.parametrize("m, dim", [(30, 1), (130, 5), (70, 20), (40, 300)])
def test_operators_of_several_samples(optimised: str, m: int, dim: int, phi: str) -> None:
    arguments = samples(3, m, 4, dim)
    rest = (0, m + 4, "highest", phi)
    single = [GRADIENT[optimised](*sample, *rest) for sample in zip(*arguments, strict=True)]
    expected = [torch.stack(parts) for parts in zip(*single, strict=True)]
    found = GRADIENT[optimised](*arguments, *rest)
    for part, right in zip(found, expected, strict=True):
        assert part.dtype == right.dtype and same(part, right, optimised)
    value = torch.stack([ENERGY[optimised](*sample, *rest) for sample in zip(*arguments, strict=True)])
    assert same(ENERGY[optimised](*arguments, *rest), value, optimised)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count, m, dim", [(8, 128, 64), (3, 700, 12), (2, 1100, 9), (3, 60, 600), (5, 900, 2)])
def test_threads_change_no_bit(threads: int, count: int, m: int, dim: int, request: pytest.FixtureRequest) -> None:
    """Samples shared out among threads, and threads that share every sample."""
    skip_unless_served("native", torch.float32, dim)
    arguments = tuple(t.cpu() for t in samples(count, m, 3, dim))
    rest = (0, m + 3, "highest", "exact")
    single = [GRADIENT["native"](*sample, *rest) for sample in zip(*arguments, strict=True)]
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(threads)
    found = GRADIENT["native"](*arguments, *rest)
    assert all(torch.equal(part, torch.stack(parts)) for part, *parts in zip(found, *single, strict=True))


@pytest.mark.parametrize("dim", [1, 3, 20])
@pytest.mark.parametrize("bad", [math.nan, 1e5])
def test_no_sample_sees_another(optimised: str, bad: float, dim: int) -> None:
    """One that is not finite, or that needs another arithmetic."""
    arguments = samples(3, 20, 2, dim)
    rest = (0, 22, "highest", "approx")
    arguments[0][1, 3] = bad
    found = GRADIENT[optimised](*arguments, *rest)
    for i, sample in enumerate(zip(*arguments, strict=True)):
        for part, right in zip(found, GRADIENT[optimised](*sample, *rest), strict=True):
            assert same(part[i], right, optimised)
    assert found[0].isnan().tolist() == [False, math.isnan(bad), False]


@pytest.mark.parametrize("kind", [ENERGY, GRADIENT])
def test_operators_keep_the_rules_of_torch_library(optimised: str, kind: dict[str, Any]) -> None:
    torch.library.opcheck(kind[optimised], (*samples(2, 9, 2, 4), 0, 11, "highest", "approx"))


@pytest.mark.parametrize("kind", [ENERGY, GRADIENT])
def test_some_rows_of_several_samples_are_refused(optimised: str, kind: dict[str, Any]) -> None:
    arguments = samples(2, 5, 2, 9)
    with pytest.raises((ValueError, RuntimeError), match=r"of several samples all rows must be evaluated, 0:7.* 1:7"):
        kind[optimised](*arguments, 1, 7, "highest", "approx")


def test_no_samples(optimised: str) -> None:
    arguments = samples(2, 5, 2, 9)
    none = tuple(t[:0] for t in arguments)
    found = GRADIENT[optimised](*none, 0, 7, "highest", "approx")
    assert [tuple(part.shape) for part in found] == [(0,), (0, 5, 9), (0, 2, 9), (0, 7), (0, 7)]
    assert ENERGY[optimised](*none, 0, 7, "highest", "approx").shape == (0,)


@pytest.mark.parametrize("batched", [(0, None, None, None), (1, 0, None, None), (None, 1, None, 0), (0, 0, 1, 1)])
def test_vmap_of_an_operator(optimised: str, batched: tuple[int | None, ...]) -> None:
    """Every tensor with samples or without; what a loop over them gives."""
    arguments = samples(3, 6, 2, 4)
    given = [t[0] if d is None else t.movedim(0, d) for t, d in zip(arguments, batched, strict=True)]
    rest = (0, 8, "highest", "approx")

    def sample(i: int) -> list[Tensor]:
        return [t if d is None else t.select(d, i).contiguous() for t, d in zip(given, batched, strict=True)]

    one_by_one = [GRADIENT[optimised](*sample(i), *rest) for i in range(3)]
    found = torch.vmap(lambda *tensors: GRADIENT[optimised](*tensors, *rest), batched)(*given)
    for part, *parts in zip(found, *one_by_one, strict=True):
        assert same(part, torch.stack(parts), optimised)


def test_vmap_is_one_call(optimised: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of vmap in vmap too, with a gradient inside or outside."""
    skip_unless_served(optimised, torch.float64, 3)
    z, means = near_optimum(24, 2, 3)
    z = z.double().view(2, 3, 4, 3)
    calls: list[tuple[int, ...]] = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function in (ENERGY[optimised], GRADIENT[optimised]):
                calls.append(tuple(args[0].shape))
            return function(*args, **(kwargs or {}))

    def distance(points: Tensor) -> Tensor:
        return fast_cw_distance(points, means.double(), backend=optimised)

    with Recorder():
        values = torch.vmap(torch.vmap(distance))(z)
        gradients = torch.vmap(torch.vmap(func.grad(distance)))(z)
        total = func.grad(lambda points: torch.vmap(torch.vmap(distance))(points).sum())(z)
    assert calls == [(6, 4, 3)] * 3
    expected = [evaluate(distance, [points]) for points in z.flatten(0, 1)]
    assert torch.allclose(values.flatten(), torch.stack([value for value, _ in expected]), rtol=1e-12)
    right = torch.stack([gradient for _, (gradient,) in expected]).view_as(z)
    assert torch.allclose(gradients, right, rtol=1e-9, atol=1e-15)
    assert torch.allclose(total, right, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("phi", FORMS)
def test_first_and_second_derivatives(optimised: str, phi: str) -> None:
    skip_unless_served(optimised, torch.float64, 3)
    leaves = [t.requires_grad_() for t in samples(2, 4, 2, 3, torch.float64)]
    fast = DEVICE.type == "cpu" and optimised in ("triton", "cuda")

    def energy(*tensors: Tensor) -> Tensor:
        return GRADIENT[optimised](*(t.contiguous() for t in tensors), 0, 6, "highest", phi)[0]

    assert torch.autograd.gradcheck(energy, leaves, fast_mode=fast)
    assert torch.autograd.gradgradcheck(energy, leaves, fast_mode=fast)


def test_second_derivative_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = samples(3, 20, 2, 4, torch.float64)
    cotangents = [torch.randn_like(t) for t in inputs]
    expected = second_derivative(inputs, cotangents, "exact")
    for i in range(3):
        alone = second_derivative([t[i] for t in inputs], [c[i] for c in cotangents], "exact")
        assert all(torch.allclose(a, b[i], rtol=1e-12, atol=1e-15) for a, b in zip(alone, expected, strict=True))
    assert BLOCK_ELEMENTS > 3 * 22 * 22
    monkeypatch.setattr("segma_fast.distance.derivatives.BLOCK_ELEMENTS", 200)
    found = second_derivative(inputs, cotangents, "exact")
    assert all(relative_error(a, b) <= 1e-12 for a, b in zip(found, expected, strict=True))


def test_sigreg_is_one_call(optimised: str) -> None:
    """Value and gradients as those of single calls, in eager mode, compiled and transformed."""
    z = (1.2 * torch.randn(2, 2, 12, 9)).to(DEVICE).requires_grad_()
    gamma = torch.tensor(0.4, dtype=torch.float64, device=DEVICE, requires_grad=True)

    def loop(points: Tensor, width: Tensor) -> Tensor:
        found = [cw_normality(x, width, phi="exact", backend=optimised) for x in points.flatten(0, 1)]
        return 2 * math.pi * 12 * torch.stack(found)

    def fast(points: Tensor, width: Tensor) -> Tensor:
        return sigreg(points, width, reduction="none", backend=optimised).flatten()

    assert same(fast(z, gamma), loop(z, gamma), optimised)
    factors = torch.arange(1.0, 5.0, device=DEVICE)
    expected = torch.autograd.grad(loop(z, gamma) @ factors, (z, gamma))
    found = torch.autograd.grad(fast(z, gamma) @ factors, (z, gamma))
    assert same(found[0], expected[0], optimised)
    assert relative_error(found[1], expected[1]) <= 1e-6
    torch._dynamo.reset()
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")
    in_graph = torch.autograd.grad(compiled(z, gamma) @ factors, (z, gamma))
    transformed = func.grad(lambda points, width: fast(points, width) @ factors, (0, 1))(z, gamma)
    for gradients in (in_graph, transformed):
        assert all(relative_error(a, b) <= 1e-5 for a, b in zip(gradients, expected, strict=True))
