"""The run on a GPU as Markdown: the times of all contenders, the goals with what was measured, and what was skipped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from goals import Verdict
from gpu_contenders import FLOPS, FLOPS_CUDA, Shape
from table import milliseconds, table

LIMIT = 790.0  # TFLOP/s of fp16 matrix products that torch reaches on an H200
LIMIT_SINGLE = 67.0  # and of float32 on its ordinary units, by the data sheet
WIDEST_PRODUCT = 256  # dimensions up to which our kernels multiply matrices, from 9 on


class GpuResults:
    def __init__(self, content: dict[str, Any]) -> None:
        self.machine, self.date, self.seconds = content["machine_info"], content["datetime"][:10], content["seconds"]
        self.main: str = self.machine["main"]
        self.entries: dict[tuple[Shape, str], dict[str, Any]] = {}
        self.skipped: dict[tuple[Shape, str], str] = {}
        for entry in content["benchmarks"]:
            p = entry["params"]
            key = (p["rows"], p["dim"], p["components"]), p["contender"]
            if "skipped" in entry:
                self.skipped[key] = entry["skipped"]
            else:
                self.entries[key] = entry["stats"] | entry["extra_info"]

    def time(self, shape: Shape, name: str, clock: str = "events") -> float | None:
        entry = self.entries.get((shape, name))
        return None if entry is None else float(entry[clock]["median"])

    def factors(self, peer: str, clock: str = "events") -> dict[Shape, float]:
        """How many times as long as ours at ``"high"`` the peer takes, by shape."""
        shapes = [shape for shape, name in self.entries if name == peer]
        ours = {shape: self.time(shape, f"{self.main} high", clock) for shape in shapes}
        return {s: (self.time(s, peer, clock) or 0.0) / own for s, own in ours.items() if own is not None}


def _named(shape: Shape) -> str:
    return f"{shape[0]} × {shape[1]}, K = {shape[2]}"


def _at_least(goal: str, wanted: float, found: dict[Shape, float]) -> Verdict:
    if not found:
        return Verdict(goal, f"≥ {wanted:g}×", "not measured", None)
    shape, worst = min(found.items(), key=lambda item: item[1])
    missed = sum(value < wanted for value in found.values())
    note = f"{worst:.2f}× at {_named(shape)}" + (f"; below at {missed} of {len(found)} shapes" if missed else "")
    return Verdict(goal, f"≥ {wanted:g}×", note, not missed)


def _at_most(goal: str, wanted: float, unit: str, found: float | None, where: str = "") -> Verdict:
    if found is None:
        return Verdict(goal, f"≤ {wanted:g} {unit}", "not measured", None)
    return Verdict(goal, f"≤ {wanted:g} {unit}", f"{found:.4g} {unit}{where}", found <= wanted)


def verdicts(results: GpuResults) -> list[Verdict]:
    main, large, million = results.main, (65536, 64, 10), (1 << 20, 64, 10)

    def scaled(value: float | None, factor: float) -> float | None:
        return None if value is None else value * factor

    def among(found: dict[Shape, float], chosen: Callable[[Shape], bool]) -> dict[Shape, float]:
        return {shape: value for shape, value in found.items() if chosen(shape)}

    eager = among(results.factors("reference"), lambda s: s[1:] == (64, 10))
    largest = dict([max(eager.items())]) if eager else {}
    small = among(results.factors("reference", "wall"), lambda s: 256 <= s[0] <= 4096 and s[2] == 10)
    memory = {
        shape: entry["extra_mb"]
        for (shape, name), entry in results.entries.items()
        if name == f"{main} high" and "extra_mb" in entry and shape[0] <= 262144
    }
    most = max(memory.items(), key=lambda item: item[1]) if memory else (None, None)
    peak = results.entries.get((million, f"{main} high"), {}).get("peak_mb")
    wrong = [_named(s) + f", {n}" for (s, n), e in results.entries.items() if e["precision"] and e["too_far"]]
    exact = sum(e["precision"] is not None for e in results.entries.values())
    note = f"not at {'; '.join(wrong)}" if wrong else f"at all {exact}" if exact else "not measured"
    return [
        _at_most("65536 × 64, K = 10, high", 5.5, "ms", scaled(results.time(large, f"{main} high"), 1e3)),
        _at_most("65536 × 64, K = 10, medium", 3, "ms", scaled(results.time(large, f"{main} medium"), 1e3)),
        _at_least("eager reference, at the largest m that it holds, D = 64", 25, largest),
        _at_least("compiled tiles in plain torch", 4, results.factors("compiled tiles")),
        _at_least("pykeops", 10, results.factors("pykeops")),
        _at_least("eager reference, m = 256 to 4096, one call by the wall clock", 5, small),
        _at_most("one million codes, D = 64", 1.5, "s", results.time(million, f"{main} high")),
        _at_most("memory of one million codes, D = 64", 2**31 / 1e6, "MB", peak),
        _at_most(
            "memory beyond inputs and gradients, m ≤ 262144",
            64,
            "MB",
            most[1],
            f" at {_named(most[0])}" if most[0] else "",
        ),
        Verdict("within the promised error of float64", "all", note, not wrong if exact else None),
    ]


def lead(results: GpuResults) -> list[list[str]]:
    """Where the CUDA kernels are faster than ours in Triton: what ``backend="auto"`` may choose them for."""
    found = []
    for (shape, name), _ in results.entries.items():
        backend, _, precision = name.partition(" ")
        if backend != "cuda" or precision not in FLOPS:
            continue
        mine, other = results.time(shape, name), results.time(shape, f"{results.main} {precision}")
        if mine is not None and other is not None:
            found.append([_named(shape), precision, f"{other / mine:.2f}×"])
    return found


def rows(results: GpuResults) -> Iterable[list[str]]:
    order = {shape: index for index, (shape, _) in enumerate(results.entries)}
    for (shape, name), entry in sorted(results.entries.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        m, dim, components = shape
        pairs, events, wall = (m + components) ** 2, entry["events"], entry["wall"]
        ours = entry["precision"] is not None
        share = "–"
        if ours and 8 < dim <= WIDEST_PRODUCT:
            by_cuda = name.startswith("cuda")
            made = (FLOPS_CUDA if by_cuda else FLOPS)[entry["precision"]] * pairs * dim
            limit = LIMIT_SINGLE if by_cuda and entry["precision"] == "highest" else LIMIT
            share = f"{1e-10 * made / events['median'] / limit:.1f} %"
        own = results.time(shape, f"{results.main} high")
        yield [
            _named(shape),
            name,
            f"{milliseconds(events['median'])} ({milliseconds(events['p20'])}–{milliseconds(events['p80'])})",
            f"{milliseconds(wall['median'])} ({milliseconds(wall['p20'])}–{milliseconds(wall['p80'])})",
            "–" if own is None else f"{events['median'] / own:.2f}×",
            f"{4e-12 * pairs * dim / events['median']:.3g}",
            share,
            f"{entry['extra_mb']:.1f}" if "extra_mb" in entry else "–",
            f"{entry['first_call_s']:.2f}",
            f"{entry['errors']['value']:.1e}, {entry['errors']['grad_z']:.1e}" + (" **!**" if entry["too_far"] else ""),
        ]


def report(content: dict[str, Any]) -> str:
    results, words = GpuResults(content), {True: "met", False: "**missed**", None: "not measured"}
    info = results.machine
    packages = ", ".join(f"{name} {version}" for name, version in info["packages"].items() if version)
    product = info["fp16_product_tflops"]
    head = (
        f"{results.date}, {info['gpu'] or 'no GPU'}, driver {info.get('driver_version')}, torch {info['torch']}, CUDA "
        f"{info['cuda']}, Python {info['python']}, {packages}"
        + (f"; fp16 product of torch {product:.0f} TFLOP/s" if product else "")
        + f"; under load {info.get('state_under_load')}; first call of a process that finds no compiled kernels "
        f"{info.get('cold_first_call_s')} s; {results.seconds:.0f} s in all. Value and all gradients of float32 "
        "codes and means; medians (20–80 %). An exclamation mark: further from float64 than it may be."
    )
    header = ["m × D", "contender", "calls in a row, ms", "one call, ms", "/ ours", "4M²D TFLOP/s", "of the limit"]
    header += ["extra MB", "first call, s", "errors of d², ∂z"]
    parts = [head, "### Time\n\n" + table(header, rows(results))]
    goals = [[v.goal, v.wanted, v.measured, words[v.met]] for v in verdicts(results)]
    parts.append("### Goals\n\n" + table(["goal", "wanted", "measured", ""], goals))
    if ahead := lead(results):
        parts.append(f"### CUDA against {results.main}\n\n" + table(["m × D", "precision", "faster by"], ahead))
    if counters := content.get("counters"):
        parts.append("### Counters of nsight-compute\n\n" + table(["kernel", "metric", "value"], counters))
    parts.append(
        f"Limits: {LIMIT:.0f} TFLOP/s of fp16 products, {LIMIT_SINGLE:.0f} TFLOP/s of float32 for `cuda highest`."
    )
    if results.skipped:
        skipped = [f"- {_named(shape)}, {name}: skipped: {why}" for (shape, name), why in results.skipped.items()]
        parts.append("### Skipped\n\n" + "\n".join(skipped))
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(report(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
