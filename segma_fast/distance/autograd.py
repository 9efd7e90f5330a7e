"""The energy of a signed cloud as a differentiable function of the five inputs of the distance.

One call of an operator computes value and gradient. In eager mode a ``torch.autograd.Function`` saves the gradient, so
that backward is a multiplication. Where torch traces or transforms the code, the operators' own derivatives do the same
(:mod:`segma_fast.distance.derivatives`); for small inputs they would cost three times as much in eager mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from segma_fast.distance.formulas import accumulation_dtype
from segma_fast.distance.operators import ENERGY, GRADIENT
from segma_fast.distance.tracing import are_transforms_active

MOST_KEPT = 1 << 14  # largest number of rows for which widths and uniform weights are cached between calls


class Inputs(NamedTuple):
    """The checked inputs of the distance.

    Attributes:
        z, means: (m, D) and (K, D), of one dtype; (B, m, D) and (B, K, D) for B samples, which share all else.
        z_weights, weights: (m,) and (K,), float64, or None for uniform ones.
        variances: (K,), float64, or a number for all.
        gamma: a 0-d float64 tensor or a number.
    """

    z: Tensor
    means: Tensor
    z_weights: Tensor | None
    weights: Tensor | None
    variances: float | Tensor
    gamma: float | Tensor


class Options(NamedTuple):
    """How the distance is computed.

    Attributes:
        backend: the name of a backend.
        precision: ``"highest"``, ``"high"``, ``"medium"`` or ``"default"`` for torch's own setting.
        phi: the form of φ_D, ``"approx"`` or ``"exact"``.
        dtype: of the result.
    """

    backend: str
    precision: str
    phi: str
    dtype: torch.dtype


def energy(inputs: Inputs, options: Options) -> Tensor:
    """d² of weighted points and a mixture as the energy of a signed cloud, differentiable in all tensors.

    Args:
        inputs: the points and the mixture.
        options: their backend must have operators, which the reference does not.

    Returns:
        A tensor ≥ 0, 0-d or (B,): the energy is never negative, so negative rounding errors are clamped to 0.
    """
    transforms = are_transforms_active()  # which hide whether a tensor requires grad
    requires_grad = transforms or any(isinstance(t, Tensor) and t.requires_grad for t in inputs)
    needs_gradient = torch.is_grad_enabled() and requires_grad
    if transforms or torch.compiler.is_compiling():
        return _evaluate(inputs, options, needs_gradient)[0].to(options.dtype)
    return _apply_energy(*inputs, options, needs_gradient)[0]


def widths_and_weights(
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
def _kept_widths_and_weights(stream: int, *described: Any) -> tuple[Tensor, Tensor]:
    """A cache for the result of six torch calls that is the same in every training step; one entry per stream."""
    return widths_and_weights(*described)


def _stream(device: torch.device) -> int | None:
    """The current stream as a number; None during CUDA graph capture, when nothing may be cached."""
    if device.type != "cuda":
        return 0
    return None if torch.cuda.is_current_stream_capturing() else torch.cuda.current_stream(device).cuda_stream


def _evaluate(inputs: Inputs, options: Options, needs_gradient: bool, may_keep: bool = False) -> Sequence[Tensor]:
    """The value and, if needed, the gradient in z, means, widths and weights; may cache widths and weights."""
    z, means, z_weights, weights, variances, gamma = inputs
    described = (z.shape[-2], means.shape[-2], z.device, *inputs[2:])
    numbers = z_weights is weights is None and isinstance(variances, float) and isinstance(gamma, float)
    may_keep = may_keep and numbers and type(z) is Tensor and z.shape[-2] <= MOST_KEPT
    stream = _stream(z.device) if may_keep else None
    if stream is not None:
        h, w = _kept_widths_and_weights(stream, *described)
        if type(h) is not Tensor:  # made under a mode, such as FakeTensorMode, and of no use outside
            _kept_widths_and_weights.cache_clear()
    else:
        h, w = widths_and_weights(*described)
    if z.ndim == 3:
        h, w = (vector.expand(len(z), -1).contiguous() for vector in (h, w))
    operator = (GRADIENT if needs_gradient else ENERGY)[options.backend]
    result = operator(z.contiguous(), means.contiguous(), h, w, 0, h.shape[-1], options.precision, options.phi)
    return result if needs_gradient else (result,)


class _Energy(Function):
    """The value and its saved gradient, for eager mode without transforms or tracing."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor]:
        inputs, (options, needs_gradient) = Inputs(*arguments[:6]), arguments[6:]
        with torch._C._AutoDispatchBelowAutograd():  # bypasses the operators' own autograd kernel
            value, *gradient = _evaluate(inputs, options, needs_gradient, may_keep=True)
        ctx.set_materialize_grads(False)
        ctx.others = [None if isinstance(t, Tensor) else (t,) for t in inputs[2:]]
        ctx.options = options
        ctx.save_for_backward(inputs[0], inputs[1], *gradient, *(t for t in inputs[2:] if isinstance(t, Tensor)))
        return (value.to(options.dtype),)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """The saved gradient times the gradient of the value, mapped to the inputs of the distance."""
        grad_value = grad_outputs[0]
        if grad_value is None:
            return (None,) * 8
        z, means, grad_z, grad_means, grad_h, grad_w, *tensors = ctx.saved_tensors
        needed, rows = ctx.needs_input_grad, z.shape[-2]
        if torch.is_grad_enabled():  # recompute it as a function of the inputs, so that it can be differentiated
            given = iter(tensors)
            others = [next(given) if other is None else other[0] for other in ctx.others]
            _, grad_z, grad_means, grad_h, grad_w = _evaluate(Inputs(z, means, *others), ctx.options, True)
        of_points = grad_value
        if z.ndim == 3:  # one number a sample, and samples share widths and weights
            of_points = grad_value[:, None, None]
            if any(needed[2:6]):
                of_vectors, grad_value = grad_value[:, None], torch.ones_like(grad_value[0])
                grad_h, grad_w = (of_vectors * grad_h).sum(0), (of_vectors * grad_w).sum(0)
        return (
            _in_dtype(of_points * grad_z, z.dtype) if needed[0] else None,
            _in_dtype(of_points * grad_means, means.dtype) if needed[1] else None,
            grad_value * grad_w[:rows] if needed[2] else None,
            -grad_value * grad_w[rows:] if needed[3] else None,
            2 * grad_value * grad_h[rows:] if needed[4] else None,
            2 * grad_value * grad_h.sum() if needed[5] else None,
            None,
            None,
        )


def _in_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


_apply_energy: Callable[..., tuple[Tensor, ...]] = _Energy.apply
