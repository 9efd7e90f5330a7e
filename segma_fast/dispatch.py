"""Which backends exist here, why the others do not, and which one serves a call.

To add a backend: declare its operators (``segma_fast.operators``) and add an entry to ``BACKENDS``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from segma_fast.backends import cuda, native
from segma_fast.formulas import FORMS

ENVIRONMENT_VARIABLE = "SEGMA_FAST_BACKEND"


@dataclass(frozen=True)
class Backend:
    """One implementation of the distance.

    Attributes:
        name: what ``backend=`` calls it.
        description: one line for ``segma-fast info``.
        missing: gives the reason why it cannot be used in this process, or None.
        unsuitable: gives the reason why it cannot serve points of this device, dtype and dimension, or None.
        on_request: whether ``"auto"`` leaves it out for points of this device, dtype and dimension in a precision.
    """

    name: str
    description: str
    missing: Callable[[], str | None] = lambda: None
    unsuitable: Callable[[torch.device, torch.dtype, int], str | None] = lambda device, dtype, dim: None
    on_request: Callable[[torch.device, torch.dtype, int, str], bool] = lambda device, dtype, dim, precision: False


def is_set(variable: str) -> bool:
    """Whether an environment variable says yes."""
    return os.environ.get(variable, "0").lower() in ("1", "true", "on", "yes", "y")


def _find_triton() -> str | None:
    try:
        found = find_spec("triton") is not None
    except ImportError:
        found = False
    return None if found else "Triton is not installed: pip install triton"


def _find_compiler() -> str | None:
    if os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"):
        return None
    return "Triton builds its launcher with a C compiler, and found neither CC nor gcc nor clang"


# Asked once: torch.compile traces the choice of a backend, and cannot trace these.
WITHOUT_TRITON, WITHOUT_COMPILER = _find_triton(), _find_compiler()


def _no_triton_for(device: torch.device, dtype: torch.dtype, dim: int) -> str | None:
    if device.type == "cpu":
        return (
            None
            if is_set("TRITON_INTERPRET")
            else "it runs on a GPU (TRITON_INTERPRET=1 interprets it on the CPU, to test it)"
        )
    if device.type not in ("cuda", "xpu"):
        return f"it has no kernel for {device.type} tensors"
    if device.type == "cuda" and torch.version.cuda and torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or later"
    return WITHOUT_COMPILER


def _left_to_triton(device: torch.device, dtype: torch.dtype, dim: int, precision: str) -> bool:
    """Where the Triton kernels were measured to be faster than the CUDA ones, or nobody has measured.

    On an H200 the CUDA kernels are ahead up to 256 coordinates, but ``"highest"``, which ``"default"`` may be, has
    matrix products only up to 64.
    """
    if device.type != "cuda":
        return True
    if WITHOUT_TRITON or WITHOUT_COMPILER:
        return False
    measured = torch.cuda.get_device_capability(device) == (9, 0) and dtype != torch.float64
    return not measured or dim > (256 if precision in ("high", "medium") else 64)


# Best first: "auto" takes the first that can serve the call.
BACKENDS: tuple[Backend, ...] = (
    Backend(
        "native",
        "compiled C++, value and gradients in one pass over pairs of points, O(mD) memory, CPU",
        lambda: native.REASON,
        lambda device, dtype, dim: None if device.type == "cpu" else f"it has no kernel for {device.type} tensors",
    ),
    Backend(
        "cuda",
        "compiled CUDA C++, value and gradients in one pass over pairs of points, O(mD) memory, GPU",
        cuda.missing,
        cuda.unsuitable,
        _left_to_triton,
    ),
    Backend(
        "triton",
        "Triton kernels, value and gradients in one pass over pairs of points, O(mD) memory, GPU",
        lambda: WITHOUT_TRITON,
        _no_triton_for,
        lambda device, dtype, dim, precision: device.type == "cpu",
    ),
    Backend("chunked", "plain torch, tile by tile, O(mD) memory, any device"),
    Backend("reference", "equation (8) as written, in plain torch with m×m matrices, any device"),
)


def describe_backends() -> list[tuple[str, str | None, str]]:
    """``(name, reason why it is missing or None, description)`` of every backend, best first."""
    return [(backend.name, backend.missing(), backend.description) for backend in BACKENDS]


def choose_backend(
    requested: str, device: torch.device, dtype: torch.dtype, dim: int, precision: str = "default"
) -> str:
    """The name of the backend that serves a call.

    Args:
        requested: a backend's name, or ``"auto"``: then the environment variable ``SEGMA_FAST_BACKEND`` decides,
            and without it the fastest that can serve the call.
        device, dtype, dim: of the points.
        precision: as :func:`segma_fast.precision.choose_precision` gives it.

    Raises:
        ValueError: if the backend is unknown or cannot serve the call; the message lists all with their reasons.
    """
    if not isinstance(requested, str):
        check_backend(requested)
    source = "backend"
    if requested == "auto":
        requested = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
        source = ENVIRONMENT_VARIABLE
    for backend in BACKENDS:
        if requested in ("auto", backend.name):
            reason = backend.missing() or backend.unsuitable(device, dtype, dim)
            if reason is None and not (requested == "auto" and backend.on_request(device, dtype, dim, precision)):
                return backend.name
            if requested == backend.name:
                raise ValueError(f"{source}={requested!r} is not available: {reason}. {_overview()}")
    if requested == "auto":
        raise ValueError(f"no backend serves {dtype} points of dimension {dim} on {device}. {_overview()}")
    raise ValueError(f"{source}={requested!r} is unknown. {_overview()}")


def check_backend(requested: str) -> None:
    """Raise a ValueError unless it is ``"auto"`` or the name of a backend, which may be missing on this machine."""
    if not isinstance(requested, str) or requested not in ("auto", *(backend.name for backend in BACKENDS)):
        raise ValueError(f"backend={requested!r} is unknown. {_overview()}")


def check_phi(phi: str) -> None:
    """Raise a ValueError unless ``phi`` names a form of φ_D, ``"approx"`` or ``"exact"``."""
    if not isinstance(phi, str) or phi not in FORMS:
        raise ValueError(f"phi={phi!r} is unknown, expected one of {FORMS}")


def _overview() -> str:
    lines = [
        f"{name} ({'available' if reason is None else 'not available: ' + reason})"
        for name, reason, _ in describe_backends()
    ]
    return "Backends: auto, " + ", ".join(lines)
