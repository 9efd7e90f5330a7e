"""``python -m benchmarks.gpu.bench --out FOLDER`` times the distance on a GPU: our backends and their peers, in turns.

Leaves ``gpu-<date>.json``, ``.csv`` and ``.md`` in the folder and prints the latter. Every contender is checked against
float64 before it is timed. What the time does not suffice for is left out and said so. ``make gpu`` runs this.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from benchmarks import RESULTS
from benchmarks.gpu.counters import counters
from benchmarks.gpu.lineup import gpu_contenders
from benchmarks.gpu.report import report
from benchmarks.peers.published import KEOPS_FLAGS
from segma_fast.bench.machine import describe_machine, gpu_state
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results
from segma_fast.bench.session import Session
from segma_fast.bench.timing import by_events, synchronize
from segma_fast.distance.dispatch import choose_backend
from segma_fast.trainer.files import write_text

CASES = (  # what matters most first: the time may end
    Case(65536, 64),
    Case(4096, 64),
    Case(256, 64),
    Case(32768, 64),  # about the largest that the eager reference can hold
    Case(1024, 64),
    Case(16384, 64),
    Case(65536, 128, 100),
    Case(8192, 1024, 1, gamma=0.5),
    Case(16384, 10),
    Case(4096, 32),
    Case(262144, 64),
    Case(16384, 3),
    Case(2048, 4096, 1, gamma=0.5),
    Case(65536, 64, gradients=False),
    Case(16384, 64, dtype="bfloat16"),
    Case(1 << 20, 64),  # whose truth takes a minute
)
SECONDS = 200.0  # of all, unless told
DONE = "== done:"  # how a line about a size begins that is done
EACH = 0.3  # seconds of timing for one contender at one size


def run(
    device: torch.device, out: Path, seconds: float = SECONDS, main: str | None = None, cases: Sequence[Case] = CASES,
    begin: int = 0, because: str = "",
) -> Path:  # fmt: skip
    """Measure, write the files, print the summary; the path of the JSON file.

    From the case ``begin`` on: the results of those before it are read from the file, but for the last of them, which
    ended the process that began them, ``because`` of what is said here.
    """
    torch.set_float32_matmul_precision("highest")
    started, now = perf_counter(), datetime.now()
    main = main or choose_backend("auto", device, torch.float32, 64)
    session = Session(device, EACH, started + seconds, print, near=True)
    rate, state = product_rate(device, lambda: gpu_state(device))
    machine = describe_machine(device) | {"keops_flags": KEOPS_FLAGS, "main": main}
    machine |= {"fp16_product_tflops": rate, "state_under_load": state}
    path = out / f"gpu-{now:%Y-%m-%d}.json"
    records: list[Record] = []
    if begin:
        lost = cases[begin - 1]
        records = Results.read(path).records if path.exists() else []
        records.append(Record("distance", "all", lost.rows, lost.dim, lost.components, reason=because))

    def write() -> None:
        machine["seconds"] = round(perf_counter() - started, 1)
        results = Results(now.isoformat(timespec="seconds"), machine, records)
        results.save(path)
        write_text(path.with_suffix(".md"), report(results) + "\n")

    every = gpu_contenders(device, main)
    for case in cases[begin:]:
        try:
            records += session.measure(case, every)
        except Exception as error:  # the other sizes are measured
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            records.append(Record("distance", "all", case.rows, case.dim, case.components, reason=reason))
        write()  # a run that is stopped leaves what it has
        print(f"{DONE} {case}", flush=True)
    measured = {record.contender for record in records if record.measured}
    if device.type == "cuda" and session.deadline - perf_counter() > 30:
        found = counters([name for name in ("cuda", "triton") if f"{name} high" in measured])
        machine["counters" if isinstance(found, list) else "no_counters"] = found
    if perf_counter() < session.deadline:
        machine["cold_first_call_s"] = cold_first_call(device, main)
    write()
    print(path.with_suffix(".md").read_text(encoding="utf-8"))
    return path


def product_rate(device: torch.device, meanwhile: Callable[[], Any], size: int = 8192) -> tuple[float | None, Any]:
    """TFLOP/s of torch's own fp16 matrix product on random numbers, and what a function gives while it runs."""
    if device.type != "cuda":
        return None, None
    left, right = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    out = torch.empty_like(left)

    def multiply() -> torch.Tensor:
        return torch.mm(left, right, out=out)

    multiply()
    rate = 2e-12 * size**3 / median(by_events(multiply, 10, device) for _ in range(5))
    for _ in range(500):  # more than half a second
        multiply()
    found = meanwhile()
    synchronize(device)
    return rate, found


def cold_first_call(device: torch.device, main: str) -> float | None:
    """Seconds of the first call in a process of its own whose Triton cache is empty: the compilation."""
    code = (
        "import torch; from segma_fast.bench import contenders, problems, timing; "
        f"device = torch.device('{device}'); problem = problems.make_problem(problems.Case(1000, 64), device); "
        f"print(timing.by_wall(contenders.ours(problem, '{main}', 'high'), device))"
    )
    with tempfile.TemporaryDirectory(prefix="segma_fast_cold_") as cache:
        variables = os.environ | {"TRITON_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", code]
        try:
            done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=90, check=True)
        except subprocess.SubprocessError:
            return None
    return round(float(done.stdout.split()[-1]), 2)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time the distance on a GPU")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which nothing new is begun")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument(
        "--main", help="the backend that the others are compared with; default: the one that auto takes"
    )
    parser.add_argument("--cases", nargs="*", help="rows,dim,components; default: all")
    parser.add_argument("--begin", type=int, default=0, help="the case to go on with after one ended the process")
    parser.add_argument("--because", default="", help="why it did")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = parse()
    if options.device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --device cpu runs the same code on the CPU")
    chosen = [Case(*map(int, case.split(","))) for case in options.cases or ()]
    how = (options.device, options.out, options.seconds, options.main, chosen or CASES)
    run(*how, options.begin, options.because)
