"""What the exact form of φ costs: value and all gradients of the native backend with either form, in turns."""

from __future__ import annotations

from typing import Any

import pytest
from contenders import CONTENDERS
from interleave import REPLAY, Timing, interleave, report
from machine import Sgemm
from problems import Problem, Run, make_problem, with_gradients

from segma_fast import fast_cw_distance
from segma_fast.formulas import FORMS

ROWS = 4096


def with_form(problem: Problem, form: str) -> Run:
    z, means, gamma = problem.z, problem.means, problem.gamma
    return with_gradients(lambda: fast_cw_distance(z, means, gamma=gamma, backend="native", phi=form), z, means)


@pytest.fixture(scope="module")
def timings(sgemm: Sgemm) -> dict[int, dict[str, Timing]]:
    """Of both forms, by dimension; filled by the first test of a dimension."""
    return {}


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.skipif(CONTENDERS["native"].missing is not None, reason=f"native: {CONTENDERS['native'].missing}")
@pytest.mark.parametrize(("dim", "form"), [(dim, form) for dim in (2, 5, 10, 32, 64, 256) for form in FORMS])
def test_form(benchmark: Any, timings: dict[int, dict[str, Timing]], sgemm: Sgemm, dim: int, form: str) -> None:
    if dim not in timings:
        problem = make_problem(ROWS, dim, 10)
        runs = {name: with_form(problem, name) for name in FORMS}
        for run in runs.values():
            run()
        timings[dim] = interleave(runs, dict.fromkeys(runs, 0.0), sgemm.sample)
    report(benchmark, timings[dim][form].rounds, rows=ROWS)
