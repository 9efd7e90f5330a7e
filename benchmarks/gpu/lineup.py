"""Who is timed on a GPU, and at which sizes: ours in every precision and form, and the others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.peers.lineup import everyone
from segma_fast.bench.contenders import Contender, compiled, ours
from segma_fast.bench.problems import Case, Problem, Run
from segma_fast.distance.autograd import widths_and_weights
from segma_fast.distance.backends import BACKENDS
from segma_fast.distance.operators import GRADIENT

PRECISIONS = ("high", "medium", "highest")
FLOPS = {"high": 8, "medium": 4, "highest": 12}  # products of fp16 that our kernels make, times M² D
SMALL = 4096  # rows up to which the launches are much of the time
TOO_MANY = 262144  # rows from which on plain torch would take more time than the whole run has


def without_wgmma(problem: Problem, precision: str) -> Run:
    """The CUDA kernels of all GPUs, also where there are others for Hopper."""
    call = ours(problem, "cuda", precision)

    def run() -> tuple[torch.Tensor, ...]:
        os.environ["SEGMA_FAST_CUDA_WGMMA"] = "0"
        try:
            return call()
        finally:
            del os.environ["SEGMA_FAST_CUDA_WGMMA"]

    return run


def captured(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """A function captured in a CUDA graph; its replays give its results where the capture left them."""
    torch.cuda.synchronize(device)
    with torch.cuda.stream(torch.cuda.Stream(device)):
        call()
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def run() -> Any:
        graph.replay()
        return results

    return run


def in_graph(problem: Problem, precision: str, backend: str) -> Run:
    """Value and gradients of our operator, captured once and replayed: what the call costs without its host side."""
    z, means, device = problem.z.detach(), problem.means.detach(), problem.z.device
    h, w = widths_and_weights(len(z), len(means), device, None, None, 1.0, problem.gamma)

    def call() -> tuple[torch.Tensor, ...]:
        return tuple(GRADIENT[backend](z, means, h, w, 0, len(h), precision, "approx")[:3])

    run = captured(call, device)
    run.inputs = z, means, h, w  # type: ignore[attr-defined]  # a replay reads them where they were
    return run


def compiled_in_graphs(problem: Problem) -> Run:
    run = compiled(problem, "reduce-overhead")

    def step() -> tuple[torch.Tensor, ...]:
        torch.compiler.cudagraph_mark_step_begin()
        return run()

    return step


def pykeops_fails() -> str | None:
    """Why pykeops does not run here: on the first GPU that was tried it ended the process."""
    code = "from benchmarks.peers import published; from segma_fast.bench.problems import Case, make_problem; "
    code += "print(published.pykeops(make_problem(Case(100, 64, 3), 'cuda'))()[0].item())"
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "pykeops was not done after 60 s with 100 codes"
    said = " ".join(done.stderr.split())[-200:]
    return None if done.returncode == 0 else f"pykeops ended a process of its own with {done.returncode}: {said}"


def usual(case: Case) -> bool:
    return (case.dim, case.components) == (64, 10)


def gpu_contenders(device: torch.device, main: str) -> dict[str, Contender]:
    """By name; ``main`` is the backend that the others are compared with."""
    no_gpu = None if device.type == "cuda" else "it needs a GPU"
    found = {}
    for backend in dict.fromkeys((main, "cuda", "triton")):
        missing = next(entry.missing() for entry in BACKENDS if entry.name == backend)
        if backend != main:
            missing = missing or no_gpu
        own = partial(ours, backend=backend)
        for precision in PRECISIONS:
            chosen = _always if precision == "high" else _for_other_precisions
            found[f"{backend} {precision}"] = Contender(partial(own, precision=precision), chosen, missing, precision)
        exact = partial(own, precision="high", phi="exact")
        found[f"{backend} high, exact"] = Contender(exact, _for_exact, missing, "high", "exact")
        graphed = partial(in_graph, precision="high", backend=backend)
        found[f"{backend} high, graph"] = Contender(graphed, _for_graph, missing or no_gpu, "high")
    plain_mma, cuda_missing = partial(without_wgmma, precision="high"), found["cuda high"].missing
    found["cuda high, mma.sync"] = Contender(plain_mma, _for_mma, cuda_missing, "high")
    others = {name: c for name, c in everyone(device).items() if name.split()[0] not in ("native", "triton", "cuda")}
    if device.type == "cuda" and others["pykeops"].missing is None:
        others["pykeops"] = replace(others["pykeops"], missing=pykeops_fails())
    others["compiled reference"] = replace(
        others["compiled reference"],
        prepare=partial(compiled, mode="default"),
        serves=lambda case: usual(case) and case.rows in (1024, 4096, 16384),
    )
    others["compiled tiles"] = replace(
        others["compiled tiles"], serves=lambda case: usual(case) and case.rows in (4096, 16384, 65536)
    )
    others["compiled reference, graphs"] = Contender(
        compiled_in_graphs, lambda case: usual(case) and case.rows in (256, 1024), no_gpu, plain=True
    )
    return found | {name: replace(c, serves=_in_time(c)) for name, c in others.items()}


def _in_time(contender: Contender) -> Callable[[Case], bool]:
    return lambda case: case.rows < TOO_MANY and contender.serves(case)


def _always(case: Case) -> bool:
    return True


def _for_other_precisions(case: Case) -> bool:
    return usual(case) and 256 < case.rows <= 65536 or case.dim == 128


def _for_exact(case: Case) -> bool:
    return usual(case) and case.rows in (256, 4096, 65536) or case.dim in (10, 128)


def _for_graph(case: Case) -> bool:
    return case.rows <= SMALL and usual(case) or case.components == 1


def _for_mma(case: Case) -> bool:
    return usual(case) and case.rows in (4096, 65536) or case.dim == 128
