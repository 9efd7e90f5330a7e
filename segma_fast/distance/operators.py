"""The operators that compiled code, Triton and plain torch all implement: two for each backend that has them.

``segma_fast::<backend>_energy`` gives the energy of the signed cloud of points ``[z, means]``, and
``segma_fast::<backend>_gradient`` the energy with its gradient (``backends/chunked.py`` states them in full).
For B samples of one size, all four tensors and all results have a first dimension of B; then all rows are evaluated.
The operators are differentiable wherever they are called (``segma_fast.distance.derivatives``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from segma_fast.distance.backends import BACKENDS, extension
from segma_fast.distance.derivatives import autograd_kernel, vmap_kernel
from segma_fast.distance.precision import matmul_precision, without_autocast

ARGUMENTS = "(Tensor z, Tensor means, Tensor h, Tensor w, SymInt start, SymInt stop, str precision, str phi)"
_library = torch.library.Library(extension.NAMESPACE, "FRAGMENT")
ENERGY: dict[str, Callable[..., Any]] = {}  # by backend
GRADIENT: dict[str, Callable[..., Any]] = {}


def _implement(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Register a Python function as an operator for all devices, without autocast and with ``"default"`` resolved."""

    def run(z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str) -> Any:
        if z.ndim == 3:
            if start != 0 or stop != h.shape[-1]:
                raise ValueError(f"of several samples all rows must be evaluated, 0:{h.shape[-1]}, got {start}:{stop}")
            if len(z) == 0:
                return fake(z, means, h, w, start, stop, precision, phi)
        if precision == "default":
            precision = matmul_precision(z.device)
        with without_autocast(z.device):
            return function(z, means, h, w, start, stop, precision, phi)

    _library.impl(name, run, "CompositeExplicitAutograd")


def _fake_energy(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str
) -> Tensor:
    return h.new_empty(h.shape[:-1])


def _fake_gradient(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    (*samples, rows, dim), dtype = z.shape, torch.promote_types(z.dtype, torch.float32)
    if start == 0 and stop == h.shape[-1]:  # a case of its own: export cannot simplify the general form
        counts = (rows, means.shape[-2])
    else:
        middle = torch.sym_max(start, torch.sym_min(stop, rows))
        counts = (middle - start, stop - middle)
    dz, dmeans = (z.new_empty(*samples, count, dim, dtype=dtype) for count in counts)
    dh, dw = (h.new_empty(*samples, stop - start) for _ in range(2))
    return h.new_empty(samples), dz, dmeans, dh, dw


def _declare(backend: str) -> None:
    """Define both operators of a backend, their fake implementations, vmap and derivatives."""
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
    _library.define(f"{backend}_energy{ARGUMENTS} -> Tensor", tags=tags)
    _library.define(f"{backend}_gradient{ARGUMENTS} -> (Tensor, Tensor, Tensor, Tensor, Tensor)", tags=tags)
    ENERGY[backend] = getattr(extension.OPERATORS, f"{backend}_energy").default
    GRADIENT[backend] = getattr(extension.OPERATORS, f"{backend}_gradient").default
    for kind, fake, operator in (("energy", _fake_energy, ENERGY), ("gradient", _fake_gradient, GRADIENT)):
        name = f"{backend}_{kind}"
        torch.library.register_fake(f"{extension.NAMESPACE}::{name}", fake, lib=_library)
        torch.library.register_vmap(f"{extension.NAMESPACE}::{name}", vmap_kernel(operator[backend]), lib=_library)
        _library.impl(name, autograd_kernel(operator[backend], GRADIENT[backend]), "Autograd")


for _backend in BACKENDS:
    if _backend.operators is not None:
        _declare(_backend.name)
        if not isinstance(_backend.operators, str):
            _implement(f"{_backend.name}_energy", _backend.operators[0], _fake_energy)
            _implement(f"{_backend.name}_gradient", _backend.operators[1], _fake_gradient)
