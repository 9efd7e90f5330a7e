"""The run as a whole: settings, contenders in turns, and the records that it leaves (``--records FILE.json``)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.peers.lineup import on_the_cpu
from benchmarks.peers.published import KEOPS_FLAGS
from segma_fast.bench.machine import describe_machine
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results
from segma_fast.bench.session import Session

CPU = torch.device("cpu")
RESULTS = pytest.StashKey[Results]()
SECONDS = float(os.environ.get("BENCH_SECONDS", "0.8"))  # of timing for one contender at one size
SCRATCH = tempfile.TemporaryDirectory(prefix="segma_fast_bench_")  # empty caches: every first call compiles
os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(SCRATCH.name, "inductor")
os.environ["KEOPS_CACHE_FOLDER"] = os.path.join(SCRATCH.name, "keops")
os.environ.pop("SEGMA_FAST_BACKEND", None)
if "BENCH_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--records", type=Path, help="JSON file for what was measured; CSV is written beside it")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--records")
    if path is None:
        return
    if path.suffix != ".json" or path.is_dir():
        raise pytest.UsageError(f"--records must name a file that ends in .json, got {path}")
    if path.exists():
        raise pytest.UsageError(f"--records: {path} is there already, and a result is not written over")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise pytest.UsageError(f"--records: {error}") from error


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Mark the result as complete if nothing failed and nothing was left out."""
    results, config = session.config.stash.get(RESULTS, None), session.config
    path = config.getoption("--records")
    if results is None or path is None or exitstatus or config.option.keyword or config.option.markexpr:
        return
    if results.records and not any("::" in argument for argument in config.args):
        replace(results, complete=True).save(path)


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Results:
    """When, on what, and what the tests measure."""
    machine = describe_machine(CPU) | {"keops_flags": KEOPS_FLAGS}
    found = Results(datetime.now().isoformat(timespec="seconds"), machine, [], complete=False)
    request.config.stash[RESULTS] = found
    return found


@pytest.fixture
def records(request: pytest.FixtureRequest, results: Results) -> Iterator[list[Record]]:
    """Takes what a test measures; written after each, so that a run that is stopped leaves what it has."""
    before = len(results.records)
    yield results.records
    path = request.config.getoption("--records")
    if path is not None and len(results.records) > before:
        results.save(path)


@pytest.fixture(scope="session")
def session() -> Session:
    return Session(CPU, SECONDS)


@pytest.fixture(scope="session")
def found() -> dict[tuple[Case, str], Record]:
    """The records of sizes whose first test has run, by size and contender."""
    return {}


@pytest.fixture
def measured(
    request: pytest.FixtureRequest, session: Session, records: list[Record], found: dict[tuple[Case, str], Record]
) -> Callable[[Case, str], Record]:
    """Gives the record of a contender at a size, whose selected contenders are all measured at its first test."""

    def measure(case: Case, name: str) -> Record:
        if (case, name) not in found:
            params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
            names = [p["contender"] for p in params if p.get("case") == case and "contender" in p]
            every = on_the_cpu()
            new = session.measure(case, {other: every[other] for other in dict.fromkeys(names)})
            records.extend(new)
            found.update({(case, record.contender): record for record in new})
        return found[case, name]

    return measure


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    return describe_machine(CPU)
