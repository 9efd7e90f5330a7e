"""The two operators of slices, for each backend that has kernels for them.

``segma_fast::<backend>_waves(z, directions, steps, frequencies)`` sums waves of projections over the rows of each
sample. With ``a_bir = steps_br (directions_r · z_bi)`` and k = 1 … T::

    waves[b, 0, k, r] = Σ_i cos(k a_bir)        waves[b, 1, k, r] = Σ_i sin(k a_bir)

A projection with |a| > π counts as infinitely far, and its waves as 0. z is (B, N, D), float32 or float64, and the
result (B, 2, T, R), float64; directions are those of ``slices/directions.py`` in the dtype of z, not normalised, so
steps, (B, R) float64, hold their lengths too. ``segma_fast::<backend>_slopes(z, directions, steps, cotangent)`` is the
derivative: the gradient of ``Σ waves · cotangent`` in z, in its shape and dtype. Directions and steps have no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd.function import _SingleLevelFunction

from segma_fast.distance.backends import BACKENDS, extension
from segma_fast.distance.derivatives import below_autograd
from segma_fast.distance.precision import without_autocast

_library = torch.library.Library(extension.NAMESPACE, "FRAGMENT")
WAVES: dict[str, Callable[..., Tensor]] = {}  # by backend


class _Differentiable(_SingleLevelFunction):
    """An operator with its derivative, at one level of ``torch.func``'s transforms or outside of them."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *inputs, operator, ctx.derivative = arguments
        with below_autograd():
            result: Tensor = operator(*inputs)
        ctx.save_for_backward(*inputs[:3])
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.derivative is None:
            raise RuntimeError(
                "with slices the distance can be differentiated once only, got a second derivative; "
                "backend='reference' has all derivatives"
            )
        return (ctx.derivative(*ctx.saved_tensors, grad_outputs[0].contiguous()), *(None,) * 5)


def _autograd_kernel(operator: Callable[..., Tensor], derivative: Callable[..., Tensor] | None) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        with enable_single_level_autograd_function():
            return _apply(*arguments, operator, derivative)

    return call


def _declare(name: str, functions: tuple[Callable[..., Any], ...] | str) -> None:
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
    common = "(Tensor z, Tensor directions, Tensor steps"
    _library.define(f"{name}_waves{common}, int frequencies) -> Tensor", tags=tags)
    _library.define(f"{name}_slopes{common}, Tensor cotangent) -> Tensor", tags=tags)
    waves, slopes = (getattr(extension.OPERATORS, f"{name}_{kind}").default for kind in ("waves", "slopes"))

    def fake_waves(z: Tensor, directions: Tensor, steps: Tensor, frequencies: int) -> Tensor:
        return steps.new_empty(z.shape[0], 2, frequencies, steps.shape[1])

    def fake_slopes(z: Tensor, directions: Tensor, steps: Tensor, cotangent: Tensor) -> Tensor:
        return torch.empty_like(z, memory_format=torch.contiguous_format)

    for kind, operator, fake, derivative in (
        ("waves", waves, fake_waves, slopes),
        ("slopes", slopes, fake_slopes, None),
    ):
        qualified = f"{extension.NAMESPACE}::{name}_{kind}"
        torch.library.register_fake(qualified, fake, lib=_library)
        torch.library.register_vmap(qualified, _vmap_kernel(operator), lib=_library)
        _library.impl(f"{name}_{kind}", _autograd_kernel(operator, derivative), "Autograd")
    WAVES[name] = waves
    if not isinstance(functions, str):
        for kind, function in zip(("waves", "slopes"), functions, strict=True):
            _library.impl(f"{name}_{kind}", _outside_autocast(function), "CompositeExplicitAutograd")


def _outside_autocast(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(z: Tensor, *others: Any) -> Tensor:
        with without_autocast(z.device):
            return function(z, *others)

    return run


def _vmap_kernel(operator: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, int]]:
    """One call for the whole batch, which becomes more samples; one call each only if directions differ."""

    def call(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> tuple[Tensor, int]:
        size = info.batch_size
        z, directions, steps, last = (
            a if d is None else a.movedim(d, 0) for a, d in zip(arguments, in_dims, strict=True)
        )
        if in_dims[1] is not None:
            pick = [[a if d is None else a[i] for a, d in zip((z, directions, steps, last), in_dims, strict=True)]
                    for i in range(size)]  # fmt: skip
            return torch.stack(
                [operator(*(a.contiguous() if isinstance(a, Tensor) else a for a in p)) for p in pick]
            ), 0

        def folded(tensor: Any, dim: int | None) -> Any:
            if not isinstance(tensor, Tensor):
                return tensor
            whole = tensor.expand(size, *tensor.shape) if dim is None else tensor
            return whole.flatten(0, 1).contiguous()

        result = operator(folded(z, in_dims[0]), directions, folded(steps, in_dims[2]), folded(last, in_dims[3]))
        return result.unflatten(0, (size, -1)), 0

    return call


_apply: Callable[..., Tensor] = _Differentiable.apply  # type: ignore[attr-defined]
for _backend in BACKENDS:
    if _backend.slices is not None:
        _declare(_backend.name, _backend.slices)
