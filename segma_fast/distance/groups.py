"""The distance to N(0, I) without the pairs of rows that belong together, such as the views of one image.

Views of one image are meant to have similar codes, so their pairs say nothing about the distribution of the codes of
the images. The mean over all pairs becomes the mean over the P ordered pairs of rows of different groups::

    d² = 1/P Σ_{ij: g_i ≠ g_j} k(z_i, z_j, 0) - 2/m Σ_i k(z_i, 0, 1) + k(0, 0, 2)

This is an unbiased estimate, which may be negative. The fused kernels evaluate all pairs at once, as the energy E of a
cloud with weight ``1/m`` for a row and ``-q = -P/m²`` for the origin. The terms that differ are corrected::

    d² = E / q + (1 - q) k(0, 0, 2) - 1/P Σ_{ij: g_i = g_j} k(z_i, z_j, 0)

The pairs inside a large group are the energy of another cloud. Pairs inside small groups are evaluated in plain torch,
in batches of groups. Of several processes, each evaluates its own rows, in E as :mod:`segma_fast.distance.distributed`
does, and in the groups that hold them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from segma_fast.distance.arguments import check_dense, check_device
from segma_fast.distance.autograd import Inputs, Options, energy
from segma_fast.distance.backends import reference
from segma_fast.distance.derivatives import keep_inputs
from segma_fast.distance.distributed import codes_of_all, energy_of_all, with_gradients
from segma_fast.distance.formulas import accumulation_dtype, profile, squared_distances
from segma_fast.distance.operators import GRADIENT
from segma_fast.distance.precision import without_autocast
from segma_fast.distance.process_group import Shards
from segma_fast.distance.scalars import check_flag, check_whole

BLOCK_ELEMENTS = 1 << 20  # coordinates, or pairs, of small groups that are in memory at once
LARGE = 64  # groups with more rows than this get a kernel call of their own
Groups = Tensor | int  # the group of every row, or the number of views


class Partition(NamedTuple):
    """Which rows form groups.

    Attributes:
        pairs: P, the ordered pairs of rows of different groups.
        small: the row numbers of the small groups, ascending, one (groups, size) tensor per size; or the number of
            views, of the rows of this process.
        large: the row numbers of each large group, ascending.
    """

    pairs: int
    small: list[Tensor] | int
    large: list[Tensor]


def check_groups(groups: object, views: object, z: Tensor, log: object) -> Groups | None:
    """Check ``groups`` and ``views``, of which one may be given, and only without ``log``; groups become int64."""
    if groups is None and views is None:
        return None
    name = "groups" if views is None else "views"
    if groups is not None and views is not None:
        raise ValueError("groups and views must not both be given: views=V names the groups of V blocks of rows")
    if check_flag("log", log):
        raise ValueError(f"{name} must be used without log, got log=True")
    rows = z.shape[0]
    if groups is None:
        count = check_whole("views", views, 1, "an int or None")
        if rows % count != 0:
            raise ValueError(f"views must divide the number of rows, got {count} views and {rows} rows")
        return count
    found = check_dense("groups", groups, f"({rows},)")
    if found.is_floating_point() or found.is_complex() or found.is_quantized or found.dtype == torch.bool:
        raise TypeError(f"groups must have an integer dtype, got {found.dtype}")
    if found.shape != z.shape[:1]:
        raise ValueError(f"groups must have shape ({rows},), got shape {tuple(found.shape)}")
    check_device("groups", found, "z", z.device)
    if found.is_meta:
        raise ValueError("groups must have values that can be read, got a tensor on the device meta")
    return found.long()  # not every device can sort and compare unsigned integers


def kind_of(groups: Groups | None) -> str:
    """What all processes of a group must have in common."""
    return "none" if groups is None else "a tensor" if isinstance(groups, Tensor) else f"{groups} views"


def normality_of_groups(inputs: Inputs, groups: Groups, options: Options, shards: Shards | None) -> Tensor:
    """The distance above, 0-d in float64, of the rows of this process, or of those of all.

    Args:
        inputs: z and γ; the component is N(0, I).
        groups: from :func:`check_groups`.
        options: of :func:`segma_fast.distance.autograd.energy`; the reference backend takes the formula literally.
        shards: the rows of all processes, if they are one sample.
    """
    z = inputs.z
    rows, first = (z.shape[0], 0) if shards is None else (shards.total, shards.own.start)
    if isinstance(groups, Tensor):
        numbers = groups if shards is None else _of_all(groups, shards)
        partition = _by_number(numbers)
    else:
        partition = Partition(rows * (rows - groups), groups, [])
    if partition.pairs == 0:
        raise ValueError(f"groups must be at least two, got one for all {rows} rows")
    if options.backend != "reference":
        return _normality(inputs, rows, partition, options, shards)
    if not isinstance(groups, Tensor):
        numbers = torch.arange(first, first + z.shape[0] // groups, device=z.device).repeat(groups)
        numbers = numbers if shards is None else _of_all(numbers, shards)
    with without_autocast(z.device):
        inputs = inputs if shards is None else inputs._replace(z=codes_of_all(z, shards))
        points, _, _, _, _, gamma = reference.as_tensors(inputs)
        return keep_inputs(reference.cw_normality_of_groups(points, numbers, gamma, phi=options.phi), inputs.z)


def _of_all(groups: Tensor, shards: Shards) -> Tensor:
    return shards.gather(groups[:, None])[:, 0]


def _normality(inputs: Inputs, rows: int, partition: Partition, options: Options, shards: Shards | None) -> Tensor:
    """The distance by a backend with operators; not in half precision, to which terms that cancel would be rounded."""
    dtype, wide = torch.promote_types(inputs.z.dtype, torch.float32), accumulation_dtype(inputs.z.device)
    z, share = inputs.z.to(dtype), partition.pairs / rows**2  # q
    gamma = inputs.gamma if isinstance(inputs.gamma, Tensor) else z.new_full((), inputs.gamma, dtype=wide)
    origin = Inputs(z, inputs.means.to(dtype), None, z.new_full((1,), share, dtype=wide), 1.0, inputs.gamma)
    options = options._replace(dtype=wide)
    with without_autocast(z.device):
        if shards is None:
            value, inside = energy(origin, options), _pairs_of_small_groups(z, gamma, partition.small, options.phi)
            for group in partition.large:
                ones = z.new_ones(len(group), dtype=wide)
                cloud = Inputs(z[group[1:]], z[group[:1]], ones[1:], -ones[:1], 0.0, inputs.gamma)
                inside = inside + energy(cloud, options)
        else:
            everything = shards.gather(z)
            value = energy_of_all(origin, shards, options, everything)
            inside = _pairs_of_all(z, gamma, everything, partition, shards, options)
        prior = (2 * math.pi * (2 + 2 * gamma)).rsqrt()
        distance: Tensor = value / share + (1 - share) * prior - inside / partition.pairs
        return distance


def _by_number(groups: Tensor) -> Partition:
    """The groups of rows with the same number."""
    order = torch.argsort(groups, stable=True)
    sizes = torch.unique_consecutive(groups[order], return_counts=True)[1]
    starts = sizes.cumsum(0) - sizes
    small = [
        order[starts[sizes == size, None] + torch.arange(size, device=order.device)]
        for size in sizes.unique().tolist()
        if size <= LARGE
    ]
    is_large = sizes > LARGE
    ends = zip(starts[is_large].tolist(), sizes[is_large].tolist(), strict=True)
    large = [order[start : start + size] for start, size in ends]
    return Partition(len(groups) ** 2 - int(sizes.square().sum()), small, large)


# Breaks the graph, or with fullgraph=True says why, as torch.compiler.disable does; without importing the compiler.
_by_number._torchdynamo_disable = True  # type: ignore[attr-defined]
_by_number._torchdynamo_disable_msg = (  # type: ignore[attr-defined]
    "the sizes of groups= are not known before they run; views=V needs no sizes: z is V blocks of N/V rows, and rows "
    "i, i + N/V, i + 2N/V, ... are views of one image"
)


def _pairs_of_all(
    z: Tensor, gamma: Tensor, everything: Tensor, partition: Partition, shards: Shards, options: Options
) -> Tensor:
    """``Σ_{ij: g_i = g_j} k(z_i, z_j, 0)`` over the rows of all processes, by the groups that hold rows of this one."""
    own, small = shards.own, partition.small
    with torch.no_grad():
        if isinstance(small, int):
            value, grad, grad_gamma = _inside(z, gamma, small, options.phi)
        else:
            mine = [(group >= own.start) & (group < own.stop) for group in small]
            home = [group[has[:, 0]] for group, has in zip(small, mine, strict=True)]
            guests = [group[has.any(1) & ~has[:, 0]] for group, has in zip(small, mine, strict=True)]
            value, grad, grad_gamma = _inside(everything, gamma, home, options.phi)
            if any(map(len, guests)):  # other processes count these
                grad = grad + _inside(everything, gamma, guests, options.phi)[1]
            grad = grad[own]
        for group in partition.large:
            start, stop = torch.searchsorted(group, torch.tensor([own.start, own.stop], device=z.device)).tolist()
            if start == stop:
                continue
            ones, points = gamma.new_ones(len(group)), everything[group]
            cloud = (points[:-1], points[-1:], 2 * gamma * ones, ones)
            found = GRADIENT[options.backend](*cloud, start, stop, options.precision, options.phi)
            value, grad_gamma = value + found[0], grad_gamma + 2 * found[3].sum()
            grad[group[start:stop] - own.start] = torch.cat(found[1:3]).to(grad.dtype)
        sums = torch.stack([value, grad_gamma])
        dist.all_reduce(sums, group=shards.group)
    gradients = [len(shards.rows) * grad, sums[1]] if shards.needs_gradient else None
    return with_gradients(sums[0], (z, gamma), gradients)


def _pairs_of_small_groups(z: Tensor, gamma: Tensor, groups: list[Tensor] | int, phi: str) -> Tensor:
    """``Σ_{ij: g_i = g_j} k(z_i, z_j, 0)``, i = j included, over groups given as rows (groups, size) for each size."""
    inside = _inside if torch.compiler.is_compiling() else _apply_inside  # a Function has one derivative in a graph
    return inside(z, gamma, groups, phi)[0]


def _inside(z: Tensor, gamma: Tensor, groups: list[Tensor] | int, phi: str) -> tuple[Tensor, Tensor, Tensor]:
    """The sum and its gradients in z and gamma, in plain differentiable torch."""
    dim, wide, grad_z = z.shape[1], gamma.dtype, torch.zeros_like(z)
    value, grad_gamma = gamma.new_zeros(()), gamma.new_zeros(())
    if isinstance(groups, list):
        rows = [block for of_one_size in groups for block in _blocks(of_one_size, dim)]
        blocks: Iterable[Tensor] = (z[block] for block in rows)
    else:  # without an index, whose derivative inductor compiles to wrong code (torch 2.13)
        images = z.unflatten(0, (groups, z.shape[0] // groups)).transpose(0, 1)
        blocks = _blocks(images, dim)
    gradients = []
    for block in blocks:  # (groups, size, D)
        itself = torch.eye(block.shape[1], dtype=torch.bool, device=z.device)
        x = block.to(wide)
        x = x - x.detach().mean(1, keepdim=True)
        t = squared_distances(x, x).masked_fill(itself, 0)
        k, k_t, k_h = profile(t, 4 * gamma, dim, phi)
        value, grad_gamma = value + k.sum(), grad_gamma + 4 * k_h.sum()
        pull = k_t.masked_fill(itself, 0)
        gradients.append((4 * (pull.sum(2, keepdim=True) * x - pull @ x)).to(z.dtype))
    if not isinstance(groups, list):
        return value, torch.cat(gradients).transpose(0, 1).flatten(0, 1), grad_gamma
    if gradients:
        flat = (torch.cat([part.flatten(0, 1) for part in parts]) for parts in (rows, gradients))
        grad_z = grad_z.index_copy(0, *flat)
    return value, grad_z, grad_gamma


def _blocks(groups: Tensor, dim: int) -> Sequence[Tensor]:
    """Parts of groups, (groups, size, …), small enough to be evaluated at once; in a graph, for any number, all."""
    size = groups.shape[1]
    most = max(1, BLOCK_ELEMENTS // (size * max(size, dim)))
    return [groups] if torch.compiler.is_compiling() else groups.split(most)


class _Inside(Function):
    """The sum, with its gradients from the same pass: no tensor of pairs is saved for backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, gamma: Tensor, groups: list[Tensor] | int, phi: str) -> tuple[Tensor, Tensor, Tensor]:
        return _inside(z, gamma, groups, phi)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        z, gamma, ctx.groups, ctx.phi = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z, gamma, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        z, gamma, grad_z, grad_gamma = ctx.saved_tensors
        grad_value = grad_outputs[0]
        if grad_value is None:
            return None, None, None, None
        if torch.is_grad_enabled():
            with without_autocast(z.device):
                _, grad_z, grad_gamma = _inside(z, gamma, ctx.groups, ctx.phi)
        return (grad_value * grad_z).to(z.dtype), grad_value * grad_gamma, None, None


_apply_inside: Callable[..., tuple[Tensor, ...]] = _Inside.apply
