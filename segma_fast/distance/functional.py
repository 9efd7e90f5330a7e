"""The public distance functions: they check their arguments, choose a backend and call it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from segma_fast.distance.arguments import check_gamma, check_pair, check_points, check_variances, check_weights, widened
from segma_fast.distance.autograd import Inputs
from segma_fast.distance.evaluate import choose, distance, dtype_of, logarithm
from segma_fast.distance.formulas import silverman_gamma
from segma_fast.distance.groups import Groups, check_groups, kind_of
from segma_fast.distance.process_group import (
    Group,
    check_outside_transforms,
    compare_across_processes,
    is_distributed,
    sharing_errors,
)
from segma_fast.distance.scalars import check_flag
from segma_fast.distance.slices.distance import check_slices, facts_of, for_default_gamma
from segma_fast.distance.slices.normality import sliced_normality


def fast_cw_distance(
    z: Tensor,
    means: Tensor,
    weights: Tensor | None = None,
    variances: float | Tensor = 1.0,
    gamma: float | Tensor | None = None,
    *,
    log: bool = False,
    phi: str = "approx",
    slices: int | None = None,
    frequencies: int | None = None,
    generator: torch.Generator | None = None,
    backend: str = "auto",
    precision: str | None = None,
    process_group: Group | None = None,
) -> Tensor:
    """Squared Cramer-Wold distance between a sample and a mixture of spherical Gaussians, in O((m+K)·D) memory.

    Equal to equation (8) of the SeGMA paper, which :func:`cw_distance_reference` transcribes::

        k(a, b, v) = (2π(v + 2γ))^(-1/2) φ_D(|a - b|² / (2(v + 2γ))),   φ_D(s) = ₁F₁(½; D/2; -s)
        d² = 1/m² Σ_ij k(z_i, z_j, 0) - 2/m Σ_ik p_k k(z_i, μ_k, v_k) + Σ_kl p_k p_l k(μ_k, μ_l, v_k + v_l)

    The paper uses ``φ_D(s) ≈ (1 + 4s/(2D-3))^(-1/2)``, which is too low by 31 % at D = 2, 2.3 % at D = 10 and 0.3 % at
    D = 64, so d² does not vanish at a perfect match. ``phi="exact"`` evaluates φ_D itself and takes little more time.
    In one dimension, where the approximation does not exist, both are the exact ``exp(-s)``. d² is never negative. The
    gradient with respect to all five inputs is computed together with the value and may be differentiated again (under
    ``torch.compile`` only inside the compiled function, not through its outputs). There is no forward-mode derivative.

    Accuracy in float32, for codes drawn from the mixture and the default γ: d² is a small difference of its three sums
    A, B and C. With κ = (A + B + C)/d², the relative error of d² is at most ``2e-5 max(1, κ/1000)`` (1e-4 for narrow
    clusters far apart). The gradients of codes, means and γ are as accurate. Those of weights and variances nearly
    vanish there and are accurate to 1e-2. With ``phi="exact"`` the gradient of γ nearly vanishes too and is accurate
    to 1e-3, and the bound for d² is 20 times as large. If γ is far above the squared distances between the codes, κ is
    huge: use float64. Example::

        loss = reconstruction + 5 * fast_cw_distance(encoder(images), means, log=True)

    Args:
        z: the sample (codes), (m, D), m ≥ 1; float16 (gradients below 6e-8 underflow), bfloat16, float32 or float64.
        means: centres of the K components μ_k, (K, D).
        weights: proportions p_k ≥ 0 that sum to 1, (K,); default 1/K each.
        variances: v_k ≥ 0, (K,) or one number for all; 0 makes a component a point.
        gamma: bandwidth γ > 0, a number or a tensor of one element; default the paper's rule,
            ``silverman_gamma(m, K) = (4K / 3m)^(2/5)``.
        log: return ``log d²``; d² is clamped to at least ``ε² k(a, a, 0)``, with ε the machine epsilon, so that the
            result and its gradient are finite even if both distributions coincide (both are rounding noise then).
        phi: ``"approx"`` for the paper's φ_D, or ``"exact"`` for a polynomial within 2e-7 of φ_D (1e-12 in float64).
            The minimum of d² is lower with ``"exact"``, so a loss weight of ``log d²`` tuned for one form does not
            suit the other.
        slices: R: evaluate the mean over R random directions, drawn anew in each call, instead of all of them, in
            O(m (D + R)) memory and O(m R) operations (``slices/directions.py``). An unbiased estimate; needs
            ``phi="exact"`` and D ≥ 2. It can be differentiated once only.
        frequencies: T, with slices: at how many frequencies the characteristic functions are compared; default as many
            as γ and the spread of the codes need for a relative error of 1e-6 (``slices/frequencies.py``), up to 256.
            On a GPU, in ``torch.compile`` and in transforms the spread is not read: T is enough for projections within
            ±7.6 of the mixture's mean, and if most codes are spread wider, the highest frequencies are left out.
        generator: of the directions; default torch's own. With a process group all processes must give generators in
            the same state, or none: then the first process sends a seed.
        backend: a backend's name (``segma-fast info`` lists them) or ``"auto"``; the environment variable
            ``SEGMA_FAST_BACKEND`` sets what ``"auto"`` means.
        precision: ``"highest"``, ``"high"`` or ``"medium"``; the default is torch's setting for float32 matrix
            products (``torch.set_float32_matmul_precision`` or ``torch.backends...fp32_precision``), ``"highest"``
            unless you change it. Only ``triton`` and ``cuda`` use a lower precision: ``"high"`` rounds the weights of
            pairs to fp16, and ``"medium"`` also the points. Near the optimum, gradients are then off by 1e-3 and 1e-2
            where components overlap (more for clusters far apart). The other backends do not lose accuracy.
        process_group: processes of ``torch.distributed`` whose codes form one batch, such as
            ``torch.distributed.group.WORLD``; default ``z`` alone. Each process passes its own ``z``, with any number
            of rows (0 too), and the same values of all other arguments. Each gets the same value, and gradients whose
            mean over processes, as ``DistributedDataParallel`` takes it, is the gradient of one process with all
            codes: the full gradients of means, weights, variances and γ, and the gradient of its own codes times the
            number of processes. All processes must call the function, in the same order, and give the value the same
            weight in the loss. A second derivative is an error.

    Returns:
        A 0-d tensor: float64 if ``z`` or ``means`` is float64, else float32. NaN if ``z`` or ``means`` holds NaN
        or infinity.

    Raises:
        TypeError: for tensors of an unsupported dtype or layout, and for arguments of another type.
        ValueError: for shapes that do not match, no rows, tensors on different devices, γ outside of 1e-100 to 1e300,
            variances outside of 0 to 1e300, weights that are negative or do not sum to 1, an unknown form of φ, and an
            unknown or unavailable backend; with a group, on every process if the processes disagree or one fails. On a
            GPU and inside ``torch.compile``, invalid values give NaN instead of an error, to avoid a synchronisation.
        RuntimeError: in ``torch.jit.trace``; from ``torch.distributed``, if a process dies or times out.
    """
    options = (log, phi, (slices, frequencies, generator), backend, precision, process_group)
    return _checked_distance(z, means, weights, variances, gamma, None, *options)


def cw_distance_reference(
    z: Tensor,
    means: Tensor,
    weights: Tensor | None = None,
    variances: float | Tensor = 1.0,
    gamma: float | Tensor | None = None,
    *,
    log: bool = False,
    phi: str = "approx",
    slices: int | None = None,
    frequencies: int | None = None,
    generator: torch.Generator | None = None,
    backend: str = "reference",
    precision: str | None = None,
    process_group: Group | None = None,
) -> Tensor:
    """:func:`fast_cw_distance` by a plain transcription of equation (8) (``backends/reference.py``): the oracle.

    It takes the same arguments and O(m² + mK + K²) memory; float64 inputs give the value and gradients to float64
    accuracy. ``backend`` exists so that the two functions are interchangeable; ``"auto"`` means ``"reference"``
    here.
    """
    return fast_cw_distance(
        z,
        means,
        weights,
        variances,
        gamma,
        log=log,
        phi=phi,
        slices=slices,
        frequencies=frequencies,
        generator=generator,
        backend="reference" if isinstance(backend, str) and backend == "auto" else backend,
        precision=precision,
        process_group=process_group,
    )


def cw_normality(
    z: Tensor,
    gamma: float | Tensor | None = None,
    *,
    groups: Tensor | None = None,
    views: int | None = None,
    log: bool = False,
    phi: str = "approx",
    slices: int | None = None,
    frequencies: int | None = None,
    generator: torch.Generator | None = None,
    backend: str = "auto",
    precision: str | None = None,
    process_group: Group | None = None,
) -> Tensor:
    """Squared Cramer-Wold distance between a sample and N(0, I), equation (4) of the paper.

    Without groups, equal to ``fast_cw_distance(z, torch.zeros(1, D), gamma=gamma)``, with the same errors.

    Args:
        z: the sample, (m, D).
        gamma: bandwidth γ > 0; default ``silverman_gamma(m)``.
        groups: integers, (m,). Two rows with the same number, such as views of one image, do not count as a pair, nor
            does a row with itself: the mean over all pairs becomes the mean over pairs of different groups. With
            ``phi="exact"`` this is an unbiased estimate, which may be negative (``distance/groups.py`` has the
            formula). Only for ``log=False``. Reading the group sizes synchronises a GPU and breaks the graph of
            ``torch.compile``. If nearly all rows are in one group, float32 keeps three digits. With a process_group,
            each process passes the groups of its rows; a group may span processes.
        views: V ≥ 1, in place of groups of equal size: ``z`` is V blocks of m/V rows, as ``flatten(0, 1)`` makes of
            (V, images, D), and row i of every block is a view of image i. Needs no synchronisation and works in one
            graph. With a process_group, each process has all V views of its images.
        log, phi, slices, frequencies, generator, backend, precision, process_group: as in :func:`fast_cw_distance`.

    Returns:
        A 0-d tensor, float64 if ``z`` is float64 and else float32.

    Raises:
        TypeError, ValueError: also for groups of a wrong shape or dtype, for views that do not divide m, for one group
            of all rows, for groups with ``log``, ``slices`` or views, and if processes do not all give the same of
            the two.
    """
    with sharing_errors(z, process_group):
        z = check_points("z", z, may_be_empty=process_group is not None)
        sliced, log = check_slices(slices, frequencies, generator, phi, z.shape[1]), check_flag("log", log)
        found = check_groups(groups, views, z, log)
        if sliced is not None and found is not None:
            raise ValueError(f"groups and views must be used without slices, got slices={slices}; leave slices out")
    if sliced is not None:
        chooser = partial(choose, phi=phi, backend=backend, precision=precision, slices=sliced)
        (value,), _, gamma = sliced_normality(z[None], gamma, sliced, chooser, process_group)
        return (logarithm(value, gamma, dtype_of(z)) if log else value).to(dtype_of(z))
    options = (log, phi, (None, None, None), backend, precision, process_group)
    return _checked_distance(z, z.new_zeros(1, z.shape[1]), None, 1.0, gamma, found, *options)


def _checked_distance(
    z: Tensor,
    means: Tensor,
    weights: Tensor | None,
    variances: float | Tensor,
    gamma: float | Tensor | None,
    groups: Groups | None,
    log: bool,
    phi: str,
    slices: tuple[int | None, int | None, torch.Generator | None],
    backend: str,
    precision: str | None,
    process_group: Group | None,
) -> Tensor:
    """:func:`fast_cw_distance`, or with groups :func:`cw_normality`."""
    distributed = is_distributed(process_group)
    with sharing_errors(z, process_group if distributed else None):
        if distributed:
            check_outside_transforms()
        log = check_flag("log", log)
        z, means = check_pair("z", z, "means", means, may_be_empty=distributed)
        weights = None if weights is None else check_weights("weights", weights, means)
        variances = check_variances(variances, means)
        gamma = None if gamma is None else check_gamma(gamma, "z", z)
        dtype = dtype_of(z)
        z, means = widened(gamma, variances, z, means)
        sliced = check_slices(*slices, phi, z.shape[1])
        chosen = choose(z, phi, backend, precision, sliced)
    shards = None
    if distributed:
        kind = "reference" if chosen[0] == "reference" else "any but the reference"
        options = {"phi": phi, "log": log, "precision": chosen[1], "backend": kind, "kind of groups": kind_of(groups)}
        options |= facts_of(sliced)
        given = Inputs(z, means, None, weights, variances, gamma)  # type: ignore[arg-type]  # gamma by the rule
        shards = compare_across_processes(given, options=options, group=process_group)
    if gamma is None:
        gamma = silverman_gamma(z.shape[0] if shards is None else shards.total, means.shape[0])
        sliced = None if sliced is None else for_default_gamma(sliced)
    inputs = Inputs(z, means, None, weights, variances, gamma)
    return distance(inputs, log, phi, chosen, shards, groups, sliced).to(dtype)
