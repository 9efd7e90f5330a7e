"""SeGMA's step with each backend at growing batches, and the trainer beside a bare step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.suites.replay import REPLAY, report
from benchmarks.suites.segma_step import measure
from benchmarks.suites.trainer_step import overhead, reproduction
from segma_fast.bench.records import Record
from segma_fast.distance.backends import extension

BACKENDS = ["reference", "chunked"] + ["native"] * (extension.REASON is None)
LARGEST = {"reference": 4096, "chunked": 16384, "native": 65536}


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("batch", [256, 1024, 4096, 16384, 65536])
def test_step(benchmark: Any, records: list[Record], batch: int) -> None:
    found = measure(batch, [name for name in BACKENDS if batch <= LARGEST[name]], torch.device("cpu"))
    records += found
    assert all(record.difference is not None and record.difference <= 1e-3 for record in found), found
    report(benchmark, [found[-1].median_s], share=found[-1].share)


@pytest.mark.benchmark(timer=REPLAY)
def test_trainer(benchmark: Any, records: list[Record]) -> None:
    found = overhead(1024)
    records += found
    report(benchmark, [found[0].median_s], bare=found[1].median_s)


@pytest.mark.benchmark(timer=REPLAY)
def test_reproduction(benchmark: Any, records: list[Record]) -> None:
    found = reproduction()
    records += found
    report(benchmark, [found[0].median_s], auto_encoder=found[-1].median_s)
