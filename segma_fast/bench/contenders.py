"""The contenders: all backends of segma_fast, and the same equation in plain torch with the best settings found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from segma_fast.bench.problems import Case, Problem, Run
from segma_fast.bench.tiles import compiled_tiles
from segma_fast.distance.backends import BACKENDS, reference
from segma_fast.distance.functional import cw_normality, fast_cw_distance
from segma_fast.distance.precision import PRECISIONS

MATRICES = 14  # approximate number of m×m float32 matrices that the plain equation and its gradient hold at once


def always(case: Case) -> bool:
    return True


@dataclass(frozen=True)
class Contender:
    """``prepare`` takes a problem and returns a function without arguments for the value and the gradients.

    Work that is done once per training (constant tensors, compilation) is done in ``prepare`` or in the first call.
    """

    prepare: Callable[[Problem], Run]
    serves: Callable[[Case], bool] = always
    missing: str | None = None  # why it cannot run here
    precision: str | None = None  # of segma_fast's backends; "single" if there is only one
    phi: str = "approx"
    plain: bool = False  # holds m×m matrices
    is_distance: bool = True  # False: another statistic for the same purpose, whose values are not compared

    def why_not(self, case: Case, device: torch.device) -> str | None:
        """Why it cannot run a case that it supports, or None if it can."""
        if self.missing is not None or not self.plain:
            return self.missing
        need, there = MATRICES * 4 * case.rows**2 // (1 if case.gradients else 4), memory_of(device)
        return f"memory: its m×m matrices need {need / 1e9:.0f} of {there / 1e9:.0f} GB" if need > 0.8 * there else None


def memory_of(device: torch.device) -> int:
    """Total memory of a device in bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 33


def ours(problem: Problem, backend: str, precision: str | None = None, phi: str = "approx") -> Run:
    z, means, gamma = problem.z, problem.means, problem.gamma
    if len(means) == 1:
        return problem.run(lambda: cw_normality(z, gamma, backend=backend, precision=precision, phi=phi), z)
    options = {"backend": backend, "precision": precision, "phi": phi}
    return problem.run(lambda: fast_cw_distance(z, means, gamma=gamma, **options), z, means)  # type: ignore[arg-type]


def compiled(problem: Problem, mode: str = "max-autotune-no-cudagraphs") -> Run:
    """The plain tensor function of the reference backend, without argument checks, in one graph for fixed shapes.

    On a CPU ``max-autotune-no-cudagraphs`` had the lowest or nearly the lowest time at each size tried; the default
    mode, ``dynamic=True``, the C++ wrapper and recomputation instead of saving were within the noise of it or slower.
    """
    rows, components = len(problem.z), len(problem.means)
    new = partial(torch.full, device=problem.z.device)
    z_weights, weights = new((rows,), 1 / rows), new((components,), 1 / components)
    constants = (z_weights, weights, new((components,), 1.0), new((), problem.gamma))
    function = torch.compile(reference.cw_distance, fullgraph=True, dynamic=False, mode=mode)
    return problem.run(lambda: function(problem.z, problem.means, *constants), problem.z, problem.means)


def without_compiler() -> str | None:
    if shutil.which(os.environ.get("CXX", "c++").split()[0]) is None:
        return "it compiles C++ at run time, and no compiler was found"
    return None


def contenders(device: torch.device) -> dict[str, Contender]:
    """All contenders by name; a backend with several precisions has one entry for each."""
    found = {}
    for backend in BACKENDS:
        dense = torch.float32, 64
        if backend.name == "reference" or (backend.missing() is None and backend.unsuitable(device, *dense)):
            continue
        if device.type == "cpu" and backend.name in ("triton", "cuda"):  # emulated there, for tests only
            continue
        several = device.type != "cpu" and backend.name != "chunked"
        for precision in PRECISIONS if several else (None,):
            name = f"{backend.name} {precision}" if precision else backend.name
            prepare = partial(ours, backend=backend.name, precision=precision)
            found[name] = Contender(prepare, missing=backend.missing(), precision=precision or "single")
    return found | {
        "compiled tiles": Contender(compiled_tiles, _is_large, without_compiler()),
        "reference": Contender(partial(ours, backend="reference"), plain=True),
        "compiled reference": Contender(compiled, lambda case: case.dtype == "float32", without_compiler(), plain=True),
    }


def _is_large(case: Case) -> bool:
    return case.gradients and case.rows >= 1024
