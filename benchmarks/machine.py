"""What the figures were measured on, and how fast torch's own matrix product is there at that moment."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from peers import KEOPS_FLAGS

from segma_fast.backends import native
from segma_fast.version import __version__

SIZE = 2048
FLAGS = ("avx2", "fma", "avx512f", "avx512vl", "avx512_bf16", "amx_tile", "asimd", "sve")


class Sgemm:
    """Rate of a 2048³ float32 matrix product in GFLOP/s, taken again and again through the run."""

    def __init__(self) -> None:
        self.left, self.right, self.out = (torch.ones(SIZE, SIZE) for _ in range(3))
        self.samples: list[float] = []
        self._take()

    def sample(self) -> float:
        """The better of two products: the rate that a kernel is compared with should not flatter it."""
        rate = 2e-9 * SIZE**3 / min(self._take(), self._take())
        self.samples.append(rate)
        return rate

    def since(self, index: int) -> float:
        """Median of the samples from ``index`` on."""
        return median(self.samples[index:])

    def _take(self) -> float:
        start = perf_counter()
        torch.mm(self.left, self.right, out=self.out)
        return perf_counter() - start


def describe_machine() -> dict[str, Any]:
    """Processor, threads, versions and load; nothing that names the computer."""
    return {
        "cpu": _cpu_model(),
        "flags": [flag for flag in FLAGS if flag in _cpu_flags()],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "segma_fast": __version__,
        "native": native.build_info(),
        "peers": {name: _version(name) for name in ("cw-torch", "pykeops")},
        "keops_flags": KEOPS_FLAGS,
        "load_average_at_start": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(rf"^(?:{key})\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> list[str]:
    return _cpuinfo("flags|Features").split()


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
