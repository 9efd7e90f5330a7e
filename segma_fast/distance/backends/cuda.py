"""The backend ``cuda``: CUDA kernels in C++, part of ``segma_fast._C`` if it was built with a CUDA toolkit.

Loading the module registers the operator ``cuda_kernels``, which takes precision and form as strings and
returns the energy and, if requested, all gradients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segma_fast.distance.backends import extension, triton
from segma_fast.distance.backends.registry import Backend, register

DEVICES = ("cuda",)  # device types whose tensors the operator accepts
NOTE = Path(__file__).parents[2] / "_build_note_cuda.txt"  # left by setup.py beside a module without these kernels


def _read_note() -> str:
    try:
        return f"not built: {NOTE.read_text(encoding='utf-8').strip()}"
    except OSError:
        return f"built with a torch without CUDA: install segma_fast again with {extension.AGAIN}"


_NOT_BUILT = _read_note()


def missing() -> str | None:
    """Why there are no kernels in this process, or None."""
    if hasattr(extension.OPERATORS, "cuda_kernels"):
        return None
    if extension.REASON is not None:
        return extension.REASON
    if not torch.version.cuda:
        return f"torch {torch.__version__} has no CUDA"
    return _NOT_BUILT


def unsuitable(device: torch.device, dtype: torch.dtype, dim: int) -> str | None:
    """Why the kernels cannot serve tensors of a device, or None."""
    if device.type not in DEVICES:
        return f"it has no kernel for {device.type} tensors"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or later"
    return None


def _left_to_triton(device: torch.device, dtype: torch.dtype, dim: int, precision: str) -> bool:
    """Whether to prefer Triton: its kernels were measured to be faster, or there is no measurement.

    On an H200 the CUDA kernels are faster up to 256 dimensions, but at ``"highest"``, which ``"default"`` may mean,
    they use matrix products only up to 64.
    """
    if device.type != "cuda":
        return True
    if triton.WITHOUT_TRITON or triton.WITHOUT_COMPILER:
        return False
    measured = torch.cuda.get_device_capability(device) == (9, 0) and dtype != torch.float64
    return not measured or dim > (256 if precision in ("high", "medium") else 64)


def energy(*arguments: Any) -> Tensor:
    """``chunked.energy`` as CUDA kernels."""
    found: Tensor = extension.OPERATORS.cuda_kernels(*arguments, False)[0]
    return found


def gradient(*arguments: Any) -> tuple[Tensor, ...]:
    """``chunked.gradient`` as CUDA kernels."""
    found: tuple[Tensor, ...] = extension.OPERATORS.cuda_kernels(*arguments, True)
    return found


register(
    Backend(
        "cuda",
        "compiled CUDA C++, value and gradients in one pass over pairs of points, O(mD) memory, GPU",
        rank=1,
        missing=missing,
        unsuitable=unsuitable,
        not_for_auto=_left_to_triton,
        operators=(energy, gradient),
    )
)
