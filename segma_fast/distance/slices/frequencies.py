"""At which frequencies the characteristic functions of projections are compared, and with which weights.

The integral over all frequencies of one direction becomes a sum over ``t_k = kδ``, k = 1 … T (the term k = 0 is 0):

    ∫ |φ̂(t) - f(t)|² exp(-γt²) dt/2π  ≈  δ/π Σ_k exp(-γ t_k²) |φ̂(t_k) - f(t_k)|²

Two things are lost. What lies beyond t_T: ``t_T = a/γ^(1/2)`` leaves out a part erfc(a) of the weight. And the sum is
periodic in the projections: it is right if its period 2π/δ is larger than twice their reach by ``b γ^(1/2)``, where
the kernel has fallen to exp(-b²/4). With the constants below the value is within 1e-6 in float32 and 1e-12 in float64,
and the gradient within 1e-5 and 1e-10.

A row far away from all others must not change the frequencies for them. So the reach is that of the bulk of the rows,
and a projection that is half a period or more from the middle counts as infinitely far: its waves are 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segma_fast.distance.tracing import visible

CONSTANTS = {torch.float32: (3.7, 7.4), torch.float64: (5.2, 10.6)}  # a and b
USUAL_REACH = 7.59  # of projections, where it cannot be read: 17 frequencies at γ = 1/2
HIDDEN = 64  # frequencies if γ cannot be read either, or depends on N in a graph for any N
MOST = 256
MANY = 1 << 20  # rows that are provided for where their number is not known


def reach_of_rows(z: Tensor, slices: int) -> Tensor:
    """How far projections of the bulk of the rows of each sample (B, N, D) reach: (B,); 0 without rows.

    Nine rows of ten have a norm of at most q. A random direction makes a projection of such a row as small as a
    Gaussian number with a standard deviation of q/D^(1/2), of which none is expected beyond
    ``q (2 log(200 N R)/D)^(1/2)``; nor is any beyond the largest norm.
    """
    _, rows, dim = z.shape
    if rows == 0:
        return z.new_zeros(z.shape[0])
    norms = torch.linalg.vector_norm(z.detach(), dim=-1)
    bulk = norms.kthvalue((9 * rows + 9) // 10, dim=-1).values
    number = MANY if torch.compiler.is_compiling() else rows  # a graph for any N has no logarithm of N
    return torch.minimum(norms.amax(-1), bulk * math.sqrt(2 * math.log(200.0 * number * slices) / dim))


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
            needed = (beyond / (width * spacing)).nan_to_num(0, posinf=0).amax().item()  # not of a sample with NaN
        elif isinstance(width, Tensor) and not visible(width):
            needed = HIDDEN
        else:
            needed = beyond / float(width) * (2 * USUAL_REACH + margin * float(width)) / (2 * math.pi)
        frequencies = min(MOST, max(8, math.ceil(needed)))
    usual = beyond / width / frequencies
    if not isinstance(usual, Tensor):
        return frequencies, spacing.clamp(max=usual)
    return frequencies, torch.minimum(spacing, usual)
