"""What the native backend is meant to reach, each goal against its worst measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from results import Results

Shape = tuple[int, int, int]
NARROW = (10, 32, 64)


@dataclass(frozen=True)
class Verdict:
    goal: str
    wanted: str
    measured: str  # the worst, and where
    met: bool | None  # None: not measured


def _shape(shape: Shape) -> str:
    rows, dim, components = shape
    return f"m = {rows}, D = {dim}" + (", K = 1" if components == 1 else "")


def _at_least(goal: str, wanted: float, found: Iterable[tuple[str, float | None]]) -> Verdict:
    measured = [(value, where) for where, value in found if value is not None]
    if not measured:
        return Verdict(goal, f"≥ {wanted:g}×", "not measured", None)
    value, where = min(measured)
    missed = sum(v < wanted for v, _ in measured)
    note = f"{value:.2f}× at {where}" + (f"; below at {missed} of {len(measured)} shapes" if missed else "")
    return Verdict(goal, f"≥ {wanted:g}×", note, not missed)


def verdicts(results: Results) -> list[Verdict]:
    def peer(goal: str, wanted: float, name: str, chosen: Callable[[int, int, int], bool]) -> Verdict:
        shapes = sorted(shape for shape in results.times if chosen(*shape))
        return _at_least(goal, wanted, [(_shape(s), results.factor(s, name)) for s in shapes])

    def narrow(least: int, most: int = 1 << 30) -> Callable[[int, int, int], bool]:
        return lambda rows, dim, components: least <= rows <= most and dim in NARROW and components == 10

    flags = results.machine["keops_flags"] or "its own flags"
    found = [
        peer("eager reference, m = 128 and 256, D ≤ 64", 10, "reference", narrow(128, 256)),
        peer("eager reference, m = 1024, D ≤ 64", 20, "reference", narrow(1024, 1024)),
        peer("eager reference, m ≥ 4096, D ≤ 64", 40, "reference", narrow(4096)),
        peer("torch.compile, m ≥ 1024, D ≤ 64", 10, "compiled", narrow(1024)),
        peer("chunked, D ≤ 64", 2.5, "chunked", lambda rows, dim, components: dim <= 64),
        peer("chunked, every D", 1, "chunked", lambda rows, dim, components: True),
        peer(f"pykeops, built with {flags}", 100, "pykeops", lambda rows, dim, components: True),
    ]
    for dim in (32, 64):
        shape = (8192, dim, 10)
        rate = [(_shape(shape), results.of_sgemm(shape))]
        found.append(_at_least(f"4m²D/time against torch's sgemm, m = 8192, D = {dim}", 1, rate))
    dearest = results.of_form(32)
    found.append(
        Verdict(
            "exact φ beside the approximation, m = 4096, D = 32",
            "≤ 1.25×",
            "not measured" if dearest is None else f"{dearest:.2f}×",
            None if dearest is None else dearest <= 1.25,
        )
    )
    goal = "memory beyond inputs and gradients, every m"
    if not results.memory:
        return [*found, Verdict(goal, "≤ 64 MB", "not measured", None)]
    most, rows = max((mb, rows) for rows, mb in results.memory.items())
    return [*found, Verdict(goal, "≤ 64 MB", f"{most:.1f} MB at m = {rows}", most <= 64)]
