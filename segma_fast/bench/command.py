"""``segma-fast bench``: times the distance on this machine, for every available backend."""

from __future__ import annotations

import math
import os
import shutil
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NoReturn

import torch
import tyro
from tqdm import tqdm

from segma_fast.bench.contenders import Contender, contenders
from segma_fast.bench.machine import describe_machine
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results
from segma_fast.bench.session import Session
from segma_fast.distance.dispatch import ENVIRONMENT_VARIABLE, choose_backend

CASES = {  # most important first, because time may run out
    "cpu": [Case(1024, 64), Case(4096, 64), Case(256, 32), Case(1024, 1024, 1), Case(16384, 64), Case(4096, 10)],
    "cuda": [Case(4096, 64), Case(65536, 64), Case(256, 64), Case(16384, 64), Case(8192, 1024, 1), Case(262144, 64)],
}
COMPILED = (Case(1024, 64), Case(4096, 64))  # the sizes at which compiled contenders are timed
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
        seconds: time limit after which no new measurement starts
        device: where to compute; auto takes a GPU if there is one
        out: JSON file to write the measurements to, and CSV beside it
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be > 0, got {seconds}")
    if out is not None:
        _check_writable(out)
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda', but torch sees no GPU here")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    place, started = torch.device(kind), datetime.now()
    choose_backend("auto", place, torch.float32, 64)  # fail early if the variable names an unusable backend
    machine = describe_machine(place)
    found: dict[Case, list[Record]] = {}
    rounds = _rounds(kind, contenders(place))
    with _bar(sum(len(chosen) for _, chosen in rounds), seconds) as bar, quiet():
        session = Session(
            place, EACH, perf_counter() + seconds, lambda line: bar.update() and None, bar.set_postfix_str
        )
        try:
            for number, (case, chosen) in enumerate(rounds, 1):
                new = session.measure(case, chosen)
                if case not in found or any(record.measured for record in new):
                    found[case] = new
                if out is not None:
                    _results(started, machine, found, complete=number == len(rounds)).save(out)
        except KeyboardInterrupt:
            bar.close()
            print(summary(_records(found), place, machine))
            raise
    records = _records(found)
    if not any(record.measured for record in records):
        raise TimeoutError(f"nothing could be measured in {seconds:g} seconds: --seconds gives more")
    print(summary(records, place, machine))
    if out is not None:
        print(f"wrote {out} and {out.with_suffix('.csv')}")
    return records


def _check_writable(out: Path) -> None:
    if out.suffix != ".json" or out.is_dir():
        raise ValueError(f"out must be a file that ends in .json (a .csv is written beside it), got {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"{out.parent} cannot be written to")


def _rounds(kind: str, every: dict[str, Contender]) -> list[tuple[Case, dict[str, Contender]]]:
    """All sizes without the compiled contenders, then a few sizes again with them, because time may run out."""
    first = [(case, _chosen(case, every, False)) for case in CASES[kind]]
    return first + [(case, _chosen(case, every, True)) for case in COMPILED if case in CASES[kind]]


def _bar(total: int, seconds: float) -> tqdm[NoReturn]:
    form = "{percentage:3.0f}% |{bar:20}| {elapsed} of about " + f"{seconds:g} s" + "{postfix}"
    return tqdm(total=total, leave=False, bar_format=form, disable=None)


def _records(found: dict[Case, list[Record]]) -> list[Record]:
    return [record for records in found.values() for record in records]


def _results(started: datetime, machine: dict[str, Any], found: dict[Case, list[Record]], complete: bool) -> Results:
    return Results(started.isoformat(timespec="seconds"), machine, _records(found), complete)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings from compilation, which would break the progress bar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _chosen(case: Case, every: dict[str, Contender], compiled: bool) -> dict[str, Contender]:
    """The contenders without those that would take most of the time."""

    def is_quick(name: str) -> bool:
        if name.startswith("compiled"):
            return compiled
        return name != "reference" or case.rows <= LARGEST_REFERENCE

    return {name: found for name, found in every.items() if is_quick(name)}


def summary(records: list[Record], device: torch.device, machine: dict[str, Any]) -> str:
    """A table of milliseconds per call, one line per size, with the backend that ``backend="auto"`` chooses."""
    names = list(dict.fromkeys(record.contender for record in records if record.measured))
    cases = list(dict.fromkeys(record.case for record in records if record.measured))
    titles = [["m × D", ""], *(_title(name) for name in names), ["auto", "takes"]]
    lines = [list(line) for line in zip(*titles, strict=True)]
    notes = [f"{r.case}, {r.contender}: {r.reason}" for r in records if r.reason and not r.reason.startswith("time:")]
    late = dict.fromkeys(str(r.case) for r in records if r.reason and r.reason.startswith("time:"))
    notes += [f"time ended before all backends at {'; '.join(late)}: --seconds gives more"] if late else []
    if forced := os.environ.get(ENVIRONMENT_VARIABLE):
        notes.append(f"auto takes {forced} because {ENVIRONMENT_VARIABLE} says so")
    for case in cases:
        found = {record.contender: record for record in records if record.case == case}
        times = [_milliseconds(found.get(name)) for name in names]
        lines.append([str(case), *times, choose_backend("auto", device, torch.float32, case.dim)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
    load = (machine["load_average_at_start"] or [math.nan])[0]
    where = machine["gpu"] or f"{machine['threads']} threads of {machine['cpu']}"
    head = f"milliseconds for d² and its gradients, float32, {where}; load {load:g} at the start"
    notes.append("Other load on the machine distorts these times; the load at the start should be near 0.")
    width = shutil.get_terminal_size().columns
    return "\n".join([*textwrap.wrap(head, width), *table, *(line for n in notes for line in textwrap.wrap(n, width))])


def _title(name: str) -> list[str]:
    """A contender's name split over two lines."""
    first, _, second = name.partition(" ")
    return [first, second]


def _milliseconds(record: Record | None) -> str:
    if record is None or record.median_s is None:
        return "–"
    milliseconds = 1e3 * record.median_s
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def main(arguments: list[str]) -> None:
    tyro.cli(bench, prog="segma-fast bench", args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
