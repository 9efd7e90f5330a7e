"""A batch that is larger than memory: encoded in micro-batches, with the exact gradient of the whole.

The distance is not a sum over samples, so adding up the gradients of micro-batches, each with a loss of its own,
minimises something else. Here every micro-batch is encoded without keeping its activations, the loss sees all
codes at once, and each micro-batch is encoded a second time when the backward pass arrives at it. Memory is that of
one micro-batch and of the codes; time that of one more forward pass.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from segma_fast.distance.arguments import check_dense
from segma_fast.distance.scalars import check_whole

_DEPENDS = (
    "encoder must treat each row alone, got {} in training, whose statistics would be those of a micro-batch: use "
    "group or layer norm, or put it into evaluation mode"
)


def encode(encoder: Callable[..., Any], *inputs: Tensor, micro_batch: int | None) -> Any:
    """``encoder(*inputs)`` in micro-batches; what is computed from the result is differentiated as usual.

    Example, an auto-encoder whose loss is that of the whole batch::

        def encode_and_compare(images):
            codes = encoder(images)
            return codes, (decoder(codes) - images).square().flatten(1).sum(1)

        codes, errors = large_batch.encode(encode_and_compare, images, micro_batch=512)
        loss = errors.mean() + 5 * fast_cw_distance(codes, means, log=True)
        loss.backward()

    Rows must not depend on each other: batch-norm in training is refused, as a module and as torch's own function (but
    what a compiled function hides, and code of your own, is not seen), and what a layer changes at each call (spectral
    norm, running means) it changes once a micro-batch and pass. Layers that draw from torch's global generators
    (dropout) draw the same numbers in the second pass. Weights, and what a function loads by itself, must not change
    between the passes. An encoder that is wrapped in ``DistributedDataParallel`` cannot be called again while it goes
    backward: wrap a module whose ``forward`` calls this function instead.

    Args:
        encoder: a module or function of tensors that gives one tensor or a tuple of them, one row for each input row.
        inputs: tensors with the same number of rows, (n, ...).
        micro_batch: rows that are encoded at once, ≥ 1; None for all of them, in one pass.

    Returns:
        What ``encoder`` gives for all rows: a tensor (n, ...) or a tuple of such tensors.

    Raises:
        ValueError: for ``micro_batch`` < 1, inputs of different lengths, outputs without a row for each of the
            inputs', batch-norm in training, or an encoder that is wrapped in ``DistributedDataParallel``.
        TypeError: for another encoder, ``micro_batch``, inputs or outputs than these.
    """
    if not callable(encoder):
        raise TypeError(f"encoder must be a module or function, got {type(encoder).__name__}")
    if micro_batch is not None:
        micro_batch = check_whole("micro_batch", micro_batch, 1, "an int or None")
    rows = _check(inputs)
    if micro_batch is None:
        return _joined([encoder(*inputs)], [rows])
    layers = list(encoder.modules()) if isinstance(encoder, nn.Module) else []
    for layer in layers:
        _check_layer(layer)

    def run(_: Tensor | None, *part: Tensor) -> Any:
        return encoder(*(tensor.clone() for tensor in part))  # or a layer in place would change the inputs of pass two

    parts: list[Any] = []
    sizes: list[int] = []
    heap, device = _Heap(), _device_of_generators(inputs)
    for part in zip(*(tensor.split(micro_batch) for tensor in inputs), strict=True):
        before = _newest()
        with nullcontext() if layers or parts else _watched():
            once = len(part[0]) == rows
            parts.append(encoder(*part) if once else checkpoint(run, device, *part, use_reentrant=False))
        if before is not None:
            _check_graph(parts[-1], before)
        sizes.append(len(part[0]))
        if inputs[0].device.type == "cpu":
            heap.give_back()
    return _joined(parts, sizes)


def _check(inputs: Sequence[object]) -> int:
    """The number of rows of the inputs, all of them checked."""
    if not inputs:
        raise TypeError("inputs must be at least one tensor, got none")
    tensors = [check_dense("inputs", tensor, "(n, ...)") for tensor in inputs]
    if any(tensor.ndim == 0 for tensor in tensors):
        raise ValueError("inputs must have rows, got a tensor of shape ()")
    rows = [len(tensor) for tensor in tensors]
    if len(set(rows)) > 1:
        raise ValueError(f"inputs must have the same number of rows, got {rows}")
    return rows[0]


def _joined(parts: list[Any], sizes: list[int]) -> Any:
    """The outputs for all rows from those of the micro-batches, which have so many."""
    several = isinstance(parts[0], tuple | list)
    columns = list(zip(*parts, strict=True)) if several else [tuple(parts)]
    for column in columns:
        for item, size in zip(column, sizes, strict=True):
            if not isinstance(item, Tensor):
                held = f"a {type(parts[0]).__name__} with " if several else ""
                raise TypeError(f"encoder must give a torch.Tensor or a tuple of them, got {held}{type(item).__name__}")
            if item.ndim == 0 or len(item) != size:
                raise ValueError(
                    f"encoder must give one row for each input row, got shape {tuple(item.shape)} for {size} rows"
                )
    joined = tuple(column[0] if len(column) == 1 else torch.cat(column) for column in columns)
    return joined if several else joined[0]


def _device_of_generators(inputs: Sequence[Tensor]) -> Tensor | None:
    """An empty tensor on the accelerator, whose random state is then kept too where all inputs are on the CPU."""
    if all(tensor.device.type == "cpu" for tensor in inputs) and torch.accelerator.is_available():
        return torch.empty(0, device=torch.accelerator.current_accelerator())
    return None


@contextmanager
def _watched() -> Iterator[None]:
    """Look at every module that is called in this thread; a function does not show what it calls."""
    thread = threading.get_ident()

    def look(module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() == thread:
            compiled = "_orig_mod" in module._modules
            for layer in module.modules() if compiled else [module]:
                _check_layer(layer)
            if compiled:
                handle.remove()  # or it would be in the compiled code

    look._torchdynamo_disable = True  # type: ignore[attr-defined]  # as torch.compiler.disable, without its import
    if torch.compiler.is_compiling():
        yield
        return
    with register_module_forward_pre_hook(look) as handle:
        yield


def _newest() -> int | None:
    """The number of the newest node of the autograd graph that this thread has made; None if it makes none now."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return None
    node = torch.ones((), device="cpu", requires_grad=True).view(()).grad_fn
    return None if node is None else node._sequence_nr()


