"""The exact distance along random directions, for samples of any size: O(N·R·T) operations, O(N·D) memory.

The exact d² is the mean over all directions v of the sphere of a distance in one dimension (``docs/sigreg.md``). Here
it is the mean over R random ones, an unbiased estimate: the characteristic function of the projected rows, φ̂, is
compared with that of the projected mixture::

    d² ≈ 1/R Σ_r Σ_k ω_k |φ̂_r(t_k) - f_r(t_k)|²        f_r(t) = Σ_j p_j exp(i t v_r·μ_j - t² v_j/2)

The operators ``waves`` give N φ̂; all else is small, (T, R), and plain differentiable torch.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from segma_fast.distance.autograd import Inputs
from segma_fast.distance.backends import reference
from segma_fast.distance.derivatives import keep_inputs
from segma_fast.distance.formulas import accumulation_dtype
from segma_fast.distance.precision import products_are_rounded, without_autocast
from segma_fast.distance.process_group import Group, Shards
from segma_fast.distance.scalars import check_whole
from segma_fast.distance.slices.directions import draw_directions, lengths, project, unit_columns
from segma_fast.distance.slices.frequencies import HIDDEN, choose_frequencies, reach_of_rows
from segma_fast.distance.slices.operators import WAVES

FAR = 6.0  # standard deviations of a component within which its projections lie
BLOCK_ELEMENTS = 1 << 21  # numbers of the characteristic functions of components that are in memory at once


@dataclass(frozen=True)
class Slices:
    """How many directions and frequencies, and where they come from.

    Attributes:
        count: R.
        frequencies: T, or None to choose it.
        generator: of the directions; None for torch's own.
    """

    count: int
    frequencies: int | None
    generator: torch.Generator | None


def check_slices(
    slices: int | None, frequencies: int | None, generator: torch.Generator | None, phi: str, dim: int | None = None
) -> Slices | None:
    """The three arguments as one, or None without slices."""
    if slices is None:
        for name, value in (("frequencies", frequencies), ("generator", generator)):
            if value is not None:
                raise ValueError(f"{name} must be used with slices, got {name} and slices=None")
        return None
    slices = check_whole("slices", slices, 1)
    frequencies = None if frequencies is None else check_whole("frequencies", frequencies, 1)
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
    if phi != "exact":
        raise ValueError(f"slices must be used with phi='exact', whose mean over directions they estimate, got {phi!r}")
    if dim == 1:
        raise ValueError("slices must be used in two dimensions or more, got D = 1, where there is one direction")
    return Slices(slices, frequencies, generator)


def sliced_distance(
    inputs: Inputs, slices: Slices, backend: str, precision: str, shards: Shards | None = None
) -> Tensor:
    """d² of each sample along random directions, (B,), at least float32, differentiable in all inputs.

    Args:
        inputs: z is (B, N, D), its weights are uniform; the mixture is that of all samples.
        slices: the directions; with shards, their generator must be in the same state on all processes, or None.
        backend, precision: as chosen for z.
        shards: the processes whose rows form one sample.

    Without means the mixture is N(0, v I).
    """
    z, means, _, weights, variances, gamma = inputs
    wide = accumulation_dtype(z.device)
    with without_autocast(z.device):
        too_rounded = products_are_rounded(z.device) and (precision == "highest" or z.device.type == "cpu")
        x = z.to(wide if too_rounded else torch.promote_types(z.dtype, torch.float32))
        spread = variances if isinstance(variances, Tensor) else x.new_full((), variances, dtype=wide)
        reach = FAR * spread.detach().amax().sqrt()
        if means is not None:
            weights = means.new_full((len(means),), 1 / len(means), dtype=wide) if weights is None else weights
            centre = (weights[:, None] * means).detach().sum(0).to(x.dtype)
            x, means = x - centre, means.to(wide) - centre.to(wide)
            reach = reach + torch.linalg.vector_norm(means.detach(), dim=-1).amax()
        x = x.contiguous()
        reach = torch.maximum(reach, reach_of_rows(x, slices.count).to(wide))
        rows, generator = z.shape[-2], slices.generator
        if shards is not None:
            rows = shards.total
            dist.all_reduce(reach, dist.ReduceOp.MAX, group=shards.group)
            generator = common_generator(z.device, shards.group) if generator is None else generator
        count, step = choose_frequencies(gamma, reach, z.dtype, slices.frequencies)
        directions = draw_directions(z.shape[-1], slices.count, x, generator)
        if backend != "native":  # the others multiply by the matrix, forward and backward
            directions = unit_columns(directions, z.shape[-1], slices.count)
        steps = step[:, None] / lengths(directions, z.shape[-1], slices.count).to(wide)
        sum_waves = reference.waves if backend == "reference" else WAVES.get(backend, WAVES["chunked"])
        waves = sum_waves(x, directions, steps, count)
        if shards is not None:
            waves = _apply_sum(waves, shards)
        t = step[:, None] * torch.arange(1, count + 1, dtype=wide, device=z.device)  # (B, T)
        target = _characteristic(t, means, weights, spread, directions, slices.count)
        omega = step[:, None] / (math.pi * slices.count) * torch.exp(-gamma * t.square())
        gaps = torch.sub(target, waves, alpha=1 / rows)
        value: Tensor = (omega[:, None, :, None] * gaps * gaps).sum((1, 2, 3))
        if z.shape[-2]:  # NaN where a coordinate is not finite
            rows_of_z = x.detach()
            value = value + 0 * rows_of_z.amax((-2, -1)) + 0 * rows_of_z.amin((-2, -1))
        return keep_inputs(value, z)


def facts_of(slices: Slices | None) -> dict[str, object]:
    """What all processes of a group must agree on, by name."""
    if slices is None:
        return dict.fromkeys(("slices", "frequencies", "state of the generator"))
    state = None if slices.generator is None else zlib.crc32(slices.generator.get_state().numpy().tobytes())
    return {"slices": slices.count, "frequencies": slices.frequencies, "state of the generator": state}


def for_default_gamma(slices: Slices) -> Slices:
    """The same for a γ that follows N: in a compiled graph T cannot depend on it."""
    known = slices.frequencies is not None or not torch.compiler.is_compiling()
    return slices if known else replace(slices, frequencies=HIDDEN)


def common_generator(device: torch.device, group: Group) -> torch.Generator:
    """A generator in the same state on all processes of a group, by a seed of the first one."""
    seed = torch.randint(1 << 62, (1,), device=device)
    dist.broadcast(seed, group=group, group_src=0)
    return torch.Generator(device).manual_seed(int(seed))


def _characteristic(
    t: Tensor, means: Tensor | None, weights: Tensor | None, variances: Tensor, directions: Tensor, slices: int
) -> Tensor:
    """f of the mixture at frequencies (B, T), cosines and sines: (B, 2, T, R), or with R = 1 for N(0, v I)."""
    if means is None or weights is None:
        real = torch.exp(-t.square() / 2 * variances)[..., None]
        return torch.stack([real, torch.zeros_like(real)], 1)
    fall = torch.exp(-t.square() / 2 * variances.expand(len(means))[:, None, None])  # (K, B, T)
    projected = project(means, directions.to(means.dtype), slices)
    some = max(1, BLOCK_ELEMENTS // (t.numel() * slices))
    parts = list(zip((weights[:, None, None] * fall).split(some), projected.split(some), strict=True))
    if len(parts) == 1:
        return _waves_of_means(t, *parts[0])
    return torch.stack([checkpoint(_waves_of_means, t, *part, use_reentrant=False) for part in parts]).sum(0)


def _waves_of_means(t: Tensor, heights: Tensor, projected: Tensor) -> Tensor:
    angles = t[..., None] * projected[:, None, None]  # (K, B, T, R)
    heights = heights[..., None]
    return torch.stack([(heights * angles.cos()).sum(0), (heights * angles.sin()).sum(0)], 1)


class _Sum(Function):
    """The sum over processes; only the process that owns a row backpropagates its gradient (see distributed.py)."""

    @staticmethod
    def forward(ctx: Any, waves: Tensor, shards: Shards) -> Tensor:
        ctx.processes = len(shards.rows)
        total = waves.clone()
        dist.all_reduce(total, group=shards.group)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return ctx.processes * grad_outputs[0], None


_apply_sum: Callable[..., Tensor] = _Sum.apply
