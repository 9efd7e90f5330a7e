"""Time and memory as m doubles, until each contender has no more.

``python -m benchmarks.suites.scaling --out FILE.json`` runs each call in a process of its own. A contender ends at the
size where a call would take longer than ``--call`` seconds, by four times the last one, or where its memory does not
suffice; the record says which. About five minutes on a CPU.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.peers.lineup import everyone
from benchmarks.peers.published import KEOPS_FLAGS
from benchmarks.suites.own_process import in_process
from segma_fast.bench.machine import describe_machine
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results

FIRST, LAST = 256, 1 << 20


def grow(name: str, dim: int, device: str, longest: float) -> list[Record]:
    """The records of one contender, of which the last may say why it ends."""
    found: list[Record] = []
    contender = everyone(torch.device(device))[name]
    rows = FIRST
    while rows <= LAST:
        case = Case(rows, dim)
        if contender.serves(case):
            last = found[-1].median_s if found else None
            if last is not None and 4 * last > longest:
                reason = f"time: a call would take about {4 * last:.0f} s"
                return [*found, Record("scaling", name, **asdict(case), device=device, reason=reason)]
            found.append(in_process("scaling", name, case, device))
            if not found[-1].measured:
                return found
        rows *= 2
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file; CSV is written beside it")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--call", type=float, default=10.0, help="seconds that a call may take")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--contenders", nargs="*", help="default: all that can run here")
    options = parser.parse_args()
    device = torch.device(options.device)
    every = everyone(device)
    names = options.contenders or [
        n for n, c in every.items() if c.missing is None and c.serves(Case(2048, options.dim))
    ]
    if unknown := set(names) - set(every):
        parser.error(f"unknown contenders {sorted(unknown)}, expected some of {list(every)}")
    started, machine = datetime.now(), describe_machine(device) | {"keops_flags": KEOPS_FLAGS}
    records: list[Record] = []
    for name in tqdm(names):
        records += grow(name, options.dim, options.device, options.call)
        complete = options.contenders is None and name == names[-1]
        Results(started.isoformat(timespec="seconds"), machine, records, complete).save(options.out)


if __name__ == "__main__":
    main()
