"""Who is timed, at which sizes, and why one cannot be here.

``prepare`` of a contender takes a problem and gives a function without arguments that returns the value and the
gradients; what can be done once for a training (tensors of constants, compilation) is done there or in its first call.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from peers import compiled, cw_torch, pykeops
from problems import Problem, Run, with_gradients

from segma_fast import cw_normality, fast_cw_distance
from segma_fast.dispatch import describe_backends


def backend(name: str) -> Callable[[Problem], Run]:
    def prepare(problem: Problem) -> Run:
        z, means, gamma = problem.z, problem.means, problem.gamma
        if len(means) == 1:
            return with_gradients(lambda: cw_normality(z, gamma, backend=name), z)
        return with_gradients(lambda: fast_cw_distance(z, means, gamma=gamma, backend=name), z, means)

    return prepare


def _missing(package: str | None, needs_compiler: bool) -> str | None:
    if package is not None and find_spec(package) is None:
        return f"{package} is not installed: pip install 'segma-fast[bench]'"
    if needs_compiler and shutil.which(os.environ.get("CXX", "c++").split()[0]) is None:
        return "it compiles C++ at run time, and no compiler was found"
    return None


@dataclass(frozen=True)
class Contender:
    prepare: Callable[[Problem], Run]
    missing: str | None  # why it cannot run here
    components: tuple[int, ...] = (10,)
    largest_rows: int = 8192  # beyond, m×m matrices or the time would be too much
    largest_dim: int = 64


REASONS = {name: reason for name, reason, _ in describe_backends()}
CONTENDERS = {
    "native": Contender(backend("native"), REASONS["native"], (1, 10), 16384, 4096),
    "chunked": Contender(backend("chunked"), None, (1, 10), 16384, 4096),
    "reference": Contender(backend("reference"), None, (1, 10), 8192, 4096),
    "compiled": Contender(compiled, _missing(None, True)),
    "pykeops": Contender(pykeops, _missing("pykeops", True)),
    "cw-torch": Contender(cw_torch, _missing("cw_torch", False), (1,)),
}
