"""What a small call costs outside the kernel: the whole call, the operator alone, and the least that autograd costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contenders import CONTENDERS, backend
from interleave import REPLAY, Timing, interleave, report
from machine import Sgemm
from problems import Problem, Run, make_problem, with_gradients
from torch import Tensor

from segma_fast.autograd import cloud

ROWS = 128
PARTS = ("whole call", "operator", "bare autograd")


class Bare(torch.autograd.Function):
    """Returns what it was given: a value, and in backward the gradients that it saved."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, means: Tensor, value: Tensor, grad_z: Tensor, grad_means: Tensor) -> Tensor:
        ctx.save_for_backward(grad_z, grad_means)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.saved_tensors, None, None, None


def operator(problem: Problem) -> Run:
    z, means = problem.z.detach(), problem.means.detach()
    h, w = cloud(len(z), len(means), z.device, None, None, 1.0, problem.gamma)
    function = torch.ops.segma_fast.native_gradient.default
    return lambda: function(z, means, h, w, 0, len(h), "default")


def bare(problem: Problem) -> Run:
    value, grad_z, grad_means = backend("native")(problem)()
    return with_gradients(
        lambda: Bare.apply(problem.z, problem.means, value, grad_z, grad_means), problem.z, problem.means
    )


@pytest.fixture(scope="module")
def timings(sgemm: Sgemm) -> dict[int, dict[str, Timing]]:
    """Of all parts, by dimension; filled by the first test of a dimension."""
    return {}


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.skipif(CONTENDERS["native"].missing is not None, reason=f"native: {CONTENDERS['native'].missing}")
@pytest.mark.parametrize(("dim", "part"), [(dim, part) for dim in (10, 32, 64) for part in PARTS])
def test_overhead(benchmark: Any, timings: dict[int, dict[str, Timing]], sgemm: Sgemm, dim: int, part: str) -> None:
    if dim not in timings:
        problem = make_problem(ROWS, dim, 10)
        runs = dict(zip(PARTS, (backend("native")(problem), operator(problem), bare(problem)), strict=True))
        for run in runs.values():
            run()
        timings[dim] = interleave(runs, dict.fromkeys(runs, 0.0), sgemm.sample)
    report(benchmark, timings[dim][part].rounds, rows=ROWS)
