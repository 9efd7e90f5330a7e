"""What a small call costs outside the kernel: the whole call, the operator alone, and the least that autograd costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.suites.replay import REPLAY, report
from segma_fast.bench.contenders import Contender, ours
from segma_fast.bench.problems import Case, Problem, Run
from segma_fast.bench.records import Record
from segma_fast.bench.session import Session
from segma_fast.distance.autograd import widths_and_weights
from segma_fast.distance.backends import extension

ROWS = 128


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
    h, w = widths_and_weights(len(z), len(means), z.device, None, None, 1.0, problem.gamma)
    function = torch.ops.segma_fast.native_gradient.default
    return lambda: function(z, means, h, w, 0, len(h), "default", "approx")


def bare(problem: Problem) -> Run:
    value, grad_z, grad_means = ours(problem, "native")()
    inputs = problem.z, problem.means
    return problem.run(lambda: Bare.apply(*inputs, value, grad_z, grad_means), *inputs)  # type: ignore[no-untyped-call]


PARTS = {"whole call": lambda p: ours(p, "native"), "operator": operator, "bare autograd": bare}
CONTENDERS = {name: Contender(prepare, precision="single") for name, prepare in PARTS.items()}


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.skipif(extension.REASON is not None, reason=f"native: {extension.REASON}")
@pytest.mark.parametrize("dim", [10, 32, 64])
def test_overhead(benchmark: Any, session: Session, records: list[Record], dim: int) -> None:
    case = Case(ROWS, dim)
    records += session.measure(case, CONTENDERS, "call")
    report(benchmark, session.samples[case, "whole call"])
