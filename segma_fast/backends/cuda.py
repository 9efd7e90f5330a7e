"""The CUDA kernels in C++, part of ``segma_fast._C`` where it was built with a CUDA toolkit.

That the module is loaded registers the operator ``segma_fast::cuda_kernels``, which takes precision and form by their
names and gives the energy and, if it is wanted, all gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segma_fast.backends import native
from segma_fast.precision import matmul_precision

DEVICES = ("cuda",)  # whose tensors the operator serves


def missing() -> str | None:
    """Why there are no kernels in this process, or None."""
    if hasattr(torch.ops.segma_fast, "cuda_kernels"):
        return None
    if native.REASON is not None:
        return native.REASON
    if not torch.version.cuda:
        return f"torch {torch.__version__} has no CUDA"
    return "built without a CUDA toolkit: install it and segma_fast again with `pip install --no-build-isolation -v`"


def unsuitable(device: torch.device, dtype: torch.dtype, dim: int) -> str | None:
    """Why the kernels cannot serve tensors of a device, or None."""
    if device.type not in DEVICES:
        return f"it has no kernel for {device.type} tensors"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or later"
    return None


def energy(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str = "approx"
) -> Tensor:
    """``chunked.energy`` as CUDA kernels."""
    found: Tensor = _evaluate(z, means, h, w, start, stop, precision, phi, False)[0]
    return found


def gradient(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str = "approx"
) -> tuple[Tensor, ...]:
    """``chunked.gradient`` as CUDA kernels."""
    found: tuple[Tensor, ...] = _evaluate(z, means, h, w, start, stop, precision, phi, True)
    return found


def _evaluate(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str, wanted: bool
) -> Any:
    if precision == "default":
        precision = matmul_precision(z.device)
    return torch.ops.segma_fast.cuda_kernels(z, means, h, w, start, stop, precision, phi, wanted)
