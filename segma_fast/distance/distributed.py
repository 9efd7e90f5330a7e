"""The energy of the codes of all processes: d² is a function of the whole batch, not of one process's share.

Every process evaluates its own rows (its codes, and a share of the means) against all points. One all-reduce then gives
each process the value and the gradients of the shared inputs. The gradient of its own codes needs no all-reduce, and
the backward pass needs no communication.

Only the process that owns a code backpropagates its gradient to the parameters, and DistributedDataParallel takes the
mean of the parameters' gradients. The gradient of the codes is therefore multiplied by the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from segma_fast.distance.autograd import Inputs, Options, widths_and_weights
from segma_fast.distance.operators import ENERGY, GRADIENT
from segma_fast.distance.process_group import Shards, shard_slice


def energy_of_all(inputs: Inputs, shards: Shards, options: Options, everything: Tensor | None = None) -> Tensor:
    """:func:`segma_fast.distance.autograd.energy` of the codes of all processes, the same 0-d tensor on each.

    The codes have uniform weights: ``inputs.z_weights`` is None. ``everything`` is the codes of all processes, which
    are gathered if they are not given.
    """
    with torch.no_grad():
        value, gradients = _rows_of_energy(inputs, shards, options, everything)
        value = value.clamp_min(0).to(options.dtype)
    return with_gradients(value, (inputs.z, inputs.means, *inputs[3:]), gradients)


def codes_of_all(codes: Tensor, shards: Shards) -> Tensor:
    """The codes of all processes, (total, D), differentiable in the codes of this process."""
    return _apply_gather(codes, shards)


def with_gradients(value: Tensor, inputs: Sequence[object], gradients: Sequence[Tensor] | None) -> Tensor:
    """The value, 0-d, as a function of the inputs whose gradients are given; None if no process needs them.

    The gradient of the codes of this process has been multiplied by the number of processes. Inputs that are no
    tensors are passed over.
    """
    if gradients is None:
        return value
    pairs = [(given, found) for given, found in zip(inputs, gradients, strict=True) if isinstance(given, Tensor)]
    return _apply_known(value, *(given for given, _ in pairs), *(found for _, found in pairs))


class _Gather(Function):
    """Gathers the codes, for a backend that evaluates everything on every process."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, shards: Shards) -> Tensor:
        ctx.shards = shards
        return shards.gather(codes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return len(ctx.shards.rows) * grad_outputs[0][ctx.shards.own], None


def _rows_of_energy(
    inputs: Inputs, shards: Shards, options: Options, everything: Tensor | None
) -> tuple[Tensor, list[Tensor] | None]:
    """The rows of this process against all points, and an all-reduce of the value and the shared gradients.

    The gradients, if any process needs them, are those in z (this process's rows, times the number of processes),
    means, weights, variances and γ.
    """
    z, means, _, weights, variances, gamma = inputs
    everything, means = shards.gather(z) if everything is None else everything, means.contiguous()
    total, (components, dim) = shards.total, means.shape
    h, w = widths_and_weights(total, components, z.device, None, weights, variances, gamma)
    mine = shard_slice(components, shards.rank, len(shards.rows))
    ranges = (shards.own, slice(total + mine.start, total + mine.stop))
    operator = (GRADIENT if shards.needs_gradient else ENERGY)[options.backend]
    parts = [
        operator(everything, means, h, w, rows.start, rows.stop, options.precision, options.phi) for rows in ranges
    ]
    if not shards.needs_gradient:
        energy: Tensor = parts[0] + parts[1]
        dist.all_reduce(energy, group=shards.group)
        return energy, None
    codes, shared = parts
    sums: Tensor = h.new_zeros(components * (dim + 2) + 2)  # gradients of the shared inputs, and two scalars
    grad_means, grad_h, grad_w, scalars = sums.split([components * dim, components, components, 2])
    grad_means.view(components, dim)[mine] = shared[2].to(sums.dtype)
    grad_h[mine], grad_w[mine] = shared[3], shared[4]
    scalars.copy_(torch.stack([codes[0] + shared[0], codes[3].sum()]))
    dist.all_reduce(sums, group=shards.group)
    grad_gamma = 2 * (scalars[1] + grad_h.sum())
    own = len(shards.rows) * codes[1]
    return scalars[0], [own, grad_means.view(components, dim), -grad_w, 2 * grad_h, grad_gamma]


class _Known(Function):
    """A value whose gradients are known already, and which can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *inputs_and_gradients: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs_and_gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.saved_tensors) // 2
        inputs, gradients = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        found: list[Tensor | None] = []
        for given, gradient, needed in zip(inputs, gradients, ctx.needs_input_grad[1:], strict=False):
            product = (grad_outputs[0] * gradient).to(given.dtype) if needed else None
            if product is not None and torch.is_grad_enabled():
                product = _apply_once(product, *inputs)
            found.append(product)
        return (None, *found, *(None,) * count)


class _Once(Function):
    """A gradient that depends on the inputs; differentiating it raises an error."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        raise RuntimeError("with process_group the distance can be differentiated once only, got a second derivative")


_apply_gather: Callable[..., Tensor] = _Gather.apply
_apply_known: Callable[..., Tensor] = _Known.apply
_apply_once: Callable[..., Tensor] = _Once.apply
