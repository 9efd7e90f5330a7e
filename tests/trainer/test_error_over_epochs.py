"""The test error on the way, from records of trainings that were cut at different epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from segma_fast.trainer.experiments.error_over_epochs import errors_at, render_course
from segma_fast.trainer.experiments.paper import trials
from segma_fast.trainer.experiments.tables import Result
from segma_fast.trainer.run_folder import METRICS


def write(folder: Path, errors: dict[float, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["step,epoch,test_error", "1,0.5,"]  # a line without a measurement
    lines += [f"{60 * epoch:.0f},{epoch:.7g},{error}" for epoch, error in errors.items()]
    (folder / METRICS).write_text("\n".join(lines) + "\n")


def test_errors_at_the_epochs_that_were_reached(tmp_path: Path) -> None:
    write(tmp_path, {5: 0.31, 9.999: 0.3, 10.5: 0.25, 30: 0.2, 60: 0.125})
    assert errors_at(tmp_path / METRICS) == pytest.approx({5: 31, 10: 25, 60: 12.5})  # 30 is too late for 20
    assert errors_at(tmp_path / "none.csv") == {}


def test_damaged_records_tell_what_is_left(tmp_path: Path) -> None:
    write(tmp_path, {5: 0.31})
    with (tmp_path / METRICS).open("ab") as file:
        file.write(b"\xff\xfe,half\n600,10\n")
    assert errors_at(tmp_path / METRICS) == pytest.approx({5: 31})
    (tmp_path / METRICS).write_text("a,b\n1,2\n")
    assert errors_at(tmp_path / METRICS) == {}


def test_table_says_how_many_came_so_far(tmp_path: Path) -> None:
    results = [Result(trial, None, 0, 0) for trial in trials("mnist", "tuned", 2, 2, tmp_path)]
    assert render_course(results) == ""
    for result in results:
        trial = result.trial
        if trial.model == "segma":
            late = {} if trial.seed else {20: 0.1}
            write(trial.config.run_dir, {5: 0.25 + 0.01 * trial.seed} | late)
    lines = render_course(results).splitlines()
    assert lines[2] == "| model | labels | 5 epochs | 20 epochs |"
    assert "| SeGMA | 100 stratified | 25.50 ± 0.71 | 10.00 (1 of 2) |" in lines
    assert "| SeGMA, unsupervised (β = 0) | – | – | – |" in lines
    assert all("CWAE" not in line for line in lines)


def test_single_runs(tmp_path: Path) -> None:
    trial = trials("mnist", "authors", 1, 2, tmp_path)[0]
    write(trial.config.run_dir, {100: 0.2})
    other = replace(trial, config=replace(trial.config, run_dir=tmp_path / "other"))
    assert "| 20.00 (1 of 2) |" in render_course([Result(trial, None, 0, 0), Result(other, None, 0, 0)])
