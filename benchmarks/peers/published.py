"""The peers: two packages from PyPI with the distance, and LeJEPA's SIGReg, each at its best settings."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from segma_fast.bench.problems import Problem, Run
from segma_fast.distance.formulas import INV_SQRT_PI, form_of

# KeOps itself passes -O3 only, and is 3 to 7 times slower without these.
KEOPS_FLAGS = os.environ.get("BENCH_KEOPS_FLAGS", "-march=native -ffast-math").strip()


def cw_torch(problem: Problem) -> Run:
    """cw_normality of cw-torch: the same γ, the same factor 1/(2√π), the gradient in the codes only."""
    from cw_torch.metric import cw_normality as peer

    gamma = torch.tensor(problem.gamma, device=problem.z.device)
    return problem.run(lambda: peer(problem.z, gamma), problem.z)


class _Twice(torch.autograd.Function):
    """x, with twice its gradient: ``Σ_ij k(x_i, x_j)`` is symmetric, so only the rows are differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * grad


def pykeops(problem: Problem) -> Run:
    """One LazyTensor reduction over all pairs of codes and means with signed weights, differentiated by KeOps.

    Three reductions for the three terms, and gradients in rows and columns, took up to 2.5 times as long.
    """
    with environment(CXXFLAGS=f"{os.environ.get('CXXFLAGS', '')} {KEOPS_FLAGS}"):
        import pykeops as package
        from pykeops.torch import LazyTensor
    package.set_verbose(False)
    (rows, dim), components = problem.z.shape, len(problem.means)
    c, gamma = form_of(dim, "approx").slope, problem.gamma
    new = partial(torch.full, device=problem.z.device)
    h = torch.cat([new((rows, 1), 2 * gamma / c), new((components, 1), (2 + 2 * gamma) / c)])
    w = torch.cat([new((rows, 1), 1 / rows), new((components, 1), -1 / components)])
    width, weight = LazyTensor(h[:, None]) + LazyTensor(h[None]), LazyTensor(w[None])
    outer, factor = w[:, 0].double(), INV_SQRT_PI / math.sqrt(c)

    def value() -> Tensor:
        x = torch.cat([problem.z, problem.means])
        t = LazyTensor(_Twice.apply(x)[:, None]).sqdist(LazyTensor(x.detach()[None]))
        potential = ((t + width).rsqrt() * weight).sum(dim=1)[:, 0]
        return factor * (outer * potential.double()).sum()

    return problem.run(value, problem.z, problem.means)


def sigreg(problem: Problem, projections: int = 1024, points: int = 17) -> Run:
    """The Epps-Pulley statistic of random projections, the mean over them, which LeJEPA keeps embeddings normal by.

    The statistic is even in t, so half of the 17 points of [-5, 5] are evaluated. Compiled, it took 0.4 times as long.
    """
    t = torch.linspace(0, 5, points // 2 + 1, device=problem.z.device)
    normal = torch.exp(-t * t / 2)
    weights = torch.full_like(t, 2 * (t[1] - t[0]).item())
    weights[0] /= 2
    weights[-1] /= 2

    def statistic(z: Tensor) -> Tensor:
        directions = torch.nn.functional.normalize(torch.randn(z.shape[1], projections, device=z.device), dim=0)
        angles = (z @ directions)[:, :, None] * t
        gaps = (angles.cos().mean(0) - normal).square() + angles.sin().mean(0).square()
        return len(z) * (gaps * normal * weights).sum(1).mean()

    function = torch.compile(statistic, dynamic=False)
    return problem.run(lambda: function(problem.z), problem.z)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
