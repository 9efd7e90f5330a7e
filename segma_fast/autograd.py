"""The distance as one autograd function of its five inputs, with all gradients in one pass.

The gradient is computed with the value and saved, so backward is a multiplication. Differentiating the gradient
again (a gradient penalty, ``jacrev(jacrev(f))``) goes through :class:`_Gradient`, whose derivative is written in
plain differentiable torch, block of rows by block of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from segma_fast.formulas import accumulation_dtype, profile
from segma_fast.operators import ENERGY, GRADIENT, are_transforms_active, in_transform, without_autocast

MOST_KEPT = 1 << 14  # rows of which the widths and uniform weights are kept from call to call
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
    phi: str,
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
        phi: the form of φ_D, ``"approx"`` or ``"exact"``.
        dtype: of the result.

    Returns:
        A 0-d tensor ≥ 0: the energy is never negative, so rounding below 0 is cut off.
    """
    inputs = (z, means, z_weights, weights, variances, gamma)
    wanted = torch.is_grad_enabled() and any(
        isinstance(t, Tensor) and (t.requires_grad or in_transform(t)) for t in inputs
    )
    apply = _apply_energy if torch.compiler.is_compiling() or are_transforms_active() else _apply_energy_in_eager
    return apply(*inputs, backend, precision, phi, dtype, wanted)[0]


