"""One contender at one size in a process of its own: time, and the memory that it takes beyond a small call's.

``python -m benchmarks.suites.own_process SUITE CONTENDER ROWS DIM COMPONENTS GAMMA DEVICE`` prints the record as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import torch

from benchmarks import ROOT
from benchmarks.peers.lineup import everyone
from benchmarks.suites.memory import can_measure, peak_of
from segma_fast.bench.problems import Case, make_problem
from segma_fast.bench.records import Record
from segma_fast.bench.timing import LONG, Times, by_wall

WARM_UP = 256  # rows of the small call, which loads libraries and starts threads
SECONDS = 1.0  # of timing


def in_process(suite: str, contender: str, case: Case, device: str = "cpu", limit_s: float = 600) -> Record:
    """The record of a contender; where there are no times, with the reason."""
    words = [suite, contender, case.rows, case.dim, case.components, case.gamma or 0, device]
    command = [sys.executable, "-m", "benchmarks.suites.own_process", *map(str, words)]
    blank = Record(suite, contender, **asdict(case), device=device)
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=usual, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return replace(blank, reason=f"time: more than {limit_s:g} s in all")
    if done.returncode == -signal.SIGKILL:
        return replace(blank, reason="memory: killed by the system")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        is_memory = "memory" in last.lower() or "alloc" in last.lower()
        return replace(blank, reason=f"memory: {last}" if is_memory else last)
    return Record(**json.loads(done.stdout.splitlines()[-1]))


def measure(suite: str, name: str, case: Case, device: torch.device) -> Record:
    contender = everyone(device)[name]
    blank = Record(suite, name, **asdict(case), device=device.type, precision=contender.precision)
    if reason := contender.why_not(case, device):
        return replace(blank, reason=reason)
    contender.prepare(make_problem(replace(case, rows=min(WARM_UP, case.rows)), device))()
    problem = make_problem(case, device)
    run = contender.prepare(problem)
    found: dict[str, Any] = {}

    def call() -> tuple[Any, ...]:
        kept: list[tuple[Any, ...]] = []
        found["first_call_s"] = by_wall(lambda: kept.append(run()), device)
        return kept[0]

    if can_measure(device):
        found["peak_mb"] = peak_of(call, device) / 1e6
    else:
        call()
    samples = [by_wall(run, device)]
    while len(samples) < 3 or (sum(samples) < SECONDS and samples[0] < LONG):
        samples.append(by_wall(run, device))
    return replace(blank, **found, **Times(samples).summary())


if __name__ == "__main__":
    suite, name, rows, dim, components, gamma, device = sys.argv[1:]
    os.environ.pop("SEGMA_FAST_BACKEND", None)
    case = Case(int(rows), int(dim), int(components), gamma=float(gamma) or None)
    record = measure(suite, name, case, torch.device(device))
    print(json.dumps({key: value for key, value in asdict(record).items() if value is not None}))
