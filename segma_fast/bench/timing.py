"""Times functions in turns, so that a disturbance of the machine affects all of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch

TURNS = 5
FEWEST, MOST = 5, 500  # minimum and maximum number of samples of a function
SLOW = 0.02  # seconds; on a CPU a faster function gets one untimed call per turn to warm the caches again
LONG = 2.0  # seconds; a function that takes this long is timed only three times
SAMPLE, MOST_CALLS = 0.01, 200  # on a GPU: target time, and maximum number, of calls between two events


@dataclass
class Times:
    """Seconds per call. On a GPU ``samples`` are of consecutive calls, ``alone`` of single synchronised calls."""

    samples: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    failure: str | None = None  # the error that ended the measurement

    def summary(self) -> dict[str, Any]:
        """Median, 20th and 80th percentile, minimum and number of samples, named like the fields of a record."""
        low, high = fifths(self.samples)
        found: dict[str, Any] = {"median_s": median(self.samples), "p20_s": low, "p80_s": high}
        found |= {"min_s": min(self.samples), "rounds": len(self.samples)}
        return found | ({"alone_s": median(self.alone)} if self.alone else {})


def fifths(samples: list[float]) -> tuple[float, float]:
    """The 20th and 80th percentile of the samples."""
    cuts = quantiles(samples, n=5, method="inclusive") if len(samples) > 1 else samples * 4
    return cuts[0], cuts[3]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def by_wall(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, synchronised before and after."""
    synchronize(device)
    start = perf_counter()
    run()
    synchronize(device)
    return perf_counter() - start


def by_events(run: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Mean seconds per call of ``calls`` consecutive calls on a GPU."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    run()  # keep the device busy when the clock starts
    first.record()
    for _ in range(calls):
        run()
    last.record()
    last.synchronize()
    return float(1e-3 * first.elapsed_time(last) / calls)


def take_turns(
    runs: Mapping[str, Callable[[], Any]],
    seconds: float,
    device: torch.device | None = None,
    between: Callable[[], Any] = lambda: None,
) -> dict[str, Times]:
    """Time functions that have been called once before; one that raises gets a ``failure`` instead.

    Args:
        runs: the functions, by name.
        seconds: total time limit per function, unless the minimum number of samples takes longer.
        device: device that the functions run on; the CPU if None.
        between: called before the first, third and fifth turn and at the end, to measure the machine's speed.
    """
    device = torch.device("cpu") if device is None else device
    times = {name: Times() for name in runs}
    took: dict[str, float] = {}
    for name, run in runs.items():
        with _kept(times[name]):
            took[name] = _typical(run, device)
    gc.collect()
    gc.disable()
    try:
        for turn in range(TURNS):
            if turn % 2 == 0:
                between()
            for name, run in runs.items():
                if times[name].failure is None and (took[name] < LONG or turn < 3):
                    with _kept(times[name]):
                        _turn(run, took[name], seconds, device, times[name])
        between()
    finally:
        gc.enable()
    return times


@contextmanager
def _kept(times: Times) -> Iterator[None]:
    """Store the error of a function instead of its times, so that the other functions are still measured."""
    try:
        yield
    except Exception as error:
        times.failure = described(error)


def described(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _typical(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a second call; for fast functions, whose second call is not typical, the least of a few more."""
    took = by_wall(run, device)
    return min(by_wall(run, device) for _ in range(5)) if took < SLOW else took


def _turn(run: Callable[[], Any], took: float, seconds: float, device: torch.device, times: Times) -> None:
    if took >= LONG:
        times.samples.append(by_wall(run, device))
    elif device.type == "cuda":
        calls = min(max(int(SAMPLE / took), 1), MOST_CALLS)
        for _ in range(_per_turn(seconds / (took * (calls + 2)))):
            times.samples.append(by_events(run, calls, device))
            times.alone.append(by_wall(run, device))
    else:
        if took < SLOW:
            run()
        times.samples += [by_wall(run, device) for _ in range(_per_turn(seconds / took))]


def _per_turn(samples: float) -> int:
    return -(-min(max(int(samples), FEWEST), MOST) // TURNS)
