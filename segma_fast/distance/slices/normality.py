"""The distance of samples to N(0, I) along random directions."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from segma_fast.distance.arguments import check_gamma, check_points, widened
from segma_fast.distance.autograd import Inputs
from segma_fast.distance.formulas import silverman_gamma
from segma_fast.distance.process_group import (
    Group,
    check_outside_transforms,
    compare_across_processes,
    is_distributed,
    sharing_errors,
)
from segma_fast.distance.slices.distance import Slices, facts_of, for_default_gamma, sliced_distance


def sliced_normality(
    z: Tensor,
    gamma: float | Tensor | None,
    slices: Slices,
    choose: Callable[[Tensor], tuple[str, str]],
    process_group: Group | None,
) -> tuple[Tensor, int, float | Tensor]:
    """d² of each sample (B, N, D) to N(0, I), (B,) in float64, N of all processes, and γ.

    ``choose`` gives the backend and the precision for z.
    """
    distributed = is_distributed(process_group)
    with sharing_errors(z, process_group if distributed else None):
        if distributed:
            check_outside_transforms()
        check_points("z", z[0], may_be_empty=distributed)
        gamma = None if gamma is None else check_gamma(gamma, "z", z)
        (z,) = widened(gamma, 1.0, z)
        chosen = choose(z)
    shards = None
    if distributed:
        origin = z.new_zeros(1, z.shape[-1])
        options = facts_of(slices) | {"number of samples": len(z)}
        given = Inputs(z[0], origin, None, None, 1.0, gamma)  # type: ignore[arg-type]  # gamma by the rule
        shards = compare_across_processes(given, options=options, group=process_group)
    rows = z.shape[-2] if shards is None else shards.total
    if gamma is None:
        gamma, slices = silverman_gamma(rows), for_default_gamma(slices)
    given = Inputs(z, None, None, None, 1.0, gamma)  # type: ignore[arg-type]  # no means: N(0, I)
    return sliced_distance(given, slices, *chosen, shards), rows, gamma
