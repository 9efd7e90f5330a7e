"""The backend ``triton``: kernels for GPUs in Triton, which is imported with the first call."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import Any

import torch

from segma_fast.distance.backends.registry import Backend, register


def _find_triton() -> str | None:
    try:
        found = find_spec("triton") is not None
    except ImportError:
        found = False
    if found:
        return None
    if torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA; one that has brings Triton along"
    return "Triton is not installed: pip install triton"


def _find_compiler() -> str | None:
    if os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"):
        return None
    return "Triton builds its launcher with a C compiler, and found neither CC nor gcc nor clang"


# Called once at import: torch.compile traces the choice of a backend, but cannot trace these functions.
WITHOUT_TRITON, WITHOUT_COMPILER = _find_triton(), _find_compiler()


def _unsuitable(device: torch.device, dtype: torch.dtype, dim: int) -> str | None:
    if device.type == "cpu":
        is_interpreted = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")  # as Triton
        reason = "it runs on a GPU (TRITON_INTERPRET=1 interprets it on the CPU, to test it)"
        return None if is_interpreted else reason
    if device.type not in ("cuda", "xpu"):
        return f"it has no kernel for {device.type} tensors"
    if device.type == "cuda" and torch.version.cuda and torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or later"
    return WITHOUT_COMPILER


def _energy(*arguments: Any) -> Any:
    from segma_fast.distance.backends.triton import launch

    return launch.energy(*arguments)


def _gradient(*arguments: Any) -> Any:
    from segma_fast.distance.backends.triton import launch

    return launch.gradient(*arguments)


def _waves(*arguments: Any) -> Any:
    from segma_fast.distance.backends.triton import waves

    return waves.sums(*arguments)


def _slopes(*arguments: Any) -> Any:
    from segma_fast.distance.backends.triton import waves

    return waves.slopes(*arguments)


register(
    Backend(
        "triton",
        "Triton kernels, value and gradients in one pass over pairs of points, O(mD) memory, GPU",
        rank=2,
        missing=lambda: WITHOUT_TRITON,
        unsuitable=_unsuitable,
        not_for_auto=lambda device, *described: device.type == "cpu",
        operators=(_energy, _gradient),
        slices=(_waves, _slopes),
    )
)
