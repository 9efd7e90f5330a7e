"""How torch's settings affect float32 matrix products: their precision, and autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

PRECISIONS = ("highest", "high", "medium")
_MEANING = {"tf32": "high", "bf16": "medium"}  # torch's other values, "none" and "ieee", mean float32


def choose_precision(requested: str | None) -> str:
    """``requested``, or ``"default"`` for None: the operators then ask :func:`matmul_precision`.

    Raises:
        ValueError: if it is not one of ``"highest"``, ``"high"``, ``"medium"``.
    """
    if requested is None:
        return "default"
    if not isinstance(requested, str) or requested not in PRECISIONS:
        raise ValueError(f"precision={requested!r} is unknown, expected None or one of {PRECISIONS}")
    return requested


def matmul_precision(device: torch.device) -> str:
    """torch's precision for products of float32 matrices on a device: ``"highest"``, ``"high"`` or ``"medium"``.

    It is set by ``torch.set_float32_matmul_precision``, or by ``fp32_precision`` of ``torch.backends`` or of one of
    its submodules. The latter apply per device type. Once they are used, ``torch.get_float32_matmul_precision`` may
    raise a RuntimeError.
    """
    if device.type == "cuda":
        setting = torch.backends.cuda.matmul.fp32_precision
    elif device.type in ("cpu", "xpu"):
        setting = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    else:
        return "highest"
    chosen = _MEANING.get(setting, "highest")
    if chosen == "high":  # CUDA also reports "medium" as tf32
        try:
            return torch.get_float32_matmul_precision()
        except RuntimeError:
            pass
    return chosen


def products_are_rounded(device: torch.device) -> bool:
    """Whether torch may round the factors of float32 products on a device; a constant in compiled code.

    The setting cannot be changed for one thread only, so plain torch code uses float64 in that case.
    """
    return matmul_precision(device) != "highest"


products_are_rounded._dynamo_marked_constant = True  # type: ignore[attr-defined]


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which matrix products keep the dtype of their inputs, whatever the caller's autocast says."""
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
