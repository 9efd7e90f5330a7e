"""Who is timed where: ours, plain torch, and the peers, each at the sizes at which its time is worth waiting for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import torch

from benchmarks.peers.published import cw_torch, pykeops, sigreg
from segma_fast.bench.contenders import Contender, contenders, without_compiler
from segma_fast.bench.problems import Case

COMPILED = {  # where it is waited for torch.compile
    "compiled reference": [*(Case(rows, dim) for dim in (10, 32, 64) for rows in (1024, 4096)), Case(1024, 64, 1)],
    "compiled tiles": [Case(1024, 64), Case(4096, 32), Case(4096, 64), Case(16384, 64), Case(4096, 512)],
}
LARGEST = {"reference": 8192, "compiled reference": 4096, "cw-torch": 8192, "pykeops": 16384, "chunked": 16384}
MOST_OF_CW_TORCH = 4096**2 * 512  # m² D: it does not use matrix products, and 4096 × 4096 takes minutes
SLOW_TO_COMPILE = 128  # dimensions up to which pykeops compiles its formula in reasonable time


def name_of(pair: tuple[Case, str]) -> str:
    """Of a test, such as ``1024x64-K10-native``."""
    case, contender = pair
    parts = [f"{case.rows}x{case.dim}", f"K{case.components}", *[case.dtype] * (case.dtype != "float32")]
    parts += ["value"] * (not case.gradients) + [f"gamma{case.gamma}"] * (case.gamma is not None)
    return "-".join([*parts, contender.replace(" ", "_")])


def missing(package: str, needs_compiler: bool = True) -> str | None:
    if find_spec(package) is None:
        return f"{package} is not installed: pip install 'segma-fast[bench]'"
    return without_compiler() if needs_compiler else None


def everyone(device: torch.device) -> dict[str, Contender]:
    """By name, without a limit of time."""
    return contenders(device) | {
        "pykeops": Contender(pykeops, _for_pykeops, missing("pykeops", device.type == "cpu")),
        "cw-torch": Contender(cw_torch, _for_cw_torch, missing("cw_torch", False), plain=True),
        "sigreg": Contender(
            sigreg, lambda case: case.components == 1 and case.gradients, without_compiler(), is_distance=False
        ),
    }


def on_the_cpu() -> dict[str, Contender]:
    """By name, each up to ``LARGEST`` rows."""
    found = everyone(torch.device("cpu"))
    return {name: replace(contender, serves=_up_to(name, contender)) for name, contender in found.items()}


def _up_to(name: str, contender: Contender) -> Callable[[Case], bool]:
    def serves(case: Case) -> bool:
        patient = name not in COMPILED or case in COMPILED[name] or case.gamma is not None
        patient = patient and (name != "cw-torch" or case.rows**2 * case.dim <= MOST_OF_CW_TORCH)
        return patient and case.rows <= LARGEST.get(name, case.rows) and contender.serves(case)

    return serves


def _for_pykeops(case: Case) -> bool:
    return case.dim <= SLOW_TO_COMPILE and case.dtype == "float32" and case.components > 1


def _for_cw_torch(case: Case) -> bool:
    return case.components == 1 and case.dtype == "float32"
