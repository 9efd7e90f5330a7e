"""From checked inputs to a distance: by the reference, as the energy of a signed cloud, or along random directions."""

from __future__ import annotations

import torch
from torch import Tensor

from segma_fast.distance.autograd import Inputs, Options, energy
from segma_fast.distance.backends import reference
from segma_fast.distance.derivatives import keep_inputs
from segma_fast.distance.dispatch import check_phi, choose_backend
from segma_fast.distance.distributed import codes_of_all, energy_of_all
from segma_fast.distance.formulas import INV_SQRT_PI, accumulation_dtype
from segma_fast.distance.groups import Groups, normality_of_groups
from segma_fast.distance.precision import choose_precision, without_autocast
from segma_fast.distance.process_group import Shards
from segma_fast.distance.slices.distance import Slices, sliced_distance


def dtype_of(points: Tensor) -> torch.dtype:
    """The dtype of the result."""
    return torch.promote_types(points.dtype, torch.float32)


def choose(
    points: Tensor, phi: str, backend: str, precision: str | None, slices: Slices | None = None
) -> tuple[str, str]:
    """The backend that serves points (m, D), or several samples (B, m, D), and the precision."""
    check_phi(phi)
    chosen = choose_precision(precision)
    described = (points.device, points.dtype, points.shape[-1], chosen)
    return choose_backend(backend, *described, sliced=slices is not None), chosen


def distance(
    inputs: Inputs,
    log: bool,
    phi: str,
    chosen: tuple[str, str],
    shards: Shards | None,
    groups: Groups | None = None,
    slices: Slices | None = None,
) -> Tensor:
    """d² of weighted points and a mixture, or its logarithm."""
    z, (backend, precision), dtype = inputs.z, chosen, dtype_of(inputs.z)
    options = Options(backend, precision, phi, accumulation_dtype(z.device) if log else dtype)
    if slices is not None:
        value = sliced_distance(inputs._replace(z=z[None]), slices, *chosen, shards)[0]
    elif groups is not None:
        return normality_of_groups(inputs, groups, options, shards)
    elif backend == "reference":
        inputs = inputs if shards is None else inputs._replace(z=codes_of_all(z, shards))
        with without_autocast(z.device):
            value = reference.cw_distance(*reference.as_tensors(inputs), phi=phi)
            value = keep_inputs(value, inputs.z, inputs.means).to(options.dtype)
    else:
        value = energy(inputs, options) if shards is None else energy_of_all(inputs, shards, options)
    return logarithm(value, inputs.gamma, dtype) if log else value


def logarithm(value: Tensor, gamma: float | Tensor, dtype: torch.dtype) -> Tensor:
    """``log d²``, held above rounding in ``dtype``."""
    root = (4 * gamma.detach().to(value.dtype)).sqrt() if isinstance(gamma, Tensor) else torch.sym_sqrt(4 * gamma)
    own = INV_SQRT_PI / root  # k(a, a, 0)
    return value.clamp_min(torch.finfo(dtype).eps ** 2 * own).log().to(dtype)
