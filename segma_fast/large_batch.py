"""A batch that is larger than memory: encoded in micro-batches, with the exact gradient of the whole.

The distance is not a sum over samples, so adding up the gradients of micro-batches, each with a loss of its own,
minimises something else. Here every micro-batch is encoded without keeping its activations, the loss sees all
codes at once, and each micro-batch is encoded a second time when the backward pass arrives at it. Memory is that of
one micro-batch and of the codes; time that of one more forward pass.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

TRIM_EVERY = 8  # micro-batches between two calls of _give_back_memory, which then costs about 1 % of a step


def encode(encoder: Callable[..., Any], *inputs: Tensor, micro_batch: int | None) -> Any:
    """``encoder(*inputs)`` in micro-batches; what is computed from the result is differentiated as usual.

    Example, an auto-encoder whose loss is that of the whole batch::

        def encode_and_compare(images):
            codes = encoder(images)
            return codes, (decoder(codes) - images).square().flatten(1).sum(1)

        codes, errors = large_batch.encode(encode_and_compare, images, micro_batch=512)
        loss = errors.mean() + 5 * fast_cw_distance(codes, means, log=True)
        loss.backward()

    Layers that draw from torch's global generators (dropout) draw the same numbers again in the second pass. Rows
    must not depend on each other: batch-norm in training is refused, and what a layer changes at each call (spectral
    norm, running means) is changed twice as often. The gradient may not be differentiated through a
    ``DistributedDataParallel`` encoder, which cannot be called again while it goes backward: wrap a module whose
    ``forward`` calls this function instead.

    Args:
        encoder: a module or function of tensors that gives one tensor or a tuple of them, one row for each input row.
        inputs: tensors with the same number of rows, (n, ...).
        micro_batch: rows that are encoded at once, ≥ 1; None for all of them, in one pass.

    Returns:
        What ``encoder`` gives for all rows: a tensor (n, ...) or a tuple of such tensors.

    Raises:
        ValueError: for ``micro_batch`` < 1, inputs of different lengths, batch-norm in training, or an encoder that
            is wrapped in ``DistributedDataParallel``.
        TypeError: for other inputs or outputs than these.
    """
    _check(inputs, micro_batch)
    if micro_batch is None or len(inputs[0]) <= micro_batch:
        return encoder(*inputs)
    for module in _modules_of(encoder):
        _check_module(module)
    parts: list[Any] = []
    for part in zip(*(tensor.split(micro_batch) for tensor in inputs), strict=True):
        parts.append(checkpoint(encoder, *part, use_reentrant=False))
        if len(parts) % TRIM_EVERY == 0 and inputs[0].device.type == "cpu":
            _give_back_memory()
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if isinstance(parts[0], tuple | list) and all(isinstance(item, Tensor) for item in parts[0]):
        return tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))
    raise TypeError(f"encoder must give a torch.Tensor or a tuple of them, got {type(parts[0]).__name__}")


def _give_back_memory() -> None:
    """Return what is free inside the heap to the system, where the C library can (glibc).

    The codes of a micro-batch are small, and where they lie in memory that its activations left, the next activations
    no longer fit there: without this, the heap grows by a layer's size or two with every micro-batch.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _check(inputs: Sequence[object], micro_batch: object) -> None:
    if micro_batch is not None and (not isinstance(micro_batch, int) or isinstance(micro_batch, bool)):
        raise TypeError(f"micro_batch must be an int or None, got {micro_batch!r}")
    if micro_batch is not None and micro_batch < 1:
        raise ValueError(f"micro_batch must be >= 1, got {micro_batch}")
    if not inputs:
        raise TypeError("encode needs at least one tensor to encode, got none")
    for tensor in inputs:
        if not isinstance(tensor, Tensor) or tensor.ndim == 0:
            raise TypeError(f"inputs must be torch.Tensors with rows, got {type(tensor).__name__}")
    rows = [len(tensor) for tensor in inputs if isinstance(tensor, Tensor)]
    if len(set(rows)) > 1:
        raise ValueError(f"inputs must have the same number of rows, got {rows}")


def _modules_of(encoder: Any) -> Iterator[nn.Module]:
    """The modules that a callable shows: itself, its owner or what that holds, and those that a function refers to."""
    function = getattr(encoder, "func", encoder)  # of functools.partial
    owner = getattr(function, "__self__", function)
    function = getattr(function, "__func__", function)
    found = [owner, *getattr(encoder, "args", ()), *getattr(encoder, "keywords", {}).values()]
    if inspect.isfunction(function):
        names = inspect.getclosurevars(function)
        found += [*names.nonlocals.values(), *names.globals.values()]
    if not isinstance(owner, nn.Module):
        found += getattr(owner, "__dict__", {}).values()
    return (item for item in found if isinstance(item, nn.Module))


def _check_module(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        where = f"{type(layer).__name__} {name!r}" if name else type(layer).__name__
        if isinstance(layer, DistributedDataParallel):
            raise ValueError(
                f"encoder must not be wrapped in DistributedDataParallel, got {where}: wrap a module whose forward "
                "calls large_batch.encode"
            )
        if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
            raise ValueError(
                f"encoder must treat each row alone, got {where} in training, whose statistics would be those of a "
                "micro-batch: use group or layer norm, or put it into evaluation mode"
            )
