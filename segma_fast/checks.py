"""What the public functions ask of their arguments; every message names the argument, its value and the need.

Values are looked at where that is free: numbers, and tensors on the CPU outside ``torch.compile`` and vmap. A
value that cannot be looked at without stopping the device gives NaN instead of an error where it is not allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from segma_fast.formulas import accumulation_dtype
from segma_fast.operators import in_transform

WIDEST = 1e300  # widths are sums of such, which have to stay finite


def check_points(name: str, points: object, may_be_empty: bool = False) -> Tensor:
    """``points`` as a real floating-point (n, D) tensor with D ≥ 1 and n ≥ 1, or ≥ 0 where it may be empty."""
    if not isinstance(points, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape (n, D), got {type(points).__name__}")
    _check_floating(name, points)
    if points.ndim != 2:
        raise ValueError(f"{name} must have shape (n, D), got shape {tuple(points.shape)}")
    if (points.shape[0] == 0 and not may_be_empty) or points.shape[1] == 0:
        raise ValueError(f"{name} must have at least one row and one column, got shape {tuple(points.shape)}")
    return points


def check_same_space(name: str, points: Tensor, other_name: str, other: Tensor) -> None:
    """Both point sets have the same dimension and the same device."""
    if points.size(1) != other.size(1):
        raise ValueError(
            f"{name} and {other_name} must have the same number of columns D, got shapes "
            f"{tuple(points.shape)} and {tuple(other.shape)}"
        )
    _check_device(name, points, other_name, other.device)


def check_weights(name: str, weights: Tensor, like: Tensor) -> Tensor:
    """Weights (n,) of the n rows of ``like``, not negative, summing to 1, in float64."""
    given = _vector(name, weights, like)
    tolerance = max(1e-4, 2 * torch.finfo(given.dtype).eps)
    valid = (given >= 0).all() & ((given.sum(dtype=accumulation_dtype(like.device)) - 1).abs() <= tolerance)
    if visible(given) and not valid:
        low, total = given.min().item(), given.sum(dtype=accumulation_dtype(like.device)).item()
        raise ValueError(
            f"{name} must be non-negative and sum to 1 within {tolerance:.1g}, got smallest {low:.6g} and sum "
            f"{total:.6g}; divide them by their sum"
        )
    return _or_nan(given, valid).to(accumulation_dtype(like.device))


def check_variances(variances: float | Tensor, like: Tensor) -> float | Tensor:
    """Variances of 0 to 1e300, a number or a (K,) float64 tensor for the K rows of ``like``."""
    if not isinstance(variances, Tensor):
        return _number("variances", variances, lambda value: 0 <= value <= WIDEST, f">= 0 and at most {WIDEST:g}")
    if variances.ndim == 0:
        variances = variances.expand(like.shape[0])
    given = _vector("variances", variances, like)
    valid = (given >= 0) & _bounded(given)
    if visible(given) and not valid.all():
        raise ValueError(f"variances must be >= 0 and at most {WIDEST:g}, got {_first_invalid(given, valid)}")
    return _or_nan(given, valid).to(accumulation_dtype(like.device))


def check_gamma(gamma: float | Tensor, name: str, like: Tensor) -> float | Tensor:
    """A γ > 0 up to 1e300, a number or a tensor of one element as a 0-d float64 tensor on the device of ``like``."""
    if not isinstance(gamma, Tensor):
        return _number("gamma", gamma, lambda value: 0 < value <= WIDEST, f"> 0 and at most {WIDEST:g}")
    _check_floating("gamma", gamma)
    if gamma.numel() != 1:
        raise ValueError(f"gamma must be a number or a tensor of one element, got shape {tuple(gamma.shape)}")
    given = gamma.reshape(())
    if given.device.type == "cpu" != like.device.type:
        given = given.to(like.device)  # as torch does with 0-d tensors
    _check_device("gamma", given, name, like.device)
    valid = (given > 0) & _bounded(given)
    if visible(given) and not valid:
        raise ValueError(f"gamma must be > 0 and at most {WIDEST:g}, got {given.item()}")
    return _or_nan(given, valid).to(accumulation_dtype(like.device))


def visible(tensor: Tensor) -> bool:
    """Whether the values of a tensor can be read without a synchronisation or a graph break."""
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and torch._C._len_torch_dispatch_stack() == 0  # no mode that makes tensors without values
        and not in_transform(tensor)
    )


def _vector(name: str, tensor: object, like: Tensor) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape ({like.shape[0]},), got {type(tensor).__name__}")
    _check_floating(name, tensor)
    if tensor.shape != like.shape[:1]:
        raise ValueError(f"{name} must have shape ({like.shape[0]},), got shape {tuple(tensor.shape)}")
    _check_device(name, tensor, "the points", like.device)
    return tensor


def _check_floating(name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_nested:
        raise TypeError(f"{name} must be a dense torch.Tensor, got layout {tensor.layout}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must have a real floating-point dtype, got {tensor.dtype}")


def _check_device(name: str, tensor: Tensor, other_name: str, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{name} and {other_name} must be on one device, got {tensor.device} and {device}")


def _number(name: str, value: object, valid: Callable[[float], bool], expected: str) -> float:
    number = _as_float(name, value)
    if not valid(number):
        raise ValueError(f"{name} must be {expected}, got {value}")
    return number


def _as_float(name: str, value: object) -> float:
    if isinstance(value, torch.SymFloat | torch.SymInt):
        return value  # type: ignore[return-value]
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)  # type: ignore[arg-type]  # Python's and NumPy's numbers
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or a torch.Tensor, got {value!r}") from None
    except OverflowError:
        return math.inf


def _bounded(tensor: Tensor) -> Tensor:
    return (tensor < math.inf) & (tensor.to(accumulation_dtype(tensor.device)) <= WIDEST)


def _first_invalid(tensor: Tensor, valid: Tensor) -> str:
    index = int((~valid).nonzero()[0])
    return f"{tensor[index].item()} at index {index}"


def _or_nan(tensor: Tensor, valid: Tensor) -> Tensor:
    return tensor if visible(tensor) else torch.where(valid, tensor, math.nan)
