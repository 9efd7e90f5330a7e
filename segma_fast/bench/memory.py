"""Memory of a call: on the CPU what Linux counts for this process, on a GPU what torch's allocator does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CLEAR_REFS = Path("/proc/self/clear_refs")  # writing 5 sets the peak back to what is resident now


def can_measure(device: torch.device) -> bool:
    return device.type == "cuda" or CLEAR_REFS.exists()


def peak_of(run: Callable[[], tuple[Any, ...]], device: torch.device) -> int:
    """Bytes at the peak of a call, beyond those before it and the tensors after the first that it returns.

    On the CPU freed memory that the process still holds counts as there before: measure in a process of its own.
    """
    kept: list[tuple[Any, ...]] = []
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        kept.append(run())
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
    else:
        peak = peak_beyond(lambda: kept.append(run()))
    return int(peak - sum(t.numel() * t.element_size() for t in kept[0][1:]))


def peak_beyond(function: Callable[[], Any]) -> int:
    """Bytes of this process that were resident at the peak of a call beyond those before it."""
    CLEAR_REFS.write_text("5")
    before = _resident("VmRSS")
    function()
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
