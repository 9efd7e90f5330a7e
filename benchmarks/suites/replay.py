"""Durations that were measured in turns, handed to pytest-benchmark, whose own loop times one function alone."""

from __future__ import annotations

from typing import Any


class Replay:
    """A clock that repeats durations measured before."""

    __name__ = "interleaved perf_counter"

    def __init__(self) -> None:
        self.readings: list[float] = []

    def load(self, durations: list[float]) -> None:
        self.readings = [reading for duration in reversed(durations) for reading in (duration, 0.0)]

    def __call__(self) -> float:
        return self.readings.pop()


REPLAY = Replay()


def report(benchmark: Any, rounds: list[float], **extra: Any) -> None:
    """Give measured durations to a test that is marked ``benchmark(timer=REPLAY)``."""
    benchmark.extra_info |= extra
    REPLAY.load(rounds)
    benchmark.pedantic(lambda: None, rounds=len(rounds))
