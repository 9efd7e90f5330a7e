"""``make bench-readme`` puts the newest results into the README and docs/benchmarks.md, with their figures."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import ROOT
from benchmarks.report import figures
from benchmarks.report.goals import by_case, factor
from benchmarks.report.tables import put_into, report, spread, table, times_as
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Results

IMAGES = ROOT / "docs" / "images"
IN_README = (Case(1024, 64), Case(4096, 64), Case(16384, 64), Case(4096, 10))
PEERS = {"reference": "plain torch, eager", "compiled tiles": "plain torch, compiled tiles", "pykeops": "pykeops"}
SUITES = {"cpu": {"distance", "forms", "call", "memory", "training"}, "scaling-cpu": {"scaling"}}


def newest(kind: str) -> Path:
    """The file of the latest complete result of ``cpu`` or ``scaling-cpu``."""
    folder, dates = ROOT / "benchmarks" / "results", {}
    for path in folder.glob(f"{kind}-*.json"):
        results = Results.read(path)
        if results.complete and SUITES[kind] <= {record.suite for record in results.records}:
            dates[path] = results.date
    if not dates:
        raise ValueError(f"{folder} has no complete result {kind}-DATE.json: make bench measures one")
    return max(dates, key=lambda path: dates[path])


def read_newest(kind: str) -> Results:
    """The latest complete result, or the end of the program with the reason."""
    try:
        return Results.read(newest(kind))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


def summary(results: Results) -> str:
    """The README's: our time, and how many times as long the others take, at a few sizes."""
    entries = by_case(results)
    rows = []
    for case in IN_README:
        entry = entries.get(case, {})
        if "native" in entry:
            rows.append([str(case), spread(entry["native"]), *(times_as(factor(entry, peer)) for peer in PEERS)])
    info = results.machine
    built = f"{info['cpu']}, {info['native']['code_path']}, {info['threads']} threads"
    head = table(["codes × dimensions", "segma_fast, ms (20–80 %)", *PEERS.values()], rows)
    return f"{head}\n\n{results.date[:10]}, {built}, torch {info['torch']}."


def main() -> None:
    results, scaling = read_newest("cpu"), read_newest("scaling-cpu")
    rates = [r.machine_gflops for r in results.of("distance", contender="native") if r.machine_gflops]
    drawn = {
        "scaling": figures.scaling(scaling, median(rates) if rates else None),
        "dimensions": figures.dimensions(results),
        "errors": figures.errors(results),
        "training": figures.training(results),
    }
    texts = {"README.md": summary(results), "docs/benchmarks.md": report(results)}
    with TemporaryDirectory() as folder:  # nothing is replaced unless all can be made
        made = [figures.save(figure, Path(folder) / f"benchmark_{name}.png") for name, figure in drawn.items()]
        for path in made:
            shutil.copyfile(path, IMAGES / path.name)
            print(IMAGES / path.name)
    for name, text in texts.items():
        put_into(ROOT / name, text)


if __name__ == "__main__":
    main()
