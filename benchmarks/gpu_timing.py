"""Time and memory of calls on a GPU: contenders in turns, many calls between two events, one call by the wall clock."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
from problems import Run

TURNS = 5
SAMPLE = 0.01  # seconds of calls between two events
MOST_CALLS = 200
FEWEST, MOST = 5, 40  # samples of a contender
SLOW = 0.5  # seconds; a slower call is made only three times


@dataclass
class Times:
    """Seconds a call: between events around calls without a pause, and of a call with the wait for its end."""

    calls: int  # per sample of ``events``
    events: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def stats(self) -> dict[str, Any]:
        return {"events": summary(self.events), "wall": summary(self.wall), "calls_per_sample": self.calls}


def summary(samples: list[float]) -> dict[str, float]:
    fifths = quantiles(samples, n=5, method="inclusive") if len(samples) > 1 else samples * 4
    return {"median": median(samples), "p20": fifths[0], "p80": fifths[3], "min": min(samples), "rounds": len(samples)}


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
    """Seconds a call, of so many one after another; on a CPU by the wall clock."""
    if device.type != "cuda":
        start = perf_counter()
        for _ in range(calls):
            run()
        return (perf_counter() - start) / calls
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    run()  # the device has work when the clock starts
    first.record()
    for _ in range(calls):
        run()
    last.record()
    last.synchronize()
    return 1e-3 * first.elapsed_time(last) / calls


def take_turns(runs: Mapping[str, Run], device: torch.device, seconds: float) -> dict[str, Times]:
    """Times of functions that were called before, in turns; ``seconds`` is about what one of them may take in all."""
    times: dict[str, Times] = {}
    per_turn: dict[str, int] = {}
    for name, run in runs.items():
        took = by_wall(run, device)
        if took < SLOW:
            took = min(by_wall(run, device) for _ in range(3))
        times[name] = Times(min(max(int(SAMPLE / took), 1), MOST_CALLS))
        if took >= SLOW:
            per_turn[name] = 0
        else:
            samples = int(seconds / (took * (times[name].calls + 2)))
            per_turn[name] = -(-min(max(samples, FEWEST), MOST) // TURNS)
    gc.collect()
    gc.disable()
    try:
        for turn in range(TURNS):
            for name, run in runs.items():
                if per_turn[name] == 0 and turn < 3:
                    once = by_wall(run, device)
                    times[name].events.append(once)
                    times[name].wall.append(once)
                for _ in range(per_turn[name]):
                    times[name].events.append(by_events(run, times[name].calls, device))
                    times[name].wall.append(by_wall(run, device))
    finally:
        gc.enable()
    return times


def peak_memory(run: Run, device: torch.device) -> dict[str, float]:
    """Megabytes of one call: all that was allocated at its peak, and what of it was neither input nor gradient."""
    if device.type != "cuda":
        return {}
    synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    gradients = run()[1:]
    synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    returned = sum(g.numel() * g.element_size() for g in gradients)
    return {"peak_mb": peak / 1e6, "extra_mb": (peak - before - returned) / 1e6}


def product_rate(device: torch.device, meanwhile: Callable[[], Any], size: int = 8192) -> tuple[float | None, Any]:
    """TFLOP/s of torch's own fp16 matrix product on random numbers, and what a function gives while it runs."""
    if device.type != "cuda":
        return None, None
    left, right = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    out = torch.empty_like(left)

    def multiply() -> tuple[torch.Tensor, ...]:
        return (torch.mm(left, right, out=out),)

    multiply()
    rate = 2e-12 * size**3 / median(by_events(multiply, 10, device) for _ in range(5))
    for _ in range(500):  # more than half a second
        multiply()
    found = meanwhile()
    synchronize(device)
    return rate, found
