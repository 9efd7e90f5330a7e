"""The formulas that every backend shares: the profile of a pair, the bandwidth, closed forms.

With ``t = |a - b|²`` and ``h = 2 (v + 2γ)``, where ``v`` is the sum of both variances, the scalar product (3)
of the paper is ``k = π^(-1/2) h^(-1/2) φ_D(t / h)``, and the paper's ``φ_D(s) ≈ (1 + 4s/(2D-3))^(-1/2)`` turns
it into one reciprocal square root, ``k = π^(-1/2) (h + c t)^(-1/2)`` with ``c = 4/(2D-3)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

INV_SQRT_PI = 1.0 / math.sqrt(math.pi)


def slope(dim: int) -> float:
    """``c = 4/(2D-3)``, the factor of the squared distance in the profile, for D ≥ 2."""
    return 4.0 / (2 * dim - 3)


def phi(s: Tensor, dim: int) -> Tensor:
    """``φ_D(s)`` of equation (3) for ``s ≥ 0``: the paper's approximation, and the exact ``exp(-s)`` for D = 1.

    The approximation needs ``2D > 3``, so one dimension takes the exact form instead.
    """
    return torch.exp(-s) if dim == 1 else torch.rsqrt(1 + slope(dim) * s)


def profile(t: Tensor, h: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel and both derivatives, ``(k, ∂k/∂t, ∂k/∂h)``, element by element and differentiable.

    Args:
        t: squared distances, any shape.
        h: ``2 (v + 2γ)``, broadcastable to ``t``.
        dim: the dimension D of the points.
    """
    if dim == 1:
        s = (t / h).clamp_max(1e4)  # exp(-1e4) is 0 in every dtype, and t may have overflowed
        k = INV_SQRT_PI * torch.rsqrt(h) * torch.exp(-s)
        return k, -k / h, k * (s - 0.5) / h
    r = torch.rsqrt(h + slope(dim) * t)
    cube = (-0.5 * INV_SQRT_PI) * r * r * r
    return INV_SQRT_PI * r, slope(dim) * cube, cube


def silverman_gamma(rows: int, components: int = 1) -> float:
    """The paper's bandwidth, ``γ = (4 / (3 N))^(2/5)`` with ``N = rows / components`` samples a class.

    Args:
        rows: m, the samples in the batch, at least 1.
        components: K, the components that they are spread over, at least 1.

    Raises:
        ValueError: if either number is below 1.
    """
    if rows < 1 or components < 1:
        raise ValueError(f"expected rows >= 1 and components >= 1, got rows={rows}, components={components}")
    return float((4.0 * components / (3.0 * rows)) ** 0.4)


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """float64 for sums, or float32 on the one device type that has no float64 (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64
