"""The stages of ``make gpu`` on the CPU: what crashes, hangs or is wrong costs one line, and is told."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.gpu import cases, stages
from benchmarks.gpu.supervisor import Visit


def test_what_fails_costs_one_case(tmp_path: Path) -> None:
    """Three cases fail on purpose; those after them are done."""
    visit = Visit(tmp_path, 100.0, "cpu", 2, "medium  700x10")
    visit.longest = 8.0
    stages.perform(visit, ["smoke"])
    assert sorted(fault.split()[0] for fault in visit.faults[:3]) == ["CRASH", "HANG", "WRONG"]
    figures = json.loads((tmp_path / "stages.json").read_text(encoding="utf-8"))
    assert [entry["state"] for entry in figures["smoke"]].count("ok") == 2
    assert all(entry["same_bits"] for entry in figures["smoke"] if entry["state"] in ("ok", "WRONG"))
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "==== CRASH" in log and "d² is off by 5.0e-01" in log


def test_a_stage_without_time_is_left_out(tmp_path: Path) -> None:
    stages.perform(Visit(tmp_path, 20.0, "cpu", 1, ""), ["smoke"])
    assert "smoke: left out, 20 s are left of 20" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_every_case_is_named_once() -> None:
    for stage, make in cases.CASES.items():
        titles = [cases.title(case) for case in make()]
        assert len(set(titles)) == len(titles) > 20, stage
