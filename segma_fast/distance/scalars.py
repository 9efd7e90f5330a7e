"""Checks of numbers and switches, Python's or NumPy's; ``arguments.py`` checks tensors."""

from __future__ import annotations

import math
import operator

import torch


def numpy_kind(value: object) -> str:
    """The kind of a NumPy scalar or array, as ``"b"`` for bools and ``"c"`` for complex numbers; ``""`` of all else."""
    kind: str = value.dtype.kind if type(value).__module__ == "numpy" else ""  # type: ignore[attr-defined]
    return kind


def check_whole(name: str, value: object, least: int, expected: str = "an int") -> int:
    """``value`` as an int ≥ ``least``; bools and tensors are refused. A SymInt is returned without a guard."""
    if type(value) is not int:
        if isinstance(value, torch.SymInt):
            return value  # type: ignore[return-value]
        if isinstance(value, bool | torch.Tensor) or numpy_kind(value) == "b" or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be {expected}, got {value!r}")
        try:
            value = operator.index(value)
        except TypeError:  # a class, or an array
            raise TypeError(f"{name} must be {expected}, got {value!r}") from None
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}")
    return value


def check_flag(name: str, value: object) -> bool:
    """``value`` as a bool; only Python's and NumPy's bools are accepted, not other truthy or falsy values."""
    if value is True or value is False:
        return value
    if numpy_kind(value) == "b" and not hasattr(value, "__len__"):
        return bool(value)
    raise TypeError(f"{name} must be a bool, got {value!r}")


def as_float(name: str, value: object) -> float:
    """A number as a float, or inf if it is too large; symbolic numbers are returned unchanged."""
    if isinstance(value, torch.SymFloat | torch.SymInt):
        return value  # type: ignore[return-value]
    try:
        if isinstance(value, bool | str | bytes) or numpy_kind(value) in ("b", "c"):
            raise TypeError
        return float(value)  # type: ignore[arg-type]  # Python's and NumPy's numbers
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a number or a torch.Tensor, got {value!r}") from None
    except OverflowError:
        return math.inf
