"""torch's settings for products of float32 matrices: both ways of setting them, and no backend loses by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import DEVICE, evaluate, near_optimum, relative_error, truth

from segma_fast import fast_cw_distance
from segma_fast.distance.precision import matmul_precision, products_are_rounded

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def set_(part: object, value: str) -> Callable[[], None]:
    return lambda: setattr(part, "fp32_precision", value)


BACKENDS, MATMUL = torch.backends, torch.backends.cuda.matmul
SETTINGS: dict[str, tuple[Callable[[], None], str, str]] = {  # and what they mean for the CPU and for CUDA
    "nothing": (lambda: None, "highest", "highest"),
    "high": (lambda: torch.set_float32_matmul_precision("high"), "high", "high"),
    "medium": (lambda: torch.set_float32_matmul_precision("medium"), "medium", "medium"),
    "all": (set_(BACKENDS, "tf32"), "high", "high"),
    "cuda": (set_(MATMUL, "tf32"), "highest", "high"),
    "cpu": (set_(BACKENDS.mkldnn.matmul, "bf16"), "medium", "highest"),
}


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> Iterator[str]:
    parts = (BACKENDS, BACKENDS.mkldnn, MATMUL, BACKENDS.mkldnn.matmul)
    for part in parts:
        part.fp32_precision = "none"  # as it is in a new process
    SETTINGS[request.param][0]()
    yield request.param
    for part in parts:
        part.fp32_precision = "none"


def test_both_ways_are_read(setting: str) -> None:
    _, cpu, cuda = SETTINGS[setting]
    assert (matmul_precision(CPU), matmul_precision(CUDA)) == (cpu, cuda)
    assert products_are_rounded(CPU) == (cpu != "highest")
    assert matmul_precision(torch.device("meta")) == "highest"


def test_every_backend_is_exact(backend: str, setting: str) -> None:
    if DEVICE.type != "cpu" and backend in ("triton", "cuda"):
        pytest.skip("kernels for GPUs do what is set")
    if setting != "nothing" and backend in ("triton", "cuda"):
        points, tolerance = near_optimum(40, 3, 16), 0.1  # as "medium", but no error
    else:
        points, tolerance = near_optimum(300, 5, 32), 1e-5
    expected, expected_gradients = truth(points)
    value, gradients = evaluate(fast_cw_distance, points, backend=backend)
    assert relative_error(value, expected) <= tolerance
    assert all(relative_error(*pair) <= tolerance for pair in zip(gradients, expected_gradients, strict=True))


def test_threads_do_not_meet() -> None:
    """Nothing of the process is changed around a call: neither are other threads' products, nor is the call by them."""
    points = near_optimum(300, 5, 32)
    expected = truth(points)[0]
    torch.set_float32_matmul_precision("medium")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fast_cw_distance(*points, backend="chunked"), range(24)))
    assert torch.get_float32_matmul_precision() == "medium"
    assert all(relative_error(value, expected) <= 1e-5 for value in found)
