"""Checks of the arguments of the public functions; messages name the argument, its value and what was expected.

Values are checked where reading them is free: numbers, and tensors on the CPU outside ``torch.compile`` and vmap.
Elsewhere reading a value would synchronise the device, so an invalid value gives NaN instead of an error.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segma_fast.distance.formulas import accumulation_dtype
from segma_fast.distance.scalars import as_float
from segma_fast.distance.tracing import visible

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

LEAST, MOST = 1e-100, 1e300  # of γ; MOST of variances too: sums of widths, and cubes of their roots, stay finite
MOST_SINGLE = 1e12  # largest γ and variance for float32; its reciprocal is the smallest γ for float32


def check_points(name: str, points: object, may_be_empty: bool = False) -> Tensor:
    """``points`` as a real floating-point (n, D) tensor with D ≥ 1 and n ≥ 1, or ≥ 0 where it may be empty."""
    points = check_floating(name, points, "(n, D)")
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError("the distance cannot be recorded by torch.jit.trace; use torch.export or torch.compile")
    if points.ndim != 2:
        raise ValueError(f"{name} must have shape (n, D), got shape {tuple(points.shape)}")
    if (points.shape[0] == 0 and not may_be_empty) or points.shape[1] == 0:
        raise ValueError(f"{name} must have at least one row and one column, got shape {tuple(points.shape)}")
    return points


def check_same_space(name: str, points: Tensor, other_name: str, other: Tensor) -> None:
    """Check that both point sets have the same dimension and the same device."""
    if points.size(1) != other.size(1):
        raise ValueError(
            f"{name} and {other_name} must have the same number of columns D, got shapes "
            f"{tuple(points.shape)} and {tuple(other.shape)}"
        )
    check_device(name, points, other_name, other.device)


def check_pair(
    name: str, points: Tensor, other_name: str, other: Tensor, may_be_empty: bool = False
) -> tuple[Tensor, Tensor]:
    """Both point sets checked and in one dtype: their own where they agree, float64 if either is, else float32."""
    points, other = check_points(name, points, may_be_empty), check_points(other_name, other)
    check_same_space(name, points, other_name, other)
    if points.dtype == other.dtype:
        return points, other
    dtype = torch.promote_types(torch.promote_types(points.dtype, other.dtype), torch.float32)
    return points.to(dtype), other.to(dtype)


def check_weights(name: str, weights: Tensor, like: Tensor) -> Tensor:
    """Check that the weights (n,) of the n rows of ``like`` are ≥ 0 and sum to 1; return them in float64."""
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
    """Check that variances are ≥ 0; return a number, or a (K,) float64 tensor for the K rows of ``like``."""
    if not isinstance(variances, Tensor):
        number = as_float("variances", variances)
        if not 0 <= number <= MOST:
            raise ValueError(f"variances must be between 0 and {MOST:g}, got {variances}")
        return number
    given = _vector("variances", variances, like, or_one=True)
    wide = given.to(accumulation_dtype(like.device))
    valid = (given >= 0) & (given < math.inf) & (wide <= MOST)
    if visible(given) and not valid.all():
        raise ValueError(f"variances must be between 0 and {MOST:g}, got {_first_invalid(given, valid)}")
    return _or_nan(wide, valid)


def check_gamma(gamma: float | Tensor, points_name: str, points: Tensor, name: str = "gamma") -> float | Tensor:
    """γ > 0 as a float, or for a tensor of one element as a 0-d float64 tensor on the device of the points."""
    if not isinstance(gamma, Tensor):
        number = as_float(name, gamma)
        if not LEAST <= number <= MOST:
            raise ValueError(f"{name} must be between {LEAST:g} and {MOST:g}, got {gamma}")
        return number
    check_floating(name, gamma, "()")
    if gamma.numel() != 1:
        raise ValueError(f"{name} must be a number or a tensor of one element, got shape {tuple(gamma.shape)}")
    given = gamma.reshape(())
    if given.device.type == "cpu" != points.device.type:
        given = given.to(points.device)  # as torch does with 0-d tensors
    check_device(name, given, points_name, points.device)
    wide = given.to(accumulation_dtype(points.device))
    valid = (wide >= LEAST) & (given < math.inf) & (wide <= MOST)
    if visible(given) and not valid:
        raise ValueError(f"{name} must be between {LEAST:g} and {MOST:g}, got {given.item()}")
    return _or_nan(wide, valid)


def widened(gamma: float | Tensor | None, variances: float | Tensor, *points: Tensor) -> tuple[Tensor, ...]:
    """The points, in float64 if γ or variances need it; unreadable tensors and the default γ (None) are skipped."""
    wide = accumulation_dtype(points[0].device)
    if points[0].dtype == wide:
        return points
    for width, least in ((gamma, 1 / MOST_SINGLE), (variances, 0.0)):
        if isinstance(width, Tensor):
            width = width.detach().amax().item() if visible(width) else None
        if width is not None and not least <= width <= MOST_SINGLE:
            return tuple(part.to(wide) for part in points)
    return points


def check_dense(name: str, tensor: object, shape: str) -> Tensor:
    """``tensor`` as a torch.Tensor that is neither sparse nor nested."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape {shape}, got {type(tensor).__name__}")
    if tensor.layout != torch.strided or tensor.is_nested:
        nested = "a nested tensor of " if tensor.is_nested else ""
        raise TypeError(f"{name} must be a dense torch.Tensor, got {nested}layout {tensor.layout}")
    if type(tensor).__name__ == "DTensor":  # by name: its import is as large as torch.distributed
        part = "its to_local(), and process_group= for the distance of all processes"
        raise TypeError(f"{name} must be the tensor of one process, got a DTensor: give {part}")
    return tensor


def check_floating(name: str, tensor: object, shape: str) -> Tensor:
    """``tensor`` as a dense torch.Tensor of a dtype that the kernels have."""
    found = check_dense(name, tensor, shape)
    if found.dtype not in DTYPES:
        known = "float16, bfloat16, float32 or float64"
        raise TypeError(f"{name} must have a real floating-point dtype, got {found.dtype}; expected {known}")
    return found


def check_device(name: str, tensor: Tensor, other_name: str, device: torch.device) -> None:
    """Check that a tensor is on the device of another."""
    if tensor.device != device:
        raise ValueError(f"{name} and {other_name} must be on one device, got {tensor.device} and {device}")


def _vector(name: str, tensor: object, like: Tensor, or_one: bool = False) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape ({like.shape[0]},), got {type(tensor).__name__}")
    found = check_floating(name, tensor, "(n,)")
    if or_one and found.ndim == 0:
        found = found.expand(like.shape[0])
    if found.shape != like.shape[:1]:
        raise ValueError(f"{name} must have shape ({like.shape[0]},), got shape {tuple(found.shape)}")
    check_device(name, found, "the points", like.device)
    return found


def _first_invalid(tensor: Tensor, valid: Tensor) -> str:
    index = int((~valid).nonzero()[0])
    return f"{tensor[index].item()} at index {index}"


def _or_nan(tensor: Tensor, valid: Tensor) -> Tensor:
    return tensor if visible(tensor) else torch.where(valid, tensor, math.nan)
