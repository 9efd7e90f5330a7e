"""Measures contenders at one size after another: checks them against float64, then times them in turns."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

import torch

from segma_fast.bench.contenders import Contender
from segma_fast.bench.machine import Sgemm
from segma_fast.bench.memory import peak_on_gpu
from segma_fast.bench.problems import FAR_APART, Case, Problem, Run, Truth, make_problem, near_optimum, truth
from segma_fast.bench.records import Record
from segma_fast.bench.timing import by_wall, described, take_turns


class Session:
    """A series of measurements on one device.

    Args:
        device: device of the problems.
        seconds: timing budget for one contender at one size.
        deadline: value of ``perf_counter`` after which no new measurement starts.
        log: called with a line about each finished contender.
        begins: called with a line about each measurement that starts.
        near: whether the problems are near the optimum, where accuracy is promised; else their clusters are far apart.
    """

    def __init__(
        self,
        device: torch.device,
        seconds: float,
        deadline: float = float("inf"),
        log: Callable[[str], None] = lambda line: None,
        begins: Callable[[str], None] = lambda line: None,
        near: bool = False,
    ) -> None:
        self.device, self.seconds, self.deadline, self.log, self.begins = device, seconds, deadline, log, begins
        self.near = near
        self.sgemm = Sgemm() if device.type == "cpu" else None
        self.samples: dict[tuple[Case, str], list[float]] = {}  # single times in seconds, which the records summarise

    def measure(self, case: Case, contenders: Mapping[str, Contender], suite: str = "distance") -> list[Record]:
        """One record per contender that supports the case; one that fails or is too inaccurate has a reason instead."""
        chosen = {name: contender for name, contender in contenders.items() if contender.serves(case)}
        records = {name: self._blank(suite, name, contender, case) for name, contender in chosen.items()}
        if perf_counter() > self.deadline:
            return [replace(record, reason="time: none was left") for record in records.values()]
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # otherwise later sizes would hit the recompile limit and run eagerly
        problem = make_problem(case, self.device, near_optimum(case) if self.near else FAR_APART)
        truths: dict[str, Truth] = {}
        runs: dict[str, Run] = {}
        for name, contender in chosen.items():
            self.begins(f"{case}, {name}")
            reason = contender.why_not(case, self.device)
            if reason is None and perf_counter() > self.deadline:
                reason = "time: none was left"
            if reason is None:
                try:
                    runs[name], found = self._first(contender, problem, truths)
                    records[name] = replace(records[name], **found)
                    reason = found["too_far"] if self.device.type == "cpu" else None  # on a GPU it is still timed
                except Exception as error:  # the other contenders are still measured
                    reason = described(error)
            if reason is not None:
                records[name] = replace(records[name], reason=reason)
                runs.pop(name, None)
                self.log(f"{case}, {name}: {reason}")
            self._free()
        self.begins(f"{case}, timing")
        begun = len(self.sgemm.samples) if self.sgemm else 0
        between = self.sgemm.sample if self.sgemm else (lambda: 0.0)
        for name, times in take_turns(runs, self.seconds, self.device, between).items():
            rate = round(self.sgemm.since(begun), 1) if self.sgemm else None
            reason = times.failure or self._changed(chosen[name], runs[name], truths)
            if reason is not None:
                records[name] = replace(records[name], reason=reason)
            else:
                self.samples[case, name] = times.samples
                records[name] = replace(records[name], **times.summary(), machine_gflops=rate)
            self.log(f"{case}, {name}: {reason or f'{1e3 * (records[name].median_s or 0):.4g} ms'}")
        truths.clear()
        runs.clear()
        self._free()
        return list(records.values())

    def _blank(self, suite: str, name: str, contender: Contender, case: Case) -> Record:
        own = {"precision": contender.precision, "phi": contender.phi, "device": self.device.type}
        return Record(suite, name, **asdict(case), **own)  # type: ignore[arg-type]

    def _first(self, contender: Contender, problem: Problem, truths: dict[str, Truth]) -> tuple[Run, dict[str, Any]]:
        """Prepare, call once and check; on a GPU measure the memory of another call."""
        kept: list[Any] = []

        def first() -> None:
            kept.append(contender.prepare(problem))
            kept.append(kept[0]())

        found: dict[str, Any] = {"first_call_s": by_wall(first, self.device), "too_far": None}
        torch.set_flush_denormal(False)  # a library built with -ffast-math turns it on when it is loaded
        run, result = kept
        if contender.is_distance:
            if contender.phi not in truths:
                truths[contender.phi] = truth(problem, contender.phi)
            expected = truths[contender.phi]
            errors = expected.errors(result)
            found |= {"error_value": errors.value, "error_gradient": errors.gradient}
            found["too_far"] = expected.too_far(errors, contender.precision)
        if self.device.type == "cuda":
            found["peak_mb"] = peak_on_gpu(run, self.device) / 1e6
        return run, found

    def _changed(self, contender: Contender, run: Run, truths: dict[str, Truth]) -> str | None:
        """Why a call after the timed ones is too inaccurate, or None."""
        if not contender.is_distance or self.device.type == "cuda":
            return None
        try:
            wrong = truths[contender.phi].too_far(truths[contender.phi].errors(run()), contender.precision)
        except Exception as error:
            return described(error)
        return f"after it was timed, {wrong}" if wrong else None

    def _free(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
