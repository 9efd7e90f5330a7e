"""Memory of a call: on the CPU what Linux counts for this process, on a GPU what torch's allocator does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from segma_fast.bench.memory import peak_on_gpu, returned

CLEAR_REFS = Path("/proc/self/clear_refs")  # writing 5 sets the peak back to what is resident now


def can_measure(device: torch.device) -> bool:
    return device.type == "cuda" or CLEAR_REFS.exists()


def peak_of(run: Callable[[], tuple[Any, ...]], device: torch.device) -> int:
    """Bytes at the peak of a call, beyond those before it and the tensors after the first that it returns.

    On the CPU freed memory that the process still holds counts as there before: measure in a process of its own.
    """
    if device.type == "cuda":
        return peak_on_gpu(run, device)
    kept: list[tuple[Any, ...]] = []
    return peak_beyond(lambda: kept.append(run())) - returned(kept[0])


def peak_beyond(function: Callable[[], Any]) -> int:
    """Bytes of this process that were resident at the peak of a call beyond those before it."""
    CLEAR_REFS.write_text("5")
    before = _resident("VmRSS")
    function()
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
