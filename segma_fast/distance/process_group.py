"""The batch of a process group: which codes each process has, and how it gets the codes of the others."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from segma_fast.distance.autograd import Inputs
from segma_fast.distance.formulas import accumulation_dtype
from segma_fast.distance.tracing import are_transforms_active

Group = Any  # torch.distributed.ProcessGroup, which a build of torch may lack
ROUNDING = 1e-4  # allowed difference relative to the norm: hardware and order of summation may differ
NOTE = 32  # numbers that processes exchange before the codes; no note is longer


@dataclass(frozen=True)
class Shards:
    """How the codes of a batch are spread over the processes of a group.

    Attributes:
        group: the processes.
        rank: of this process, among ``len(rows)``.
        rows: codes of each process.
        needs_gradient: whether any process needs a gradient.
    """

    group: Group
    rank: int
    rows: tuple[int, ...]
    needs_gradient: bool

    @property
    def total(self) -> int:
        """Codes of all processes."""
        return sum(self.rows)

    @property
    def own(self) -> slice:
        """The range of this process's codes among the codes of all."""
        start = sum(self.rows[: self.rank])
        return slice(start, start + self.rows[self.rank])

    def gather(self, codes: Tensor) -> Tensor:
        """The codes of all processes in the order of their ranks, (total, D)."""
        most, processes = max(self.rows), len(self.rows)
        if most * processes > 2 * self.total:  # padding would cost more than single messages
            everything = codes.new_empty(self.total, codes.shape[1])
            for process, part in enumerate(everything.split(self.rows)):
                if process == self.rank:
                    part.copy_(codes.detach())
                if len(part):
                    dist.broadcast(part, group=self.group, group_src=process)
            return everything
        sent = torch.nn.functional.pad(codes.detach(), (0, 0, 0, most - len(codes))).contiguous()
        received = sent.new_empty(processes * most, codes.shape[1])
        all_gather(received, sent, self.group)
        if min(self.rows) == most:
            return received
        return torch.cat([part[:count] for part, count in zip(received.split(most), self.rows, strict=True)])


def world() -> Group | None:
    """The group of all processes that train together; None if there is only one process."""
    ready = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return dist.group.WORLD if ready else None


def rank_and_size(group: Group | None) -> tuple[int, int]:
    """The rank of this process in a group, and the size of the group.

    Raises:
        TypeError, ValueError: if it is no group of processes, or one without this process.
    """
    if group is None:
        return 0, 1
    check_group(group)
    if dist.get_rank(group) < 0:
        raise ValueError("process_group must hold the process that calls, got a group without it")
    return dist.get_rank(group), dist.get_world_size(group)


def is_distributed(group: Group | None) -> bool:
    """Whether a group has several processes; with its errors of :func:`rank_and_size`."""
    return group is not None and rank_and_size(group)[1] != 1


def check_outside_transforms() -> None:
    """Raise a ValueError inside ``torch.func`` or vmap, where tensors cannot be sent."""
    if are_transforms_active():
        raise ValueError("process_group works outside of the transforms of torch.func and vmap only")


def check_group(group: Group | None) -> None:
    """Raise a TypeError unless ``group`` is None, a ProcessGroup, or torch's NON_GROUP_MEMBER."""
    if not (group is None or group is dist.GroupMember.NON_GROUP_MEMBER or isinstance(group, dist.ProcessGroup)):
        raise TypeError(f"process_group must be a torch.distributed.ProcessGroup or None, got {type(group).__name__}")


