"""Which GPU the figures were measured on, with which versions and in which state; nothing that names the computer."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from segma_fast.backends import native
from segma_fast.version import __version__

STATE = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "utilization.gpu")
FIXED = ("driver_version", "power.limit", "clocks.max.sm", "clocks.max.mem")
PACKAGES = ("triton", "numpy", "pykeops", "cw-torch")


def describe_gpu(device: torch.device) -> dict[str, Any]:
    info: dict[str, Any] = {
        "gpu": None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "segma_fast": __version__,
        "native": native.build_info(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        info |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            **_query(FIXED, device),
            "state_at_start": gpu_state(device),
        }
    return info


def gpu_state(device: torch.device) -> dict[str, str]:
    """Clocks, power and temperature now; empty where nvidia-smi does not tell."""
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
