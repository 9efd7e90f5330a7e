"""The operators that compiled code, Triton and plain torch all implement: two schemas a backend.

``segma_fast::<backend>_energy`` gives the energy of the signed cloud of points ``[z, means]``, and
``segma_fast::<backend>_gradient`` the energy with its gradient (``backends/chunked.py`` states them in full).
They are differentiable wherever they are called (``segma_fast.derivatives``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from segma_fast.backends import chunked, cuda, native  # noqa: F401  native: its import registers compiled operators
from segma_fast.derivatives import autograd_kernel, vmap_kernel
from segma_fast.precision import without_autocast

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


def _in_full_precision(implementation: Callable[..., Any]) -> Callable[..., Any]:
    """Plain torch code as an operator: no autocast, and every ``precision`` is ``"highest"``.

    d² is so small a difference that rounding the scores to TF32 changes it by 40 % and more.
    """

    def run(
        z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str = "approx"
    ) -> Any:
        with without_autocast(z.device):
            return implementation(z, means, h, w, start, stop, phi)

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
    if start == 0 and stop == h.shape[0]:  # said plainly: export cannot simplify the other form
        counts = (rows, means.shape[0])
    else:
        middle = torch.sym_max(start, torch.sym_min(stop, rows))
        counts = (middle - start, stop - middle)
    dz, dmeans = (z.new_empty(count, z.shape[1], dtype=dtype) for count in counts)
    return h.new_empty(()), dz, dmeans, h.new_empty(stop - start), h.new_empty(stop - start)


def declare(backend: str) -> None:
    """Define both operators of a backend, what they return and their derivatives; the kernels are registered apart."""
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
    _library.define(f"{backend}_energy{ARGUMENTS} -> Tensor", tags=tags)
    _library.define(f"{backend}_gradient{ARGUMENTS} -> (Tensor, Tensor, Tensor, Tensor, Tensor)", tags=tags)
    ENERGY[backend] = getattr(torch.ops.segma_fast, f"{backend}_energy").default
    GRADIENT[backend] = getattr(torch.ops.segma_fast, f"{backend}_gradient").default
    for kind, fake, operator in (("energy", _fake_energy, ENERGY), ("gradient", _fake_gradient, GRADIENT)):
        name = f"{backend}_{kind}"
        torch.library.register_fake(f"segma_fast::{name}", fake, lib=_library)
        torch.library.register_vmap(f"segma_fast::{name}", vmap_kernel(operator[backend], fake), lib=_library)
        _library.impl(name, autograd_kernel(operator[backend], GRADIENT[backend]), "Autograd")


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
