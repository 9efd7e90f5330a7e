"""SIGReg, the regulariser of LeJEPA (arXiv 2511.08544): with infinitely many slices in closed form, or with some."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from segma_fast.distance.arguments import check_gamma, check_points, widened
from segma_fast.distance.autograd import Inputs, Options, energy
from segma_fast.distance.evaluate import choose, dtype_of
from segma_fast.distance.formulas import silverman_gamma
from segma_fast.distance.functional import cw_normality
from segma_fast.distance.process_group import Group, rows_of_all, sharing_errors
from segma_fast.distance.slices.distance import check_slices
from segma_fast.distance.slices.normality import sliced_normality

Reduction = Literal["mean", "none"]


def sigreg(
    z: Tensor,
    gamma: float | Tensor | None = 0.5,
    *,
    groups: Tensor | None = None,
    views: int | None = None,
    reduction: Reduction = "mean",
    slices: int | None = None,
    frequencies: int | None = None,
    generator: torch.Generator | None = None,
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
        z: samples, (…, N, D): leading dimensions, such as views or time steps, are separate samples, which a backend
            with operators evaluates in one call, unless there are groups or a process group.
        gamma: bandwidth γ > 0; 1/2, the default, is LeJEPA's weight ``exp(-t²/2)``. None for ``silverman_gamma(N)``.
        groups, views: pairs of rows that are left out of every sample, as in :func:`segma_fast.cw_normality`; groups
            are integers, (N,). For views pooled in one sample: leading dimensions are never pairs.
        reduction: ``"mean"`` over the samples, or ``"none"``.
        slices, frequencies, generator: as in :func:`segma_fast.fast_cw_distance`: the mean over so many random
            directions, for samples so large that N² operations are too many. All samples share the directions.
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
        sliced = check_slices(slices, frequencies, generator, "exact", z.shape[-1])
        pairs_left_out = not (groups is None and views is None)
        if sliced is not None and pairs_left_out:
            raise ValueError(f"groups and views must be used without slices, got slices={slices}; leave slices out")
        if views is not None and z.ndim > 2 and z.shape[-3] == views:
            raise ValueError(
                f"views={views} are blocks of rows of one sample, but z of shape {tuple(z.shape)} has {views} samples: "
                "pool them by z.flatten(-3, -2), or leave views out"
            )
    samples = z.flatten(0, -3) if z.ndim > 2 else z[None]
    if sliced is not None:
        chooser = partial(choose, phi="exact", backend=backend, precision=precision, slices=sliced)
        found, rows, _ = sliced_normality(samples, gamma, sliced, chooser, process_group)
    else:
        rows = z.shape[-2] if process_group is None else rows_of_all(z, len(samples), process_group)
        if len(samples) == 1 or pairs_left_out or process_group is not None:
            options: dict[str, Any] = {"precision": precision, "process_group": process_group}
            found = _one_by_one(samples, gamma, groups=groups, views=views, backend=backend, **options)
        else:
            found = _at_once(samples, gamma, backend, precision)
    values = (2 * math.pi * rows * found).to(dtype_of(z))
    return values.mean() if reduction == "mean" else values.reshape(z.shape[:-2])


def _one_by_one(samples: Tensor, gamma: float | Tensor | None, **options: Any) -> Tensor:
    return torch.stack([cw_normality(sample, gamma, phi="exact", **options) for sample in samples.unbind()])


def _at_once(samples: Tensor, gamma: float | Tensor | None, backend: str, precision: str | None) -> Tensor:
    """The same by one call of an operator, if the backend has operators."""
    check_points("z", samples[0])
    rows, dim = samples.shape[1:]
    gamma = check_gamma(silverman_gamma(rows) if gamma is None else gamma, "z", samples)
    (z,) = widened(gamma, 1.0, samples)
    chosen, precision = choose(z, "exact", backend, precision)
    if chosen == "reference":
        return _one_by_one(samples, gamma, backend=chosen)
    inputs = Inputs(z, z.new_zeros(len(z), 1, dim), None, None, 1.0, gamma)
    return energy(inputs, Options(chosen, precision, "exact", dtype_of(samples)))


def check_reduction(reduction: Reduction) -> Reduction:
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}")
    return reduction
