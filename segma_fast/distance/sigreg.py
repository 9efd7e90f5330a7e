"""SIGReg, the regulariser of LeJEPA (arXiv 2511.08544), with infinitely many slices: in closed form, without noise."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from segma_fast.distance.functional import cw_normality
from segma_fast.distance.process_group import Group, rows_of_all, sharing_errors

Reduction = Literal["mean", "none"]


def sigreg(
    z: Tensor,
    gamma: float | Tensor | None = 0.5,
    *,
    groups: Tensor | None = None,
    views: int | None = None,
    reduction: Reduction = "mean",
    backend: str = "auto",
    precision: str | None = None,
    process_group: Group | None = None,
) -> Tensor:
    """How far samples are from N(0, I): ``2πN · cw_normality(sample, γ, phi="exact")``, the mean over the samples.

    SIGReg projects N embeddings on random directions v of the unit sphere and takes the mean over them of
    ``N ∫ |1/N Σ_j exp(i t v·z_j) - exp(-t²/2)|² exp(-γt²) dt``. This is the mean over all directions, which
    Plancherel's theorem turns into the exact Cramer-Wold distance (``docs/sigreg.md``): there are no slices, no
    frequencies and no random numbers.

    Args:
        z: samples, (…, N, D): leading dimensions, such as views or time steps, are separate samples.
        gamma: bandwidth γ > 0; 1/2, the default, is LeJEPA's weight ``exp(-t²/2)``. None for ``silverman_gamma(N)``.
        groups, views: pairs of rows that are left out of every sample, as in :func:`segma_fast.cw_normality`; groups
            are integers, (N,). For views pooled in one sample: leading dimensions are never pairs.
        reduction: ``"mean"`` over the samples, or ``"none"``.
        backend, precision: as in :func:`segma_fast.fast_cw_distance`.
        process_group: processes whose rows form one sample, as in :func:`segma_fast.fast_cw_distance`; N counts the
            rows of all, and DistributedDataParallel's mean of the gradients is that of the whole batch. All processes
            must have the same number of samples.

    Returns:
        A 0-d tensor, or (…) without a reduction; float64 if ``z`` is float64 and else float32.

    Raises:
        TypeError, ValueError: as :func:`segma_fast.cw_normality`, and if ``z`` has fewer than two dimensions or no
            sample.
    """
    with sharing_errors(z, process_group):
        check_reduction(reduction)
        if not isinstance(z, Tensor):
            raise TypeError(f"z must be a torch.Tensor, got {type(z).__name__}")
        if z.ndim < 2 or 0 in z.shape[:-2]:
            raise ValueError(f"z must be samples of shape (..., N, D), at least one, got shape {tuple(z.shape)}")
    samples = (z.flatten(0, -3) if z.ndim > 2 else z[None]).unbind()
    rows = z.shape[-2] if process_group is None else rows_of_all(z, len(samples), process_group)
    options: dict[str, Any] = {"backend": backend, "precision": precision, "process_group": process_group}
    found = [cw_normality(sample, gamma, groups=groups, views=views, phi="exact", **options) for sample in samples]
    values = 2 * math.pi * rows * torch.stack(found)
    return values.mean() if reduction == "mean" else values.reshape(z.shape[:-2])


def check_reduction(reduction: Reduction) -> Reduction:
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}")
    return reduction
