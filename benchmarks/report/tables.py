"""``python -m benchmarks.report.tables RESULT.json`` prints the run as Markdown.

With a second argument, a Markdown file, the tables are put there between the two lines that hold ``MARKS``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from benchmarks.report.goals import by_case, factor, of_sgemm, verdicts
from segma_fast.bench.records import Record, Results

UNDISTURBED = 0.8  # of the usual rate of sgemm
MARKS = ("<!-- benchmark -->", "<!-- end of benchmark -->")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def times_as(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}×" if value < 10 else f"{value:.0f}×"


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def spread(record: Record) -> str:
    return f"{milliseconds(record.median_s)} ({milliseconds(record.p20_s)}–{milliseconds(record.p80_s)})"


def distance(results: Results, own: str = "native") -> str:
    """Our time and how many times as long the others take, one row a size."""
    entries = {case: entry for case, entry in by_case(results).items() if own in entry}
    usual = median(entry[own].machine_gflops or 0 for entry in entries.values())
    disturbed = [case for case, entry in entries.items() if (entry[own].machine_gflops or usual) < UNDISTURBED * usual]
    peers = list(dict.fromkeys(name for entry in entries.values() for name in entry if name != own))
    rows = []
    for case, entry in entries.items():
        cells = [times_as(factor(entry, peer, own)) for peer in peers]
        rate = of_sgemm(entry[own]) if case.gradients else None
        error = entry[own].error_gradient if case.gradients else entry[own].error_value
        mark = " \\*" if case in disturbed else ""
        rows.append([f"{case}{mark}", spread(entry[own]), *cells, times_as(rate), f"{error:.0e}"])
    header = ["m × D", f"{own}, ms (20–80 %)", *(f"{peer} / {own}" for peer in peers), "4m²D/time / sgemm"]
    text = table([*header, f"error of {own}"], rows)
    if disturbed:
        text += f"\n\n\\* The machine was disturbed: torch's own product had less than {UNDISTURBED:.0%} of its rate."
    return text


def goals(results: Results) -> str:
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = [[v.goal, v.wanted, v.measured, words[v.met]] for v in verdicts(results)]
    return table(["goal", "wanted", "worst measured", ""], rows)


def forms(results: Results) -> str:
    rows = []
    for case, entry in by_case(results, "forms").items():
        if len(entry) < 2:
            continue
        ratio = times_as(factor(entry, "native, exact", "native, approx"))
        pair = [milliseconds(entry[f"native, {phi}"].median_s) for phi in ("approx", "exact")]
        rows.append([str(case.dim), *pair, ratio])
    return table(["D", "approximation, ms", "exact, ms", "exact / approximation"], rows)


def call(results: Results) -> str:
    rows = []
    for case, parts in by_case(results, "call").items():
        if len(parts) < 3:
            continue
        whole, operator, bare = (1e6 * (parts[p].median_s or 0) for p in ("whole call", "operator", "bare autograd"))
        rows.append([str(case.dim), f"{whole:.0f}", f"{operator:.0f}", f"{whole - operator:.0f}", f"{bare:.0f}"])
    return table(["D", "value and gradients, µs", "operator alone", "outside the operator", "bare autograd"], rows)


def memory(results: Results) -> str:
    rows = [[str(r.case), r.contender, f"{r.peak_mb:.1f}"] for r in results.of("memory") if r.peak_mb is not None]
    return table(["m × D", "contender", "MB"], rows)


def training(results: Results) -> str:
    rows = []
    for r in results.of("training"):
        weights = f"{r.difference:.0e}" if r.difference else "–"
        rows.append(
            [str(r.rows), r.contender, f"{1 / (r.median_s or 1):.3g}", f"{100 * (r.share or 0):.1f} %", weights]
        )
    text = table(
        ["batch", "backend", "steps/s", "share of the distance", "difference of the weights after 5 steps"], rows
    )
    for suite, what in (("overhead", "the digits"), ("reproduction", "MNIST, with the paper's network")):
        steps = [r for r in results.of(suite) if r.measured]
        if steps:
            times = "; ".join(f"{r.contender} {milliseconds(r.median_s)} ms" for r in steps)
            text += f"\n\nA step on {what}, {steps[0].rows} rows: {times}."
    return text


def micro_batches(results: Results) -> str:
    """Memory and time of a training step, all rows at once and in micro-batches, one row a batch."""
    found = {(r.rows, r.micro_batch): r for r in results.of("micro-batches")}
    ways = list(dict.fromkeys(way for _, way in found))
    rows = []
    for batch in sorted({batch for batch, _ in found}):
        entries = [found.get((batch, way)) for way in ways]
        megabytes = ["–" if entry is None else f"{entry.peak_mb:.0f}" for entry in entries]
        rows.append([str(batch), *megabytes, *("–" if e is None else f"{e.median_s:.3g}" for e in entries)])
    names = ["at once" if way is None else f"in {way}" for way in ways]
    return table(["batch", *(f"{name}, MB" for name in names), *(f"{name}, s" for name in names)], rows)


def machine(results: Results) -> str:
    info = results.machine
    rates = [r.machine_gflops for r in results.of("distance", contender="native") if r.machine_gflops]
    sgemm = f"; sgemm {median(rates):.0f} GFLOP/s ({min(rates):.0f}–{max(rates):.0f} by size)" if rates else ""
    packages = ", ".join(f"{name} {version}" for name, version in info["packages"].items() if version)
    native = info["native"]
    built = f"native built by {native['compiler']}, path {native['code_path']}" if native else "without native"
    return (
        f"{results.date[:10]}, {info['cpu']} ({', '.join(info['flags'])}), {info['threads']} threads on "
        f"{info['cores']} cores, torch {info['torch']}, {built}, {packages}{sgemm}; load average at the start "
        f"{info['load_average_at_start']}. Medians; float32, value and gradients of codes and means, unless said."
    )


PARTS: dict[str, tuple[str, Callable[[Results], str]]] = {
    "Time": ("distance", distance),
    "Goals": ("distance", goals),
    "The exact φ, native at m = 4096, K = 10": ("forms", forms),
    "A call at m = 128, in µs": ("call", call),
    "Memory beyond inputs and gradients": ("memory", memory),
    "A training step of SeGMA, dense network for MNIST": ("training", training),
    "A training step of the convolutional network (3×32×32 pixels, D = 32) in micro-batches": (
        "micro-batches",
        micro_batches,
    ),
}


def report(results: Results) -> str:
    shown = [f"### {title}\n\n{show(results)}" for title, (suite, show) in PARTS.items() if any(results.of(suite))]
    return "\n\n".join([machine(results), *shown])


def put_into(document: Path, text: str, marks: tuple[str, str] = MARKS) -> None:
    before, _, rest = document.read_text(encoding="utf-8").partition(marks[0])
    _, mark, after = rest.partition(marks[1])
    if not mark:
        sys.exit(f"{document} has no lines {marks[0]} and {marks[1]}")
    document.write_text(f"{before}{marks[0]}\n\n{text}\n\n{mark}{after}", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m benchmarks.report.tables RESULT.json [DOCUMENT.md]")
    try:
        text = report(Results.read(Path(sys.argv[1])))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    put_into(Path(sys.argv[2]), text) if len(sys.argv) == 3 else print(text)