def cloud(
    rows: int,
    components: int,
    device: torch.device,
    z_weights: Tensor | None,
    weights: Tensor | None,
    variances: float | Tensor,
    gamma: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Widths ``h = 2v + 2γ`` (v = 0 for a code) and weights ``w`` (-p_k for a mean) of all points, (M,), float64."""
    options: dict[str, Any] = {"dtype": accumulation_dtype(device), "device": device}

    def spread(value: float | Tensor, size: int) -> Tensor:
        return value.expand(size) if isinstance(value, Tensor) else torch.full((size,), value, **options)

    h = torch.cat([spread(2 * gamma, rows), spread(2 * variances + 2 * gamma, components)])
    positive = spread(1.0 / rows, rows) if z_weights is None else z_weights
    return h, torch.cat([positive, spread(-1.0 / components, components) if weights is None else -weights])


@lru_cache(maxsize=8)
def _kept_cloud(stream: int, *described: Any) -> tuple[Tensor, Tensor]:
    """:func:`cloud`: from step to step of a training, the same, and six calls of torch. Each stream has its own."""
    return cloud(*described)


def _stream(device: torch.device) -> int | None:
    """A number for the queue that the device's work goes to; None while it is recorded, when nothing may be kept."""
    if device.type != "cuda":
        return 0
    return None if torch.cuda.is_current_stream_capturing() else torch.cuda.current_stream(device).cuda_stream


def _evaluate(
    inputs: Sequence[Any], backend: str, precision: str, phi: str, dtype: torch.dtype, wanted: bool
) -> Sequence[Any]:
    """The value, and where it is wanted the gradient in z, means, widths and weights."""
    z, means, z_weights, weights, variances, gamma = inputs
    described = (z.shape[0], means.shape[0], z.device, *inputs[2:])
    numbers = z_weights is weights is None and isinstance(variances, float) and isinstance(gamma, float)
    may_keep = numbers and not torch.compiler.is_compiling() and type(z) is Tensor and z.shape[0] <= MOST_KEPT
    stream = _stream(z.device) if may_keep else None
    if stream is not None:
        h, w = _kept_cloud(stream, *described)
        if type(h) is not Tensor:  # made under a mode, such as FakeTensorMode, and of no use outside
            _kept_cloud.cache_clear()
    else:
        h, w = cloud(*described)
    result = (GRADIENT if wanted else ENERGY)[backend](
        z.contiguous(), means.contiguous(), h, w, 0, h.shape[0], precision, phi
    )
    value, *gradient = result if wanted else (result,)
    return value.to(dtype), *gradient


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
        phi: str,
        dtype: torch.dtype,
        wanted: bool,
    ) -> tuple[Tensor, ...]:
        inputs = (z, means, z_weights, weights, variances, gamma)
        return tuple(_evaluate(inputs, backend, precision, phi, dtype, wanted))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        _save(ctx, inputs, output[1:])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, grad_outputs[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        def member(index: int) -> list[Any]:
            return [a if d is None else a.select(d, index) for a, d in zip(arguments, in_dims, strict=True)]

        results = [_apply_energy(*member(i)) for i in range(info.batch_size)]
        stacked = tuple(torch.stack(column) for column in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)


class _EagerEnergy(Function):
    """The same without transforms and tracing, at a third of the cost for small inputs."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor]:
        value, *gradient = _evaluate(inputs[:6], *inputs[6:])
        ctx.set_materialize_grads(False)
        _save(ctx, inputs, gradient)
        return (value,)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, grad_outputs[0])


def _save(ctx: Any, inputs: Sequence[Any], gradient: Sequence[Tensor]) -> None:
    """Keep z, means and the gradient, and the other inputs as what they are: tensors, numbers or None."""
    ctx.others = [None if isinstance(t, Tensor) else (t,) for t in inputs[2:6]]
    ctx.phi = inputs[8]
    ctx.save_for_backward(inputs[0], inputs[1], *gradient, *(t for t in inputs[2:6] if isinstance(t, Tensor)))


def _gradients(ctx: Any, grad_value: Tensor | None) -> tuple[Tensor | None, ...]:
    """The saved gradient, spread over the inputs of the distance and times the gradient of the value."""
    if grad_value is None:
        return (None,) * 11
    z, means, grad_z, grad_means, grad_h, grad_w, *tensors = ctx.saved_tensors
    needed, rows = ctx.needs_input_grad, z.shape[0]
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        given = iter(tensors)
        others = [next(given) if other is None else other[0] for other in ctx.others]
        x, saved = torch.cat([z, means]), torch.cat([grad_z, grad_means])
        grad_x, grad_h, grad_w = _apply_gradient(
            x, *cloud(rows, means.shape[0], z.device, *others), saved, grad_h, grad_w, ctx.phi
        )
        grad_z, grad_means = grad_x[:rows], grad_x[rows:]
    return (
        _in_dtype(grad_value * grad_z, z.dtype) if needed[0] else None,
        _in_dtype(grad_value * grad_means, means.dtype) if needed[1] else None,
        grad_value * grad_w[:rows] if needed[2] else None,
        -grad_value * grad_w[rows:] if needed[3] else None,
        2 * grad_value * grad_h[rows:] if needed[4] else None,
        2 * grad_value * grad_h.sum() if needed[5] else None,
        *(None,) * 5,
    )


def _in_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


class _Gradient(Function):
    """The gradient that :class:`_Energy` saved, as a differentiable function of x, h and w."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, h: Tensor, w: Tensor, grad_x: Tensor, grad_h: Tensor, grad_w: Tensor, phi: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        return grad_x.clone(), grad_h.clone(), grad_w.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.phi = inputs[6]
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        x, h, w = ctx.saved_tensors
        block = max(1, BLOCK_ELEMENTS // x.shape[0])
        total: list[Tensor] = []
        with without_autocast(x.device):
            for start in range(0, x.shape[0], block):
                rows = slice(start, start + block)
                pull = torch.func.vjp(partial(_gradient_rows, rows=rows, phi=ctx.phi), x, h, w)[1]
                part = pull(tuple(cotangent[rows] for cotangent in cotangents))
                total = [a + b for a, b in zip(total, part, strict=True)] if total else list(part)
        return (*total, None, None, None, None)


def _gradient_rows(x: Tensor, h: Tensor, w: Tensor, rows: slice, phi: str) -> tuple[Tensor, Tensor, Tensor]:
    """``∂E/∂x``, ``∂E/∂h`` and ``∂E/∂w`` of some rows, in plain differentiable torch."""
    given, x = torch.promote_types(x.dtype, torch.float32), x.to(w.dtype)
    x = x - x.detach().mean(0)
    norms = (x * x).sum(1)
    t = (norms[rows, None] + norms - 2 * x[rows] @ x.mT).clamp_min(0)
    k, k_t, k_h = profile(t, h[rows, None] + h, x.shape[1], phi)
    twice = 2 * w[rows]
    pull = k_t * w  # (rows, M)
    du_dx = 2 * (pull.sum(1, keepdim=True) * x[rows] - pull @ x)
    return (twice[:, None] * du_dx).to(given), twice * (k_h @ w), 2 * (k @ w)


_apply_energy: Callable[..., tuple[Tensor, ...]] = _Energy.apply
_apply_energy_in_eager: Callable[..., tuple[Tensor, ...]] = _EagerEnergy.apply
_apply_gradient: Callable[..., list[Tensor]] = _Gradient.apply
