"""``python benchmarks/table.py RESULT.json`` prints the run as Markdown: times, goals, overhead, memory.

With a second argument, a Markdown file, the tables are put there between the two lines that hold ``MARKS``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from goals import verdicts
from results import PEERS, Results

MARKS = ("<!-- benchmark -->", "<!-- end of benchmark -->")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def factor(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}×" if value < 10 else f"{value:.0f}×"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def times(results: Results) -> str:
    """Native's time and how many times as long the others take, one row a shape."""
    peers = [peer for peer in PEERS if any(peer in entry for entry in results.times.values())]
    rows = []
    for shape in sorted(results.times, key=lambda shape: (-shape[2], shape[1], shape[0])):
        entry = results.times[shape]
        if "native" not in entry:
            continue
        native, (m, dim, components) = entry["native"], shape
        spread = f"{milliseconds(native['median'])} ({milliseconds(native['p20'])}–{milliseconds(native['p80'])})"
        rate = results.of_sgemm(shape)
        peer_factors = [factor(results.factor(shape, peer)) for peer in peers]
        rows.append([str(components), str(dim), str(m), spread, *peer_factors, factor(rate)])
    header = ["K", "D", "m", "native, ms (20–80 %)", *(f"{peer} / native" for peer in peers), "4m²D/time / sgemm"]
    return table(header, rows)


def goals(results: Results) -> str:
    words = {True: "met", False: "**missed**", None: "not measured"}
    return table(
        ["goal", "wanted", "worst measured", ""],
        [[v.goal, v.wanted, v.measured, words[v.met]] for v in verdicts(results)],
    )


def overhead(results: Results) -> str:
    rows = []
    for dim, parts in sorted(results.overhead.items()):
        if len(parts) == 3:
            whole, operator, bare = (1e6 * parts[part] for part in ("whole call", "operator", "bare autograd"))
            rows.append([str(dim), f"{whole:.0f}", f"{operator:.0f}", f"{whole - operator:.0f}", f"{bare:.0f}"])
    return table(["D", "value and gradients, µs", "operator alone", "outside the operator", "bare autograd"], rows)


def forms(results: Results) -> str:
    rows = [
        [str(dim), milliseconds(entry["approx"]), milliseconds(entry["exact"]), factor(results.of_form(dim))]
        for dim, entry in sorted(results.forms.items())
        if len(entry) == 2
    ]
    return table(["D", "approximation, ms", "exact, ms", "exact / approximation"], rows)


def memory(results: Results) -> str:
    return table(["m", "MB"], [[str(rows), f"{mb:.1f}"] for rows, mb in sorted(results.memory.items())])


def batches(results: Results) -> str:
    """Memory and time of a training step, all rows at once and in micro-batches, one row a batch."""
    sizes = [size for size in dict.fromkeys(size for _, size in results.batches) if size is not None]
    ways = [None, *sizes]
    rows = []
    for batch in sorted({batch for batch, _ in results.batches}):
        found = [results.batches.get((batch, way)) for way in ways]
        memory = ["–" if entry is None else f"{entry['mb']:.0f}" for entry in found]
        times = ["–" if entry is None else f"{entry['seconds']:.3g}" for entry in found]
        rows.append([str(batch), *memory, *times])
    names = ["at once", *(f"in {size}" for size in sizes)]
    return table(["batch", *(f"{name}, MB" for name in names), *(f"{name}, s" for name in names)], rows)


def machine(results: Results) -> str:
    info, rates = results.machine, [e["native"]["sgemm_gflops"] for e in results.times.values() if "native" in e]
    sgemm = f"; sgemm {median(rates):.0f} GFLOP/s ({min(rates):.0f}–{max(rates):.0f} by shape)" if rates else ""
    peers = ", ".join(f"{name} {version}" for name, version in info["peers"].items() if version)
    native = info["native"]
    built = f"native built by {native['compiler']}, path {native['code_path']}" if native else "without native"
    return (
        f"{results.date}, {info['cpu']} ({', '.join(info['flags'])}), {info['threads']} threads on {info['cores']} "
        f"cores, torch {info['torch']}, {built}, {peers or 'no peers'}{sgemm}; load average at the start "
        f"{info['load_average_at_start']}. Medians of value and all gradients, float32."
    )


def report(path: Path) -> str:
    results = Results.read(path)
    parts = {
        "Time": (results.times, times),
        "Goals": (results.times, goals),
        "The exact φ, native at m = 4096, K = 10": (results.forms, forms),
        "A call at m = 128, in µs": (results.overhead, overhead),
        "Memory of native beyond inputs and gradients, D = 64": (results.memory, memory),
        "A training step of the convolutional network (3×32×32 pixels, D = 32) in micro-batches": (
            results.batches,
            batches,
        ),
    }
    shown = [f"### {title}\n\n{show(results)}" for title, (measured, show) in parts.items() if measured]
    return "\n\n".join([machine(results), *shown])


def put_into(document: Path, text: str) -> None:
    before, _, rest = document.read_text(encoding="utf-8").partition(MARKS[0])
    _, mark, after = rest.partition(MARKS[1])
    if not mark:
        sys.exit(f"{document} has no lines {MARKS[0]} and {MARKS[1]}")
    document.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{mark}{after}", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python benchmarks/table.py RESULT.json [DOCUMENT.md]")
    text = report(Path(sys.argv[1]))
    put_into(Path(sys.argv[2]), text) if len(sys.argv) == 3 else print(text)
