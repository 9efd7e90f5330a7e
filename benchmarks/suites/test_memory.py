"""Memory that a call needs beyond its inputs and the gradients that it returns, in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.peers.lineup import name_of, on_the_cpu
from benchmarks.suites.memory import CLEAR_REFS
from benchmarks.suites.own_process import in_process
from benchmarks.suites.replay import REPLAY, report
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record

CASES = [
    *((Case(rows, 64), "native") for rows in (4096, 16384, 65536)),
    *((Case(rows, dim, 1, gamma=0.5), "native") for rows, dim in ((10000, 512), (4096, 2048), (4096, 4096))),
    *((Case(4096, 64), name) for name in ("chunked", "compiled tiles", "reference", "compiled reference", "pykeops")),
]


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(("case", "contender"), CASES, ids=map(name_of, CASES))
def test_memory(benchmark: Any, records: list[Record], case: Case, contender: str) -> None:
    if reason := on_the_cpu()[contender].missing:
        pytest.skip(f"{contender}: {reason}")
    record = in_process("memory", contender, case)
    records.append(record)
    assert record.measured, record.reason
    report(benchmark, [record.median_s], peak_mb=record.peak_mb)
