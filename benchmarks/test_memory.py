"""Memory that a call of the native backend needs beyond its inputs and the gradients that it returns."""

from __future__ import annotations

import json
import subprocess
import sys
from time import perf_counter
from typing import Any

import pytest
from contenders import CONTENDERS
from interleave import REPLAY, report
from resident import CLEAR_REFS, peak_beyond
from torch import Tensor


def measure(rows: int, dim: int) -> dict[str, float]:
    """Value and gradients in a process of their own, after a small call has loaded libraries and started threads."""
    from contenders import backend
    from problems import make_problem

    backend("native")(make_problem(256, dim, 10))()
    problem = make_problem(rows, dim, 10)
    run = backend("native")(problem)
    gradients: list[Tensor] = []
    start = perf_counter()
    extra = peak_beyond(lambda: gradients.extend(run()[1:]))
    seconds = perf_counter() - start
    returned = sum(g.numel() * g.element_size() for g in gradients)
    return {"extra_mb": (extra - returned) / 1e6, "seconds": seconds}


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.skipif(CONTENDERS["native"].missing is not None, reason=f"native: {CONTENDERS['native'].missing}")
@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("rows", [4096, 16384, 65536])
@pytest.mark.parametrize("dim", [64])
def test_peak_memory(benchmark: Any, rows: int, dim: int) -> None:
    command = [sys.executable, __file__, str(rows), str(dim)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    report(benchmark, [found["seconds"]], extra_mb=round(found["extra_mb"], 1))


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
