"""The operators that compiled code, Triton and plain torch all implement: two schemas a backend.

``segma_fast::<backend>_energy`` gives the energy of the signed cloud of points ``[z, means]``, and
``segma_fast::<backend>_gradient`` the energy with its gradient (``backends/chunked.py`` states them in full).
They know nothing of autograd: ``segma_fast.autograd`` puts it around them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from segma_fast.backends import chunked, cuda, native  # noqa: F401  native: its import registers compiled operators

ARGUMENTS = "(Tensor z, Tensor means, Tensor h, Tensor w, SymInt start, SymInt stop, str precision, str phi='approx')"
_library = torch.library.Library("segma_fast", "FRAGMENT")
ENERGY: dict[str, Callable[..., Any]] = {}  # by backend
GRADIENT: dict[str, Callable[..., Any]] = {}


def in_transform(tensor: Tensor) -> bool:
    """Whether a transform of ``torch.func`` or vmap holds the tensor: its values and ``requires_grad`` are hidden."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def are_transforms_active() -> bool:
    """Whether the code runs inside a transform of ``torch.func`` or vmap."""
    return torch._C._are_functorch_transforms_active()


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which matrix products keep the dtype of their inputs, whatever the caller's autocast says."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _in_full_precision(implementation: Callable[..., Any]) -> Callable[..., Any]:
    """Plain torch code as an operator: no autocast, and no TF32 or bfloat16 in its products.

    d² is so small a difference that rounding the scores to TF32 changes it by 40 % and more, so the plain torch
    backends treat every ``precision`` as ``"highest"``. ``"default"`` is torch's own setting when the operator runs.
    """

    def run(
        z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str = "approx"
    ) -> Any:
        chosen = torch.get_float32_matmul_precision()
        with without_autocast(z.device):
            if chosen == "highest":
                return implementation(z, means, h, w, start, stop, phi)
            try:
                torch.set_float32_matmul_precision("highest")
                return implementation(z, means, h, w, start, stop, phi)
            finally:
                torch.set_float32_matmul_precision(chosen)

    return run


def _by_triton(name: str) -> Callable[..., Any]:
    """A function of the Triton backend, which is imported with its first call."""

    def run(*arguments: Any, phi: str = "approx") -> Any:
        from segma_fast.backends import triton_launch

        with without_autocast(arguments[0].device):
            return getattr(triton_launch, name)(*arguments[:7], *(arguments[7:] or (phi,)))

    return run


def _fake_energy(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str = "approx"
) -> Tensor:
    return h.new_empty(())


def _fake_gradient(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str = "approx"
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows, dtype = z.shape[0], torch.promote_types(z.dtype, torch.float32)
    middle = torch.sym_max(start, torch.sym_min(stop, rows))
    dz, dmeans = (z.new_empty(count, z.shape[1], dtype=dtype) for count in (middle - start, stop - middle))
    return h.new_empty(()), dz, dmeans, h.new_empty(stop - start), h.new_empty(stop - start)


def declare(backend: str) -> None:
    """Define both operators of a backend, with what they return; the kernels are registered apart."""
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
    _library.define(f"{backend}_energy{ARGUMENTS} -> Tensor", tags=tags)
    _library.define(f"{backend}_gradient{ARGUMENTS} -> (Tensor, Tensor, Tensor, Tensor, Tensor)", tags=tags)
    torch.library.register_fake(f"segma_fast::{backend}_energy", _fake_energy, lib=_library)
    torch.library.register_fake(f"segma_fast::{backend}_gradient", _fake_gradient, lib=_library)
    ENERGY[backend] = getattr(torch.ops.segma_fast, f"{backend}_energy").default
    GRADIENT[backend] = getattr(torch.ops.segma_fast, f"{backend}_gradient").default


declare("chunked")
_library.impl("chunked_energy", _in_full_precision(chunked.energy), "CompositeExplicitAutograd")
_library.impl("chunked_gradient", _in_full_precision(chunked.gradient), "CompositeExplicitAutograd")
declare("native")
declare("triton")
_library.impl("triton_energy", _by_triton("energy"), "CompositeExplicitAutograd")
_library.impl("triton_gradient", _by_triton("gradient"), "CompositeExplicitAutograd")
declare("cuda")
_library.impl("cuda_energy", cuda.energy, "CompositeExplicitAutograd")
_library.impl("cuda_gradient", cuda.gradient, "CompositeExplicitAutograd")
