"""The run as a whole: settings, the rate of the machine, and what of it goes into the JSON file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from statistics import quantiles
from time import perf_counter
from typing import Any

import pytest
import torch
from contenders import CONTENDERS
from interleave import interleave
from machine import Sgemm, describe_machine
from problems import Errors, errors, make_problem, truth

Shape = tuple[int, int, int]  # rows, dim, components
KEPT = ("min", "median", "q1", "q3", "max", "rounds")
SCRATCH = tempfile.TemporaryDirectory(prefix="segma_fast_bench_")  # empty caches: every first call compiles
os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(SCRATCH.name, "inductor")
os.environ["KEOPS_CACHE_FOLDER"] = os.path.join(SCRATCH.name, "keops")
os.environ.pop("SEGMA_FAST_BACKEND", None)
if "BENCH_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))


@pytest.fixture(scope="session")
def sgemm() -> Sgemm:
    return Sgemm()


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest, sgemm: Sgemm) -> Callable[[Shape], dict[str, Any]]:
    """Gives ``(timing, errors, sgemm rate)`` of each selected contender of a shape, timed at the shape's first test."""
    selected: dict[Shape, list[str]] = {}
    for item in request.session.items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if "contender" in params and CONTENDERS[params["contender"]].missing is None:
            shape = (params["rows"], params["dim"], params["components"])
            selected.setdefault(shape, []).append(params["contender"])
    done: dict[Shape, dict[str, Any]] = {}

    def measure(shape: Shape) -> dict[str, Any]:
        if shape not in done:
            done.clear()
            done[shape] = measure_shape(shape, selected[shape], sgemm)
        return done[shape]

    return measure


def measure_shape(shape: Shape, names: list[str], sgemm: Sgemm) -> dict[str, Any]:
    problem, expected = make_problem(*shape), truth(*shape)
    runs, first_calls, accuracy = {}, {}, {}
    results: dict[str, Any] = {}
    for name in names:
        try:
            run = CONTENDERS[name].prepare(problem)
            start = perf_counter()
            result = run()
            first_calls[name] = perf_counter() - start
            torch.set_flush_denormal(False)  # a library built with -ffast-math turns it on when it is loaded
            accuracy[name] = check(errors(result, expected))
            runs[name] = run
        except Exception as error:  # the others are measured, and this one's test fails with it
            results[name] = error
    start_of_group = len(sgemm.samples)
    timings = interleave(runs, first_calls, sgemm.sample)
    rate = sgemm.since(start_of_group)
    return results | {name: (timing, accuracy[name], rate) for name, timing in timings.items()}


def check(found: Errors) -> Errors:
    gradients = [e for e in (found.grad_z, found.grad_means) if e is not None]
    assert found.value <= 2e-4 and max(gradients) <= 1e-3, f"too far from float64 to be timed: {found}"
    return found


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    return describe_machine()


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any]:
    return {}


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Keep a summary of the rounds instead of every one of them."""
    for entry in output_json["benchmarks"]:
        stats = entry["stats"]
        data = stats["data"]
        fifths = quantiles(data, n=5, method="inclusive") if len(data) > 1 else [data[0]] * 4
        entry["stats"] = {key: stats[key] for key in KEPT} | {"p20": fifths[0], "p80": fifths[3]}
        for key in ("options", "fullname", "group", "param"):
            entry.pop(key, None)
