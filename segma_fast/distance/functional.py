"""The distance and its kin: check the arguments, choose a backend, call it."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from segma_fast.distance.arguments import check_gamma, check_pair, check_points, check_variances, check_weights, widened
from segma_fast.distance.autograd import Inputs, Options, energy
from segma_fast.distance.backends import reference
from segma_fast.distance.derivatives import keep_inputs
from segma_fast.distance.dispatch import check_phi, choose_backend
from segma_fast.distance.distributed import codes_of_all, energy_of_all
from segma_fast.distance.formulas import INV_SQRT_PI, accumulation_dtype, silverman_gamma
from segma_fast.distance.groups import check_groups, normality_of_groups
from segma_fast.distance.precision import choose_precision, without_autocast
from segma_fast.distance.process_group import Group, Shards, compare_across_processes, rank_and_size, share_errors
from segma_fast.distance.scalars import check_flag
from segma_fast.distance.tracing import are_transforms_active


def fast_cw_distance(
    z: Tensor,
    means: Tensor,
    weights: Tensor | None = None,
    variances: float | Tensor = 1.0,
    gamma: float | Tensor | None = None,
    *,
    log: bool = False,
    phi: str = "approx",
    backend: str = "auto",
    precision: str | None = None,
    process_group: Group | None = None,
) -> Tensor:
    """Squared Cramer-Wold distance between a sample and a mixture of spherical Gaussians, in O((m+K)·D) memory.

    Equal to equation (8) of the SeGMA paper, which :func:`cw_distance_reference` transcribes::

        k(a, b, v) = (2π(v + 2γ))^(-1/2) φ_D(|a - b|² / (2(v + 2γ))),   φ_D(s) = ₁F₁(½; D/2; -s)
        d² = 1/m² Σ_ij k(z_i, z_j, 0) - 2/m Σ_ik p_k k(z_i, μ_k, v_k) + Σ_kl p_k p_l k(μ_k, μ_l, v_k + v_l)

    The paper takes ``φ_D(s) ≈ (1 + 4s/(2D-3))^(-1/2)``, which is low by 31 % at D = 2, 2.3 % at D = 10 and 0.3 % at
    D = 64, so that d² does not vanish at a perfect match; ``phi="exact"`` takes φ_D itself, for little more time. In
    one dimension, where the approximation does not exist, both are the exact ``exp(-s)``. d² is never negative. The
    gradient in all five inputs comes with the value and may be differentiated again (inside of ``torch.compile``, not
    through what it returned); there is no forward mode.

    Accuracy in float32 for codes drawn from the mixture and γ by the rule: d² is a difference of sums
    κ = (A + B + C)/d² times as large, and is within ``2e-5 max(1, κ/1000)`` of its value (1e-4 for narrow clusters
    far apart); the gradients of codes, means and γ are as close, those of weights and variances, which nearly
    vanish there, within 1e-2. With ``phi="exact"``, where γ's nearly vanishes too, d² is within 20 times as much and
    γ's gradient within 1e-3. A γ far above the codes' squared distances makes κ huge: use float64. Example::

        loss = reconstruction + 5 * fast_cw_distance(encoder(images), means, log=True)

    Args:
        z: the sample (codes), (m, D), m ≥ 1; half (whose gradients end at 6e-8), bfloat16, float32 or float64.
        means: centres of the K components μ_k, (K, D).
        weights: proportions p_k ≥ 0 that sum to 1, (K,); default 1/K each.
        variances: v_k ≥ 0, (K,) or one number for all; 0 makes a component a point.
        gamma: bandwidth γ > 0, a number or a tensor of one element; default the paper's rule,
            ``silverman_gamma(m, K) = (4K / 3m)^(2/5)``.
        log: return ``log d²``; d² is held above ``ε² k(a, a, 0)`` for the machine epsilon ε, so that the result
            and its gradient are finite even where both distributions coincide (there, both are rounding noise).
        phi: ``"approx"`` for the paper's φ_D, or ``"exact"``, by a polynomial within 2e-7 of φ_D (1e-12 in float64).
            The minimum of d² is lower then, so that a weight of ``log d²`` tuned for the one does not fit the other.
        backend: a backend's name (``segma-fast info`` lists them) or ``"auto"``; the environment variable
            ``SEGMA_FAST_BACKEND`` sets what ``"auto"`` means.
        precision: ``"highest"``, ``"high"`` or ``"medium"``; default what torch is set to for products of float32
            matrices (``torch.set_float32_matmul_precision`` or ``torch.backends...fp32_precision``), ``"highest"``
            unless you set it. Only ``triton`` and ``cuda`` compute at less: ``"high"`` rounds weights and
            ``"medium"`` also the points to fp16, so that gradients near the optimum are off by 1e-3 and 1e-2 where
            components overlap (and by more for clusters far apart). No other backend loses by what torch is set to.
        process_group: the distance of all codes of these processes of ``torch.distributed``, such as
            ``torch.distributed.group.WORLD``; default ``z`` alone. Each process gives its own ``z``, of any number of
            rows, 0 too, and the same of all else; each gets the same value, and gradients such that the mean over
            the processes that ``DistributedDataParallel`` takes is that of one process with all codes: those of
            means, weights, variances and γ in full, those of its codes times the number of processes. All have to
            call it, in the same order, and to weigh the value alike. It may not be differentiated a second time.

    Returns:
        A 0-d tensor: float64 if ``z`` or ``means`` is float64, else float32. NaN if ``z`` or ``means`` holds NaN
        or infinity.

    Raises:
        TypeError: for tensors of another dtype or layout, and for other types.
        ValueError: for shapes that do not fit, no rows, tensors on different devices, γ outside of 1e-100 to 1e300,
            variances outside of 0 to 1e300, weights below 0 or of another sum than 1, an unknown form of φ, and an
            unknown or unavailable backend; on every process of a group, if they disagree or one fails. On a GPU and
            inside ``torch.compile`` invalid values give NaN instead, without a synchronisation.
        RuntimeError: in ``torch.jit.trace``; from ``torch.distributed``, if a process dies or is not there in time.
    """
    is_distributed = process_group is not None and rank_and_size(process_group)[1] != 1
    with share_errors(z, process_group) if is_distributed else nullcontext():
        if is_distributed and are_transforms_active():
            raise ValueError("process_group works outside of the transforms of torch.func and vmap only")
        log = check_flag("log", log)
        z, means = check_pair("z", z, "means", means, may_be_empty=is_distributed)
        weights, variances = _weights("weights", weights, means), check_variances(variances, means)
        gamma = None if gamma is None else check_gamma(gamma, "z", z)
        dtype = _dtype_of(z)
        z, means = widened(gamma, variances, z, means)
        chosen = _choose(z, phi, backend, precision)
    shards = None
    if is_distributed:
        kind = "reference" if chosen[0] == "reference" else "any but the reference"
        options = {"phi": phi, "log": log, "precision": chosen[1], "backend": kind}
        given = Inputs(z, means, None, weights, variances, gamma)  # type: ignore[arg-type]  # gamma by the rule
        shards = compare_across_processes(given, options=options, group=process_group)
    if gamma is None:
        gamma = silverman_gamma(z.shape[0] if shards is None else shards.total, means.shape[0])
    return _distance(Inputs(z, means, None, weights, variances, gamma), log, phi, chosen, shards).to(dtype)


def cw_distance_reference(
    z: Tensor,
    means: Tensor,
    weights: Tensor | None = None,
    variances: float | Tensor = 1.0,
    gamma: float | Tensor | None = None,
    *,
    log: bool = False,
    phi: str = "approx",
    backend: str = "reference",
    precision: str | None = None,
    process_group: Group | None = None,
) -> Tensor:
    """:func:`fast_cw_distance` by a plain transcription of equation (8) (``backends/reference.py``): the oracle.

    Takes the same arguments, in O(m² + mK + K²) memory; float64 inputs give the value and gradients to float64
    accuracy. ``backend`` is there so that either function can stand for the other; ``"auto"`` means
    ``"reference"`` here.
    """
    return fast_cw_distance(
        z,
        means,
        weights,
        variances,
        gamma,
        log=log,
        phi=phi,
        backend="reference" if isinstance(backend, str) and backend == "auto" else backend,
        precision=precision,
        process_group=process_group,
    )


def cw_normality(
    z: Tensor,
    gamma: float | Tensor | None = None,
    *,
    groups: Tensor | None = None,
    log: bool = False,
    phi: str = "approx",
    backend: str = "auto",
    precision: str | None = None,
    process_group: Group | None = None,
) -> Tensor:
    """Squared Cramer-Wold distance between a sample and N(0, I), equation (4) of the paper.

    Equal to ``fast_cw_distance(z, torch.zeros(1, D), gamma=gamma)`` but for groups; takes and raises what that does.

    Args:
        z: the sample, (m, D).
        gamma: bandwidth γ > 0; default ``silverman_gamma(m)``.
        groups: integers, (m,): two rows of the same number, such as views of one image, do not count as a pair, nor
            does a row with itself. The mean over all pairs becomes one over those of different groups; for
            ``phi="exact"`` an unbiased estimate, which may be negative (``distance/groups.py`` has the formula).
            For one process and ``log=False``. The sizes of the groups are read: that synchronises a GPU and breaks
            the graph of ``torch.compile``. Where nearly all rows are one group, float32 keeps three digits.
        log, phi, backend, precision, process_group: as in :func:`fast_cw_distance`.

    Returns:
        A 0-d tensor, float64 for float64 and else float32.

    Raises:
        TypeError, ValueError: also for groups of another shape or dtype, with one number for all rows, or together
            with ``log`` or ``process_group``.
    """
    if process_group is not None:
        rank_and_size(process_group)  # or there is nobody to tell
    with share_errors(z, process_group) if process_group is not None else nullcontext():
        z = check_points("z", z, may_be_empty=process_group is not None)
        if groups is not None:
            if check_flag("log", log) or process_group is not None:
                option = "log=True" if log else "a process_group"
                raise ValueError(f"groups give an estimate of one process that may be negative, got {option} with them")
            groups = check_groups(groups, z)
    if groups is not None:
        gamma = check_gamma(silverman_gamma(z.shape[0]) if gamma is None else gamma, "z", z)
        dtype = _dtype_of(z)
        (z,) = widened(gamma, 1.0, z)
        backend, precision = _choose(z, phi, backend, precision)
        with without_autocast(z.device):
            if backend == "reference":
                points = z.to(reference.working_dtype(z, z, gamma))
                width = torch.as_tensor(gamma, dtype=points.dtype, device=z.device)
                value = reference.cw_normality_of_groups(points, groups, width, phi=phi)
            else:
                options = Options(backend, precision, phi, accumulation_dtype(z.device))
                value = normality_of_groups(z.to(_dtype_of(z)), groups, gamma, options)
        return value.to(dtype)
    return fast_cw_distance(
        z,
        z.new_zeros(1, z.shape[1]),
        gamma=gamma,
        log=log,
        phi=phi,
        backend=backend,
        precision=precision,
        process_group=process_group,
    )


def cw_two_sample(
    x: Tensor,
    y: Tensor,
    gamma: float | Tensor | None = None,
    *,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    log: bool = False,
    phi: str = "approx",
    backend: str = "auto",
    precision: str | None = None,
) -> Tensor:
    """Squared Cramer-Wold distance between two samples, whose sizes may differ.

    Equal to ``Σ_ij k(x_i, x_j) / m² - 2 Σ_ij k(x_i, y_j) / mn + Σ_ij k(y_i, y_j) / n²`` with the kernel of
    :func:`fast_cw_distance` at variance 0; takes and raises what that does.

    Args:
        x, y: the samples, (m, D) and (n, D).
        gamma: bandwidth γ > 0; default ``silverman_gamma`` of the mean size ``(m + n) / 2``, rounded down.
        x_weights, y_weights: weights ≥ 0 that sum to 1, (m,) and (n,); default 1/m and 1/n.
        log, phi, backend, precision: as in :func:`fast_cw_distance`.

    Returns:
        A 0-d tensor, float64 if either sample is float64 and else float32.
    """
    x, y = check_pair("x", x, "y", y)
    log, dtype = check_flag("log", log), _dtype_of(x)
    if gamma is None:
        gamma = silverman_gamma((x.shape[0] + y.shape[0]) // 2)
    else:
        gamma = check_gamma(gamma, "x", x)
        x, y = widened(gamma, 0.0, x, y)
    x_weights, y_weights = _weights("x_weights", x_weights, x), _weights("y_weights", y_weights, y)
    chosen = _choose(x, phi, backend, precision)
    return _distance(Inputs(x, y, x_weights, y_weights, 0.0, gamma), log, phi, chosen, None).to(dtype)


def _dtype_of(points: Tensor) -> torch.dtype:
    """Of the result."""
    return torch.promote_types(points.dtype, torch.float32)


def _weights(name: str, weights: Tensor | None, points: Tensor) -> Tensor | None:
    return None if weights is None else check_weights(name, weights, points)


def _choose(points: Tensor, phi: str, backend: str, precision: str | None) -> tuple[str, str]:
    """The backend that serves the points, and the precision."""
    check_phi(phi)
    chosen = choose_precision(precision)
    return choose_backend(backend, points.device, points.dtype, points.shape[1], chosen), chosen


def _distance(inputs: Inputs, log: bool, phi: str, chosen: tuple[str, str], shards: Shards | None) -> Tensor:
    """Weighted points against a mixture: the reference as it stands, or the energy of the signed cloud."""
    z, gamma, (backend, precision), dtype = inputs.z, inputs.gamma, chosen, _dtype_of(inputs.z)
    options = Options(backend, precision, phi, accumulation_dtype(z.device) if log else dtype)
    if backend == "reference":
        inputs = inputs if shards is None else inputs._replace(z=codes_of_all(z, shards))
        with without_autocast(z.device):
            value = reference.cw_distance(*reference.as_tensors(inputs), phi=phi)
            value = keep_inputs(value, inputs.z, inputs.means).to(options.dtype)
    else:
        value = energy(inputs, options) if shards is None else energy_of_all(inputs, shards, options)
    if not log:
        return value
    root = (4 * gamma.detach().to(value.dtype)).sqrt() if isinstance(gamma, Tensor) else torch.sym_sqrt(4 * gamma)
    own = INV_SQRT_PI / root  # k(a, a, 0)
    return value.clamp_min(torch.finfo(dtype).eps ** 2 * own).log().to(dtype)
