"""The modules of ``benchmarks/``: tables, goals, figures, the check, the peers. No time is judged here."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import relative_error

from benchmarks import RESULTS, ROOT
from benchmarks.peers import lineup
from benchmarks.report import check_factors, figures, tables, update_docs
from benchmarks.studies import experiments_page
from benchmarks.studies import processes_on_paper as paper
from benchmarks.suites import scaling, segma_step
from benchmarks.suites import test_overhead as overhead
from benchmarks.suites.memory import CLEAR_REFS
from benchmarks.suites.own_process import in_process
from benchmarks.suites.replay import Replay
from segma_fast.bench.contenders import ours
from segma_fast.bench.problems import Case, make_problem, truth
from segma_fast.bench.records import Record, Results
from segma_fast.distance.backends import extension
from segma_fast.trainer.models import NetworkConfig


def record(contender: str, rows: int, milliseconds: float, suite: str = "distance", **fields: Any) -> Record:
    seconds = milliseconds / 1e3
    times = {"median_s": seconds, "p20_s": seconds, "p80_s": seconds, "min_s": seconds, "rounds": 5}
    errors = {"error_value": 1e-6, "error_gradient": 1e-6, "machine_gflops": 100.0}
    return Record(suite, contender, **({"rows": rows, "dim": 32} | times | errors | fields))


MACHINE = {"cpu": "C", "flags": [], "threads": 2, "cores": 2, "torch": "2", "native": {}, "packages": {}}
MACHINE |= {"load_average_at_start": [0, 0, 0], "keops_flags": ""}


def results_of(*records: Record) -> Results:
    return Results("2026-01-02T03:04:05", MACHINE, list(records))


def test_durations_are_replayed() -> None:
    replay = Replay()
    replay.load([3.0, 4.0])
    readings = [replay() for _ in range(4)]
    assert (readings[1] - readings[0], readings[3] - readings[2]) == (3.0, 4.0)


@pytest.mark.skipif(extension.REASON is not None, reason=f"native: {extension.REASON}")
def test_parts_of_a_small_call() -> None:
    """The operator alone gives the value and gradients of the whole call."""
    problem = make_problem(Case(40, 10, 3))
    value, grad_z, grad_means = ours(problem, "native")()
    found = overhead.operator(problem)()
    assert torch.allclose(found[0].float(), value) and torch.allclose(found[1], grad_z)
    assert all(map(torch.equal, overhead.bare(problem)(), (value, grad_z, grad_means)))


def test_table_says_met_and_missed(tmp_path: Path) -> None:
    found = results_of(
        record("native", 1024, 1),
        record("reference", 1024, 25),
        record("compiled reference", 1024, 5),
        record("native", 8192, 100),
        record("chunked", 8192, 90),
        record("pykeops", 8192, 0, median_s=None, reason="pykeops is not there"),
        record("native", 4096, 1, "memory", peak_mb=65.0),
        record("native", 16384, 1, "training", share=0.04, difference=1e-7),
        record("trainer", 1024, 105, "overhead"),
        record("bare step", 1024, 100, "overhead"),
    )
    found.save(tmp_path / "result.json")
    command = [sys.executable, "-m", "benchmarks.report.tables", str(tmp_path / "result.json")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    lines = [line for line in shown.splitlines() if line.startswith("|")]

    def line(start: str) -> str:
        return next(line for line in lines if line.startswith(start))

    assert "25.00× at 1024 × 32, K = 10 | met" in line("| eager reference, m = 1024")
    assert "5.00× at 1024 × 32, K = 10; below at 1 of 1 sizes | **missed**" in line("| compiled reference")
    assert "0.90×" in line("| chunked, every size") and "missed" in line("| chunked, every size")
    assert "not measured" in line("| pykeops")
    assert "0.86×" in line("| 4m²D (the products of plain torch)/time against torch's sgemm, D = 32")
    assert "65 MB at 4096 × 32, K = 10 | **missed**" in line("| memory")
    assert "| met" in line("| share of the distance") and "0.05 of it | met" in line("| what the trainer adds")
    assert line("| 16384 | native").split("|")[3:6] == [" 1e+03 ", " 4.0 % ", " 1e-07 "]


def test_readme_and_page_hold_the_newest_result() -> None:
    newest, readme = update_docs.newest("cpu"), (ROOT / "README.md").read_text(encoding="utf-8")
    assert update_docs.summary(update_docs.of_each_processor()) in readme
    assert all(f"{path}: 20" in readme for path in update_docs.CODE_PATHS)
    assert tables.report(Results.read(newest)) in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    batches = max(RESULTS.glob("large-batch-*.json"))
    assert tables.report(Results.read(batches)) in (ROOT / "docs" / "large_batches.md").read_text(encoding="utf-8")


def test_figures(tmp_path: Path) -> None:
    """Each contender has its line, and the one that ended has a cross at its end."""
    grown = [record("native", m, m / 1e3, "scaling", peak_mb=1.0) for m in (256, 512, 1024)]
    grown += [
        record("reference", 256, 5, "scaling", peak_mb=9.0),
        record("reference", 512, 0, "scaling", median_s=None),
    ]
    grown[-1] = replace(grown[-1], reason="memory: its m×m matrices need 9 of 8 GB", peak_mb=None)
    steps = [record(name, m, 1, "training", share=0.1) for m in (256, 1024) for name in ("native", "reference")]
    wide = [record(name, m, 9, dim=64) for name in ("native", "chunked") for m in (1024, 4096)]
    drawn = figures.scaling(results_of(*grown), 100.0)
    left = drawn.axes[0]
    named = {line.get_label(): line for line in left.lines if not line.get_label().startswith("_")}
    assert list(named) == [
        "native (ours)",
        "eager reference",
        "3m²D at torch's sgemm rate",
        "larger: too slow, or no memory",
    ]
    crosses = [line.get_xydata().tolist() for line in left.lines if line.get_label().startswith("_")]
    assert crosses == [[[256, 5]]]
    assert named["3m²D at torch's sgemm rate"].get_ydata()[0] == pytest.approx(3e-6 * 256**2 * 32 / 100)
    assert len(figures.training(results_of(*steps)).axes[0].lines) == 3
    assert len(figures.dimensions(results_of(*wide)).axes[0].lines) == 2
    assert [len(line.get_xdata()) for line in figures.errors(results_of(*wide)).axes[0].lines] == [2, 1, 1, 2, 1, 1, 0]
    assert figures.save(drawn, tmp_path / "new" / "f.png").stat().st_size > 10_000


def test_check_compares_factors() -> None:
    before = results_of(record("native", 1024, 1), record("chunked", 1024, 2), record("reference", 1024, 20))
    slow = [record("native", 1024, 20), record("chunked", 1024, 40), record("reference", 1024, 400)]
    assert check_factors.slower(before, results_of(*slow), lambda line: None) == []  # all 20 or 40 times as slow
    found = check_factors.slower(
        before, results_of(record("native", 1024, 2.5), *slow[1:2], record("reference", 1024, 20)), print
    )
    assert len(found) == 2 and found[0].startswith("1024 × 32, K = 10, native: the eager reference takes 8.00 times")
    crashed = [replace(slow[0], median_s=None, reason="RuntimeError: broken"), *slow[1:]]
    found = check_factors.slower(before, results_of(*crashed), print)
    assert found == ["1024 × 32, K = 10, native: was not measured now"]


@pytest.mark.slow
def test_a_check_fails_where_ours_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(60, 5)
    before = [replace(record(name, 60, 1), dim=5) for name in (*check_factors.OURS, "reference")]
    monkeypatch.setattr(check_factors, "CASES", (case,))
    monkeypatch.setattr(check_factors, "SECONDS", 0.0)
    monkeypatch.setattr(check_factors, "read_newest", lambda kind: results_of(*before))

    def broken(problem: Any) -> Any:
        raise RuntimeError("kernel broken")

    every = check_factors.on_the_cpu()
    every["chunked"] = replace(every["chunked"], prepare=broken)
    monkeypatch.setattr(check_factors, "on_the_cpu", lambda: every)
    with pytest.raises(SystemExit, match="chunked: RuntimeError: kernel broken"):
        check_factors.main()


def test_newest_result_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(update_docs, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="no complete result cpu-DATE.json: make bench measures one"):
        update_docs.read_newest("cpu")
    whole = results_of(*(record("native", 1024, 1, suite) for suite in update_docs.SUITES["cpu"]))
    folder = tmp_path / "benchmarks" / "results"
    whole.save(folder / "cpu-2026-01-02-0304.json")
    replace(whole, date="2026-01-02T01:00:00").save(folder / "cpu-2026-01-02.json")  # by name it would be the last
    replace(whole, complete=False, date="2026-01-03").save(folder / "cpu-2026-01-03-1200.json")
    replace(results_of(record("native", 1024, 1)), date="2026-01-04").save(folder / "cpu-2026-01-04.json")
    assert update_docs.newest("cpu").name == "cpu-2026-01-02-0304.json"
    (folder / "cpu-2026-01-05.json").write_text('{"schema": 1, "rec')
    with pytest.raises(SystemExit, match="cpu-2026-01-05.json is not a result of schema 1: JSONDecodeError"):
        update_docs.read_newest("cpu")


def test_growth_ends_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {256: 0.1, 512: 0.5, 1024: 2.0, 2048: 8.0}
    monkeypatch.setattr(
        scaling,
        "in_process",
        lambda suite, name, case, device: record(name, case.rows, 1e3 * seconds[case.rows], suite),
    )
    slow = scaling.grow("reference", 32, "cpu", 6.0)
    assert [r.rows for r in slow] == [256, 512, 1024, 2048] and slow[-1].reason == "time: a call would take about 8 s"
    failed = replace(record("native", 256, 1, "scaling"), median_s=None, reason="memory: killed by the system")
    monkeypatch.setattr(scaling, "in_process", lambda *_: failed)
    assert scaling.grow("reference", 32, "cpu", 6.0) == [failed]


@pytest.mark.slow
def test_a_call_in_a_process_of_its_own() -> None:
    found = in_process("memory", "chunked", Case(300, 5, 1, gamma=0.5))
    assert found.measured and found.case == Case(300, 5, 1, gamma=0.5) and found.suite == "memory", found.reason
    assert "KeyError" in in_process("memory", "nobody", Case(30, 5)).reason
    assert in_process("memory", "chunked", Case(30, 5), limit_s=0.01).reason.startswith("time: more than 0.01 s")


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="peak memory is read from Linux's /proc")
def test_memory_of_a_call_on_the_cpu() -> None:
    """In a process of its own, which has no freed memory to use again."""
    code = (
        "import torch; from benchmarks.suites.memory import peak_of; run = lambda: "
        "(torch.ones(10_000_000).sum(), torch.ones(5_000_000)); print(peak_of(run, torch.device('cpu')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert 15e6 < int(done.stdout) < 60e6  # the first tensor is gone before the second is made


def test_training_steps_of_all_backends_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segma_step, "SECONDS", 0.0)
    monkeypatch.setattr(segma_step, "NETWORK", NetworkConfig(latent_dim=10, hidden=(16,)))
    found = segma_step.measure(160, ["reference", "chunked"], torch.device("cpu"))
    assert [r.contender for r in found] == ["reference", "chunked"] and found[1].difference < 1e-4
    assert all(0 < r.share < 1 for r in found)
    step, bare = (segma_step.Step.make(160, "reference", torch.device("cpu")) for _ in range(2))
    step()
    bare.bare()
    assert relative_error(bare.weights(), step.weights()) < 1e-5


def test_pages_of_experiments(tmp_path: Path) -> None:
    """Tables go between the marks of their folder, and the pictures that the page shows beside it."""
    docs, run = tmp_path / "docs", tmp_path / "mnist-x"
    (docs / "images").mkdir(parents=True)
    run.mkdir()
    begin, end = experiments_page.marks("mnist-x")
    (docs / "experiments.md").write_text(f"a\n{begin}\nold\n{end}\n![s](images/mnist-x_samples.png)\n")
    with pytest.raises(SystemExit, match="segma-fast reproduce or compare leaves this file"):
        experiments_page.main(run, docs)
    with pytest.raises(SystemExit, match="no page of .* has a line <!-- mnist-y -->"):
        experiments_page.main(tmp_path / "mnist-y", docs)
    (run / "tables.md").write_text("new\n")
    for name in ("samples", "codes"):
        (run / f"{name}.png").write_bytes(b"")
    experiments_page.main(run, docs)
    assert f"a\n{begin}\n\nnew\n\n{end}\n" in (docs / "experiments.md").read_text()
    assert [path.name for path in (docs / "images").iterdir()] == ["mnist-x_samples.png"]


def test_peers_give_the_distance_and_sigreg_a_statistic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    everyone = lineup.everyone(torch.device("cpu"))
    case = Case(200, 6, 1)
    problem = make_problem(case)
    expected = truth(problem)
    for name in ("reference", "compiled reference", "chunked", "cw-torch"):
        assert everyone[name].serves(case) and everyone[name].missing is None
        assert expected.too_far(expected.errors(everyone[name].prepare(problem)()), None) is None, name
    value, gradient = everyone["sigreg"].prepare(problem)()
    far = replace(problem, z=(problem.z.detach() + 3).requires_grad_())
    assert everyone["sigreg"].prepare(far)()[0] > 20 * value > 0 and gradient.shape == (200, 6)
    assert not everyone["pykeops"].serves(Case(200, 512)) and not everyone["sigreg"].serves(Case(200, 6))


@pytest.mark.slow
def test_cases_leave_records(tmp_path: Path) -> None:
    """Also where the run is stopped after some: each test writes what is there."""
    pytest.importorskip("pytest_benchmark")
    path = tmp_path / "records.json"
    command = [sys.executable, "-m", "pytest", "benchmarks/suites/test_distance.py", "-k", "128x10-K10", "-q", "-p"]
    command += ["no:cacheprovider", "--benchmark-quiet", f"--records={path}", f"--rootdir={ROOT}"]
    quick = os.environ | {"BENCH_SECONDS": "0", "SEGMA_FAST_BACKEND": "reference"}
    done = subprocess.run(command, env=quick, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:]
    found = {record.contender: record for record in Results.read(path).records}
    assert found["chunked"].measured and found["reference"].measured and found["chunked"].case == Case(128, 10)
    assert found["chunked"].machine_gflops > 0 and path.with_suffix(".csv").exists()
    assert not Results.read(path).complete  # -k left others out
    again = subprocess.run(command, env=quick, capture_output=True, text=True, cwd=ROOT)
    assert again.returncode == 4 and "records.json is there already" in again.stderr + again.stdout


def test_cost_on_paper_is_that_of_the_page() -> None:
    page = (ROOT / "docs" / "large_batches.md").read_text()
    assert paper.table(paper.Rates()) in page
    gathering, evaluating = paper.seconds(1 << 20, 64, 8, paper.Rates(1e14, 1e11, 1e10))
    assert gathering == pytest.approx(7 / 8 * 2**20 * 64 * 4 / 1e11)
    assert evaluating == pytest.approx(4 * 2**40 * 64 / 8 / 1e14)
    assert paper.gathered(100, 3, 4) == 75 * 3 * 4
    limit = 1 + 4 * (1 << 20) * 4e10 / (4 * 1e14)  # processes at which gathering takes as long as evaluating
    for processes, longer in ((round(0.9 * limit), 1), (round(1.1 * limit), 0)):
        assert max(range(2), key=paper.seconds(1 << 20, 64, processes, paper.Rates()).__getitem__) == longer
