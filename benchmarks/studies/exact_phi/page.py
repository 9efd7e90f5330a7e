"""``docs/exact_phi.md`` as text, from the results alone."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.report.tables import table
from benchmarks.studies.exact_phi.training_tables import cwae_values, digit_values, number, span
from segma_fast.distance.formulas import FORMS

TEMPLATE = Path(__file__).with_name("template.md")


def page(results: dict[str, Any]) -> str:
    """The page: the template's text, with the tables and the numbers that it speaks of."""
    found = {part: entry["found"] for part, entry in results.items()}
    values = made(results) | match_values(found["match"]) | particle_values(found["particles"])
    values |= digit_values(found["digits"]) | cwae_values(found["cwae"])
    return TEMPLATE.read_text(encoding="utf-8").format(**values)


def made(results: dict[str, Any]) -> dict[str, str]:
    """How the page was made, in one line for all parts that have the same date and machine."""
    lines: dict[str, list[str]] = {}
    for part, entry in results.items():
        lines.setdefault(_machine(entry), []).append(f"{part} {entry['seconds']} s")
    return {"made": "; ".join(f"{line} ({', '.join(parts)})" for line, parts in lines.items())}


def _machine(entry: dict[str, Any]) -> str:
    machine = entry["machine"]
    return (
        f"{entry['date']}, {machine['cpu']}, {machine['threads']} threads, Python {machine['python']}, "
        f"torch {machine['torch']}, segma_fast {machine['segma_fast']}"
    )


def match_values(found: dict[str, Any]) -> dict[str, str]:
    sizes = sorted({row["m"] for row in found["rows"]})
    by_dim = {
        entry["dim"]: {row["m"]: row for row in found["rows"] if row["dim"] == entry["dim"]} for entry in found["dims"]
    }
    rows = []
    for entry in found["dims"]:
        last = by_dim[entry["dim"]][sizes[-1]]
        rows.append(
            [
                str(entry["dim"]),
                f"{100 * entry['worst_error']:.1f} % at s = {entry['worst_at']:.2g}",
                number(last["approx"]),
                number(entry["floor"]),
                number(last["exact"]),
                f"{last['approx'] / last['exact']:.0f}×",
                f"{slope(by_dim[entry['dim']]):.2f}",
            ]
        )
    header = ["D", "worst error of φ", f"approximation, m = {sizes[-1]}", "as m → ∞", f"exact, m = {sizes[-1]}"]
    exact = [row["exact"] / row["exact_expected"] for row in found["rows"]]
    return {f"floor_{entry['dim']}": number(entry["floor"]) for entry in found["dims"]} | {
        "match_table": table([*header, "ratio", "exact: slope in m"], rows),
        "match_slope": f"{slope(by_dim[found['dims'][0]['dim']], 'exact_expected'):.2f}",
        "match_seeds": str(found["seeds"]),
        "match_double": str(found["double_up_to"]),
        "match_sizes": f"{sizes[0]} … {sizes[-1]}",
        "match_expected": span(exact, 2),
    }


def slope(rows: dict[int, dict[str, Any]], name: str = "exact") -> float:
    """Least squares: of log d² under the exact form against log m."""
    x, y = [math.log(m) for m in rows], [math.log(row[name]) for row in rows.values()]
    centre, level = fmean(x), fmean(y)
    return sum((a - centre) * (b - level) for a, b in zip(x, y, strict=True)) / sum((a - centre) ** 2 for a in x)


def particle_values(found: dict[str, Any]) -> dict[str, str]:
    sizes = sorted({row["m"] for row in found["rows"]})
    values = {f"particles_{i}": particle_table(found, size) for i, size in enumerate(sizes)}
    starts = {row["m"]: row["starts"] for row in found["rows"]}
    values |= {f"particles_m{i}": str(size) for i, size in enumerate(sizes)}
    return values | {f"particles_starts{i}": str(starts[size]) for i, size in enumerate(sizes)}


def particle_table(found: dict[str, Any], size: int) -> str:
    limits = {entry["dim"]: entry for entry in found["limit"]}
    rows = []
    for dim in limits:
        entries = {row["phi"]: row for row in found["rows"] if row["dim"] == dim and row["m"] == size}
        line = [str(dim)]
        for name, digits in (("variance", 2), ("kurtosis", 1)):
            line += [f"{entries[phi][name]:.{digits}f}" for phi in FORMS]
            line.insert(-1, "∞" if limits[dim][name] is None else f"{limits[dim][name]:.{digits}f}")
        for phi in FORMS:
            line.append(f"{number(entries[phi]['d2'])} ({number(entries[phi]['d2_drawn'])})")
        rows.append(line)
    moments = [
        f"{name}, {form}" for name in ("variance", "kurtosis") for form in ("approximation", "its limit", "exact")
    ]
    return table(["D", *moments, "d² at the end (of drawn points), approximation", "exact"], rows)
