"""Host side of the Triton kernels: memory, launches, and how the work is divided among programs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from segma_fast.distance.backends.triton import panels
from segma_fast.distance.backends.triton.blocks import blocks_from_environment
from segma_fast.distance.backends.triton.kernels.pairs import pairs
from segma_fast.distance.backends.triton.kernels.prepare import lay_out, prepare
from segma_fast.distance.backends.triton.plan import Division, divide, make_plan
from segma_fast.distance.precision import matmul_precision


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Make the tensors' device the current device, on which Triton launches."""
    if device.type == "cuda" and torch.cuda.current_device() != device.index:
        return torch.cuda.device(device)
    return nullcontext()


def energy(z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str) -> Tensor:
    """``chunked.energy`` as Triton kernels."""
    return evaluate(z, means, h, w, start, stop, precision, phi, gradient=False)[0]


def gradient(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str
) -> tuple[Tensor, ...]:
    """``chunked.gradient`` as Triton kernels."""
    return evaluate(z, means, h, w, start, stop, precision, phi, gradient=True)


def evaluate(
    z: Tensor, means: Tensor, h: Tensor, w: Tensor, start: int, stop: int, precision: str, phi: str, gradient: bool
) -> tuple[Tensor, ...]:  # fmt: skip
    """Energy, and gradients in z, means, h and w (empty if not wanted)."""
    if z.ndim == 3:
        samples = zip(z, means, h, w, strict=True)
        found = [evaluate(*sample, start, stop, precision, phi, gradient) for sample in samples]
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True))
    if precision == "default":
        precision = matmul_precision(z.device)
    (m, dim), total, count, device = z.shape, h.shape[0], stop - start, z.device
    described = (dim, z.dtype, precision, phi, gradient, device)
    plan = make_plan(*described, blocks_from_environment())
    work = divide(plan, m, total, start, stop, device) if count else Division(start, 0, 0, 0, 1, 0)

    def new(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    dz = new(plan.real, work.middle - start if gradient else 0, dim)
    dmeans = new(plan.real, stop - work.middle if gradient else 0, dim)
    dh, dw = new(torch.float64, count if gradient else 0), new(torch.float64, count if gradient else 0)
    value = new(torch.float64)
    if count == 0:
        return value.zero_(), dz, dmeans, dh, dw
    split = work.splits > 1
    u_sums, q_sums = dw, dh
    if split or not gradient:
        u_sums, q_sums = (new(torch.float64, work.splits * count) for _ in range(2))
    forces = new(plan.real, work.splits * count * dim if gradient and split else 0)
    prepared = -(-work.padded // plan.block)
    tickets = new(torch.int32, work.programs + 1)
    doubles = new(torch.float64, work.padded + work.programs)
    singles = new(torch.float32, plan.singles(work.padded, prepared))
    halves = new(
        torch.float16, work.sources * plan.width * (2 if plan.low else 1) * (plan.products and not plan.panels)
    )
    cloud, sizes = (z, means, h, w), (m, total, work.padded)
    with on_device(device):
        for offset in range(0, work.padded, work.sources):
            end = min(offset + work.sources, work.padded)
            if plan.panels:
                tickets.zero_()
                panels.fill(
                    *cloud, start, stop, singles, doubles, u_sums, q_sums, dz, dmeans, work.padded, plan, gradient
                )
            elif plan.products:
                prepare[(prepared,)](
                    *cloud, halves, singles, doubles, tickets, *sizes, offset, end, work.programs + 1, DIM=dim,
                    WIDTH=plan.width, BLOCK=plan.block, LOW=plan.low, COARSE=plan.coarse, LIMIT=plan.limit,
                    WIDE=plan.form[0],
                )  # fmt: skip
            elif plan.differences:
                lay_out[(prepared,)](
                    *cloud, singles, tickets, *sizes, work.programs + 1, DIM=dim, BLOCK=plan.block, WIDE=plan.form[0]
                )
            else:
                tickets.zero_()
            pairs[(work.programs, work.splits)](
                *cloud, halves, singles, doubles, tickets, u_sums, q_sums, forces, dz, dmeans, dh, dw, value,
                m, total, start, stop, work.middle, work.padded, offset, end - offset, work.share, work.splits,
                SPLIT=split, WHOLE=count == total, FIRST=offset == 0, LAST=end == work.padded, **plan.options,
            )  # fmt: skip
    return value, dz, dmeans, dh, dw
