"""The batch of all processes: d² belongs to it, not to the share of one process.

Each process evaluates the whole d² of the gathered codes. The backward pass of the gathering sums the W equal
gradients at the rows of their owner, and the mean over the processes that DistributedDataParallel takes of the
parameters' gradients makes of that exactly the gradient of one process with the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def of_all_processes(codes: Tensor) -> Tensor:
    """The codes (m, D) of every process, as many on each, in the order of their ranks: (W m, D), differentiable."""
    if processes() == 1:
        return codes
    gathered: Tensor = _AllGather.apply(codes)  # type: ignore[no-untyped-call]
    return gathered


class _AllGather(Function):
    @staticmethod
    def forward(ctx: Any, codes: Tensor) -> Tensor:
        parts = [torch.empty_like(codes) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, codes.contiguous())
        ctx.rows = len(codes)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        total = grad_outputs[0].contiguous().clone()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]
