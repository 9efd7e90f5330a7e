"""``segma-fast bench``: how long the distance takes on this machine, by which backend."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch
import tyro
from tqdm import tqdm

from segma_fast.bench.contenders import Contender, contenders
from segma_fast.bench.machine import describe_machine
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results
from segma_fast.bench.session import Session
from segma_fast.dispatch import choose_backend, choose_precision

CASES = {  # what matters most first: the time may end
    "cpu": [Case(1024, 64), Case(4096, 64), Case(256, 32), Case(1024, 1024, 1), Case(16384, 64), Case(4096, 10)],
    "cuda": [Case(4096, 64), Case(65536, 64), Case(256, 64), Case(16384, 64), Case(8192, 1024, 1), Case(262144, 64)],
}
COMPILED = (Case(1024, 64), Case(4096, 64))  # the sizes at which torch.compile is waited for
LARGEST_REFERENCE = 8192  # rows up to which the eager reference is timed
EACH = 1.0  # seconds of timing for one backend at one size


def bench(
    seconds: float = 120.0, device: Literal["auto", "cpu", "cuda"] = "auto", out: Path | None = None
) -> list[Record]:
    """Time the distance, value and gradients, by every backend that this machine has.

    Each is checked against float64 first. Nothing else should be running.

    examples:
      segma-fast bench
      segma-fast bench --seconds 30 --device cpu
      segma-fast bench --out bench.json

    Args:
        seconds: after which nothing new is begun
        device: where to compute; auto takes a GPU if there is one
        out: JSON file to write the measurements to, and CSV beside it
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be > 0, got {seconds}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda', but torch sees no GPU here")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    place, started = torch.device(kind), datetime.now()
    machine = describe_machine(place)
    records: list[Record] = []
    every = contenders(place)
    with tqdm(total=sum(len(_chosen(case, every)) for case in CASES[kind]), leave=False) as bar, quiet():
        session = Session(place, EACH, perf_counter() + seconds, lambda line: bar.update() and None)
        for case in CASES[kind]:
            bar.set_postfix_str(str(case))
            records += session.measure(case, _chosen(case, every))
    print(summary(records, place))
    if out is not None:
        Results(started.isoformat(timespec="seconds"), machine, records).save(out)
        print(f"wrote {out} and {out.with_suffix('.csv')}")
    return records


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of what is compiled, which would tear the progress bar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _chosen(case: Case, every: dict[str, Contender]) -> dict[str, Contender]:
    """Without those that would take most of the time for themselves."""

    def is_quick(name: str) -> bool:
        if name.startswith("compiled"):
            return case in COMPILED
        return name != "reference" or case.rows <= LARGEST_REFERENCE

    return {name: found for name, found in every.items() if is_quick(name)}


def summary(records: list[Record], device: torch.device) -> str:
    """Milliseconds a call, one line a size, and what ``backend="auto"`` takes there."""
    names = list(dict.fromkeys(record.contender for record in records if record.measured))
    cases = list(dict.fromkeys(record.case for record in records if record.measured))
    lines = [["m × D", *names, "auto takes"]]
    notes = [f"{r.case}, {r.contender}: {r.reason}" for r in records if r.reason and not r.reason.startswith("time:")]
    late = dict.fromkeys(str(r.case) for r in records if r.reason and r.reason.startswith("time:"))
    notes += [f"no time was left for all of {'; '.join(late)}: --seconds gives more"] if late else []
    for case in cases:
        found = {record.contender: record for record in records if record.case == case}
        times = [_milliseconds(found.get(name)) for name in names]
        lines.append([str(case), *times, choose_backend("auto", device, torch.float32, case.dim)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
    precision = choose_precision(None)
    precision = torch.get_float32_matmul_precision() if precision == "default" else precision
    head = f"milliseconds for d² and its gradients, float32, on {device.type}; precision {precision!r} unless named"
    return "\n".join([head, *table, *notes])


def _milliseconds(record: Record | None) -> str:
    return "–" if record is None or record.median_s is None else f"{1e3 * record.median_s:.3g}"


def main(arguments: list[str]) -> None:
    tyro.cli(bench, prog="segma-fast bench", args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
