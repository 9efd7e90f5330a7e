"""``python benchmarks/page.py`` puts the newest results into the README and docs/benchmarks.md, with their figures."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import figures
from goals import by_case, factor
from table import machine, put_into, report, spread, table, times_as

from segma_fast.bench.problems import Case
from segma_fast.bench.records import Results

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
IN_README = [
    *(Case(rows, 64) for rows in (256, 1024, 4096, 16384)),
    Case(4096, 10),
    Case(4096, 512),
    Case(1024, 2048, 1, gamma=0.5),
    Case(4096, 4096, 1, gamma=0.5),
]
PEERS = ("reference", "compiled reference", "chunked", "compiled tiles", "pykeops", "cw-torch")


def newest(kind: str) -> Path:
    """Of the results of ``cpu`` or ``scaling-cpu``."""
    return max((ROOT / "benchmarks" / "results").glob(f"{kind}-*.json"), key=lambda path: path.name)


def summary(results: Results) -> str:
    """The README's: our time, and how many times as long the others take, at a few sizes."""
    entries = by_case(results)
    rows = []
    for case in IN_README:
        entry = entries.get(case, {})
        if "native" in entry:
            rows.append([str(case), spread(entry["native"]), *(times_as(factor(entry, peer)) for peer in PEERS)])
    return table(["m × D", "native, ms (20–80 %)", *PEERS], rows)


def main() -> None:
    path, scaling = newest("cpu"), Results.read(newest("scaling-cpu"))
    results = Results.read(path)
    rates = [r.machine_gflops for r in results.of("distance", contender="native") if r.machine_gflops]
    drawn = {
        "scaling": figures.scaling(scaling, median(rates) if rates else None),
        "dimensions": figures.dimensions(results),
        "errors": figures.errors(results),
        "training": figures.training(results),
    }
    for name, figure in drawn.items():
        print(figures.save(figure, IMAGES / f"benchmark_{name}.png"))
    put_into(ROOT / "README.md", f"{summary(results)}\n\n{machine(results)}")
    put_into(ROOT / "docs" / "benchmarks.md", report(path))


if __name__ == "__main__":
    main()
