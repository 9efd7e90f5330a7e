"""Time of the distance: our backends and their peers on the same input, side by side.

``make bench`` runs this and prints the tables. The contenders of a size take turns, and each is checked against
float64 before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.peers.lineup import name_of, on_the_cpu
from benchmarks.suites.replay import REPLAY, report
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record
from segma_fast.bench.session import Session

EMBEDDINGS = [(1024, 512), (1024, 2048), (1024, 4096), (4096, 512), (4096, 2048), (4096, 4096), (10000, 512)]
CASES = [
    *(Case(rows, dim) for dim in (10, 32, 64) for rows in (128, 256, 1024, 4096, 8192, 16384)),
    *(Case(rows, dim) for dim in (128, 512, 2048) for rows in (128, 1024, 4096)),
    Case(65536, 64),
    *(Case(rows, dim, 1) for dim in (10, 64) for rows in (1024, 4096)),
    *(Case(rows, 64, 100) for rows in (1024, 4096)),
    *(Case(rows, 64, dtype="bfloat16") for rows in (1024, 4096)),
    *(Case(rows, 64, gradients=False) for rows in (128, 1024, 4096, 16384)),
    *(Case(rows, dim, 1, gamma=0.5) for rows, dim in EMBEDDINGS),  # as in self-supervised learning
]
PAIRS = [(case, name) for case in CASES for name, contender in on_the_cpu().items() if contender.serves(case)]


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize(("case", "contender"), PAIRS, ids=map(name_of, PAIRS))
def test_distance(
    benchmark: Any, measured: Callable[[Case, str], Record], session: Session, case: Case, contender: str
) -> None:
    record = measured(case, contender)
    if not record.measured:
        pytest.skip(f"{contender}: {record.reason}")
    report(benchmark, session.samples[case, contender], error=record.error_value)
