"""A batch larger than memory: encoded in micro-batches, with the exact gradient of the whole batch.

The distance is not a sum over samples, so accumulating the gradients of micro-batches, each with its own loss,
minimises a different objective. Here every micro-batch is encoded without keeping its activations, and the loss sees
all codes at once. The backward pass encodes each micro-batch again when it reaches it. This takes the memory of one
micro-batch plus the codes, and the time of one extra forward pass.
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
    """Compute ``encoder(*inputs)`` in micro-batches; gradients flow through the result as usual.

    Example: an auto-encoder with the loss of the whole batch::

        def encode_and_compare(images):
            codes = encoder(images)
            return codes, (decoder(codes) - images).square().flatten(1).sum(1)

        codes, errors = large_batch.encode(encode_and_compare, images, micro_batch=512)
        loss = errors.mean() + 5 * fast_cw_distance(codes, means, log=True)
        loss.backward()

    Rows must not depend on each other. Batch-norm in training mode is therefore refused, both as a module and as
    torch's function; it is not detected inside a compiled function or in code of your own. State that a layer updates
    at each call (spectral norm, running means) is updated once per micro-batch and pass. Layers that draw from torch's
    global generators (dropout) draw the same numbers in the second pass. Weights, and data that the encoder loads
    itself, must not change between the passes. A module wrapped in ``DistributedDataParallel`` cannot be called again
    during its own backward: wrap a module whose ``forward`` calls this function instead.

    Args:
        encoder: a module or function that maps tensors to a tensor or a tuple of tensors, one row per input row.
        inputs: tensors with the same number of rows, (n, ...).
        micro_batch: rows per micro-batch, ≥ 1; None encodes all rows in one pass.

    Returns:
        The output of ``encoder`` for all rows: a tensor (n, ...) or a tuple of such tensors.

    Raises:
        ValueError: for ``micro_batch`` < 1, inputs of different lengths, outputs that do not have one row per input
            row, batch-norm in training mode, or an encoder that is wrapped in ``DistributedDataParallel``.
        TypeError: if the encoder, ``micro_batch``, an input or an output has another type.
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
        return encoder(*(tensor.clone() for tensor in part))  # else an in-place layer would change pass two's input

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
    """Check the inputs and return their number of rows."""
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
    """Concatenate the outputs of the micro-batches, and check that they have ``sizes`` rows."""
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
    """An empty tensor on the accelerator if all inputs are on the CPU: checkpoint then saves its random state too."""
    if all(tensor.device.type == "cpu" for tensor in inputs) and torch.accelerator.is_available():
        return torch.empty(0, device=torch.accelerator.current_accelerator())
    return None


@contextmanager
def _watched() -> Iterator[None]:
    """Check every module that is called in this thread: a plain function does not list its modules."""
    thread = threading.get_ident()

    def look(module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() == thread:
            compiled = "_orig_mod" in module._modules
            for layer in module.modules() if compiled else [module]:
                _check_layer(layer)
            if compiled:
                handle.remove()  # else it would be traced into the compiled code

    look._torchdynamo_disable = True  # type: ignore[attr-defined]  # as torch.compiler.disable, without its import
    if torch.compiler.is_compiling():
        yield
        return
    with register_module_forward_pre_hook(look) as handle:
        yield


def _newest() -> int | None:
    """The sequence number of this thread's newest autograd node; None if no autograd graph is being recorded."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return None
    node = torch.ones((), device="cpu", requires_grad=True).view(()).grad_fn
    return None if node is None else node._sequence_nr()


def _check_graph(outputs: Any, before: int) -> None:
    """Search the autograd graph for training-mode batch-norm that the module checks missed (unregistered layers)."""
    tensors = [outputs] if isinstance(outputs, Tensor) else outputs if isinstance(outputs, tuple | list) else []
    left = [tensor.grad_fn for tensor in tensors if isinstance(tensor, Tensor)]
    seen = set()
    while left:
        node = left.pop()
        if node is None or node in seen or node._sequence_nr() <= before:
            continue
        seen.add(node)
        # Torch computes instance norm as the batch-norm of a single row with the channels of all rows.
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
    """Returns free heap memory to the system, if the C library can do that (glibc).

    The codes of a micro-batch are small. If they are allocated in memory that its activations have freed, the next
    activations no longer fit there: without this, the heap grows by the size of a layer or two with every micro-batch.
    """

    EVERY = 8  # micro-batches between calls; more if the calls would take more than SHARE of the time
    SHARE = 0.01

    def __init__(self) -> None:
        self.trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self.calls, self.next = 0, perf_counter()

    def give_back(self) -> None:
        """To be called once per micro-batch."""
        self.calls += 1
        start = perf_counter()
        if self.trim is not None and self.calls >= self.EVERY and start >= self.next:
            self.trim(0)
            end = perf_counter()
            self.calls, self.next = 0, end + (end - start) / self.SHARE
