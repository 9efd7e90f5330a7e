"""The energy ``Σ_ab w_a w_b k_ab`` of a signed cloud as one autograd function, with all gradients in one pass.

The gradient is computed with the value and saved, so backward is a multiplication. Differentiating the gradient
again (a gradient penalty, ``jacrev(jacrev(f))``) goes through :class:`_Gradient`, whose derivative is written in
plain differentiable torch, block of rows by block of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from segma_fast.formulas import profile
from segma_fast.operators import in_transform, without_autocast

BLOCK_ELEMENTS = 1 << 22  # pairs that the second derivative holds at once


def energy(x: Tensor, h: Tensor, w: Tensor, *, backend: str, precision: str) -> Tensor:
    """``E = Σ_ab w_a w_b k(|x_a - x_b|², h_a + h_b)``, differentiable in all three arguments.

    Args:
        x: points, (M, D), float32 or float64.
        h: widths, (M,), ``2 v_a + 2γ`` for a Gaussian of variance v_a, float64.
        w: signed weights, (M,), float64.
        backend: the name of a backend with operators.
        precision: ``"highest"``, ``"high"``, ``"medium"`` or ``"default"`` for torch's own setting.

    Returns:
        A 0-d float64 tensor ≥ 0: the energy is never negative, so rounding below 0 is cut off.
    """
    wanted = torch.is_grad_enabled() and any(t.requires_grad or in_transform(t) for t in (x, h, w))
    return _apply_energy(x, h, w, backend, precision, wanted)[0]


class _Energy(Function):
    """Value, and where it is wanted the gradient, from one call of a backend's operator."""

    @staticmethod
    def forward(x: Tensor, h: Tensor, w: Tensor, backend: str, precision: str, wanted: bool) -> tuple[Tensor, ...]:
        operators = torch.ops.segma_fast
        x, h, w = x.contiguous(), h.contiguous(), w.contiguous()
        rows = x.shape[0]
        if not wanted:
            u = getattr(operators, f"{backend}_potential")(x, h, w, 0, rows, precision)
            return (torch.dot(u, w).clamp_min(0),)
        u, du_dx, du_dh = getattr(operators, f"{backend}_field")(x, h, w, 0, rows, precision)
        twice = 2 * w  # each pair counts from both of its ends
        return torch.dot(u, w).clamp_min(0), twice.to(x.dtype)[:, None] * du_dx, twice * du_dh, 2 * u

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        gradient = output[1:]
        ctx.mark_non_differentiable(*gradient)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:3], *gradient)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_value = grad_outputs[0]
        if grad_value is None:
            return (None,) * 6
        x, h, w, *gradient = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            gradient = _apply_gradient(x, h, w, *gradient)
        needed = ctx.needs_input_grad
        scaled = [(grad_value * g).to(g.dtype) if needed[i] else None for i, g in enumerate(gradient)]
        return (*scaled, None, None, None)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, h: Tensor, w: Tensor, *rest: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        def member(tensor: Tensor, dim: int | None, index: int) -> Tensor:
            return tensor if dim is None else tensor.select(dim, index)

        results = [
            _apply_energy(*(member(t, d, i) for t, d in zip((x, h, w), in_dims[:3], strict=True)), *rest)
            for i in range(info.batch_size)
        ]
        stacked = tuple(torch.stack(column) for column in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)


class _Gradient(Function):
    """The gradient that :class:`_Energy` saved, as a differentiable function of x, h and w."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, h: Tensor, w: Tensor, grad_x: Tensor, grad_h: Tensor, grad_w: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return grad_x.clone(), grad_h.clone(), grad_w.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        x, h, w = ctx.saved_tensors
        block = max(1, BLOCK_ELEMENTS // x.shape[0])
        total: list[Tensor] = []
        with without_autocast(x.device):
            for start in range(0, x.shape[0], block):
                rows = slice(start, start + block)
                pull = torch.func.vjp(partial(_gradient_rows, rows=rows), x, h, w)[1]
                part = pull(tuple(cotangent[rows] for cotangent in cotangents))
                total = [a + b for a, b in zip(total, part, strict=True)] if total else list(part)
        return (*total, None, None, None)


def _gradient_rows(x: Tensor, h: Tensor, w: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """``∂E/∂x``, ``∂E/∂h`` and ``∂E/∂w`` of some rows, in plain differentiable torch."""
    given, x = x.dtype, x.to(w.dtype)
    x = x - x.detach().mean(0)
    norms = (x * x).sum(1)
    t = (norms[rows, None] + norms - 2 * x[rows] @ x.mT).clamp_min(0)
    k, k_t, k_h = profile(t, h[rows, None] + h, x.shape[1])
    twice = 2 * w[rows]
    pull = k_t * w  # (rows, M)
    du_dx = 2 * (pull.sum(1, keepdim=True) * x[rows] - pull @ x)
    return (twice[:, None] * du_dx).to(given), twice * (k_h @ w), 2 * (k @ w)


_apply_energy: Callable[..., tuple[Tensor, ...]] = _Energy.apply
_apply_gradient: Callable[..., list[Tensor]] = _Gradient.apply
