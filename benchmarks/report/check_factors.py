"""``make bench-check`` fails if we have become slower, beside the eager reference, than the newest result.

Factors are compared, not times, so that another or a busier machine of the same kind does not matter much: with a
margin of ``MARGIN``, which is what two runs on a shared machine differ by. A machine without the same vector
instructions has other factors; that is said, and the check fails all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from benchmarks.peers.lineup import on_the_cpu
from benchmarks.report.goals import by_case, factor
from benchmarks.report.update_docs import read_newest
from segma_fast.bench.machine import describe_machine
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Results
from segma_fast.bench.session import Session

MARGIN = 0.5
CASES = (Case(128, 32), Case(1024, 10), Case(1024, 64), Case(4096, 32), Case(4096, 512), Case(1024, 2048, 1, gamma=0.5))
OURS = ("native", "chunked")
SECONDS = 2.0


def slower(before: Results, now: Results, log: Callable[[str], None] = print) -> list[str]:
    """What has become slower than it may, in words."""
    found, kept = [], by_case(before)
    for case, entry in by_case(now).items():
        for name in OURS:
            was, is_now = factor(kept.get(case, {}), "reference", name), factor(entry, "reference", name)
            if was is None or is_now is None:
                found.append(f"{case}, {name}: was not measured {'before' if was is None else 'now'}")
                continue
            line = f"{case}, {name}: the eager reference takes {is_now:.2f} times as long; it was {was:.2f} times"
            log(line)
            if is_now < (1 - MARGIN) * was:
                found.append(line)
    return found


def main() -> None:
    before, device = read_newest("cpu"), torch.device("cpu")
    machine = describe_machine(device)
    paths = [(m["native"] or {}).get("code_path") for m in (before.machine, machine)]
    if paths[0] != paths[1]:
        print(f"these kernels run the path {paths[1]}, those of the result ran {paths[0]}")
    every, session = on_the_cpu(), Session(device, SECONDS)
    chosen = {name: every[name] for name in (*OURS, "reference")}
    records = [r for case in CASES for r in session.measure(case, chosen)]
    if len({(r.case, r.contender) for r in records}) < len(CASES) * len(chosen):
        sys.exit("not all sizes could be tried")
    found = slower(before, replace(before, records=records))
    found += [f"{r.case}, {r.contender}: {r.reason}" for r in records if r.reason]
    rates = [r.machine_gflops or 0.0 for r in records if r.measured]
    speed = f"{median(rates):.0f} GFLOP/s of sgemm" if rates else "nothing measured"
    print(f"load {machine['load_average_at_start']} at the start, {machine['threads']} threads, {speed}")
    if found:
        sys.exit(
            f"at less than {1 - MARGIN:g} of the newest result's factor over the eager reference, or wrong "
            "(on a busy machine, repeat when it is idle):\n" + "\n".join(found)
        )
    print(f"all have at least {1 - MARGIN:g} of the newest result's factor over the eager reference")


if __name__ == "__main__":
    main()
