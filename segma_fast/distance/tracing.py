"""How torch runs the current code: under a transform, tracing it, with fake tensors, or with real values."""

from __future__ import annotations

import torch
from torch import Tensor


def in_transform(tensor: Tensor) -> bool:
    """Whether ``torch.func`` or vmap wraps the tensor, which hides its values and ``requires_grad``."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def are_transforms_active() -> bool:
    """Whether the code runs inside a transform of ``torch.func`` or vmap."""
    return torch._C._are_functorch_transforms_active()


def visible(tensor: Tensor) -> bool:
    """Whether the values of a tensor can be read without a synchronisation or a graph break."""
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and torch._C._len_torch_dispatch_stack() == 0  # no mode that makes tensors without values
        and not in_transform(tensor)
    )
