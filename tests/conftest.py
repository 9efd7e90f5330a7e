"""Fixtures: the backends that run here, and a process-wide state that every test leaves as it was."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's: Triton's interpreter multiplies thousands of small tiles

import pytest
import torch

if not torch.cuda.is_available():  # before Triton is imported: kernels that were not compiled stay interpreted
    os.environ.setdefault("TRITON_INTERPRET", "1")
    if os.environ.get("SEGMA_FAST_TESTS", "quick") != "quick":
        import cuda_model

        cuda_model.load()  # before anybody asks which backends there are

from cases import BACKENDS, DEVICE, OPTIMISED, skip_unless_served

from segma_fast.distance.dispatch import ENVIRONMENT_VARIABLE

# quick: what tells within minutes whether a clone works; rest: all that this leaves out; all
WHICH = os.environ.get("SEGMA_FAST_TESTS", "quick")
sys.path.append(str(Path(__file__).parents[1]))  # for benchmarks; last: segma_fast is found before
torch.set_num_threads(1)  # the inputs are small, and beside other work two threads take five times as long as one


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend in turn, the reference among them."""
    return request.param


@pytest.fixture(params=OPTIMISED)
def optimised(request: pytest.FixtureRequest) -> str:
    """Every backend but the reference in turn."""
    return request.param


@pytest.fixture(params=["triton", "cuda"])
def gpu_backend(request: pytest.FixtureRequest) -> str:
    """Every backend with kernels for GPUs in turn."""
    skip_unless_served(request.param, torch.float32, 64)
    return request.param


@pytest.fixture(autouse=True)
def usual_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same random numbers, full float32 products and no chosen backend, whatever ran before."""
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision("highest")


def is_slow(item: pytest.Item) -> bool:
    """Whether a case is marked so, or runs kernels for a GPU on the CPU, one instruction of Python or C++ at a time."""
    if item.get_closest_marker("slow") is not None:
        return True
    if DEVICE.type != "cpu":
        return False
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    backends = {value.split()[0] for value in values if isinstance(value, str) and value} & {"cuda", "triton"}
    interpreted = backends == {"triton"} and item.get_closest_marker("interpreted") is not None
    return "gpu" in item.path.parts or (bool(backends) and not interpreted)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what ``SEGMA_FAST_TESTS`` does not ask for."""
    if WHICH not in ("quick", "rest", "all"):
        raise pytest.UsageError(f"SEGMA_FAST_TESTS must be quick, rest or all, got {WHICH!r}")
    if WHICH != "all":
        left_out = [item for item in items if is_slow(item) != (WHICH == "rest")]
        config.hook.pytest_deselected(items=left_out)
        kept = set(items) - set(left_out)
        items[:] = [item for item in items if item in kept]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many cases the kernels for GPUs were tested in: where they cannot be built, none."""
    passed = [report.nodeid for report in terminalreporter.getreports("passed") if report.when == "call"]
    for name, model in (("Triton", "in Triton's interpreter"), ("CUDA", "on a model of the GPU")):
        if name.lower() not in BACKENDS:
            continue
        ran = sum(name.lower() in node for node in passed)
        terminalreporter.write_line(
            f"{name} kernels: {ran} cases passed {model if DEVICE.type == 'cpu' else 'on cuda'}"
        )
