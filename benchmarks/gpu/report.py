"""The run on a GPU as Markdown: the times of all contenders, the goals, and what was left out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.gpu.lineup import FLOPS, usual
from benchmarks.report.goals import Verdict, at_least, at_most
from benchmarks.report.tables import milliseconds, table
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results

LIMIT = 790.0  # TFLOP/s of fp16 matrix products that torch reaches on an H200
WIDEST_PRODUCT = 256  # dimensions up to which our kernels multiply matrices, from 9 on


class GpuResults:
    def __init__(self, results: Results) -> None:
        self.machine, self.main = results.machine, str(results.machine["main"])
        self.date = results.date[:10]
        self.records = {(r.case, r.contender): r for r in results.of("distance") if r.measured}
        self.left_out = {(r.case, r.contender): r.reason for r in results.of("distance") if not r.measured}

    def time(self, case: Case, name: str, alone: bool = False) -> float | None:
        record = self.records.get((case, name))
        return None if record is None else record.alone_s if alone else record.median_s

    def factors(self, peer: str, chosen: Callable[[Case], bool], alone: bool = False) -> dict[Case, float]:
        """How many times as long as ours at ``"high"`` the peer takes, by size."""
        cases = [case for case, name in self.records if name == peer and chosen(case)]
        pairs = {case: (self.time(case, peer, alone), self.time(case, f"{self.main} high", alone)) for case in cases}
        return {case: theirs / own for case, (theirs, own) in pairs.items() if theirs and own}


def verdicts(results: GpuResults) -> list[Verdict]:
    main, large, million = results.main, Case(65536, 64), Case(1 << 20, 64)

    def scaled(value: float | None, factor: float) -> float | None:
        return None if value is None else value * factor

    eager = results.factors("reference", lambda case: usual(case) and case.gradients)
    largest = [max(eager.items(), key=lambda item: item[0].rows)] if eager else []
    small = results.factors("reference", lambda case: 256 <= case.rows <= 4096 and case.components == 10, alone=True)
    memory = {
        case: r.peak_mb
        for (case, name), r in results.records.items()
        if name == f"{main} high" and r.peak_mb is not None and case.rows <= 262144
    }
    where, most = max(memory.items(), key=lambda item: item[1]) if memory else (None, None)
    peak = results.records.get((million, f"{main} high"))
    own = {key: r for key, r in results.records.items() if r.precision and r.error_value is not None}
    own = {key: r for key, r in own.items() if key[1].split()[0] in (main, "cuda")}
    wrong = [f"{case}, {name}" for (case, name), r in own.items() if r.too_far]
    note = f"not at {'; '.join(wrong)}" if wrong else f"at all {len(own)}" if own else "not measured"
    high, medium = results.time(large, f"{main} high"), results.time(large, f"{main} medium")
    return [
        at_most("65536 × 64, K = 10, high", 3.5, "ms", scaled(high, 1e3)),
        at_most("65536 × 64, K = 10, medium", 3, "ms", scaled(medium, 1e3)),
        at_least("eager reference, at the largest m that it holds, D = 64", 25, largest),
        at_least("compiled tiles in plain torch", 4, results.factors("compiled tiles", usual).items()),
        at_least("pykeops", 10, results.factors("pykeops", lambda case: True).items()),
        at_least("eager reference, m = 256 to 4096, one call by the wall clock", 5, small.items()),
        at_most("one million codes, D = 64", 1, "s", results.time(million, f"{main} high")),
        at_most("memory of one million codes, D = 64, beyond inputs", 2147, "MB", peak.peak_mb if peak else None),
        at_most("memory beyond inputs and gradients, m ≤ 262144", 64, "MB", most, f" at {where}" if where else ""),
        Verdict("within the promised error of float64", "all", note, not wrong if own else None),
    ]


def lead(results: GpuResults) -> list[list[str]]:
    """How many times as long as the CUDA kernels Triton's take: what ``backend="auto"`` chooses by."""
    found = []
    for case, name in results.records:
        backend, _, precision = name.partition(" ")
        if backend != "cuda" or precision not in FLOPS:
            continue
        mine, other = results.time(case, name), results.time(case, f"triton {precision}")
        if mine is not None and other is not None:
            found.append([str(case), precision, f"{other / mine:.2f}×"])
    return found