def _check_graph(outputs: Any, before: int) -> None:
    """Look for batch-norm in training that no module showed, such as one that the encoder has not registered."""
    tensors = [outputs] if isinstance(outputs, Tensor) else outputs if isinstance(outputs, tuple | list) else []
    left = [tensor.grad_fn for tensor in tensors if isinstance(tensor, Tensor)]
    seen = set()
    while left:
        node = left.pop()
        if node is None or node in seen or node._sequence_nr() <= before:
            continue
        seen.add(node)
        # Instance norm is the batch-norm of one row that has the channels of all.
        training = "BatchNorm" in node.name() and getattr(node, "_saved_training", False)
        if training and node._input_metadata[0].shape[0] > 1:
            raise ValueError(_DEPENDS.format("a batch norm"))
        left.extend(following for following, _ in node.next_functions)


def _check_layer(layer: nn.Module) -> None:
    if isinstance(layer, DistributedDataParallel):
        raise ValueError(
            "encoder must not be wrapped in DistributedDataParallel, which cannot be called again while it goes "
            "backward: wrap a module whose forward calls large_batch.encode"
        )
    if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
        raise ValueError(_DEPENDS.format(layer))


class _Heap:
    """Returns what is free inside the heap to the system, where the C library can (glibc).

    The codes of a micro-batch are small, and where they lie in memory that its activations left, the next activations
    no longer fit there: without this, the heap grows by a layer's size or two with every micro-batch.
    """

    EVERY = 8  # micro-batches, or more where the call would take more than SHARE of the time
    SHARE = 0.01

    def __init__(self) -> None:
        self.trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self.calls, self.next = 0, perf_counter()

    def give_back(self) -> None:
        """Called once a micro-batch."""
        self.calls += 1
        start = perf_counter()
        if self.trim is not None and self.calls >= self.EVERY and start >= self.next:
            self.trim(0)
            end = perf_counter()
            self.calls, self.next = 0, end + (end - start) / self.SHARE
