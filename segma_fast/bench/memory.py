"""Memory of a call on a GPU, as torch's allocator counts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def peak_on_gpu(run: Callable[[], tuple[Any, ...]], device: torch.device) -> int:
    """Peak bytes during a call, minus those allocated before it and those of the returned gradients."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = run()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device) - before - returned(result))


def returned(result: tuple[Any, ...]) -> int:
    """Bytes of the tensors after the first: the gradients."""
    return sum(t.numel() * t.element_size() for t in result[1:])
