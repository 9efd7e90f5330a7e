"""What the native backend is meant to reach on a CPU, each goal against its worst measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results

NARROW = (10, 32, 64)


@dataclass(frozen=True)
class Verdict:
    goal: str
    wanted: str
    measured: str  # the worst, and where
    met: bool | None  # None: not measured


def by_case(results: Results, suite: str = "distance") -> dict[Case, dict[str, Record]]:
    """The measured records of a suite by size and contender."""
    found: dict[Case, dict[str, Record]] = {}
    for record in results.of(suite):
        if record.measured:
            found.setdefault(record.case, {})[record.contender] = record
    return found


def factor(entry: dict[str, Record], peer: str, own: str = "native") -> float | None:
    """How many times as long as ours the peer takes, or None where either was not measured."""
    if peer not in entry or own not in entry:
        return None
    return (entry[peer].median_s or 0.0) / (entry[own].median_s or 1.0)


def of_sgemm(record: Record | None) -> float | None:
    """``4 m² D`` operations in the time of value and gradients, relative to torch's matrix product around it."""
    if record is None or not record.median_s or not record.machine_gflops:
        return None
    return 4e-9 * record.rows**2 * record.dim / record.median_s / record.machine_gflops


def at_least(goal: str, wanted: float, found: Iterable[tuple[Case, float | None]]) -> Verdict:
    measured = [(value, case) for case, value in found if value is not None]
    if not measured:
        return Verdict(goal, f"≥ {wanted:g}×", "not measured", None)
    value, where = min(measured, key=lambda item: item[0])
    missed = sum(v < wanted for v, _ in measured)
    note = f"{value:.2f}× at {where}" + (f"; below at {missed} of {len(measured)} sizes" if missed else "")
    return Verdict(goal, f"≥ {wanted:g}×", note, not missed)


def at_most(goal: str, wanted: float, unit: str, found: float | None, where: str = "") -> Verdict:
    if found is None:
        return Verdict(goal, f"≤ {wanted:g} {unit}", "not measured", None)
    return Verdict(goal, f"≤ {wanted:g} {unit}", f"{found:.4g} {unit}{where}", found <= wanted)


def _narrow(least: int, most: int = 1 << 30) -> Callable[[Case], bool]:
    return lambda case: case == Case(case.rows, case.dim) and least <= case.rows <= most and case.dim in NARROW


def _plain(case: Case) -> bool:
    return case.gradients and case.dtype == "float32"


def verdicts(results: Results) -> list[Verdict]:
    entries = by_case(results)

    def peer(goal: str, wanted: float, name: str, chosen: Callable[[Case], bool]) -> Verdict:
        return at_least(goal, wanted, [(case, factor(e, name)) for case, e in entries.items() if chosen(case)])

    flags = results.machine.get("keops_flags") or "its own flags"
    wide = [(case, e) for case, e in entries.items() if case.gamma is not None]
    best = [
        (case, min(filter(None, (factor(e, name) for name in e if name not in ("native", "sigreg"))), default=None))
        for case, e in wide
    ]
    found = [
        peer("eager reference, m = 128 and 256, D ≤ 64", 10, "reference", _narrow(128, 256)),
        peer("eager reference, m = 1024, D ≤ 64", 20, "reference", _narrow(1024, 1024)),
        peer("eager reference, m ≥ 4096, D ≤ 64", 40, "reference", _narrow(4096)),
        peer("compiled reference, m ≥ 1024, D ≤ 64", 10, "compiled reference", _narrow(1024)),
        peer("chunked, D ≤ 64", 2.5, "chunked", _narrow(1)),
        peer("chunked, every size at which it was timed", 1, "chunked", _plain),
        peer("compiled tiles, every size at which they were timed", 1, "compiled tiles", _plain),
        peer(f"pykeops, built with {flags}", 100, "pykeops", _plain),
        at_least("the best in plain torch, embeddings (K = 1, D ≥ 512)", 1, best),
    ]
    for dim in (32, 64):
        case = Case(8192, dim)
        rate = [(case, of_sgemm(entries.get(case, {}).get("native")))]
        found.append(at_least(f"4m²D (the products of plain torch)/time against torch's sgemm, D = {dim}", 1, rate))
    forms = by_case(results, "forms").get(Case(4096, 32), {})
    dearest = factor(forms, "native, exact", "native, approx")
    found.append(at_most("exact φ beside the approximation, m = 4096, D = 32", 1.25, "×", dearest))
    memory = [r for r in results.of("memory", contender="native") if r.peak_mb is not None]
    most = max(memory, key=lambda r: r.peak_mb or 0.0, default=None)
    where = f" at {most.case}" if most else ""
    found.append(at_most("memory beyond inputs and gradients", 64, "MB", most.peak_mb if most else None, where))
    share = max((r.share or 0 for r in results.of("training", contender="native") if r.rows >= 16384), default=None)
    found.append(at_most("share of the distance in a training step, batch ≥ 16384", 0.1, "of it", share))
    trainer = {r.contender: r.median_s or 0.0 for r in results.of("overhead") if r.measured}
    ratio = trainer["trainer"] / trainer["bare step"] - 1 if len(trainer) == 2 else None
    found.append(at_most("what the trainer adds to a step of 1024 rows", 0.1, "of it", ratio))
    steps = {r.contender: r.median_s or 0.0 for r in results.of("reproduction") if r.measured}
    alone = steps.pop("auto-encoder", None)
    slowest = max(steps.values()) / alone if steps and alone else None
    return [*found, at_most("SeGMA's step on MNIST, 100 + 100 rows, beside its auto-encoder alone", 1.15, "×", slowest)]
