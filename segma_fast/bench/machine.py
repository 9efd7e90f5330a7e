"""Describes the machine of a measurement, and measures how fast torch's matrix product is on it at that moment."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from segma_fast import __version__
from segma_fast.distance.backends import extension

SIZE = 2048
FLAGS = ("avx2", "fma", "avx512f", "avx512vl", "avx512_bf16", "amx_tile", "asimd", "sve")
PACKAGES = ("triton", "pykeops", "cw-torch")
STATE = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "utilization.gpu")
FIXED = ("driver_version", "power.limit", "clocks.max.sm", "clocks.max.mem")


class Sgemm:
    """Rate of a 2048³ float32 matrix product on the CPU in GFLOP/s, measured repeatedly during the run."""

    def __init__(self) -> None:
        self.left, self.right, self.out = (torch.ones(SIZE, SIZE) for _ in range(3))
        self.samples: list[float] = []
        self._take()

    def sample(self) -> float:
        """The faster of two products, so that kernels are not compared with a rate that is too low."""
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


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor or GPU, threads, versions and load; nothing that identifies the computer."""
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in _cpuinfo("flags|Features").split()],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "allocator": {name: value for name, value in sorted(os.environ.items()) if name.startswith("MALLOC_")},
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "segma_fast": __version__,
        "native": extension.build_info(),
        "packages": {name: _version(name) for name in PACKAGES},
        "load_average_at_start": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        **_describe_gpu(device),
    }


def _describe_gpu(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"gpu": None}
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        **_query(FIXED, device),
        "state_at_start": gpu_state(device),
    }


def gpu_state(device: torch.device) -> dict[str, str]:
    """Clocks, power and temperature now; empty if nvidia-smi does not report them."""
    return _query(STATE, device) if device.type == "cuda" else {}


def _query(keys: tuple[str, ...], device: torch.device) -> dict[str, str]:
    for which in (f"--id=GPU-{getattr(torch.cuda.get_device_properties(device), 'uuid', '')}", "--id=0"):
        command = ["nvidia-smi", which, f"--query-gpu={','.join(keys)}", "--format=csv,noheader"]
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
            return dict(zip(keys, map(str.strip, found.splitlines()[0].split(",")), strict=True))
        except (OSError, ValueError, IndexError, subprocess.SubprocessError):
            continue
    return {}


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(rf"^(?:{key})\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