def shard_slice(count: int, process: int, processes: int) -> slice:
    """The part of ``count`` rows that belongs to one of several processes; sizes differ by 1 at most."""
    return slice(count * process // processes, count * (process + 1) // processes)


def all_gather(received: Tensor, sent: Tensor, group: Group) -> None:
    """Concatenate ``sent`` of all processes in ``received``, by whichever name this torch has for the collective."""
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(received, sent, group=group)


def compare_across_processes(inputs: Inputs, *, options: dict[str, object], group: Group) -> Shards:
    """Compare the arguments of all processes of a group; if they disagree, raise the same error on all.

    Args:
        inputs: z is the codes of this process, (n, D); n may differ between processes and be 0. The other inputs must
            have the same values on all processes, up to rounding; gamma is None for the paper's rule.
        options: other values that must be the same on all processes, by name.
        group: the processes.

    Raises:
        ValueError: on every process, if they disagree, if one of them failed (:func:`share_errors`) or none has a code.
    """
    z, means, _, weights, variances, gamma = inputs
    components, columns = means.shape
    facts = {"number of columns": columns, "number of means": components, "dtype": z.dtype, **options}
    facts["kind of gamma"] = "by the rule" if gamma is None else "a number"
    common = {
        "means": means,
        "weights": 1 / components if weights is None else weights,
        "variances": variances,
        "gamma": 1.0 if gamma is None else gamma,
    }
    kind: dict[str, Any] = {"dtype": accumulation_dtype(z.device), "device": z.device}
    tensors = [value if isinstance(value, Tensor) else torch.tensor(value, **kind) for value in common.values()]
    needs_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (z, *tensors))
    prints = [_fingerprint(tensor.detach().to(**kind), means.shape) for tensor in tensors]
    numbers = [0, z.shape[0], needs_gradient, *(zlib.crc32(repr(fact).encode()) >> 8 for fact in facts.values())]
    table = _exchange(torch.cat([torch.tensor(numbers, **kind), *prints]), group)
    _compare(table, facts, list(common))
    rows = tuple(int(found[1]) for found in table)
    if sum(rows) == 0:
        raise ValueError(f"z must have at least one row in some process, got none in {len(rows)}")
    return Shards(group, dist.get_rank(group), rows, any(found[2] for found in table))


def rows_of_all(z: Tensor, samples: int, group: Group) -> int:
    """N of samples (…, N, D) over all processes, each of which has its rows of the same samples.

    Raises:
        ValueError: on every process, if one of them failed (:func:`share_errors`) or they have different numbers of
            samples.
    """
    note = torch.tensor([0, z.shape[-2], samples], dtype=accumulation_dtype(z.device), device=z.device)
    table = _exchange(note, group)
    _raise_if_one_failed(table)
    counts = [int(found[2]) for found in table]
    if len(set(counts)) > 1:
        raise ValueError(f"all processes must have the same number of samples, got {counts} by process")
    return sum(int(found[1]) for found in table)


def _raise_if_one_failed(table: list[list[float]]) -> None:
    for process, found in enumerate(table):
        if found[0]:
            raise ValueError(f"process {process} was called with arguments that do not fit; its own error says which")


def _compare(table: list[list[float]], facts: dict[str, object], common: list[str]) -> None:
    """Raise an error for the first value in which a process differs from process 0."""
    first = table[0]
    _raise_if_one_failed(table)
    for process, found in enumerate(table):
        for column, (name, fact) in enumerate(facts.items(), start=3):
            if found[column] != first[column]:
                raise ValueError(
                    f"all processes must have the same {name}, but that of process {process} differs from that of "
                    f"process 0 (of this process: {fact})"
                )
        for column, name in zip(range(3 + len(facts), NOTE, 2), common, strict=False):
            if abs(found[column] - first[column]) > ROUNDING * first[column + 1]:
                raise ValueError(
                    f"all processes must have the same {name}, but those of process {process} differ from those of "
                    "process 0; DistributedDataParallel gives all the parameters of process 0"
                )


@contextmanager
def share_errors(points: object, group: Group) -> Iterator[None]:
    """Report an error of this process to the others, which wait in :func:`compare_across_processes`."""
    try:
        yield
    except (TypeError, ValueError):
        device = points.device if isinstance(points, Tensor) else torch.device("cpu")
        _exchange(torch.ones(1, dtype=accumulation_dtype(device), device=device), group)
        raise


def sharing_errors(points: object, group: Group | None) -> AbstractContextManager[None]:
    """:func:`share_errors` in a group, which is checked first, because errors cannot be shared in an invalid one."""
    if group is None:
        return nullcontext()
    rank_and_size(group)
    return share_errors(points, group)


def _fingerprint(values: Tensor, shape: torch.Size) -> Tensor:
    """Two numbers that tell values apart (one for all means, or one per mean): a weighted sum, and the norm."""
    values = (values if values.ndim == 2 else values[..., None]).expand(shape).flatten()
    pattern = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device).cos()
    return torch.stack([values @ pattern, values.norm()])


def _exchange(note: Tensor, group: Group) -> list[list[float]]:
    """The notes of all processes, each padded to ``NOTE`` numbers, so that a process with an error can take part."""
    sent = torch.nn.functional.pad(note, (0, NOTE - len(note)))
    notes = sent.new_empty(dist.get_world_size(group) * NOTE)
    all_gather(notes, sent, group)
    table: list[list[float]] = notes.view(-1, NOTE).tolist()
    return table
