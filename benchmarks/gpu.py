"""``python benchmarks/gpu.py --out FOLDER`` times the distance on a GPU: our backend and its peers on the same input.

Leaves ``gpu-<date>.json`` and ``gpu-<date>.md`` in the folder and prints the latter. Every contender is checked against
float64 before it is timed. What the time does not suffice for is skipped and said so. ``make gpu`` runs this.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from gpu_contenders import TOO_MANY, GpuContender, Shape, contenders, why_not
from gpu_counters import counters
from gpu_machine import describe_gpu, gpu_state
from gpu_report import report
from gpu_timing import by_wall, peak_memory, product_rate, synchronize, take_turns
from gpu_truth import Truth, make_truth
from problems import Problem, Run, errors, make_problem

SHAPES: tuple[Shape, ...] = (  # what matters most first: the time may end
    (65536, 64, 10),
    (4096, 64, 10),
    (256, 64, 10),
    (16384, 64, 10),
    (1 << 20, 64, 10),
    (1024, 64, 10),
    (32768, 64, 10),  # about the largest that the eager reference can hold
    (65536, 128, 100),
    (262144, 64, 10),
    (4096, 32, 10),
    (16384, 10, 10),
    (16384, 3, 10),
    (8192, 1024, 1),
    (2048, 4096, 1),
)
SECONDS = 200.0  # of all, unless told
EACH = 0.5  # seconds of timing for one contender at one shape


class Session:
    """One run: what is measured, on what, and until when."""

    def __init__(self, device: torch.device, main: str, seconds: float, log: Callable[[str], None] = print) -> None:
        self.device, self.main, self.log = device, main, log
        self.end = perf_counter() + seconds
        self.candidates = contenders(main)
        self.entries: list[dict[str, Any]] = []

    def measure(self, shape: Shape) -> None:
        """All contenders of one shape, in turns; appends their entries."""
        chosen = {name: c for name, c in self.candidates.items() if c.serves(shape)}
        if shape[0] >= TOO_MANY:
            chosen = {name: c for name, c in chosen.items() if c.precision}
        if perf_counter() > self.end:
            for name in chosen:
                self.skip(shape, name, "no time was left")
            return
        torch._dynamo.reset()
        problem = make_problem(*shape, self.device)
        truths = {phi: make_truth(problem, phi) for phi in {contender.phi for contender in chosen.values()}}
        runs: dict[str, Run] = {}
        extra: dict[str, dict[str, Any]] = {}
        for name, contender in chosen.items():
            reason = why_not(contender, shape, self.device)
            if reason is None and perf_counter() > self.end:
                reason = "no time was left"
            if reason is None:
                try:
                    extra[name] = self._first(contender, problem, truths[contender.phi], runs, name)
                except Exception as error:  # the others are measured
                    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                    runs.pop(name, None)
                self._free()
            if reason is not None:
                self.skip(shape, name, reason)
        for name, times in take_turns(runs, self.device, EACH).items():
            self.entries.append({"params": _params(shape, name), "stats": times.stats(), "extra_info": extra[name]})
            wall = times.stats()["wall"]["median"]
            self.log(f"{shape} {name}: {1e3 * times.stats()['events']['median']:.4g} ms, alone {1e3 * wall:.4g} ms")
        runs.clear()
        self._free()

    def _first(
        self, contender: GpuContender, problem: Problem, truth: Truth, runs: dict[str, Run], name: str
    ) -> dict[str, Any]:
        """Prepare, call once, check, and measure the memory of another call."""
        run = contender.prepare(problem)
        kept: list[Any] = []
        first_call = by_wall(lambda: kept.append(run()), self.device)
        found = errors(kept.pop(), truth.expected)
        memory = peak_memory(run, self.device)
        runs[name] = run
        return {
            "first_call_s": first_call,
            "errors": asdict(found),
            "kappa": truth.kappa,
            "too_far": truth.too_far(found, contender.precision),
            "precision": contender.precision,
            **memory,
        }

    def measured(self) -> set[str]:
        """Names of the contenders that were timed somewhere."""
        return {entry["params"]["contender"] for entry in self.entries if "stats" in entry}

    def skip(self, shape: Shape, name: str, reason: str) -> None:
        self.entries.append({"params": _params(shape, name), "skipped": reason})
        self.log(f"{shape} {name}: skipped: {reason}")

    def _free(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            synchronize(self.device)
            torch.cuda.empty_cache()


def _params(shape: Shape, name: str) -> dict[str, Any]:
    return {"rows": shape[0], "dim": shape[1], "components": shape[2], "contender": name}


def run(
    device: torch.device, out: Path, seconds: float = SECONDS, main: str = "triton", shapes: Sequence[Shape] = SHAPES
) -> Path:
    """Measure, write both files, print the summary; the path of the JSON file."""
    torch.set_float32_matmul_precision("highest")
    started, now = perf_counter(), datetime.now()
    session = Session(device, main, seconds)
    rate, state = product_rate(device, lambda: gpu_state(device))
    info = describe_gpu(device) | {"fp16_product_tflops": rate, "state_under_load": state, "main": main}
    path = out / f"gpu-{now:%Y-%m-%d}.json"
    out.mkdir(parents=True, exist_ok=True)

    content_extra: dict[str, Any] = {}

    def write() -> None:
        content = {
            "machine_info": info,
            "datetime": now.isoformat(timespec="seconds"),
            "seconds": round(perf_counter() - started, 1),
            "benchmarks": session.entries,
            **content_extra,
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(report(content) + "\n", encoding="utf-8")

    for shape in shapes:
        try:
            session.measure(shape)
        except Exception as error:  # the other shapes are measured
            session.skip(
                shape, "all that are not listed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
        write()  # a run that is stopped leaves what it has
    if device.type == "cuda" and session.end - perf_counter() > 30:
        found = counters([name for name in (main, "cuda") if f"{name} high" in session.measured()])
        content_extra["counters" if isinstance(found, list) else "no_counters"] = found
    if perf_counter() < session.end:
        info["cold_first_call_s"] = cold_first_call(device, main)
    write()
    print(path.with_suffix(".md").read_text(encoding="utf-8"))
    return path


def cold_first_call(device: torch.device, main: str) -> float | None:
    """Seconds of the first call in a process of its own whose Triton cache is empty: the compilation."""
    code = (
        f"import gpu_contenders, gpu_timing, problems, torch; device = torch.device('{device}'); "
        f"problem = problems.make_problem(1000, 64, 10, device); run = gpu_contenders.ours(problem, '{main}', 'high'); "
        "print(gpu_timing.by_wall(run, device))"
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
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which nothing new is begun")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--main", default="triton", help="the backend that is compared with the others")
    parser.add_argument("--shapes", nargs="*", help="rows,dim,components; default: all")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = parse()
    if options.device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --device cpu runs the same code on the CPU")
    chosen = [tuple(map(int, shape.split(","))) for shape in options.shapes or ()]
    run(options.device, options.out, options.seconds, options.main, chosen or SHAPES)
