"""Bandwidths as cw-torch computes them: ``γ = (1.059 σ)² N^(-2/5)``."""

from __future__ import annotations

import torch
from torch import Tensor

from segma_fast.distance.arguments import check_dense, check_floating
from segma_fast.distance.scalars import as_float

__all__ = ["silverman_rule_of_thumb", "silverman_rule_of_thumb_sample"]


def silverman_rule_of_thumb_sample(target_sample: Tensor) -> Tensor:
    """The bandwidth for a sample (N, D), from the standard deviation σ of all its numbers: 0-d.

    Raises:
        TypeError, ValueError: as :func:`segma_fast.cw_normality`, and if the sample is a single number.
    """
    target_sample = check_floating("target_sample", target_sample, "(N, D)")
    if target_sample.ndim == 0 or target_sample.numel() < 2:
        raise ValueError(f"target_sample must hold two numbers or more in rows, got shape {tuple(target_sample.shape)}")
    return silverman_rule_of_thumb(target_sample.std(), target_sample.size(0))


def silverman_rule_of_thumb(sample_stddev: Tensor | float, sample_count: Tensor | int) -> Tensor:
    """The bandwidth for N numbers with standard deviation σ, 0-d.

    Args:
        sample_stddev: σ ≥ 0, a number or a 0-d tensor; differentiable.
        sample_count: N > 0, a number or a 0-d tensor.

    Raises:
        TypeError: for arguments that are not real numbers.
        ValueError: for other shapes, N ≤ 0 or σ < 0.
    """
    if not (_is_one("sample_stddev", sample_stddev) and sample_stddev >= 0):
        raise ValueError(f"sample_stddev must be one number >= 0, got {sample_stddev}")
    if not (_is_one("sample_count", sample_count) and sample_count > 0):
        raise ValueError(f"sample_count must be one number > 0, got {sample_count}")
    deviation, count = torch.as_tensor(sample_stddev), torch.as_tensor(sample_count)
    return torch.square(1.059 * deviation) * torch.pow(count, -0.4)


def _is_one(name: str, value: object) -> bool:
    """Whether a value is a single real number, that is, a number or a 0-d tensor; raises if it is not real."""
    if not isinstance(value, Tensor):
        as_float(name, value)
        return True
    if check_dense(name, value, "()").is_floating_point() or value.is_complex() or value.is_quantized:
        check_floating(name, value, "()")
    return value.ndim == 0
