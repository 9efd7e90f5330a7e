"""The distance under the transforms of torch.func, in eager mode, compiled and exported: never a derivative of 0."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from cases import DEVICE, evaluate, near_optimum, relative_error, skip_unless_served
from torch import Tensor, func
from torch.fx.experimental.proxy_tensor import make_fx

from segma_fast import cw_distance_reference, cw_normality, fast_cw_distance
from segma_fast.distance.formulas import FORMS
from segma_fast.distance.operators import ENERGY, GRADIENT

Distance = Callable[[Tensor], Tensor]
TRANSFORMS: dict[str, Callable[[Distance], Callable[[Tensor], Tensor]]] = {
    "grad": func.grad,
    "vjp": lambda f: lambda z: func.vjp(f, z)[1](torch.ones((), dtype=z.dtype, device=z.device))[0],
    "jacrev": func.jacrev,
    "grad_and_value": lambda f: lambda z: func.grad_and_value(f)(z)[0],
    "grad_of_vmap": lambda f: lambda z: func.grad(lambda t: torch.vmap(f)(t[None]).sum())(z),
    "vmap_of_grad": lambda f: lambda z: torch.vmap(func.grad(f))(torch.stack([z, 2 * z]))[0],
    "outer_level": lambda f: func.grad(lambda z: func.grad(lambda s: s * f(z))(torch.ones_like(z[0, 0]))),
}


def compiled(function: Callable[..., Tensor], engine: str = "aot_eager") -> Callable[..., Tensor]:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=engine)


def distance_to(means: Tensor, **options: str) -> Distance:
    return lambda points: fast_cw_distance(points, means, **options)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_compiled_transforms(backend: str, name: str) -> None:
    skip_unless_served(backend, torch.float64, 3)
    z, means = (t.double() for t in near_optimum(5, 2, 3))
    expected = evaluate(cw_distance_reference, [z, means])[1][0]
    transform = TRANSFORMS[name](distance_to(means, backend=backend))
    assert relative_error(transform(z), expected) <= 1e-9
    assert relative_error(compiled(transform)(z), expected) <= 1e-9


@pytest.mark.parametrize("phi", FORMS)
@pytest.mark.parametrize("engine", ["eager", "inductor"])
def test_compiled_gradient_by_every_engine(optimised: str, phi: str, engine: str) -> None:
    z = near_optimum(6, 1, 4)[0]
    expected = evaluate(cw_normality, [z], torch.float64, backend="reference", phi=phi)[1][0]
    gradient = func.grad(lambda points: cw_normality(points, backend=optimised, phi=phi))
    assert relative_error(compiled(gradient, engine)(z), expected) <= 1e-5


def test_compiled_gradient_of_means(backend: str) -> None:
    z, means = near_optimum(6, 2, 4)
    expected = evaluate(cw_distance_reference, [z, means], torch.float64)[1][1]
    gradient = func.grad(lambda points: fast_cw_distance(z, points, backend=backend))
    assert relative_error(compiled(gradient)(means), expected) <= 1e-4


def test_second_derivatives(backend: str) -> None:
    """Also where rows coincide, in eager mode and compiled."""
    skip_unless_served(backend, torch.float64, 3)
    z, means = (t.double() for t in near_optimum(4, 2, 3))
    z[2] = z[0]
    hessian = func.jacrev(func.jacrev(distance_to(means, backend=backend)))
    gradient, step = func.grad(distance_to(means, backend="chunked")), 1e-5
    moves = step * torch.eye(z.numel(), dtype=z.dtype, device=z.device).view(-1, *z.shape)
    columns = [(gradient(z + move) - gradient(z - move)) / (2 * step) for move in moves]
    expected = torch.stack(columns, -1).view(*z.shape, *z.shape)
    assert relative_error(hessian(z), expected) <= 1e-7
    assert relative_error(compiled(hessian)(z), expected) <= 1e-7


def test_batches(backend: str) -> None:
    skip_unless_served(backend, torch.float64, 3)
    z, means = (t.double() for t in near_optimum(5, 2, 3))
    batch = torch.stack([z, z + 1, 2 * z])
    distance = distance_to(means, backend=backend)
    gradient = func.grad(distance)
    expected = torch.stack([evaluate(cw_distance_reference, [points, means])[1][0] for points in batch])
    assert torch.allclose(torch.vmap(distance)(batch), torch.stack([distance(points) for points in batch]))
    assert torch.allclose(torch.vmap(gradient)(batch), expected)
    assert torch.allclose(torch.vmap(gradient, 1)(batch.transpose(0, 1)), expected)
    total = evaluate(lambda points: torch.vmap(distance)(points).sum(), [batch])[1][0]
    assert torch.allclose(total, expected)


def test_empty_batch(optimised: str) -> None:
    def distance(points: Tensor) -> Tensor:
        return cw_normality(points, backend=optimised)

    batch = torch.empty(0, 5, 3, device=DEVICE)
    assert torch.vmap(distance)(batch).shape == (0,)
    assert torch.vmap(func.grad(distance))(batch).shape == (0, 5, 3)


def test_batched_gradients(backend: str) -> None:
    """The backward pass under vmap, of a graph that is not kept."""
    z, means = near_optimum(30, 3, 20)
    z.requires_grad_()
    factors = torch.tensor([1.0, 2.0], device=DEVICE)
    value = fast_cw_distance(z, means, backend=backend)
    (found,) = torch.autograd.grad(value, z, factors, is_grads_batched=True)
    (expected,) = torch.autograd.grad(fast_cw_distance(z, means, backend=backend), z)
    assert torch.allclose(found, factors[:, None, None] * expected, rtol=1e-5, atol=1e-9)


def test_second_derivatives_of_equal_rows_in_float32(backend: str) -> None:
    z, means = near_optimum(4, 2, 3, offset=3.0)
    z[2] = z[0]
    found = func.jacrev(func.grad(distance_to(means, backend=backend)))(z)
    z, means = z.double(), means.double()
    assert relative_error(found, func.jacrev(func.grad(distance_to(means, backend="reference")))(z)) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["aot_eager", "inductor"])
@pytest.mark.parametrize("log", [False, True])
def test_gradient_penalty_through_a_compiled_distance_is_refused(backend: str, log: bool, engine: str) -> None:
    points = [t.requires_grad_() for t in near_optimum(5, 2, 3)]
    distance = compiled(lambda z, means: fast_cw_distance(z, means, log=log, backend=backend), engine)
    (gradient,) = torch.autograd.grad(distance(*points), points[0], create_graph=True)
    for given in points:
        with pytest.raises(RuntimeError, match="double backward"):
            torch.autograd.grad(gradient.square().sum(), given, retain_graph=True)


def test_second_derivatives_of_groups_in_compiled_code(backend: str) -> None:
    z, groups = near_optimum(30, 1, 3)[0].double().requires_grad_(), torch.arange(30, device=DEVICE) // 2

    def penalty(distance: Callable[[Tensor], Tensor]) -> Tensor:
        (gradient,) = torch.autograd.grad(distance(z), z, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), z)[0]

    def distance(points: Tensor) -> Tensor:
        return cw_normality(points, groups=groups, backend=backend)

    expected = penalty(lambda points: cw_normality(points, groups=groups, backend="reference"))
    assert relative_error(penalty(torch.compile(distance, backend="eager")), expected) <= 1e-9


def test_jit_trace_is_refused(backend: str) -> None:
    z, means = near_optimum(5, 2, 3)
    with pytest.raises(RuntimeError, match=r"use torch\.export or torch\.compile"):
        torch.jit.trace(distance_to(means, backend=backend), z)


@pytest.mark.parametrize("name", ["jvp", "hessian", "jvp_of_grad"])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_forward_mode_is_refused(optimised: str, is_compiled: bool, name: str) -> None:
    z, means = near_optimum(5, 2, 3)
    distance = distance_to(means, backend=optimised)

    def tangent(points: Tensor) -> Tensor:
        if name == "hessian":
            return func.hessian(distance)(points)
        return func.jvp(distance if name == "jvp" else func.grad(distance), (points,), (points,))[1]

    with pytest.raises(Exception, match="jvp|forward mode"):
        (compiled(tangent) if is_compiled else tangent)(z)


def test_operators_alone(optimised: str) -> None:
    """An operator that is called without the rest of the package is differentiated, or refuses to be."""
    z, means = near_optimum(5, 2, 3)
    h, w = (torch.rand(7, dtype=torch.float64, device=DEVICE) + 0.1 for _ in range(2))
    leaves = [t.clone().requires_grad_() for t in (z, means, h, w)]
    found = torch.autograd.grad(ENERGY[optimised](*leaves, 0, 7, "highest", "approx"), leaves)
    value, *expected = GRADIENT[optimised](*leaves, 0, 7, "highest", "approx")
    assert all(map(torch.equal, torch.autograd.grad(value, leaves), expected))
    assert all(map(torch.equal, found, expected))
    for operator in (ENERGY, GRADIENT):
        result = operator[optimised](*leaves, 1, 4, "highest", "approx")
        part = result if isinstance(result, Tensor) else result[0]
        with pytest.raises(RuntimeError, match="only the energy of all rows .* got rows 1 to 4"):
            torch.autograd.grad(part, leaves)


class Module(torch.nn.Module):
    def __init__(self, means: Tensor, backend: str, log: bool) -> None:
        super().__init__()
        self.means, self.options = torch.nn.Parameter(means), {"backend": backend, "log": log}

    def forward(self, points: Tensor) -> Tensor:
        return fast_cw_distance(points, self.means, **self.options)


@pytest.mark.slow
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_exported_with_any_batch_size(backend: str, strict: bool, log: bool) -> None:
    """The rule for γ stays a rule, and the program is differentiated as the function."""
    z, means = near_optimum(9, 2, 3)
    module = Module(means, backend, log)
    sizes = {"points": {0: torch.export.Dim("rows", min=2, max=512)}}
    program = torch.export.export(module, (z,), dynamic_shapes=sizes, strict=strict).module()
    for rows in (5, 40):
        points = near_optimum(rows, 2, 3, seed=rows)[0]
        value, (gradient,) = evaluate(module, [points])
        found, (found_gradient,) = evaluate(program, [points])
        assert torch.allclose(found, value, rtol=1e-5)
        assert relative_error(found_gradient, gradient) <= 1e-4


@pytest.mark.parametrize("phi", FORMS)
def test_traced_with_any_batch_size(backend: str, phi: str) -> None:
    z, means = near_optimum(9, 2, 3)
    distance = partial(fast_cw_distance, backend=backend, phi=phi)
    graph = make_fx(distance, tracing_mode="symbolic")(z, means)
    points = near_optimum(40, 2, 3)[0]
    assert torch.allclose(graph(points, means), distance(points, means), rtol=1e-5)
