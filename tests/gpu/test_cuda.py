"""The CUDA kernels on a GPU, and elsewhere on a model of one: for every GPU, in any order of threads, long sums."""

from __future__ import annotations

import pytest
import torch
from cases import DEVICE, near_optimum, relative_error, skip_unless_served
from torch import Tensor

from segma_fast import silverman_gamma
from segma_fast.distance.autograd import widths_and_weights
from segma_fast.distance.backends import cuda
from segma_fast.distance.operators import GRADIENT

pytestmark = pytest.mark.skipif(
    (cuda.missing() or cuda.unsuitable(DEVICE, torch.float32, 10)) is not None, reason="there are no CUDA kernels"
)
on_a_model = pytest.mark.skipif(DEVICE.type != "cpu", reason="a GPU is there: nothing is modelled")
MACHINES = ["9.0", "8.0", "8.6", "10.0", "12.0"] if DEVICE.type == "cpu" else ["here"]
TOLERANCE = {"highest": 2e-5, "high": 2e-3, "medium": 1e-2}


def inputs(m: int, components: int, dim: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    z, means = (t.to(dtype) for t in near_optimum(m, components, dim))
    return z, means, *widths_and_weights(m, components, DEVICE, None, None, 1.0, silverman_gamma(m, components))


def exact(arguments: tuple[Tensor, ...], start: int, stop: int, phi: str = "approx") -> tuple[Tensor, ...]:
    z, means, h, w = arguments
    operator = torch.ops.segma_fast.chunked_gradient.default
    return operator(z.double(), means.double(), h, w, start, stop, "highest", phi)


def check(
    arguments: tuple[Tensor, ...], precision: str, start: int = 0, stop: int | None = None, phi: str = "approx"
) -> tuple[Tensor, ...]:
    """Value and gradients of some rows against float64."""
    stop = len(arguments[2]) if stop is None else stop
    found = cuda.gradient(*arguments, start, stop, precision, phi)
    expected = exact(arguments, start, stop, phi)
    assert relative_error(found[0], expected[0]) <= (2e-3 if precision == "medium" else 2e-4)
    for name, gradient, right in zip(("z", "means", "h", "w"), found[1:], expected[1:], strict=True):
        if right.numel():  # the potential at a single point, and its width, are held to half as much
            assert relative_error(gradient, right) <= (2 if name in "hw" else 1) * TOLERANCE[precision], name
    alone = cuda.energy(*arguments, start, stop, precision, phi)
    assert relative_error(alone, found[0]) <= 1e-4
    return found


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GPU_MODEL_MACHINE", request.param)
    return request.param


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("dim", [9, 16, 31, 64, 100, 128, 131, 256])
def test_kernels_of_every_gpu(machine: str, dim: int, precision: str) -> None:
    if precision == "highest" and machine not in ("9.0", "here"):
        pytest.skip("the same kernel for all GPUs")
    check(inputs(203, 3, dim), precision)


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize("dim", [2, 8, 9, 20, 64, 128, 131, 256, 300])
def test_exact_form_of_every_gpu(machine: str, dim: int, precision: str) -> None:
    check(inputs(203, 3, dim), precision, phi="exact")
    check(inputs(203, 3, dim), precision, 100, 205, phi="exact")


@pytest.mark.parametrize("dim, precision", [(1, "high"), (5, "high"), (20, "highest"), (64, "high"), (300, "medium")])
@pytest.mark.parametrize("m, count", [(87, 3), (20, 70)])
def test_several_samples(machine: str, m: int, count: int, dim: int, precision: str) -> None:
    """Launched together, or (70 of 64 dimensions on the model) in two parts: each as alone, but for roundings."""
    first = inputs(m, 3, dim)
    each = [tuple((1 + 0.1 * i) * t for t in first) for i in range(count)]
    cloud = tuple(torch.stack(parts) for parts in zip(*each, strict=True))
    rest = (0, m + 3, precision, "approx")
    found, values = cuda.gradient(*cloud, *rest), cuda.energy(*cloud, *rest)
    for i in sorted({0, 1, count // 2, count - 1}):
        for part, alone in zip(found, cuda.gradient(*each[i], *rest), strict=True):
            assert relative_error(part[i], alone) <= 1e-6
        assert relative_error(values[i], cuda.energy(*each[i], *rest)) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_points(machine: str, dtype: torch.dtype) -> None:
    check(inputs(150, 3, 40, dtype), "high")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("offset", [2.0, 3.0])
def test_narrow_points_off_the_origin(dtype: torch.dtype, offset: float) -> None:
    """Less a centre that is not one of their own steps they fit no single number of 16 bits."""
    z, means, h, w = inputs(200, 3, 64)
    check(((z + offset).to(dtype), (means + offset).to(dtype), h, w), "highest")


@pytest.mark.parametrize("dim, precision", [(1, "high"), (5, "high"), (20, "highest"), (20, "high"), (70, "medium")])
@pytest.mark.parametrize("start, stop", [(0, 130), (37, 290), (130, 305), (299, 300), (300, 305), (304, 305)])
def test_some_rows(dim: int, precision: str, start: int, stop: int) -> None:
    check(inputs(300, 5, dim), precision, start, stop)


@pytest.mark.parametrize("m, dim, precision", [(4500, 3, "high"), (4500, 12, "medium"), (4200, 64, "high")])
def test_more_sources_than_a_span(m: int, dim: int, precision: str) -> None:
    """Sums of several spans, of several splits, and (64 dimensions on the model) of launches one after another."""
    check(inputs(m, 3, dim), precision)


@on_a_model
@pytest.mark.parametrize("name", ["9.0", "8.0"])
@pytest.mark.parametrize(
    "m, dim, precision",
    [
        (700, 1, "high"),
        (700, 4, "high"),
        (700, 20, "highest"),
        (700, 20, "high"),
        (300, 128, "high"),
    ],
)
def test_order_of_threads_and_blocks(
    name: str, m: int, dim: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits whoever comes first: no sum depends on it, and nobody reads what is not there yet."""
    monkeypatch.setenv("GPU_MODEL_MACHINE", name)
    arguments = inputs(m, 3, dim)
    forward = check(arguments, precision)
    monkeypatch.setenv("GPU_MODEL_ORDER", "reverse")
    backward = check(arguments, precision)
    assert all(map(torch.equal, forward, backward))


@pytest.mark.parametrize("dim", [1, 3, 20, 300])
def test_nan_reaches_all_rows(dim: int) -> None:
    """Of one width or one coordinate, in a range of rows that does not hold it."""
    for place in (0, 2):
        arguments = [t.clone() for t in inputs(50, 4, dim)]
        arguments[place].view(-1)[-1 if place == 0 else 52] = torch.nan
        value, dz, _, dh, dw = cuda.gradient(*arguments, 0, 20, "high", "approx")
        assert value.isnan() and dz.isnan().all() and dh.isnan().all() and dw.isnan().all()


def test_a_point_at_the_end_of_the_range() -> None:
    z, means, h, w = inputs(50, 3, 3)
    z[5, 0] = 1e38
    check((z, means, h, w), "high")


@pytest.mark.parametrize("gamma", [1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_duplicates_beside_a_small_width(backend: str, gamma: float) -> None:
    """The pair of two equal codes weighs more than all others, and pulls nowhere."""
    skip_unless_served(backend, torch.float32, 40)
    z, means = near_optimum(5, 3, 40)
    z[3:] = z[:2]
    arguments = z, means, *widths_and_weights(5, 3, DEVICE, None, None, 1.0, gamma)
    found, expected = GRADIENT[backend](*arguments, 0, 8, "high", "approx"), exact(arguments, 0, 8)
    assert relative_error(found[1], expected[1]) <= 5e-3


def test_no_rows() -> None:
    z, means, h, w = inputs(5, 2, 20)
    value, dz, dmeans, dh, dw = cuda.gradient(z, means, h, w, 3, 3, "high", "approx")
    assert value == 0 and dz.shape == dmeans.shape == (0, 20) and len(dh) == len(dw) == 0
    nobody = torch.zeros(0, 20, device=DEVICE)
    assert cuda.energy(nobody, nobody, h[:0], w[:0], 0, 0, "high", "approx") == 0


def test_what_is_refused() -> None:
    z, means, h, w = inputs(5, 2, 20)

    def refused(message: str, *arguments: object) -> None:
        with pytest.raises(RuntimeError, match=message):
            torch.ops.segma_fast.cuda_kernels(*arguments)

    refused("shapes", z, means[:, :3], h, w, 0, 7, "high", "approx", True)
    refused("one dtype", z, means.double(), h, w, 0, 7, "high", "approx", True)
    refused("half, bfloat16, float32 or float64", z.int(), means.int(), h, w, 0, 7, "high", "approx", True)
    refused("float64 vectors of 7", z, means, h[1:], w, 0, 7, "high", "approx", True)
    refused("float64 vectors", z, means, h.float(), w, 0, 7, "high", "approx", True)
    refused("contiguous", z.T.contiguous().T, means, h, w, 0, 7, "high", "approx", True)
    refused("not within 0:7", z, means, h, w, 3, 8, "high", "approx", True)
    several = [torch.stack([t, t]) for t in (z, means, h, w)]
    refused("shapes", several[0], several[1][:1], *several[2:], 0, 7, "high", "approx", True)
    refused("shapes", several[0], means, h, w, 0, 7, "high", "approx", True)
    refused("float64 vectors of 7", *several[:2], h, w, 0, 7, "high", "approx", True)
    refused("of several samples all rows", *several, 0, 6, "high", "approx", True)
    refused("precision='full'", z, means, h, w, 0, 7, "full", "approx", True)
    refused("phi='full'", z, means, h, w, 0, 7, "high", "full", True)
