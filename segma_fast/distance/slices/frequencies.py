"""At which frequencies the characteristic functions of projections are compared, and with which weights.

The integral over all frequencies of one direction becomes a sum over ``t_k = kδ``, k = 1 … T (the term k = 0 is 0):

    ∫ |φ̂(t) - f(t)|² exp(-γt²) dt/2π  ≈  δ/π Σ_k exp(-γ t_k²) |φ̂(t_k) - f(t_k)|²

Two things are lost. What lies beyond t_T: ``t_T = a/γ^(1/2)`` leaves out a part erfc(a) of the weight. And the sum is
periodic: two projections that are 2π/δ apart count as one place. It is right if 2π/δ is larger than the spread of the
projections by ``b γ^(1/2)``, where the kernel has fallen to exp(-b²/4). With the constants below the value is
within 1e-6 in float32 and 1e-12 in float64, and the gradient within 1e-5 and 1e-10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segma_fast.distance.tracing import visible

CONSTANTS = {torch.float32: (3.7, 7.4), torch.float64: (5.2, 10.6)}  # a and b
USUAL_REACH = (
    7.6  # largest projection, in size, that is provided for where it cannot be read: 17 frequencies at γ = 1/2
)
HIDDEN = 32  # frequencies if γ cannot be read either
MOST = 256


def reach_of_rows(z: Tensor, slices: int) -> Tensor:
    """A bound of |v·z| for the rows of each sample (B, N, D) and R random directions: (B,); 0 without rows.

    A random direction makes a row's projection as small as a Gaussian one with a standard deviation of |z|/D^(1/2).
    So no projection is expected beyond ``|z| (2 log(200 N R)/D)^(1/2)``: 0.01 of all N·R.
    """
    _, rows, dim = z.shape
    if rows == 0:
        return z.new_zeros(z.shape[0])
    unlikely = math.sqrt(2 * math.log(200.0 * rows * slices) / dim)
    largest: Tensor = torch.linalg.vector_norm(z.detach(), dim=-1).amax(-1)
    return largest * min(1.0, unlikely)


def choose_frequencies(
    gamma: float | Tensor, reach: Tensor, dtype: torch.dtype, frequencies: int | None
) -> tuple[int, Tensor]:
    """T, and δ of each sample, (B,), so that nothing is taken for what is a period away.

    Args:
        gamma: a number or a 0-d tensor.
        reach: the largest projection in size, (B,).
        dtype: of the rows, which decides the accuracy.
        frequencies: T; None to choose it. If T does not reach ``t_T`` at the spacing that the reach asks for,
            the highest frequencies are left out: the value is then lower, as with LeJEPA's t_max = 3.
    """
    beyond, margin = CONSTANTS[torch.float64 if dtype == torch.float64 else torch.float32]
    width = gamma.detach().sqrt() if isinstance(gamma, Tensor) else math.sqrt(gamma)
    spacing = 2 * math.pi / (2 * reach + margin * width)
    if frequencies is None:
        if visible(reach):
            needed = (beyond / (width * spacing)).amax().item()
        elif isinstance(width, Tensor) and not visible(width):
            needed = HIDDEN
        else:
            needed = beyond / float(width) * (2 * USUAL_REACH + margin * float(width)) / (2 * math.pi)
        frequencies = min(MOST, max(8, math.ceil(needed))) if math.isfinite(needed) else 8
    usual = beyond / width / frequencies
    if not isinstance(usual, Tensor):
        return frequencies, spacing.clamp(max=usual)
    return frequencies, torch.minimum(spacing, usual)
