"""The peers: the same equation through torch.compile, and two packages from PyPI, each at its best settings."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from problems import Problem, Run, with_gradients
from torch import Tensor

from segma_fast.backends import reference
from segma_fast.formulas import INV_SQRT_PI, form_of

# KeOps itself passes -O3 only, and is 3 to 7 times slower without these.
KEOPS_FLAGS = os.environ.get("BENCH_KEOPS_FLAGS", "-march=native -ffast-math").strip()


def compiled(problem: Problem, mode: str = "max-autotune-no-cudagraphs", reset: bool = True) -> Run:
    """The plain tensor function of the reference backend, without argument checks, in one graph for fixed shapes.

    On a CPU ``max-autotune-no-cudagraphs`` had the lowest or nearly the lowest time at each size tried; the default
    mode, ``dynamic=True``, the C++ wrapper and recomputation instead of saving were within the noise of it or slower.
    """
    if reset:
        torch._dynamo.reset()  # or the limit on recompilations would leave later shapes to the eager function
    rows, components = len(problem.z), len(problem.means)
    new = partial(torch.full, device=problem.z.device)
    z_weights, weights = new((rows,), 1 / rows), new((components,), 1 / components)
    constants = (z_weights, weights, new((components,), 1.0), new((), problem.gamma))
    function = torch.compile(reference.cw_distance, fullgraph=True, dynamic=False, mode=mode)
    return with_gradients(lambda: function(problem.z, problem.means, *constants), problem.z, problem.means)


def cw_torch(problem: Problem) -> Run:
    """cw_normality of cw-torch: the same γ, the same factor 1/(2√π), the gradient in the codes only."""
    from cw_torch.metric import cw_normality as peer

    gamma = torch.tensor(problem.gamma, device=problem.z.device)
    return with_gradients(lambda: peer(problem.z, gamma), problem.z)


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

    return with_gradients(value, problem.z, problem.means)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
