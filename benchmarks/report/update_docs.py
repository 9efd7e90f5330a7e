"""``make bench-readme`` puts the newest results into the README and docs/benchmarks.md, with their figures."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import ROOT
from benchmarks.report import figures
from benchmarks.report.goals import by_case, factor
from benchmarks.report.tables import put_into, report, table, times_as
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Results

IMAGES = ROOT / "docs" / "images"
IN_README = (Case(1024, 64), Case(4096, 64), Case(4096, 10))
CODE_PATHS = ("avx512", "avx2")  # of the processors that the README names
PEERS = {"reference": "plain torch, eager", "compiled tiles": "plain torch, compiled tiles", "pykeops": "pykeops"}
SUITES = {"cpu": {"distance", "forms", "call", "memory", "training"}, "scaling-cpu": {"scaling"}}


def complete(kind: str) -> dict[Path, Results]:
    """The complete results of ``cpu`` or ``scaling-cpu``, the oldest first; ``ValueError`` if there are none."""
    folder = ROOT / "benchmarks" / "results"
    every = ((path, Results.read(path)) for path in folder.glob(f"{kind}-*.json"))
    found = {p: r for p, r in every if r.complete and SUITES[kind] <= {record.suite for record in r.records}}
    if not found:
        raise ValueError(f"{folder} has no complete result {kind}-DATE.json: make bench measures one")
    return dict(sorted(found.items(), key=lambda one: one[1].date))


def newest(kind: str) -> Path:
    """The file of the latest complete result of ``cpu`` or ``scaling-cpu``."""
    return list(complete(kind))[-1]


def of_each_processor() -> list[Results]:
    """The latest complete result of each code path in ``CODE_PATHS`` that has one."""
    found = {results.machine["native"]["code_path"]: results for results in complete("cpu").values()}
    return [found[path] for path in CODE_PATHS if path in found]


def read_newest(kind: str) -> Results:
    """The latest complete result, or the end of the program with the reason."""
    try:
        return Results.read(newest(kind))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


def summary(every: Sequence[Results]) -> str:
    """The README's: our time, and how many times as long the others take, at a few sizes and on each processor."""
    rows, notes = [], []
    for case in IN_README:
        for results in every:
            entry = by_case(results).get(case, {})
            if "native" in entry:
                factors = (times_as(factor(entry, peer)) for peer in PEERS)
                size, time = f"{case.rows} × {case.dim}", f"{1e3 * entry['native'].median_s:.3g}"
                rows.append([size, results.machine["native"]["code_path"], time, *factors])
    for results in every:
        info = results.machine
        path = info["native"]["code_path"]
        notes.append(f"{path}: {results.date[:10]}, {info['cpu']}, {info['threads']} threads, torch {info['torch']}")
    head = table(["codes × dimensions", "processor", "segma_fast, ms", *PEERS.values()], rows)
    return f"{head}\n\n{'; '.join(notes)}."


def main() -> None:
    results, scaling = read_newest("cpu"), read_newest("scaling-cpu")
    rates = [r.machine_gflops for r in results.of("distance", contender="native") if r.machine_gflops]
    drawn = {
        "scaling": figures.scaling(scaling, median(rates) if rates else None),
        "dimensions": figures.dimensions(results),
        "errors": figures.errors(results),
        "training": figures.training(results),
    }
    texts = {"README.md": summary(of_each_processor()), "docs/benchmarks.md": report(results)}
    with TemporaryDirectory() as folder:  # nothing is replaced unless all can be made
        made = [figures.save(figure, Path(folder) / f"benchmark_{name}.png") for name, figure in drawn.items()]
        for path in made:
            shutil.copyfile(path, IMAGES / path.name)
            print(IMAGES / path.name)
    for name, text in texts.items():
        put_into(ROOT / name, text)


if __name__ == "__main__":
    main()
