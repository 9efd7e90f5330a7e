"""What the exact form of φ costs: value and all gradients of the native backend with either form, in turns."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from benchmarks.suites.replay import REPLAY, report
from segma_fast.bench.contenders import Contender, ours
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record
from segma_fast.bench.session import Session
from segma_fast.distance.backends import extension
from segma_fast.distance.formulas import FORMS

CONTENDERS = {
    f"native, {phi}": Contender(partial(ours, backend="native", phi=phi), precision="single", phi=phi) for phi in FORMS
}


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.skipif(extension.REASON is not None, reason=f"native: {extension.REASON}")
@pytest.mark.parametrize("dim", [2, 5, 10, 32, 64, 256])
def test_forms(benchmark: Any, session: Session, records: list[Record], dim: int) -> None:
    case = Case(4096, dim)
    records += session.measure(case, CONTENDERS, "forms")
    report(benchmark, session.samples[case, "native, exact"])
