"""The derivatives of the operators, so that torch differentiates them wherever they are called.

If torch could call an operator but not differentiate it, its derivative would silently be 0. Compiled transforms of
``torch.func`` and exported graphs call the operators directly, without the Python code around them. So each operator
has a kernel for autograd, which also refuses forward mode, and one for vmap. The gradient that an operator returns may
be differentiated again, in plain differentiable torch, one block of rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd.forward_ad import _set_fwd_grad_enabled
from torch.autograd.function import _SingleLevelFunction

from segma_fast.distance.formulas import profile, squared_distances
from segma_fast.distance.precision import without_autocast

BLOCK_ELEMENTS = 1 << 22  # pairs that the second derivative holds at once
Operator = Callable[..., Any]


def autograd_kernel(operator: Operator, gradient: Operator) -> Callable[..., Any]:
    """The autograd kernel of an operator: calls the operator and records its derivative.

    Args:
        operator: gives the energy, or the energy and its gradient.
        gradient: the operator of the same backend that gives both.
    """

    def call(z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str) -> Any:
        with enable_single_level_autograd_function():
            return _apply(z, means, h, w, start, stop, precision, phi, operator, gradient)

    return call


def vmap_kernel(operator: Operator) -> Callable[..., Any]:
    """The vmap kernel of an operator: one call for all samples, also for those of vmap in vmap."""

    def call(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> Any:
        tensors = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(arguments[:4], in_dims[:4], strict=True)
        ]
        samples = tensors[0].shape[:-2]
        result = operator(*(t.flatten(0, len(samples) - 1).contiguous() for t in tensors), *arguments[4:])
        if isinstance(result, Tensor):
            return result.unflatten(0, samples), 0
        return tuple(part.unflatten(0, samples) for part in result), (0,) * len(result)

    return call


@contextmanager
def below_autograd() -> Iterator[None]:
    """In the forward of a single-level function: calls an operator without its autograd kernel.

    An autograd.Function switches two modes off, but the transform levels below its own need them.
    """
    with torch.enable_grad(), _set_fwd_grad_enabled(True), torch._C._AutoDispatchBelowAutograd():
        yield


class _Differentiable(_SingleLevelFunction):
    """An operator with its derivative, at one level of ``torch.func``'s transforms or outside of them."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        *inputs, operator, gradient = arguments
        with below_autograd():
            result = operator(*inputs)
        ctx.others, ctx.gradient = inputs[4:], gradient
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:4], *(() if isinstance(result, Tensor) else result[1:]))
        return result

    @staticmethod
    def backward(ctx: Any, grad_value: Tensor | None, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, known = ctx.saved_tensors[:4], ctx.saved_tensors[4:]
        start, stop = ctx.others[:2]
        if start != 0 or stop != inputs[2].shape[-1]:
            raise RuntimeError(f"only the energy of all rows can be differentiated, got rows {start} to {stop}")
        found: list[Tensor | None] = [None] * 4
        if grad_value is not None:
            if not known:
                known = ctx.gradient(*inputs, *ctx.others)[1:]
            factor = grad_value[..., None]  # not 0-d: torch cannot multiply an empty batch by a scalar
            factors = (factor[..., None], factor[..., None], factor, factor)
            triples = list(zip(factors, known, inputs, strict=True))
            found = [(factor.to(part.dtype) * part).to(t.dtype) for factor, part, t in triples]
            if type(grad_value) is not Tensor:  # traced: see keep_inputs
                triples = list(zip(factors, found, inputs, strict=True))
                found = [torch.where(factor.isnan(), factor.to(t.dtype) * t, part) for factor, part, t in triples]
        if any(cotangent is not None for cotangent in cotangents):
            second = second_derivative(inputs, cotangents, ctx.others[3])
            found = [b if a is None else a + b for a, b in zip(found, second, strict=True)]
        return (*found, *(None,) * 6)


def keep_inputs(value: Tensor, *inputs: Tensor) -> Tensor:
    """The value; under ``torch.compile``, with a backward that reads the inputs (of which non-finite ones give NaN).

    A compiled graph that saves only its own intermediates for backward silently has a second derivative of 0. If it
    saves an input, torch raises an error instead.
    """
    if torch.compiler.is_compiling():
        for tensor in inputs:
            value = value + 0 * tensor.cos().sum()
    return value


def second_derivative(inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None], phi: str) -> list[Tensor]:
    """The gradient of ``<∂E/∂(z, means, h, w), cotangents>`` in z, means, h and w, differentiable.

    Args:
        inputs: z, means, h and w of the operators.
        cotangents: one for each input and of its shape; None stands for zeros.
        phi: the form of φ_D.
    """
    z, means, h, w = inputs
    rows, x = z.shape[-2], torch.cat([z, means], -2)
    given = [torch.zeros_like(t) if c is None else c for c, t in zip(cotangents, inputs, strict=True)]
    along_x = torch.cat([c.to(torch.promote_types(x.dtype, torch.float32)) for c in given[:2]], -2)
    block = max(1, BLOCK_ELEMENTS // max(1, math.prod(x.shape[:-1])))
    total: list[Tensor] = []
    with without_autocast(x.device):
        for first in range(0, x.shape[-2], block):
            part = slice(first, first + block)
            pull = torch.func.vjp(partial(_gradient_rows, rows=part, phi=phi), x, h, w)[1]
            found = pull((along_x[..., part, :], given[2][..., part], given[3][..., part]))
            total = [a + b for a, b in zip(total, found, strict=True)] if total else list(found)
    return [total[0][..., :rows, :], total[0][..., rows:, :], *total[1:]]


def _gradient_rows(x: Tensor, h: Tensor, w: Tensor, rows: slice, phi: str) -> tuple[Tensor, Tensor, Tensor]:
    """``∂E/∂x``, ``∂E/∂h`` and ``∂E/∂w`` of some rows, in plain differentiable torch."""
    given, x = torch.promote_types(x.dtype, torch.float32), x.to(w.dtype)
    x = x - x.detach().mean(-2, keepdim=True)
    own, weight = x[..., rows, :], w[..., None]
    k, k_t, k_h = profile(squared_distances(own, x), h[..., rows, None] + h[..., None, :], x.shape[-1], phi)
    twice = 2 * weight[..., rows, :]
    pull = k_t * weight.mT  # (rows, M)
    du_dx = 2 * (pull.sum(-1, keepdim=True) * own - pull @ x)
    return (twice * du_dx).to(given), (twice * (k_h @ weight))[..., 0], 2 * (k @ weight)[..., 0]


_apply: Callable[..., Any] = _Differentiable.apply  # type: ignore[attr-defined]
