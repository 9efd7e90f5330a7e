"""The batch of all processes: which of its codes each of them has, and how one gets those of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from segma_fast.formulas import accumulation_dtype
from segma_fast.operators import are_transforms_active

Group = Any  # torch.distributed.ProcessGroup, which a build of torch may lack
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
AGREED = ("columns", "dtype number", "components", "backend reference")


@dataclass(frozen=True)
class Shards:
    """How the codes of a batch are spread over the processes of a group.

    Attributes:
        group: the processes.
        rank: of this process, among ``len(rows)``.
        rows: codes of each process.
        wanted: whether any of them wants a gradient.
    """

    group: Group
    rank: int
    rows: tuple[int, ...]
    wanted: bool

    @property
    def total(self) -> int:
        """Codes of all processes."""
        return sum(self.rows)

    @property
    def own(self) -> slice:
        """This process's codes among all."""
        start = sum(self.rows[: self.rank])
        return slice(start, start + self.rows[self.rank])

    def gather(self, codes: Tensor) -> Tensor:
        """The codes of all processes in the order of their ranks, (total, D)."""
        most = max(self.rows)
        sent = torch.nn.functional.pad(codes.detach(), (0, 0, 0, most - len(codes))).contiguous()
        received = sent.new_empty(len(self.rows) * most, codes.shape[1])
        all_gather(received, sent, self.group)
        if min(self.rows) == most:
            return received
        return torch.cat([part[:count] for part, count in zip(received.split(most), self.rows, strict=True)])


def world() -> Group | None:
    """The group of all processes that train together; None if there is one."""
    ready = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return dist.group.WORLD if ready else None


def place(group: Group | None) -> tuple[int, int]:
    """This process's number in a group, and how many there are; both -1 if it is not one of them."""
    if group is None:
        return 0, 1
    if group != dist.GroupMember.NON_GROUP_MEMBER and not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"process_group must be a torch.distributed.ProcessGroup or None, got {type(group).__name__}")
    return dist.get_rank(group), dist.get_world_size(group)


def share(count: int, process: int, processes: int) -> slice:
    """The part of ``count`` rows that belongs to one of several processes; sizes differ by 1 at most."""
    return slice(count * process // processes, count * (process + 1) // processes)


def all_gather(received: Tensor, sent: Tensor, group: Group) -> None:
    """Fill a tensor with what all processes send, one behind the other; the newer name of the two that torch has."""
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(received, sent, group=group)


def agree(z: Tensor, means: Tensor, others: list[Tensor | float | None], backend: str, group: Group) -> Shards:
    """Tell all processes of a group what each has, and find on all of them the same that does not fit.

    Args:
        z, means: (n, D) and (K, D); n may differ and be 0, all else must be alike.
        others: weights, variances and gamma.
        backend: that serves the call.
        group: the processes.

    Raises:
        ValueError: on every process, if they disagree or none has a code; or if this one is not in the group, or
            calls inside a transform of ``torch.func``.
    """
    rank, processes = place(group)
    if are_transforms_active():
        raise ValueError("process_group works outside of torch.func's transforms and vmap only, got a call inside one")
    if rank < 0:
        raise ValueError("process_group must hold the process that calls, got a group without it")
    options: dict[str, Any] = {"dtype": accumulation_dtype(z.device), "device": z.device}
    shared = [means, *(value for value in others if value is not None)]
    tensors = [value if isinstance(value, Tensor) else torch.tensor(value, **options) for value in shared]
    common = torch.cat([value.detach().to(**options).flatten() for value in tensors])
    wanted = torch.is_grad_enabled() and any(value.requires_grad for value in (z, *tensors))
    facts = [z.shape[1], DTYPES.index(z.dtype), means.shape[0], backend == "reference", z.shape[0], wanted]
    pattern = torch.arange(len(common), **options).cos()
    note = torch.cat([torch.tensor(facts, **options), torch.stack([common @ pattern, common.norm()])])
    notes = note.new_empty(processes * len(note))
    all_gather(notes, note, group)
    table = notes.view(processes, -1).tolist()
    for process, found in enumerate(table):
        for name, here, there in zip(AGREED, found, table[0], strict=False):
            if here != there:
                raise ValueError(
                    f"all processes must have the same {name}, got {int(here)} in process {process} and {int(there)} "
                    "in process 0"
                )
        if abs(found[-2] - table[0][-2]) > 1e-3 * table[0][-1]:
            raise ValueError(
                f"all processes must have the same means, weights, variances and gamma, but those of process {process} "
                "differ from those of process 0; DistributedDataParallel gives all the parameters of process 0"
            )
    rows = tuple(int(found[4]) for found in table)
    if sum(rows) == 0:
        raise ValueError(f"z must have at least one row in some process, got none in {processes}")
    return Shards(group, rank, rows, any(found[5] for found in table))
