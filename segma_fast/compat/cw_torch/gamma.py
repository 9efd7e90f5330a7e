"""Bandwidths as cw-torch computes them: ``γ = (1.059 σ)² N^(-2/5)``."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["silverman_rule_of_thumb", "silverman_rule_of_thumb_sample"]


def silverman_rule_of_thumb_sample(target_sample: Tensor) -> Tensor:
    """The bandwidth for a sample (N, D), from the standard deviation σ of all its numbers: 0-d."""
    return silverman_rule_of_thumb(target_sample.std(), target_sample.size(0))


def silverman_rule_of_thumb(sample_stddev: Tensor | float, sample_count: Tensor | int) -> Tensor:
    """The bandwidth for N numbers with standard deviation σ, 0-d.

    Args:
        sample_stddev: σ ≥ 0, a number or a 0-d tensor; differentiable.
        sample_count: N > 0, a number or a 0-d tensor.

    Raises:
        ValueError: for other shapes, N ≤ 0 or σ < 0.
    """
    if (isinstance(sample_stddev, Tensor) and sample_stddev.ndim != 0) or not sample_stddev >= 0:
        raise ValueError(f"sample_stddev must be one number >= 0, got {sample_stddev}")
    if (isinstance(sample_count, Tensor) and sample_count.ndim != 0) or not sample_count > 0:
        raise ValueError(f"sample_count must be one number > 0, got {sample_count}")
    deviation, count = torch.as_tensor(sample_stddev), torch.as_tensor(sample_count)
    return torch.square(1.059 * deviation) * torch.pow(count, -0.4)
