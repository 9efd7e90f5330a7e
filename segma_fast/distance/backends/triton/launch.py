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
    """Energy, and gradients in z, means, h and w (empty if not wanted); panels serve one sample after the other."""
    if precision == "default":
        precision = matmul_precision(z.device)
    (*leading, m, dim), total, count, device = z.shape, h.shape[-1], stop - start, z.device
    described = (dim, z.dtype, precision, phi, gradient, device)
    plan = make_plan(*described, blocks_from_environment())
    if leading and plan.panels:
        each = zip(z, means, h, w, strict=True)
        found = [evaluate(*sample, start, stop, precision, phi, gradient) for sample in each]
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True))
    samples = leading[0] if leading else 1
    work = divide(plan, m, total, start, stop, device, samples) if count else Division(start, 0, 0, 0, 1, 0)

    def new(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    dz = new(plan.real, *leading, work.middle - start if gradient else 0, dim)
    dmeans = new(plan.real, *leading, stop - work.middle if gradient else 0, dim)
    dh, dw = (new(torch.float64, *leading, count if gradient else 0) for _ in range(2))
    value = new(torch.float64, *leading)
    if count == 0:
        return value.zero_(), dz, dmeans, dh, dw
    split = work.splits > 1
    u_sums, q_sums = dw, dh
    if split or not gradient:
        u_sums, q_sums = (new(torch.float64, samples * work.splits * count) for _ in range(2))
    forces = new(plan.real, samples * work.splits * count * dim if gradient and split else 0)
    prepared = -(-work.padded // plan.block)
    counters, floats = work.programs + 1, plan.singles(work.padded, prepared)
    tickets = new(torch.int32, samples * counters)
    doubles = new(torch.float64, samples * (work.padded + counters))
    singles = new(torch.float32, samples * floats)
    rounded = plan.width * (2 if plan.low else 1) * (plan.products and not plan.panels)
    halves = new(torch.float16, samples * work.sources * rounded)
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
                prepare[(samples * prepared,)](
                    *cloud, halves, singles, doubles, tickets, *sizes, offset, end, counters, floats, DIM=dim,
                    WIDTH=plan.width, BLOCK=plan.block, LOW=plan.low, COARSE=plan.coarse, LIMIT=plan.limit,
                    WIDE=plan.form[0], SAMPLES=samples > 1,
                )  # fmt: skip
            elif plan.differences:
                lay_out[(samples * prepared,)](
                    *cloud, singles, tickets, *sizes, counters, floats,
                    DIM=dim, BLOCK=plan.block, WIDE=plan.form[0], SAMPLES=samples > 1,
                )  # fmt: skip
            else:
                tickets.zero_()
            pairs[(samples * work.programs, work.splits)](
                *cloud, halves, singles, doubles, tickets, u_sums, q_sums, forces, dz, dmeans, dh, dw, value,
                m, total, start, stop, work.middle, work.padded, offset, end - offset, work.share, work.splits, floats,
                SPLIT=split, WHOLE=count == total, FIRST=offset == 0, LAST=end == work.padded, SAMPLES=samples > 1,
                **plan.options,
            )  # fmt: skip
    return value, dz, dmeans, dh, dw
