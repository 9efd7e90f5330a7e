"""The run as a whole: settings, contenders in turns, and the records that it leaves (``--records FILE.json``)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from contenders import on_the_cpu
from peers import KEOPS_FLAGS

from segma_fast.bench.machine import describe_machine
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results
from segma_fast.bench.session import Session

CPU = torch.device("cpu")
SECONDS = float(os.environ.get("BENCH_SECONDS", "0.8"))  # of timing for one contender at one size
SCRATCH = tempfile.TemporaryDirectory(prefix="segma_fast_bench_")  # empty caches: every first call compiles
os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(SCRATCH.name, "inductor")
os.environ["KEOPS_CACHE_FOLDER"] = os.path.join(SCRATCH.name, "keops")
os.environ.pop("SEGMA_FAST_BACKEND", None)
if "BENCH_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--records", type=Path, help="JSON file for what was measured; CSV is written beside it")


@pytest.fixture(scope="session")
def records(request: pytest.FixtureRequest) -> Iterator[list[Record]]:
    """Takes what the tests measure; written at the end, also of a run that is stopped."""
    kept: list[Record] = []
    started, machine = datetime.now(), describe_machine(CPU) | {"keops_flags": KEOPS_FLAGS}
    yield kept
    path = request.config.getoption("--records")
    if path is not None and kept:
        Results(started.isoformat(timespec="seconds"), machine, kept).save(path)


@pytest.fixture(scope="session")
def session() -> Session:
    return Session(CPU, SECONDS)


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest, session: Session, records: list[Record]) -> Callable[[Case, str], Record]:
    """Gives the record of a contender at a size, whose selected contenders are all measured at its first test."""
    selected: dict[Case, list[str]] = {}
    for item in request.session.items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if "contender" in params:
            selected.setdefault(params["case"], []).append(params["contender"])
    done: dict[tuple[Case, str], Record] = {}
    every = on_the_cpu()

    def measure(case: Case, name: str) -> Record:
        if (case, name) not in done:
            found = session.measure(case, {other: every[other] for other in selected[case]})
            records.extend(found)
            done.update({(case, record.contender): record for record in found})
        return done[case, name]

    return measure


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    return describe_machine(CPU)
