"""``python -m benchmarks.studies.exact_phi`` measures what the exact φ changes, and writes ``docs/exact_phi.md``.

Four parts, each in a module of its own: ``match`` (d² of codes drawn from the prior), ``particles`` (what minimises
d²), ``digits`` (SeGMA) and ``cwae`` (the same without labels). What each found stays in
``benchmarks/results/exact_phi.json``, with its date and machine; ``--only match,particles`` measures these again and
keeps the rest, ``--draw`` measures nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch

from benchmarks import RESULTS, ROOT
from benchmarks.studies.exact_phi import figures, page
from segma_fast.trainer.files import write_text

PARTS = ("match", "particles", "digits", "cwae")
FOUND = RESULTS / "exact_phi.json"
PAGE = ROOT / "docs" / "exact_phi.md"


def measure(part: str) -> dict[str, Any]:
    """What a part found, with its date, machine and duration."""
    from segma_fast.bench.machine import describe_machine

    machine = describe_machine(torch.device("cpu"))
    begin = perf_counter()
    found = importlib.import_module(f"benchmarks.studies.exact_phi.{part}").measure()
    seconds = round(perf_counter() - begin)
    return {"date": date.today().isoformat(), "seconds": seconds, "machine": machine, "found": found}


def rounded(value: Any) -> Any:
    """Numbers to six digits: enough for every use, and few enough to read."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def save(results: dict[str, Any], path: Path) -> None:
    text = json.dumps(rounded(results), indent=1, ensure_ascii=False)
    write_text(path, text + "\n")


def chosen(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown part {unknown[0]!r}, expected some of {','.join(PARTS)}")
    return [part for part in PARTS if part in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", type=chosen, default=list(PARTS), metavar="PARTS", help="measure these parts only")
    what.add_argument("--draw", action="store_true", help="measure nothing; write page and pictures from the results")
    given = parser.parse_args()
    results: dict[str, Any] = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {}
    for part in () if given.draw else given.only:
        results[part] = measure(part)
        results = {name: results[name] for name in PARTS if name in results}
        save(results, FOUND)
    missing = [part for part in PARTS if part not in results]
    if missing:
        parser.exit(message=f"no page yet: {','.join(missing)} was never measured\n")
    results = json.loads(FOUND.read_text(encoding="utf-8"))
    figures.draw(results, PAGE.parent / "images")
    write_text(PAGE, page.page(results))
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
