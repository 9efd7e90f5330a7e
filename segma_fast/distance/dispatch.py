"""Which backends are available here, why the others are not, and which one serves a call."""

from __future__ import annotations

import os

import torch

from segma_fast.distance.backends import BACKENDS
from segma_fast.distance.formulas import FORMS

ENVIRONMENT_VARIABLE = "SEGMA_FAST_BACKEND"


def describe_backends() -> list[tuple[str, str | None, str]]:
    """``(name, reason why it serves nothing here or None, description)`` of every backend, best first."""
    devices = [torch.device(kind) for kind in ("cpu", "cuda") if kind == "cpu" or torch.cuda.is_available()]
    found = []
    for backend in BACKENDS:
        reasons = [backend.missing() or backend.unsuitable(device, torch.float32, 32) for device in devices]
        found.append((backend.name, None if None in reasons else reasons[0], backend.description))
    return found


def choose_backend(
    requested: str,
    device: torch.device,
    dtype: torch.dtype,
    dim: int,
    precision: str = "default",
    sliced: bool = False,
) -> str:
    """The name of the backend that serves a call.

    Args:
        requested: a backend's name, or ``"auto"``: then the environment variable ``SEGMA_FAST_BACKEND`` decides,
            and if it is not set, the fastest backend that can serve the call is chosen.
        device, dtype, dim: of the points.
        precision: as :func:`segma_fast.distance.precision.choose_precision` gives it.
        sliced: whether the call is for slices, for which ``"auto"`` skips a backend without such kernels.

    Raises:
        ValueError: if the backend is unknown or cannot serve the call; the message
            lists all backends and why each is unavailable.
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
            skipped = sliced and backend.slices is None or backend.not_for_auto(device, dtype, dim, precision)
            if reason is None and not (requested == "auto" and skipped):
                return backend.name
            if requested == backend.name:
                raise ValueError(f"{source}={requested!r} is not available: {reason}. {_overview()}")
    if requested == "auto":
        raise ValueError(f"no backend serves {dtype} points of dimension {dim} on {device}. {_overview()}")
    raise ValueError(f"{source}={requested!r} is unknown. {_overview()}")


def check_backend(requested: str) -> None:
    """Raise a ValueError unless ``requested`` is ``"auto"`` or a known backend, which may be unavailable here."""
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
