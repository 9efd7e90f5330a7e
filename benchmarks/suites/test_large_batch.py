"""A training step of SeGMA's convolutional network: memory and time in micro-batches, and all at once."""

from __future__ import annotations

import json
import subprocess
import sys
from time import perf_counter
from typing import Any

import pytest
import torch

from benchmarks import ROOT
from benchmarks.suites.memory import CLEAR_REFS, peak_beyond
from benchmarks.suites.replay import REPLAY, report
from segma_fast.bench.records import Record
from segma_fast.distance.mixture import GaussianMixture, initial_means
from segma_fast.trainer.models import AutoEncoder, Batch, NetworkConfig, SeGMA, SeGMAConfig

MICRO_BATCH = 512
SHAPE, DIM, COMPONENTS = (3, 32, 32), 32, 10


def measure(batch: int, micro_batch: int | None) -> dict[str, float]:
    """Loss and gradients of a batch in a process of its own, after a small step has loaded libraries."""
    torch.manual_seed(0)
    network = NetworkConfig("conv", DIM, (786, 786))
    prior = GaussianMixture(initial_means(COMPONENTS, DIM, "simplex", 5.0))
    model = SeGMA(AutoEncoder(SHAPE, network), prior, SeGMAConfig())
    images = torch.randint(256, (batch, *SHAPE), dtype=torch.uint8)
    labels = torch.arange(256) % COMPONENTS

    def step(rows: int) -> None:
        labelled = min(256, rows // 2)
        loss, _ = model(Batch(images[:rows], labels[:labelled], rows - labelled, labelled, micro_batch))
        loss.backward()

    step(64)
    start = perf_counter()
    extra = peak_beyond(lambda: step(batch))
    return {"extra_mb": extra / 1e6, "seconds": perf_counter() - start}


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("batch", "micro_batch"),
    [(1024, None), (4096, None), (16384, None), (4096, 512), (16384, 512), (65536, 512)],
)
def test_step_of_the_convolutional_network(
    benchmark: Any, records: list[Record], batch: int, micro_batch: int | None
) -> None:
    command = [sys.executable, "-m", "benchmarks.suites.test_large_batch", str(batch), str(micro_batch or 0)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    way = "at once" if micro_batch is None else f"in {micro_batch}"
    seconds, megabytes = found["seconds"], round(found["extra_mb"], 1)
    sums = {"median_s": seconds, "p20_s": seconds, "p80_s": seconds, "min_s": seconds, "rounds": 1}
    record = Record("micro-batches", way, batch, DIM, COMPONENTS, peak_mb=megabytes, micro_batch=micro_batch, **sums)
    records.append(record)
    report(benchmark, [seconds], peak_mb=megabytes)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]) or None)))
