"""The cases of ``make gpu``: what is called, checked against float64 and timed, each in a process of its own.

``python -m benchmarks.gpu.cases '{"backend": "cuda", "precision": "high", "rows": 700, "dim": 64}'`` runs one case and
prints what it found as JSON, so that a memory checker or a profiler can be put in front of it.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from statistics import median
from time import perf_counter
from typing import Any

BACKENDS = ("cuda", "triton")
PRECISIONS = ("high", "medium", "highest")
LARGEST_TRUTH = 300_000  # rows beyond which only the gradients of some codes are compared
SMALL = 4096  # rows up to which launches are much of the time, and a graph is timed too
# what a case may set beside its size; "" is what a user gets
VARIABLES = {"blocks": "SEGMA_FAST_TRITON_BLOCKS", "wgmma": "SEGMA_FAST_CUDA_WGMMA"}
SHAPES = {  # of Triton's blocks, by precision, to be tried at 64 coordinates
    "high": ("64,128,4,2", "64,128,4,3", "64,64,4,3", "128,64,8,3", "128,128,8,2", "128,128,8,3"),
    "medium": ("64,128,4,2", "64,128,4,3", "64,128,4,4", "64,64,4,3", "128,64,8,3", "128,128,8,3"),
    "highest": ("64,64,4,2", "64,64,4,3", "64,32,4,3", "128,64,8,2", "128,64,8,3"),
}
OTHER_SHAPES = {  # and at others: rows, coordinates
    (16384, 128): ("64,64,4,2", "64,128,4,2", "128,64,8,2", "128,128,8,2"),
    (16384, 256): ("64,32,8,3", "64,64,8,2", "64,32,4,2", "128,32,8,2"),
    (16384, 10): ("64,128,4,2", "64,128,4,3", "128,128,8,3", "64,64,4,3"),
    (4096, 64): ("64,128,4,2", "64,64,4,2", "128,128,8,3", "64,64,4,3"),
}


def smoke_cases() -> list[dict[str, Any]]:
    """Every kind of kernel once, what matters most first, both backends in turn."""

    def of(backend: str) -> list[dict[str, Any]]:
        def case(precision: str, dim: int, rows: int = 700, **options: Any) -> dict[str, Any]:
            return {"backend": backend, "precision": precision, "rows": rows, "dim": dim, **options}

        cases = [case(precision, 64) for precision in PRECISIONS]  # splits and tickets
        cases += [case("high", 64, 20000)]  # many blocks, several spans
        cases += [case("high", dim) for dim in (10, 32, 128, 256, 3, 1, 300)]
        cases += [case("highest", dim) for dim in (128, 200)]
        cases += [case("medium", dim) for dim in (10, 128)]
        cases += [case("high", 64, dtype=dtype) for dtype in ("bfloat16", "float64")]
        cases += [case("high", dim, phi="exact") for dim in (64, 3)]
        cases += [case("high", 64, gradients=False)]
        if backend == "cuda":
            cases += [case("high", 64, wgmma="0"), case("medium", 128, wgmma="0")]
        return cases

    every = [of(backend) for backend in BACKENDS]
    longest = max(map(len, every))
    return [cases[i] for i in range(longest) for cases in every if i < len(cases)]


def time_cases() -> list[dict[str, Any]]:
    """The sizes that the goals name, both backends."""
    cases = [_timed(backend, precision, 65536, 64) for precision in PRECISIONS for backend in BACKENDS]
    cases += [_timed(backend, "high", rows, 64) for rows in (256, 4096, 1 << 20) for backend in BACKENDS]
    cases += [_timed("cuda", "high", 65536, 64, wgmma="0")]
    cases += [_timed(backend, "high", 65536, 128) for backend in BACKENDS]
    cases += [_timed(backend, "high", 1024, 64) for backend in BACKENDS]
    cases += [_timed(backend, "high", 16384, dim) for dim in (256, 10, 3) for backend in BACKENDS]
    cases += [_timed(backend, "high", 16384, 64, phi="exact") for backend in BACKENDS]
    cases += [_timed(backend, "high", 8192, 1024) for backend in BACKENDS]
    return cases


def tune_cases() -> list[dict[str, Any]]:
    """Shapes of Triton's blocks at some sizes."""
    cases = [_timed("triton", p, 65536, 64, blocks=shape) for p in PRECISIONS for shape in SHAPES[p]]
    for (rows, dim), shapes in OTHER_SHAPES.items():
        cases += [_timed("triton", "high", rows, dim, blocks=shape) for shape in shapes]
    cases += [_timed("triton", "high", 16384, 64, blocks=shape, phi="exact") for shape in SHAPES["high"][:4]]
    return cases


def _timed(backend: str, precision: str, rows: int, dim: int, **options: Any) -> dict[str, Any]:
    return {"backend": backend, "precision": precision, "rows": rows, "dim": dim, "timed": True, **options}


CASES = {"smoke": smoke_cases, "times": time_cases, "tune": tune_cases}


