"""The backends of a GPU under torch.compile and NVIDIA's memory checkers, and the memory that it takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cases import DEVICE, near_optimum
from gpu_calls import gradients
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from segma_fast import fast_cw_distance, silverman_gamma
from segma_fast.distance.autograd import widths_and_weights
from segma_fast.distance.operators import GRADIENT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
FOLDER = Path(__file__).parents[1]
MOST = 64_000_000  # bytes beyond inputs and gradients
CHECKER = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
FOUND = 86  # exit status that the checker is told to give for an error
CHECKS = {"memcheck": (300, "3,64,300"), "racecheck": (70, "3,16")}
CHECKED = [(tool, backend) for tool in CHECKS for backend in ("triton", "cuda")]
SECONDS = 60  # to wait for each of them after all other tests
_running: dict[tuple[str, str], subprocess.Popen[str]] = {}


@pytest.fixture(scope="module", autouse=True)
def checkers() -> Iterator[None]:
    """Started first, because they take long, and asked last."""
    variables = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    for tool, backend in CHECKED if CHECKER else ():
        rows, dims = CHECKS[tool]
        command = [CHECKER, "--tool", tool, "--error-exitcode", str(FOUND), "--print-limit", "5"]
        call = [sys.executable, str(FOLDER / "gpu_calls.py"), str(rows), dims, backend]
        _running[tool, backend] = subprocess.Popen(
            command + call, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    yield
    for process in _running.values():
        process.kill()


def test_compiled_by_inductor_in_one_graph(gpu_backend: str) -> None:
    def distance(z: Tensor, means: Tensor, gamma: float) -> Tensor:
        return fast_cw_distance(z, means, gamma=gamma, backend=gpu_backend, precision="high")

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("inductor")
    fast = torch.compile(distance, fullgraph=True, dynamic=True, backend=counter)
    compilations = []
    for m, gamma in ((1000, 0.3), (1300, 0.4), (1400, 0.4)):
        points = [t.requires_grad_() for t in near_optimum(m, 10, 64)]
        value, expected = fast(*points, gamma), distance(*points, gamma)
        assert value.dtype == torch.float32
        assert torch.allclose(value, expected, rtol=1e-6)
        for gradient, exact in zip(
            torch.autograd.grad(value, points), torch.autograd.grad(expected, points), strict=True
        ):
            assert gradient.dtype == torch.float32
            assert torch.allclose(gradient, exact, rtol=1e-5, atol=1e-9)
        compilations.append(counter.frame_count)
    assert compilations[-1] == compilations[-2]  # another γ is another graph, another batch size is not


@pytest.mark.parametrize("m", [65536, 262144])
def test_workspace_of_the_operator(gpu_backend: str, m: int) -> None:
    z, means = near_optimum(m, 10, 64)
    h, w = widths_and_weights(m, 10, DEVICE, None, None, 1.0, silverman_gamma(m, 10))
    operator = GRADIENT[gpu_backend]
    for precision in ("high", "highest"):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        returned = operator(z, means, h, w, 0, m + 10, precision, "approx")
        torch.cuda.synchronize()
        kept = sum(t.numel() * t.element_size() for t in returned)
        assert torch.cuda.max_memory_allocated() - before - kept <= MOST
        del returned


@pytest.mark.parametrize("m", [65536, 262144])
def test_memory_of_a_call(gpu_backend: str, m: int) -> None:
    z, means = (t.requires_grad_() for t in near_optimum(m, 10, 64))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    _, *found = gradients(z, means, gpu_backend)
    torch.cuda.synchronize()
    kept = sum(t.numel() * t.element_size() for t in found)
    # the gradient that forward saved is still there when backward has made its multiple of it
    extra = torch.cuda.max_memory_allocated() - before - 2 * kept
    assert extra <= MOST, f"{extra / 1e6:.1f} MB"


@pytest.mark.skipif(CHECKER is None, reason="compute-sanitizer is not there")
@pytest.mark.parametrize("tool, backend", CHECKED)
def test_checkers_find_nothing(tool: str, backend: str) -> None:
    process = _running[tool, backend]
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.skip(f"{tool} was not done after {SECONDS} s")
    if process.returncode != 0 and ("Device not supported" in output or "Unable to" in output):
        pytest.skip(f"{tool} does not work here: {output[-300:]}")
    assert process.returncode == 0, output[-3000:]
    rows, dims = CHECKS[tool]
    assert output.count(f"{rows} ") >= 3 * len(dims.split(",")), output[-3000:]
