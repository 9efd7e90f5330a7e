"""The distance as one autograd function of its five inputs, with all gradients in one pass.

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

from segma_fast.formulas import accumulation_dtype, profile
from segma_fast.operators import ENERGY, GRADIENT, are_transforms_active, in_transform, without_autocast

BLOCK_ELEMENTS = 1 << 22  # pairs that the second derivative holds at once


def energy(
    z: Tensor,
    means: Tensor,
    z_weights: Tensor | None,
    weights: Tensor | None,
    variances: float | Tensor,
    gamma: float | Tensor,
    *,
    backend: str,
    precision: str,
    dtype: torch.dtype,
) -> Tensor:
    """d² of weighted points and a mixture as the energy of a signed cloud, differentiable in all tensors.

    Args:
        z, means: (m, D) and (K, D), of one dtype.
        z_weights, weights: (m,) and (K,), float64, or None for uniform ones.
        variances: (K,), float64, or a number for all.
        gamma: a 0-d float64 tensor or a number.
        backend: the name of a backend with operators.
        precision: ``"highest"``, ``"high"``, ``"medium"`` or ``"default"`` for torch's own setting.
        dtype: of the result.

    Returns:
        A 0-d tensor ≥ 0: the energy is never negative, so rounding below 0 is cut off.
    """
    inputs = (z, means, z_weights, weights, variances, gamma)
    wanted = torch.is_grad_enabled() and any(
        isinstance(t, Tensor) and (t.requires_grad or in_transform(t)) for t in inputs
    )
    apply = _apply_energy if torch.compiler.is_compiling() or are_transforms_active() else _apply_energy_in_eager
    return apply(*inputs, backend, precision, dtype, wanted)[0]


def cloud(
    z: Tensor,
    means: Tensor,
    z_weights: Tensor | None,
    weights: Tensor | None,
    variances: float | Tensor,
    gamma: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Widths ``h = 2v + 2γ`` (v = 0 for a code) and weights ``w`` (-p_k for a mean) of all points, (M,), float64."""
    options: dict[str, Any] = {"dtype": accumulation_dtype(z.device), "device": z.device}
    rows, components = z.shape[0], means.shape[0]

    def spread(value: float | Tensor, size: int) -> Tensor:
        return value.expand(size) if isinstance(value, Tensor) else torch.full((size,), value, **options)

    h = torch.cat([spread(2 * gamma, rows), spread(2 * variances + 2 * gamma, components)])
    positive = spread(1.0 / rows, rows) if z_weights is None else z_weights
    return h, torch.cat([positive, spread(-1.0 / components, components) if weights is None else -weights])


class _Energy(Function):
    """Value, and where it is wanted the gradient, from one call of a backend's operator."""

    @staticmethod
    def forward(
        z: Tensor,
        means: Tensor,
        z_weights: Tensor | None,
        weights: Tensor | None,
        variances: float | Tensor,
        gamma: float | Tensor,
        backend: str,
        precision: str,
        dtype: torch.dtype,
        wanted: bool,
    ) -> tuple[Tensor, ...]:
        h, w = cloud(z, means, z_weights, weights, variances, gamma)
        z, means = z.contiguous(), means.contiguous()
        result = (GRADIENT if wanted else ENERGY)[backend](z, means, h, w, 0, h.shape[0], precision)
        value, *gradient = result if wanted else (result,)
        return value.clamp_min(0).to(dtype), *gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        gradient = output[1:]
        ctx.mark_non_differentiable(*gradient)
        ctx.set_materialize_grads(False)
        tensors = [t for t in inputs[:6] if isinstance(t, Tensor)]
        ctx.numbers = [None if isinstance(t, Tensor) else (t,) for t in inputs[:6]]
        ctx.save_for_backward(*tensors, *gradient)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_value = grad_outputs[0]
        if grad_value is None:
            return (None,) * 10
        *tensors, grad_x, grad_h, grad_w = ctx.saved_tensors
        given = iter(tensors)
        inputs = [next(given) if number is None else number[0] for number in ctx.numbers]
        z, means = inputs[:2]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            h, w = cloud(*inputs)
            grad_x, grad_h, grad_w = _apply_gradient(torch.cat([z, means]), h, w, grad_x, grad_h, grad_w)
        rows = z.shape[0]
        parts: tuple[Callable[[], Tensor], ...] = (
            lambda: grad_x[:rows],
            lambda: grad_x[rows:],
            lambda: grad_w[:rows],
            lambda: -grad_w[rows:],
            lambda: 2 * grad_h[rows:],
            lambda: 2 * grad_h.sum(),
        )
        gradients = [
            (grad_value * part()).to(t.dtype) if needed else None
            for t, part, needed in zip(inputs, parts, ctx.needs_input_grad, strict=False)
        ]
        return (*gradients, None, None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        def member(index: int) -> list[Any]:
            return [a if d is None else a.select(d, index) for a, d in zip(arguments, in_dims, strict=True)]

        results = [_apply_energy(*member(i)) for i in range(info.batch_size)]
        stacked = tuple(torch.stack(column) for column in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)


class _EagerEnergy(_Energy):
    """The same without transforms: torch binds the arguments of a ``setup_context`` by name, which costs 60 µs."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        output = _Energy.forward(*inputs)
        _Energy.setup_context(ctx, inputs, output)
        return output

    setup_context = Function.setup_context


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
    given, x = torch.promote_types(x.dtype, torch.float32), x.to(w.dtype)
    x = x - x.detach().mean(0)
    norms = (x * x).sum(1)
    t = (norms[rows, None] + norms - 2 * x[rows] @ x.mT).clamp_min(0)
    k, k_t, k_h = profile(t, h[rows, None] + h, x.shape[1])
    twice = 2 * w[rows]
    pull = k_t * w  # (rows, M)
    du_dx = 2 * (pull.sum(1, keepdim=True) * x[rows] - pull @ x)
    return (twice[:, None] * du_dx).to(given), twice * (k_h @ w), 2 * (k @ w)


_apply_energy: Callable[..., tuple[Tensor, ...]] = _Energy.apply
_apply_energy_in_eager: Callable[..., tuple[Tensor, ...]] = _EagerEnergy.apply
_apply_gradient: Callable[..., list[Tensor]] = _Gradient.apply