def rows(results: GpuResults) -> Iterable[list[str]]:
    order = {case: index for index, (case, _) in enumerate(results.records)}
    for (case, name), record in sorted(results.records.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        pairs, seconds = (case.rows + case.components) ** 2, record.median_s or 0.0
        own = results.time(case, f"{results.main} high")
        flag = " **!**" if record.too_far else ""
        errors = [f"{e:.1e}" for e in (record.error_value, record.error_gradient) if e is not None]
        yield [
            str(case),
            name,
            f"{milliseconds(seconds)} ({milliseconds(record.p20_s)}–{milliseconds(record.p80_s)})",
            milliseconds(record.alone_s),
            "–" if own is None else f"{seconds / own:.2f}×",
            f"{4e-12 * pairs * case.dim / seconds:.3g}",
            share_of_limit(record, name),
            "–" if record.peak_mb is None else f"{record.peak_mb:.1f}",
            f"{record.first_call_s or 0:.2f}",
            ", ".join(errors) + flag,
        ]


def share_of_limit(record: Record, name: str) -> str:
    """Of the products that our kernels make, of what the machine can make in their time."""
    ours = name.split()[0] in ("triton", "cuda") and record.precision is not None and record.gradients
    if not ours or not 8 < record.dim <= WIDEST_PRODUCT or not record.median_s:
        return "–"
    if name == "cuda highest" and record.dim > 64:
        return "–"  # in float32
    made = FLOPS[record.precision or "high"] * record.dim * (record.rows + record.components) ** 2
    return f"{1e-10 * made / record.median_s / LIMIT:.1f} %"


def report(found: Results) -> str:
    results, words = GpuResults(found), {True: "met", False: "**missed**", None: "not measured"}
    info = results.machine
    packages = ", ".join(f"{name} {version}" for name, version in info["packages"].items() if version)
    product = info["fp16_product_tflops"]
    head = (
        f"{results.date}, {info['gpu'] or 'no GPU'}, driver {info.get('driver_version')}, torch {info['torch']}, CUDA "
        f"{info['cuda']}, Python {info['python']}, {packages}"
        + (f"; fp16 product of torch {product:.0f} TFLOP/s" if product else "")
        + f"; under load {info.get('state_under_load')}; first call of a process that finds no compiled kernels "
        f"{info.get('cold_first_call_s')} s; {info['seconds']:.0f} s in all. Value and all gradients of float32 "
        "codes and means; medians (20–80 %). An exclamation mark: further from float64 than it may be."
    )
    header = ["m × D", "contender", "calls in a row, ms", "one call, ms", "/ ours", "4M²D TFLOP/s", "of the limit"]
    header += ["extra MB", "first call, s", "errors of d², gradients"]
    parts = [head, "### Time\n\n" + table(header, rows(results))]
    goals = [[v.goal, v.wanted, v.measured, words[v.met]] for v in verdicts(results)]
    parts.append("### Goals\n\n" + table(["goal", "wanted", "measured", ""], goals))
    if ahead := lead(results):
        parts.append("### Triton beside CUDA\n\n" + table(["m × D", "precision", "Triton / CUDA"], ahead))
    if counters := info.get("counters"):
        parts.append("### Counters of nsight-compute\n\n" + table(["kernel", "metric", "value"], counters))
    parts.append(f"Limit: {LIMIT:.0f} TFLOP/s of fp16 products.")
    if results.left_out:
        lines = [f"- {case}, {name}: {why}" for (case, name), why in results.left_out.items()]
        parts.append("### Left out\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(report(Results.read(Path(sys.argv[1]))))
