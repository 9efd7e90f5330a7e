"""The helpers of ``benchmarks/``: the truth, the turns, and the verdict on the goals. Nothing is timed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from segma_fast import cw_distance_reference
from segma_fast.backends import native

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the folder by name."""
    monkeypatch.syspath_prepend(FOLDER)

    def load(name: str) -> ModuleType:
        return __import__(name)

    yield load
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


@pytest.mark.parametrize("components", [1, 10])
def test_truth_in_blocks_is_the_reference(helper: Any, components: int) -> None:
    problems = helper("problems")
    problem = problems.make_problem(300, 10, components)
    z, means = problem.z.detach().double().requires_grad_(), problem.means.detach().double().requires_grad_()
    value = cw_distance_reference(z, means, gamma=problem.gamma)
    expected = problems.truth(300, 10, components)
    found = problems.errors((value.detach(), *torch.autograd.grad(value, (z, means))), expected)
    assert max(found.value, found.grad_z, found.grad_means) < 1e-10


def test_functions_take_turns_and_are_replayed(helper: Any) -> None:
    interleave = helper("interleave")
    order: list[str] = []
    functions = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    timings = interleave.interleave(functions, {"a": 1.0, "b": 2.0}, lambda: order.append("|"), seconds=0)
    assert "".join(order[-(order[::-1].index("|", 1)) - 1 :]) == "|aabb|"  # one untimed call, one timed
    assert order.count("|") == 4
    assert [len(t.rounds) for t in timings.values()] == [5, 5]
    interleave.REPLAY.load([3.0, 4.0])
    readings = [interleave.REPLAY() for _ in range(4)]
    assert (readings[1] - readings[0], readings[3] - readings[2]) == (3.0, 4.0)


@pytest.mark.skipif(native.REASON is not None, reason=f"native: {native.REASON}")
def test_parts_of_a_small_call(helper: Any) -> None:
    """The operator alone gives the value and gradients of the whole call."""
    overhead, problem = helper("test_overhead"), helper("problems").make_problem(40, 10, 3)
    value, grad_z, grad_means = helper("contenders").backend("native")(problem)()
    found = overhead.operator(problem)()
    assert torch.allclose(found[0].float(), value) and torch.allclose(found[1], grad_z)
    assert all(map(torch.equal, overhead.bare(problem)(), (value, grad_z, grad_means)))


def entry(contender: str, rows: int, milliseconds: float) -> dict[str, Any]:
    seconds = milliseconds / 1e3
    stats = {"median": seconds, "p20": seconds, "p80": seconds}
    params = {"rows": rows, "dim": 32, "components": 10, "contender": contender}
    return {"params": params, "stats": stats, "extra_info": {"sgemm_gflops": 100.0}}


def test_table_says_met_and_missed(tmp_path: Path) -> None:
    times = [entry("native", 1024, 1), entry("reference", 1024, 25), entry("compiled", 1024, 5)]
    more = [entry("native", 8192, 100), entry("chunked", 8192, 90)]
    memory = {"params": {"rows": 4096, "dim": 64}, "stats": {"median": 1.0}, "extra_info": {"extra_mb": 65.0}}
    machine = {"cpu": "C", "flags": [], "threads": 2, "cores": 2, "torch": "2", "native": {}, "peers": {}}
    content = {
        "machine_info": machine | {"load_average_at_start": [0, 0, 0], "keops_flags": ""},
        "datetime": "2026-01-02T03:04:05",
        "benchmarks": [*times, *more, memory],
    }
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content))
    command = [sys.executable, str(FOLDER / "table.py"), str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if line.startswith("|")]

    def line(start: str) -> str:
        return next(line for line in lines if line.startswith(start))

    assert "25.00× at m = 1024, D = 32 | met" in line("| eager reference, m = 1024")
    assert "5.00× at m = 1024, D = 32; below at 1 of 1 shapes | **missed**" in line("| torch.compile")
    assert "0.90×" in line("| chunked, every D") and "missed" in line("| chunked, every D")
    assert "not measured" in line("| pykeops")
    assert "0.86×" in line("| 4m²D/time against torch's sgemm, m = 8192, D = 32")
    assert "65.0 MB at m = 4096 | **missed**" in line("| memory")


def test_readme_holds_the_newest_result(helper: Any) -> None:
    newest = max((FOLDER / "results").glob("cpu-*.json"), key=lambda path: path.name)
    assert helper("table").report(newest) in (FOLDER.parent / "README.md").read_text(encoding="utf-8")


def test_cost_on_paper_is_that_of_the_page(helper: Any) -> None:
    paper = helper("processes_on_paper")
    page = (FOLDER.parent / "docs" / "large_batches.md").read_text()
    assert paper.table(paper.Rates()) in page
    gathering, evaluating = paper.seconds(1 << 20, 64, 8, paper.Rates(1e14, 1e11, 1e10))
    assert gathering == pytest.approx(7 / 8 * 2**20 * 64 * 4 / 1e11)
    assert evaluating == pytest.approx(4 * 2**40 * 64 / 8 / 1e14)
    assert paper.gathered(100, 3, 4) == 75 * 3 * 4
    limit = 1 + 4 * (1 << 20) * 4e10 / (4 * 1e14)  # processes at which gathering takes as long as evaluating
    for processes, longer in ((round(0.9 * limit), 1), (round(1.1 * limit), 0)):
        assert max(range(2), key=paper.seconds(1 << 20, 64, processes, paper.Rates()).__getitem__) == longer
