"""Time of functions in turns, so that what disturbs the machine disturbs all of them."""

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
FEWEST, MOST = 5, 500  # samples of a function
SLOW = 0.02  # seconds; on a CPU a faster function gets one call more in a turn, untimed, to warm the caches again
LONG = 2.0  # seconds; a function that takes so long is called three times in all
SAMPLE, MOST_CALLS = 0.01, 200  # on a GPU: seconds, and number, of the calls between two events


@dataclass
class Times:
    """Seconds a call. On a GPU ``samples`` are of calls in a row and ``alone`` of one call and the wait for its end."""

    samples: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    failure: str | None = None  # the error that ended them

    def summary(self) -> dict[str, Any]:
        """Median, first and last fifth and number of the samples, as the columns of a record."""
        low, high = fifths(self.samples)
        found: dict[str, Any] = {"median_s": median(self.samples), "p20_s": low, "p80_s": high}
        found |= {"min_s": min(self.samples), "rounds": len(self.samples)}
        return found | ({"alone_s": median(self.alone)} if self.alone else {})


def fifths(samples: list[float]) -> tuple[float, float]:
    """Their 20th and 80th percentile."""
    cuts = quantiles(samples, n=5, method="inclusive") if len(samples) > 1 else samples * 4
    return cuts[0], cuts[3]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def by_wall(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call from an idle device to an idle device."""
    synchronize(device)
    start = perf_counter()
    run()
    synchronize(device)
    return perf_counter() - start


def by_events(run: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Seconds a call of so many in a row on a GPU."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    run()  # the device has work when the clock starts
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
    """Times of functions that were called before; one that raises has a ``failure`` instead.

    Args:
        runs: the functions, by name.
        seconds: that one of them may take in all, unless its fewest calls take longer.
        device: on which they work; the CPU if None.
        between: called before the first, third and fifth turn and at the end: the rate of the machine.
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
    """Keeps the error of a function in the place of its times: the others are measured."""
    try:
        yield
    except Exception as error:
        times.failure = described(error)


def described(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _typical(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a second call; fast functions are called a few times more, their second call is not typical."""
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
