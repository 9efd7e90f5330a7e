"""The distance as a citizen of torch: autograd, transforms, compilation, dtypes, layouts, determinism."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from cases import (
    DEVICE,
    OPTIMISED,
    deterministic,
    distance_with,
    evaluate,
    five_inputs,
    near_optimum,
    relative_error,
    skip_unless_served,
    truth,
)
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch._functorch.aot_autograd import make_boxed_func

from segma_fast import CWDistanceLoss, cw_distance_reference, fast_cw_distance
from segma_fast.distance import derivatives
from segma_fast.distance.formulas import FORMS


def compiled(function: Callable[..., Tensor], engine: str = "aot_eager") -> tuple[Callable[..., Tensor], Any]:
    """The function as one dynamic graph, and a counter of its compilations."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(engine)
    return torch.compile(function, fullgraph=True, dynamic=True, backend=counter), counter


@pytest.fixture(params=FORMS, autouse=True)
def phi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test is for both forms of φ, each in turn the default.

    What is slow to emulate and the same for both is tested with one form only where there is no GPU.
    """
    named = request.node.callspec.params.values()
    emulated = DEVICE.type == "cpu" and any(str(value).startswith(("triton", "cuda")) for value in named)
    if emulated and request.param == "exact" and request.node.get_closest_marker("of_the_kernels") is None:
        pytest.skip("what torch makes of an operator does not depend on its form")
    for function in (fast_cw_distance, cw_distance_reference, CWDistanceLoss.__init__):
        monkeypatch.setitem(function.__kwdefaults__, "phi", request.param)
    return request.param


@pytest.mark.of_the_kernels
@pytest.mark.parametrize("dim, log", [(1, False), (3, True)])
def test_first_and_second_derivatives(backend: str, dim: int, log: bool) -> None:
    skip_unless_served(backend, torch.float64, dim)
    inputs = five_inputs(torch.float64, dim=dim)

    def distance(*tensors: Tensor) -> Tensor:
        return distance_with(backend)(*tensors, log=log)

    emulated = DEVICE.type == "cpu" and backend in ("triton", "cuda")  # then directions instead of all coordinates
    assert torch.autograd.gradcheck(distance, inputs, fast_mode=emulated)
    assert torch.autograd.gradgradcheck(distance, inputs, fast_mode=emulated)


@pytest.mark.parametrize("wanted", [flags for flags in product([False, True], repeat=5) if any(flags)])
def test_only_wanted_gradients_are_given(backend: str, wanted: tuple[bool, ...]) -> None:
    inputs = [t.detach().requires_grad_(flag) for t, flag in zip(five_inputs(torch.float32), wanted, strict=True)]
    value = fast_cw_distance(*inputs, backend=backend)
    value.backward()
    assert [t.grad is not None for t in inputs] == list(wanted)
    plain = fast_cw_distance(*(t.detach() for t in inputs), backend=backend)
    assert not plain.requires_grad
    assert torch.equal(value.detach(), plain)
    _, expected = evaluate(fast_cw_distance, inputs, backend=backend)
    for tensor, gradient in zip(inputs, expected, strict=True):
        assert tensor.grad is None or torch.equal(tensor.grad, gradient)


@pytest.mark.slow
@pytest.mark.parametrize("gradient, log", [(False, False), (True, True)])
def test_compiled_once_for_all_batch_sizes(optimised: str, gradient: bool, log: bool) -> None:
    def distance(z: Tensor, means: Tensor) -> Tensor:
        return fast_cw_distance(z, means, backend=optimised, log=log)

    fast, counter = compiled(distance)
    for m in (7, 33, 64, 100, 513, 600):
        z, means = near_optimum(m, 3, 5)
        z.requires_grad_(gradient)
        value, expected = fast(z, means), distance(z, means)
        assert torch.allclose(value, expected, rtol=1e-6)
        if gradient:
            assert torch.allclose(*(torch.autograd.grad(v, z)[0] for v in (value, expected)), rtol=1e-5, atol=1e-9)
    assert counter.frame_count <= 2


@pytest.mark.slow
def test_compiled_with_all_inputs(backend: str) -> None:
    fast, _ = compiled(lambda *inputs: fast_cw_distance(*inputs, backend=backend))
    for m in (1, 7, 33):
        inputs = five_inputs(torch.float32, m)
        value, gradients = evaluate(fast, inputs)
        expected, expected_gradients = evaluate(fast_cw_distance, inputs, backend=backend)
        assert torch.allclose(value, expected, rtol=1e-5)
        for gradient, exact in zip(gradients, expected_gradients, strict=True):
            assert torch.allclose(gradient, exact, rtol=1e-4, atol=1e-7)


def test_compiled_by_inductor(optimised: str) -> None:
    fast, _ = compiled(CWDistanceLoss(backend=optimised), "inductor")
    for m in (7, 33):
        points = near_optimum(m, 3, 5)
        value, gradients = evaluate(fast, points)
        expected, expected_gradients = evaluate(fast_cw_distance, points, backend=optimised)
        assert torch.allclose(value, expected, rtol=1e-5)
        for gradient, exact in zip(gradients, expected_gradients, strict=True):
            assert torch.allclose(gradient, exact, rtol=1e-4, atol=1e-7)


def test_compiled_graphs_hold_no_matrix_of_pairs(optimised: str) -> None:
    """Forward and backward stay linear in m also as the compiler sees them."""
    sizes: dict[str, int] = {}

    def recorder(name: str) -> Callable[[torch.fx.GraphModule, list[Tensor]], Callable[..., Any]]:
        def record(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
            values = [node.meta.get("val") for node in graph.graph.nodes]
            sizes[name] = max(value.numel() for value in values if isinstance(value, Tensor))
            return make_boxed_func(graph.forward)

        return record

    torch._dynamo.reset()
    engine = aot_autograd(fw_compiler=recorder("forward"), bw_compiler=recorder("backward"))
    fast = torch.compile(lambda *p: fast_cw_distance(*p, backend=optimised), fullgraph=True, backend=engine)
    m, components, dim = 300, 4, 5
    evaluate(fast, near_optimum(m, components, dim))
    assert set(sizes) == {"forward", "backward"}
    assert max(sizes.values()) <= (m + components) * (dim + 2)


def points_of_operators(m: int, components: int, dim: int) -> tuple[Tensor, ...]:
    """z, means, widths and weights as the operators take them."""
    x = torch.randn(m + components, dim).to(DEVICE)
    h, w = ((torch.rand(m + components, dtype=torch.float64) + 0.1).to(DEVICE) for _ in range(2))
    return x[:m], x[m:].clone(), h, w


@pytest.mark.parametrize("dim", [1, 4])
@pytest.mark.parametrize("rows", [(0, 20), (3, 11)])
@pytest.mark.parametrize("name", [f"{backend}_{kind}" for backend in OPTIMISED for kind in ("energy", "gradient")])
def test_operators_keep_the_rules_of_torch_library(name: str, rows: tuple[int, int], dim: int) -> None:
    torch.library.opcheck(
        getattr(torch.ops.segma_fast, name), (*points_of_operators(17, 3, dim), *rows, "highest", "approx")
    )


@pytest.mark.of_the_kernels
@pytest.mark.parametrize("dim", [1, 5, 12])
def test_rows_of_the_operators(optimised: str, dim: int) -> None:
    """A range of rows gives those rows of the whole, for the value and for the gradient."""
    codes = 2070 if DEVICE.type == "cuda" or optimised != "triton" else 630
    points = points_of_operators(codes, 30, dim)
    gradient = getattr(torch.ops.segma_fast, f"{optimised}_gradient")
    energy = getattr(torch.ops.segma_fast, f"{optimised}_energy")
    value, *whole = gradient(*points, 0, codes + 30, "highest", "approx")
    whole = [torch.cat(whole[:2]), *whole[2:]]
    parts = []
    cuts = (0, 1, codes // 4, codes // 2 + 250, codes + 10, codes + 29, codes + 30)
    for start, stop in pairwise(cuts):
        part, dz, dmeans, *others = gradient(*points, start, stop, "highest", "approx")
        assert len(dz) == max(0, min(stop, codes) - start)
        for piece, all_rows in zip((torch.cat([dz, dmeans]), *others), whole, strict=True):
            assert relative_error(piece, all_rows[start:stop]) <= 1e-5
        assert relative_error(energy(*points, start, stop, "highest", "approx"), part) <= 1e-6
        parts.append(part)
    assert relative_error(sum(parts), value) <= 1e-6


def test_autocast_changes_nothing(backend: str) -> None:
    points = near_optimum(40, 3, 16)
    expected, expected_gradients = evaluate(fast_cw_distance, points, backend=backend)
    leaves = [p.clone().requires_grad_() for p in points]
    with torch.autocast(DEVICE.type, torch.bfloat16):
        value = fast_cw_distance(*leaves, backend=backend)
        inside = evaluate(fast_cw_distance, points, backend=backend)[1]
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert all(map(torch.equal, torch.autograd.grad(value, leaves), expected_gradients))
    if backend != "reference":  # plain autograd takes its products in backward from the context around it
        assert all(map(torch.equal, inside, expected_gradients))


@pytest.mark.of_the_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(backend: str, dtype: torch.dtype) -> None:
    """Narrow inputs count as what they hold, and every gradient has the dtype of its input."""
    skip_unless_served(backend, dtype, 6)
    inputs = [t.to(dtype) for t in near_optimum(20, 4, 6)] + [
        torch.tensor([0.25, 0.5, 0.125, 0.125], dtype=torch.float16, device=DEVICE),
        torch.tensor([0.5, 1.0, 2.0, 0.0], dtype=torch.bfloat16, device=DEVICE),
        torch.tensor(0.3, dtype=torch.float32, device=DEVICE),
    ]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    value, gradients = evaluate(fast_cw_distance, inputs, backend=backend)
    assert value.dtype == wide
    assert [g.dtype for g in gradients] == [t.dtype for t in inputs]
    expected, expected_gradients = evaluate(fast_cw_distance, [*(t.to(wide) for t in inputs)], backend=backend)
    assert torch.allclose(value, expected, rtol=1e-6)
    for gradient, exact in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(gradient, exact.to(gradient.dtype), rtol=1e-3, atol=1e-6)


def test_one_float64_input_decides(backend: str) -> None:
    skip_unless_served(backend, torch.float64, 3)
    z, means = near_optimum(5, 2, 3)
    for points in ((z.double(), means), (z, means.double())):
        value, gradients = evaluate(fast_cw_distance, points, backend=backend)
        assert value.dtype == torch.float64
        assert [g.dtype for g in gradients] == [p.dtype for p in points]
        assert relative_error(value, truth((z, means))[0]) <= 1e-12


def test_strides(backend: str) -> None:
    z, means = near_optimum(12, 3, 4)
    expected, (expected_gradient, _) = evaluate(fast_cw_distance, (z, means), backend=backend)
    wide = torch.zeros(12, 9, device=DEVICE)
    wide[:, 1::2] = z
    transposed = z.T.contiguous()
    for leaf, view in ((wide, lambda t: t[:, 1::2]), (transposed, lambda t: t.T), (z.flip(0), lambda t: t.flip(0))):
        value, (gradient,) = evaluate(lambda t, view=view: fast_cw_distance(view(t), means, backend=backend), [leaf])
        assert torch.allclose(value, expected, rtol=1e-6)
        assert torch.allclose(view(gradient), expected_gradient, rtol=1e-4, atol=1e-8)
    uniform, ones = torch.tensor(1 / 3, device=DEVICE).expand(3), torch.ones((), device=DEVICE).expand(3)
    assert torch.allclose(fast_cw_distance(z, means, uniform, ones, backend=backend), expected, rtol=1e-6)
    row = z[:1]
    rows = fast_cw_distance(row.expand(7, 4), means, backend=backend)
    assert torch.equal(rows, fast_cw_distance(row.repeat(7, 1), means, backend=backend))


@pytest.mark.of_the_kernels
@pytest.mark.parametrize("m, dim", [(30, 1), (700, 5), (1100, 40)])
def test_repeats_are_identical_bits(backend: str, m: int, dim: int, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(2)
    points = near_optimum(m, 10, dim)
    value, gradients = evaluate(fast_cw_distance, points, backend=backend)
    with deterministic():
        for _ in range(2):
            again, gradients_again = evaluate(fast_cw_distance, points, backend=backend)
            assert torch.equal(value, again)
            assert all(map(torch.equal, gradients, gradients_again))


@pytest.mark.parametrize(
    "loss, factor",
    [
        (lambda d: 1e3 * d, 1e3),
        (lambda d: torch.stack([d, d]).sum(), 2.0),
        (lambda d: d.expand(3).sum(), 3.0),
        (lambda d: d.expand(3) @ torch.arange(3.0, device=DEVICE), 3.0),
        (lambda d: 0 * d, 0.0),
    ],
)
def test_losses_around_the_distance(backend: str, loss: Callable[[Tensor], Tensor], factor: float) -> None:
    inputs = five_inputs(torch.float32)
    _, gradients = evaluate(fast_cw_distance, inputs, backend=backend)
    _, scaled = evaluate(lambda *t: loss(fast_cw_distance(*t, backend=backend)), inputs)
    for gradient, exact in zip(scaled, gradients, strict=True):
        assert torch.allclose(gradient, factor * exact, rtol=1e-4)


@pytest.mark.parametrize("dim", [1, 8])
@pytest.mark.parametrize("block", [1 << 22, 500])
def test_gradient_penalty(backend: str, dim: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The derivative of the gradient's norm, in one block of rows and in many."""
    monkeypatch.setattr(derivatives, "BLOCK_ELEMENTS", block)

    def penalty(*inputs: Tensor, backend: str = "reference") -> Tensor:
        value = fast_cw_distance(*inputs, backend=backend)
        return sum(gradient.square().sum() for gradient in torch.autograd.grad(value, inputs, create_graph=True))

    inputs = five_inputs(torch.float32, 50, 4, dim)
    expected, expected_gradients = evaluate(penalty, inputs, torch.float64)
    value, gradients = evaluate(penalty, inputs, backend=backend)
    assert relative_error(value, expected) <= 1e-4
    for gradient, exact in zip(gradients, expected_gradients, strict=True):
        assert relative_error(gradient, exact) <= 1e-3
