"""Time several functions in turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

PASSES = 5
SECONDS = float(
    os.environ.get("BENCH_SECONDS", "0.8")
)  # that one function may take in all passes, unless FEWEST rounds take longer
FEWEST, MOST = 5, 500
SLOW = 0.02  # seconds; a faster function gets one call more at the start of its turn, untimed, to warm the caches again


@dataclass
class Timing:
    first_call_s: float  # with compilation, where there is one
    rounds: list[float] = field(default_factory=list)


def interleave(
    functions: Mapping[str, Callable[[], Any]],
    first_calls: Mapping[str, float],
    between: Callable[[], Any],
    seconds: float = SECONDS,
) -> dict[str, Timing]:
    """Seconds per call of every function, in ``PASSES`` turns each.

    Args:
        functions: already called once.
        first_calls: how long that took, in seconds.
        between: called before the first, third and fifth turn and at the end: the rate of the machine.
        seconds: the time that one function may take in all.
    """
    per_turn = {name: _rounds_per_turn(function, seconds) for name, function in functions.items()}
    timings = {name: Timing(first_calls[name]) for name in functions}
    gc.collect()
    gc.disable()
    try:
        for turn in range(PASSES):
            if turn % 2 == 0:
                between()
            for name, function in functions.items():
                timings[name].rounds += _turn(function, per_turn[name])
        between()
    finally:
        gc.enable()
    return timings


def _rounds_per_turn(function: Callable[[], Any], seconds: float) -> int:
    """From the second call; fast functions are called a few times more, their second call is not typical."""
    took = _seconds(function)
    if took < SLOW:
        took = min(_seconds(function) for _ in range(5))
    rounds = min(max(int(seconds / took), FEWEST), MOST)
    return -(-rounds // PASSES)


def _turn(function: Callable[[], Any], rounds: int) -> list[float]:
    first = _seconds(function)
    kept = [] if first < SLOW else [first]
    return kept + [_seconds(function) for _ in range(rounds - len(kept))]


def _seconds(function: Callable[[], Any]) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


class Replay:
    """A clock for pytest-benchmark that repeats durations measured before: its own loop times one function alone."""

    __name__ = "interleaved perf_counter"

    def __init__(self) -> None:
        self.readings: list[float] = []

    def load(self, durations: list[float]) -> None:
        self.readings = [reading for duration in reversed(durations) for reading in (duration, 0.0)]

    def __call__(self) -> float:
        return self.readings.pop()


REPLAY = Replay()


def report(benchmark: Any, rounds: list[float], **extra: Any) -> None:
    """Hand measured durations to pytest-benchmark, in a test that is marked ``benchmark(timer=REPLAY)``."""
    benchmark.extra_info |= extra
    REPLAY.load(rounds)
    benchmark.pedantic(lambda: None, rounds=len(rounds))
