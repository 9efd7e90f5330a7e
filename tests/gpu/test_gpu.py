"""What only a GPU can show of its backends: streams, CUDA graphs, launches, memory, synchronisation, accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from cases import DEVICE, evaluate, near_optimum, relative_error
from gpu_calls import gradients
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from segma_fast import CWDistanceLoss, fast_cw_distance, sigreg, silverman_gamma
from segma_fast.distance.autograd import widths_and_weights
from segma_fast.distance.backends.reference import scalar_product
from segma_fast.distance.operators import GRADIENT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
VALUE_TOLERANCE = {"highest": 2e-5, "high": 2e-5, "medium": 1e-4}
GRADIENT_TOLERANCE = {"highest": 2e-5, "high": 1e-3, "medium": 1e-2}
NO_LAUNCH = ("Activity Buffer", "Command Buffer", "Lazy Function", "Runtime Trigger")  # the profiler's own events


def same_bits(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    return all(map(torch.equal, found, expected))


def leaves(m: int, components: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    z, means = near_optimum(m, components, dim, seed=seed)
    return z.requires_grad_(), means.requires_grad_()


def conditioned(points: Sequence[Tensor], value: Tensor) -> float:
    """``(A + B + C) / d²`` of the three sums of equation (8), without a matrix of all pairs of codes."""
    z, means = (t.detach().double() for t in points)
    one = torch.ones((), dtype=torch.float64, device=z.device)
    cross = scalar_product(z, means, one, silverman_gamma(len(z), len(means)) * one).mean()
    return 1 + (4 * cross / value).item()


@contextmanager
def captured(graph: torch.cuda.CUDAGraph) -> Iterator[None]:
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        yield


@pytest.mark.parametrize("precision", ["high", "medium", "highest"])
@pytest.mark.parametrize("m, dim", [(500, 3), (500, 10), (4096, 64), (20000, 64), (900, 300)])
def test_replay_of_a_captured_call(gpu_backend: str, m: int, dim: int, precision: str) -> None:
    """Static inputs, changed contents: the bits of a call without a graph."""
    z, means = leaves(m, 10, dim)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        gradients(z, means, backend=gpu_backend, precision=precision)
    graph = torch.cuda.CUDAGraph()
    with captured(graph):
        found = gradients(z, means, backend=gpu_backend, precision=precision)
    for seed in (1, 2):
        new_z, new_means = near_optimum(m, 10, dim, seed=seed)
        with torch.no_grad():
            z.copy_(new_z)
            means.copy_(new_means)
        graph.replay()
        expected = gradients(new_z, new_means, backend=gpu_backend, precision=precision)
        assert same_bits(found, expected)


@pytest.mark.parametrize("backend", ["triton", "chunked"])
@pytest.mark.parametrize("dim", [20, 100])
def test_replay_of_slices(backend: str, dim: int) -> None:
    """Each replay draws directions, the same ones as a call without a graph."""
    z = near_optimum(300, 3, dim)[0].requires_grad_()

    def step() -> tuple[Tensor, ...]:
        value = sigreg(z, slices=200, backend=backend)
        return value.detach(), *torch.autograd.grad(value, z)

    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        step()
    graph = torch.cuda.CUDAGraph()
    with captured(graph):
        found = step()
    values = set()
    for seed in (1, 2):
        torch.cuda.manual_seed(seed)
        graph.replay()
        torch.cuda.manual_seed(seed)
        assert all(relative_error(a, b) <= 1e-4 for a, b in zip(found, step(), strict=True))
        values.add(found[0].item())
    assert len(values) == 2


def test_a_captured_call_owns_its_constants(gpu_backend: str) -> None:
    """Widths and weights of a graph are not those of an earlier call, whose memory may be given back."""
    z, means = leaves(700, 5, 64)
    gradients(z, means, backend=gpu_backend, gamma=0.123)  # kernels are loaded, and the constants of this γ are kept
    graph = torch.cuda.CUDAGraph()
    with captured(graph):
        found = gradients(z, means, backend=gpu_backend, gamma=0.123)
    expected = tuple(t.clone() for t in gradients(z, means, backend=gpu_backend, gamma=0.123))
    for step in range(20):  # as many other constants as drive them out
        gradients(z, means, backend=gpu_backend, gamma=0.2 + step)
    rubbish = [torch.full((705,), torch.nan, dtype=torch.float64, device=DEVICE) for _ in range(200)]
    graph.replay()
    assert same_bits(found, expected)
    del rubbish


def test_constants_made_in_a_capture_stay_there(gpu_backend: str) -> None:
    z, means = leaves(701, 5, 64)
    gradients(z, means, backend=gpu_backend, gamma=0.5)
    graph = torch.cuda.CUDAGraph()
    with captured(graph):
        gradients(z, means, backend=gpu_backend, gamma=0.6)
    found = gradients(z, means, backend=gpu_backend, gamma=0.6)  # before any replay
    expected = gradients(z, means, backend=gpu_backend, gamma=torch.tensor(0.6, dtype=torch.float64, device=DEVICE))
    assert relative_error(found[0], expected[0]) <= 1e-6


def test_graphed_callable(gpu_backend: str) -> None:
    sample = leaves(1000, 10, 32)
    loss = CWDistanceLoss(log=True, backend=gpu_backend, precision="high")
    graphed = torch.cuda.make_graphed_callables(CWDistanceLoss(log=True, backend=gpu_backend, precision="high"), sample)
    for seed in (1, 2):
        points = leaves(1000, 10, 32, seed)
        value, expected = graphed(*points), loss(*points)
        assert torch.equal(value, expected)
        assert same_bits(torch.autograd.grad(3 * value, points), torch.autograd.grad(3 * expected, points))


@pytest.mark.parametrize("dim", [3, 10, 64, 256])
def test_at_most_two_launches(gpu_backend: str, dim: int) -> None:
    m, components = 4096, 10
    z, means = near_optimum(m, components, dim)
    h, w = widths_and_weights(m, components, DEVICE, None, None, 1.0, silverman_gamma(m, components))
    operator = GRADIENT[gpu_backend]
    operator(z, means, h, w, 0, m + components, "high", "approx")
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        operator(z, means, h, w, 0, m + components, "high", "approx")
        torch.cuda.synchronize()
    launched = [event.name for event in found.events() if event.device_type == DeviceType.CUDA]
    launched = [name for name in launched if not name.startswith(NO_LAUNCH)]
    assert 1 <= len(launched) <= 2, launched


@pytest.mark.parametrize("dim", [1, 3, 10, 64, 300])
def test_no_synchronisation(gpu_backend: str, dim: int) -> None:
    z, means = leaves(3000, 10, dim)
    given = torch.full((10,), 0.1, device=DEVICE), torch.ones(10, device=DEVICE), torch.tensor(0.3, device=DEVICE)

    def calls() -> None:
        for log in (False, True):
            gradients(z, means, backend=gpu_backend, log=log)
            value = fast_cw_distance(z, means, *given, log=log, backend=gpu_backend)
            torch.autograd.grad(value, (z, means))

    calls()
    torch.cuda.set_sync_debug_mode("error")
    try:
        calls()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("m, dim", [(700, 3), (1100, 64), (5000, 64), (900, 300)])
def test_a_hundred_repeats_beside_other_work(gpu_backend: str, m: int, dim: int) -> None:
    points = leaves(m, 10, dim)
    expected = gradients(*points, backend=gpu_backend)
    other, matrix = torch.cuda.Stream(), torch.randn(2048, 2048, device=DEVICE)
    torch.cuda.synchronize()
    for _ in range(100):
        with torch.cuda.stream(other):
            torch.mm(matrix, matrix)
        assert same_bits(gradients(*points, backend=gpu_backend), expected)
    torch.cuda.synchronize()


def test_another_stream(gpu_backend: str) -> None:
    points = leaves(3000, 10, 64)
    expected = gradients(*points, backend=gpu_backend)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = gradients(*points, backend=gpu_backend)
    stream.synchronize()
    assert same_bits(found, expected)


def test_constants_do_not_cross_streams(gpu_backend: str) -> None:
    """A call on an idle stream does not read what a busy stream has yet to write."""
    points = leaves(702, 5, 64)
    expected = gradients(*points, backend=gpu_backend, gamma=torch.tensor(0.8, dtype=torch.float64, device=DEVICE))
    gradients(*points, backend=gpu_backend)
    busy, idle = torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(busy):
        torch.cuda._sleep(1 << 29)
        gradients(*points, backend=gpu_backend, gamma=0.8)
    with torch.cuda.stream(idle):
        found = gradients(*points, backend=gpu_backend, gamma=0.8)
    torch.cuda.synchronize()
    assert relative_error(found[0], expected[0]) <= 1e-6
    assert relative_error(found[1], expected[1]) <= 1e-5


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second GPU")
def test_second_device(gpu_backend: str) -> None:
    points = near_optimum(1000, 10, 64)
    expected = gradients(*points, backend=gpu_backend)
    found = gradients(*(t.to("cuda:1") for t in points), backend=gpu_backend)
    assert torch.cuda.current_device() == 0
    assert same_bits(tuple(t.to(DEVICE) for t in found), expected)


@pytest.fixture(scope="module")
def large() -> tuple[tuple[Tensor, Tensor], Tensor, list[Tensor], float]:
    """65536 codes near the optimum, their distance in float64 by plain torch, and how large its terms are."""
    points = near_optimum(65536, 10, 64)
    value, found = evaluate(fast_cw_distance, points, torch.float64, backend="chunked")
    return points, value, found, conditioned(points, value)


@pytest.mark.parametrize("precision", ["high", "medium", "highest"])
def test_large_batch_near_the_optimum(gpu_backend: str, large: tuple, precision: str) -> None:
    points, expected, expected_gradients, kappa = large
    value, *found = gradients(*points, backend=gpu_backend, precision=precision)
    assert relative_error(value, expected) <= VALUE_TOLERANCE[precision] * max(1, kappa / 2000)
    for gradient, exact in zip(found, expected_gradients, strict=True):
        # at this m the sums of float32 themselves leave 2e-5 and more of what nearly cancels
        assert relative_error(gradient, exact) <= max(5e-5, GRADIENT_TOLERANCE[precision])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("precision", ["high", "highest"])
def test_narrow_inputs(gpu_backend: str, dtype: torch.dtype, precision: str) -> None:
    """They count as what they hold; the gradient is rounded once, scaled so that fp16 holds it."""
    points = [t.to(dtype) for t in near_optimum(4000, 10, 64)]
    expected = evaluate(fast_cw_distance, points, torch.float64, backend="chunked")
    inputs = [t.requires_grad_() for t in points]
    value = fast_cw_distance(*inputs, backend=gpu_backend, precision=precision)
    assert value.dtype == torch.float32
    kappa = conditioned(points, expected[0])
    assert relative_error(value, expected[0]) <= VALUE_TOLERANCE[precision] * max(1, kappa / 2000)
    scale = 2.0**18
    for gradient, exact in zip(torch.autograd.grad(scale * value, inputs), expected[1], strict=True):
        assert gradient.dtype == dtype
        assert (
            relative_error(gradient.double() / scale, exact) <= torch.finfo(dtype).eps + GRADIENT_TOLERANCE[precision]
        )
