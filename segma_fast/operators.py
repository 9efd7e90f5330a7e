"""The operators that compiled code, Triton and plain torch all implement: two schemas a backend.

``segma_fast::<backend>_potential`` gives the potential u of a signed cloud of points, and
``segma_fast::<backend>_field`` the potential with its derivatives (``backends/chunked.py`` states them in full).
They know nothing of autograd: ``segma_fast.autograd`` puts the gradient around them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from segma_fast.backends import chunked

ARGUMENTS = "(Tensor x, Tensor h, Tensor w, SymInt start, SymInt stop, str precision)"
_library = torch.library.Library("segma_fast", "FRAGMENT")


def in_transform(tensor: Tensor) -> bool:
    """Whether a transform of ``torch.func`` or vmap holds the tensor: its values and ``requires_grad`` are hidden."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(tensor)


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

    def run(x: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str) -> Any:
        chosen = torch.get_float32_matmul_precision()
        with without_autocast(x.device):
            if chosen == "highest":
                return implementation(x, h, w, start, stop)
            try:
                torch.set_float32_matmul_precision("highest")
                return implementation(x, h, w, start, stop)
            finally:
                torch.set_float32_matmul_precision(chosen)

    return run


def _fake_potential(x: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str) -> Tensor:
    return w.new_empty(stop - start)


def _fake_field(
    x: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str
) -> tuple[Tensor, Tensor, Tensor]:
    rows = stop - start
    return _fake_potential(x, h, w, start, stop, precision), x.new_empty(rows, x.shape[1]), w.new_empty(rows)


def declare(backend: str) -> None:
    """Define both operators of a backend, with what they return; the kernels are registered apart."""
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
    _library.define(f"{backend}_potential{ARGUMENTS} -> Tensor", tags=tags)
    _library.define(f"{backend}_field{ARGUMENTS} -> (Tensor, Tensor, Tensor)", tags=tags)
    torch.library.register_fake(f"segma_fast::{backend}_potential", _fake_potential, lib=_library)
    torch.library.register_fake(f"segma_fast::{backend}_field", _fake_field, lib=_library)


declare("chunked")
_library.impl("chunked_potential", _in_full_precision(chunked.potential), "CompositeExplicitAutograd")
_library.impl("chunked_field", _in_full_precision(chunked.field), "CompositeExplicitAutograd")
