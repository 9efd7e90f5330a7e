"""The device of a training, by name."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch


def check_device(name: str) -> None:
    """Raise ``ValueError`` unless the name is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, whether or not it is here."""
    if not (isinstance(name, str) and re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name)):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")


def use_device(name: str) -> torch.device:
    """The device of this name, where ``auto`` is a GPU if there is one; a GPU with a number becomes torch's current.

    Raises:
        ValueError: for another name, or a GPU that is not here.
    """
    check_device(name)
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ValueError(f"device must be auto or cpu where torch finds no GPU, got {name!r}")
        if device.index is not None:
            if device.index >= count:
                raise ValueError(f"device must be in cuda:0 ... cuda:{count - 1} on this machine, got {name!r}")
            torch.cuda.set_device(device)
    return device


def processor() -> str:
    """The processor's name, and the vector instructions that torch uses on it."""
    known = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", known.read_text() if known.exists() else "", re.MULTILINE)
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