def title(case: dict[str, Any]) -> str:
    shown = ("backend", "precision", "rows", "dim", "timed")
    rest = " ".join(f"{key}={value}" for key, value in case.items() if key not in shown)
    return f"{case['backend']:6s} {case['precision']:7s} {case['rows']}x{case['dim']} {rest}".strip()


def run(case: dict[str, Any], lock: str | None = None) -> dict[str, Any]:
    """Value and gradients on memory that holds NaN, twice, and their errors; with ``timed`` how long they take.

    Args:
        case: backend, precision, rows and dim, and what else ``title`` shows.
        lock: a file that whoever is timed holds, so that it has the GPU alone.

    Returns:
        ``same_bits`` of two calls, ``wrong`` (what is wrong with the result, or None), relative errors, and with
        ``timed`` milliseconds of a call among others, microseconds of one alone and of one replayed in a CUDA graph.
    """
    for option, variable in VARIABLES.items():
        if option in case:
            os.environ[variable] = str(case[option])
    import torch

    from segma_fast.bench.contenders import ours
    from segma_fast.bench.problems import Case, make_problem, near_optimum
    from segma_fast.bench.timing import synchronize

    device = torch.device(case.get("device", "cuda"))
    torch.set_float32_matmul_precision("highest")
    size = Case(case["rows"], case["dim"], 10, case.get("dtype", "float32"), case.get("gradients", True))
    problem = make_problem(size, device, near_optimum(size))
    call = ours(problem, case["backend"], case["precision"], case.get("phi", "approx"))
    with held(lock if case.get("timed") else None):  # who is timed has the GPU alone
        poison(device)
        begin = perf_counter()
        first = [t.clone() for t in call()]
        synchronize(device)
        found: dict[str, Any] = {"first_s": round(perf_counter() - begin, 2)}
        found["same_bits"] = all(map(torch.equal, first, call()))
        found |= errors(problem, case, first)
        if case.get("timed"):
            found |= times(case, problem, call, device)
    return found


def poison(device: Any) -> None:
    """Leave NaN in the memory that the next calls get."""
    import torch

    sizes = [1 << 22] * 8 + [n for n in (64, 1024, 1 << 14, 1 << 17) for _ in range(16)]
    kept = [torch.full((size,), torch.nan, device=device) for size in sizes]
    del kept


def held(path: str | None) -> Any:
    if path is None:
        return nullcontext()
    import fcntl

    file = open(path, "w")
    fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
    return file


def errors(problem: Any, case: dict[str, Any], found: list[Any]) -> dict[str, Any]:
    """Relative errors of value and gradients, and whether they are more than is promised."""
    from segma_fast.bench.problems import truth

    if case.get("fault") == "wrong":  # to see that this would be told
        found = [1.5 * t for t in found]
    if case["rows"] <= LARGEST_TRUTH:
        expected = truth(problem, case.get("phi", "approx"))
        said = expected.errors(tuple(found))
        wrong = expected.too_far(said, case["precision"] if case["backend"] in BACKENDS else "single")
        return {"value": said.value, "grad_z": said.grad_z, "grad_means": said.grad_means, "wrong": wrong}
    from segma_fast.distance.autograd import widths_and_weights
    from segma_fast.distance.operators import GRADIENT

    z, means = problem.z.detach(), problem.means.detach()
    h, w = widths_and_weights(len(z), len(means), z.device, None, None, 1.0, problem.gamma)
    right = GRADIENT["chunked"](z.double(), means.double(), h, w, 0, 512, "highest", "approx")[1]
    off = ((found[1][:512].double() - right).norm() / right.norm()).item()
    return {"grad_z": off, "wrong": None if off < 1e-3 else f"gradients by {off:.1e}"}


def times(case: dict[str, Any], problem: Any, call: Any, device: Any) -> dict[str, Any]:
    import torch

    from segma_fast.bench.timing import by_events, synchronize

    if device.type != "cuda":
        return {}
    begin_s = perf_counter()
    call()
    synchronize(device)
    calls = max(1, min(100, int(0.01 / (perf_counter() - begin_s))))  # between two events: the host's time is hidden
    samples = [1e3 * by_events(call, calls, device) for _ in range(3 if case["rows"] > 100_000 else 15)]
    found = {"ms": round(median(samples), 4), "least_ms": round(min(samples), 4)}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    synchronize(device)
    found["extra_mb"] = round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)
    if case["rows"] <= SMALL:
        begin_s = perf_counter()
        for _ in range(50):
            call()
            synchronize(device)
        found["alone_us"] = round(2e4 * (perf_counter() - begin_s), 1)
        from benchmarks.gpu.lineup import in_graph

        replay = in_graph(problem, case["precision"], case["backend"])
        samples = [1e6 * by_events(replay, 50, device) for _ in range(15)]
        found["graph_us"] = round(median(samples), 1)
    return found


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    if fault := chosen.get("fault"):  # made on purpose, to see that they are told
        if fault == "crash":
            os.abort()
        while fault == "hang":
            pass
    print(json.dumps(run(chosen, sys.argv[2] if len(sys.argv) > 2 else None)), flush=True)
