"""Time of the distance, value and all gradients: our backends and their peers on the same input, side by side.

``make bench`` runs this and prints the tables. The contenders of a shape take turns, and each is checked against
float64 before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from contenders import CONTENDERS
from interleave import REPLAY, report

ROWS = (128, 256, 1024, 4096, 8192, 16384)
DIMS = (10, 32, 64)
SHAPES = [
    *((rows, dim, 10) for dim in DIMS for rows in ROWS),
    *((rows, dim, 10) for dim in (256, 1024, 4096) for rows in (128, 2048)),
    *((rows, dim, 1) for dim in (10, 64) for rows in (1024, 4096)),
]
CASES = [
    (rows, dim, components, name)
    for rows, dim, components in SHAPES
    for name, contender in CONTENDERS.items()
    if components in contender.components and rows <= contender.largest_rows and dim <= contender.largest_dim
]


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize(("rows", "dim", "components", "contender"), CASES)
def test_value_and_gradients(
    benchmark: Any, measured: Callable[..., Any], rows: int, dim: int, components: int, contender: str
) -> None:
    if CONTENDERS[contender].missing:
        pytest.skip(f"{contender}: {CONTENDERS[contender].missing}")
    result = measured((rows, dim, components))[contender]
    if isinstance(result, Exception):
        raise result
    timing, accuracy, rate = result
    report(
        benchmark, timing.rounds, first_call_s=timing.first_call_s, errors=asdict(accuracy), sgemm_gflops=round(rate, 1)
    )
