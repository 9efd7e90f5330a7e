"""Who is timed on a GPU, at which shapes, and why one cannot be there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from contenders import _missing
from gpu_tiles import compiled_tiles
from peers import compiled, cw_torch, pykeops
from problems import Problem, Run, with_gradients

from segma_fast import cw_normality, fast_cw_distance
from segma_fast.autograd import cloud
from segma_fast.dispatch import BACKENDS
from segma_fast.operators import GRADIENT

Shape = tuple[int, int, int]  # rows, dim, components
PRECISIONS = ("high", "medium", "highest")
FLOPS = {"high": 8, "medium": 4, "highest": 12}  # products of fp16 that our kernels make, times M² D
FLOPS_CUDA = FLOPS | {"highest": 4}  # of float32, on the ordinary units
MATRICES = 14  # m×m float32 that the reference and its gradient hold at once, about
SMALL = 4096  # rows up to which the launches are much of the time
TOO_MANY = 262144  # rows from which on plain torch would take more time than the whole run has


def ours(problem: Problem, backend: str, precision: str | None = None, phi: str = "approx") -> Run:
    z, means, gamma = problem.z, problem.means, problem.gamma
    options = {"backend": backend, "precision": precision, "phi": phi}
    if len(means) == 1:
        return with_gradients(lambda: cw_normality(z, gamma, **options), z)
    return with_gradients(lambda: fast_cw_distance(z, means, gamma=gamma, **options), z, means)


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


def in_graph(problem: Problem, precision: str, backend: str = "triton") -> Run:
    """Value and gradients of our operator, captured once and replayed: what the call costs without its host side."""
    z, means, device = problem.z.detach(), problem.means.detach(), problem.z.device
    h, w = cloud(len(z), len(means), device, None, None, 1.0, problem.gamma)

    def call() -> tuple[torch.Tensor, ...]:
        return tuple(GRADIENT[backend](z, means, h, w, 0, len(h), precision)[:3])

    torch.cuda.synchronize(device)
    with torch.cuda.stream(torch.cuda.Stream(device)):
        call()
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def run() -> tuple[torch.Tensor, ...]:
        graph.replay()
        return results

    return run


def compiled_in_graphs(problem: Problem) -> Run:
    run = compiled(problem, "reduce-overhead", reset=False)

    def step() -> tuple[torch.Tensor, ...]:
        torch.compiler.cudagraph_mark_step_begin()
        return run()

    return step


@dataclass(frozen=True)
class GpuContender:
    prepare: Callable[[Problem], Run]
    serves: Callable[[Shape], bool]
    missing: str | None = None
    precision: str | None = None  # of ours
    phi: str = "approx"
    plain: bool = False  # holds m×m matrices


def contenders(main: str = "triton") -> dict[str, GpuContender]:
    """By name; ``main`` is the backend in the place of ours, for machines without a GPU."""

    def usual(shape: Shape) -> bool:
        return shape[1:] == (64, 10)

    no_gpu = None if torch.cuda.is_available() else "it needs a GPU"
    found = {}
    for backend in dict.fromkeys((main, "cuda")):
        missing = next(entry.missing() for entry in BACKENDS if entry.name == backend)
        if backend == "cuda":
            missing = missing or no_gpu
        for precision in PRECISIONS:
            found[f"{backend} {precision}"] = GpuContender(
                partial(ours, backend=backend, precision=precision),
                lambda shape, p=precision: p == "high" or usual(shape) and 256 < shape[0] <= 65536 or shape[1] == 128,
                missing,
                precision,
            )
        found[f"{backend} high, exact"] = GpuContender(
            partial(ours, backend=backend, precision="high", phi="exact"),
            lambda shape: usual(shape) and shape[0] in (256, 4096, 65536) or shape[1] in (10, 128),
            missing,
            "high",
            "exact",
        )
    found["cuda high, graph"] = GpuContender(
        partial(in_graph, precision="high", backend="cuda"),
        lambda shape: shape[0] <= SMALL and usual(shape),
        missing,
        "high",
    )
    found["cuda high, mma.sync"] = GpuContender(
        partial(without_wgmma, precision="high"),
        lambda shape: usual(shape) and shape[0] in (4096, 65536) or shape[1] == 128,
        missing,
        "high",
    )
    return found | {
        f"{main} high, graph": GpuContender(
            partial(in_graph, precision="high"), lambda shape: shape[0] <= SMALL and usual(shape), no_gpu, "high"
        ),
        "reference": GpuContender(partial(ours, backend="reference"), lambda shape: True, plain=True),
        "chunked": GpuContender(partial(ours, backend="chunked"), lambda shape: shape[0] < TOO_MANY),
        "compiled tiles": GpuContender(compiled_tiles, lambda shape: usual(shape) and shape[0] in (4096, 16384, 65536)),
        "compiled reference": GpuContender(
            partial(compiled, mode="default", reset=False),
            lambda shape: usual(shape) and shape[0] in (1024, 4096, 16384),
            plain=True,
        ),
        "compiled reference, graphs": GpuContender(
            compiled_in_graphs, lambda shape: usual(shape) and shape[0] in (256, 1024), no_gpu, plain=True
        ),
        "pykeops": GpuContender(
            pykeops, lambda shape: shape[1] <= 128 and shape[0] < TOO_MANY, _missing("pykeops", False)
        ),
        "cw-torch": GpuContender(cw_torch, lambda shape: shape[2] == 1, _missing("cw_torch", False), plain=True),
    }


def why_not(contender: GpuContender, shape: Shape, device: torch.device) -> str | None:
    """The reason why a contender that serves the shape cannot run here."""
    if contender.missing is None and contender.plain and device.type == "cuda":
        need, there = MATRICES * 4 * shape[0] ** 2, torch.cuda.get_device_properties(device).total_memory
        if need > 0.9 * there:
            return f"its m×m matrices need {need / 1e9:.0f} GB"
    return contender.missing
