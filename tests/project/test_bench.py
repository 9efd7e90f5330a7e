"""``segma_fast.bench``: problems and their truth, turns, records, contenders that fail. No time is judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from segma_fast import cw_distance_reference
from segma_fast.__main__ import main
from segma_fast.bench import machine, memory, problems, timing
from segma_fast.bench.contenders import Contender, contenders, ours
from segma_fast.bench.problems import Case, Problem, Run, make_problem, truth
from segma_fast.bench.records import Record, Results, as_csv
from segma_fast.bench.session import Session
from segma_fast.bench.tiles import compiled_tiles

CPU = torch.device("cpu")


def exact(problem: Problem, phi: str = "approx") -> tuple[Tensor, Tensor, Tensor]:
    z, means = (t.detach().double().requires_grad_() for t in (problem.z, problem.means))
    value = cw_distance_reference(z, means, gamma=problem.gamma, phi=phi)
    return value.detach(), *torch.autograd.grad(value, (z, means))


@pytest.mark.parametrize("phi", ["approx", "exact"])
@pytest.mark.parametrize("largest", [100, 8192])
@pytest.mark.parametrize("components", [1, 10])
def test_truth_is_the_reference(components: int, largest: int, phi: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By equation (8) in blocks, and beyond its size by the chunked backend, of whose gradient there is a part."""
    monkeypatch.setattr(problems, "LARGEST_PLAIN", largest)
    monkeypatch.setattr(problems, "SOME", 20)
    problem = make_problem(Case(300, 10, components))
    expected = truth(problem, phi)
    found = expected.errors(exact(problem, phi))
    assert len(expected.grad_z) == (20 if largest == 100 else 300)
    assert found.value < 1e-10 and found.gradient is not None and found.gradient < 1e-10
    wrong = expected.errors((1.01 * exact(problem, phi)[0],))
    assert wrong.gradient is None and "d² is off by 1.0e-02" in str(expected.too_far(wrong, "high"))
    assert expected.too_far(found, "highest") is None


def test_problem_in_half_precision_and_without_gradients() -> None:
    problem = make_problem(Case(50, 4, dtype="bfloat16", gradients=False))
    assert problem.z.dtype == torch.bfloat16 and not problem.z.requires_grad
    result = ours(problem, "chunked")()
    assert len(result) == 1 and truth(problem).errors(result).value < 1e-4
    assert str(problem.case) == "50 × 4, K = 10, bfloat16, value"


def test_functions_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = timing.take_turns(runs, 0.0, between=lambda: order.append("|"))
    assert "".join(order[-(order[::-1].index("|", 1)) - 1 :]) == "|aabb|"  # one untimed call, one timed
    assert order.count("|") == 4 and [len(t.samples) for t in times.values()] == [5, 5]
    monkeypatch.setattr(timing, "LONG", 0.0)
    assert len(timing.take_turns(runs, 1.0)["a"].samples) == 3
    assert timing.Times([3.0, 1.0, 2.0]).summary() == {
        "median_s": 2.0,
        "p20_s": pytest.approx(1.4),
        "p80_s": pytest.approx(2.6),
        "min_s": 1.0,
        "rounds": 3,
    }


class FakeEvent:
    """A CUDA event, ten milliseconds after the other."""

    def __init__(self, enable_timing: bool) -> None: ...

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: FakeEvent) -> float:
        return 10.0


def test_what_is_read_from_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch.cuda replaced: milliseconds, bytes, the memory that matrices would need."""
    device, calls = torch.device("cuda"), []
    properties = SimpleNamespace(name="GPU", major=9, minor=0, multi_processor_count=132, total_memory=150 * 10**9)
    found = {"memory_allocated": 10_000_000, "max_memory_allocated": 13_000_000, "get_device_properties": properties}
    for name, value in (found | {"synchronize": None, "reset_peak_memory_stats": None}).items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    assert timing.by_events(lambda: calls.append(1), 5, device) == pytest.approx(2e-3)
    assert len(calls) == 6
    times = timing.take_turns({"a": lambda: None}, 0.0, device)["a"]
    assert times.summary()["median_s"] == pytest.approx(1e-2 / 200) and "alone_s" in times.summary()
    assert memory.peak_on_gpu(lambda: (torch.zeros(()), torch.zeros(250_000)), device) == 2_000_000
    plain = Contender(lambda problem: tuple, plain=True)
    assert plain.why_not(Case(32768, 64), device) is None
    assert "memory: its m×m matrices need 241 of 150 GB" in str(plain.why_not(Case(65536, 64), device))
    monkeypatch.setattr(machine, "_query", lambda keys, device: dict.fromkeys(keys, "1"))
    assert machine.describe_machine(device)["gpu"] == "GPU"


@pytest.mark.slow
def test_a_session_goes_on_after_failures() -> None:
    def broken(problem: Problem) -> Run:
        raise ZeroDivisionError("no")

    def wrong(problem: Problem) -> Run:
        return lambda: tuple(1.1 * t for t in ours(problem, "chunked")())

    def in_turn(*results: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]) -> Contender:
        """The result, changed by the first function at the first call, and so on; the last one stays."""

        def prepare(problem: Problem) -> Run:
            call, left = ours(problem, "chunked"), list(results)
            return lambda: (left.pop(0) if len(left) > 1 else left[0])(call())

        return Contender(prepare, precision="single")

    def raising(result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        raise OverflowError("later")

    def same(result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return result

    lines: list[str] = []
    session = Session(CPU, 0.0, log=lines.append)
    case = Case(60, 5)
    chosen = {
        "chunked": contenders(CPU)["chunked"],
        "broken": Contender(broken),
        "wrong": Contender(wrong, precision="high"),
        "elsewhere": Contender(broken, missing="it is not there"),
        "for others": Contender(broken, lambda case: case.dim == 3),
        "another statistic": Contender(wrong, is_distance=False),
        "without gradients": in_turn(lambda result: result[:1]),
        "NaN": in_turn(lambda result: (*result[:2], result[2] * torch.nan)),
        "raises later": in_turn(same, same, same, raising),
        "changes": in_turn(same, lambda result: tuple(7 * t for t in result)),
    }
    found = {record.contender: record for record in session.measure(case, chosen)}
    assert set(found) == set(chosen) - {"for others"} and len(lines) == 9
    assert found["chunked"].measured and found["chunked"].error_value < 1e-5 and found["chunked"].rounds >= 5
    assert found["broken"].reason == "ZeroDivisionError: no" and found["elsewhere"].reason == "it is not there"
    assert "d² is off by 1.0e-01" in found["wrong"].reason and not found["wrong"].measured
    assert "gradients of the codes are missing" in found["without gradients"].reason
    assert "gradients by nan" in found["NaN"].reason and found["raises later"].reason == "OverflowError: later"
    assert found["changes"].reason.startswith("after it was timed, d² is off by 6.0e+00")
    assert not any(found[name].measured for name in ("without gradients", "NaN", "raises later", "changes"))
    assert found["another statistic"].measured and found["another statistic"].error_value is None
    late = Session(CPU, 0.0, deadline=0.0).measure(case, chosen)
    assert [record.reason for record in late] == ["time: none was left"] * 9


@pytest.mark.parametrize("case", [Case(300, 64), Case(100, 10, 3), Case(40, 7, 1)], ids=str)
def test_tiles_are_the_distance(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segma_fast.bench.tiles.COMPILE", {"backend": "eager"})
    monkeypatch.setattr("segma_fast.bench.tiles.LARGEST_TILE", {"cpu": 128})
    problem = make_problem(case)
    assert truth(problem).too_far(truth(problem).errors(compiled_tiles(problem)()), "highest") is None


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = [
        Record("distance", "native", 10, 3, median_s=1e-3, error_value=1e-7, too_far="é"),
        Record("scaling", "reference", 1 << 20, 3, reason="memory: none"),
    ]
    results = Results("2026-01-02T03:04:05", {"cpu": "C", "native": {}}, records)
    results.save(tmp_path / "new" / "r.json")
    assert Results.read(tmp_path / "new" / "r.json") == results
    assert list(results.of("scaling", rows=1 << 20)) == records[1:]
    lines = (tmp_path / "new" / "r.csv").read_text(encoding="utf-8").splitlines()
    assert lines == as_csv(records).splitlines() and lines[0].startswith("suite,contender,rows,dim") and len(lines) == 3
    (tmp_path / "old.json").write_text(json.dumps({"benchmarks": []}))
    with pytest.raises(ValueError, match=r"old\.json is not a result of schema 1"):
        Results.read(tmp_path / "old.json")


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segma_fast.bench import command

    monkeypatch.setattr(command, "CASES", {"cpu": [Case(40, 6), Case(30, 3, 1)]})
    monkeypatch.setattr(command, "COMPILED", ())
    monkeypatch.setattr(command, "EACH", 0.0)
    main(["bench", "--device", "cpu", "--out", str(tmp_path / "b.json")])
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    top = next(i for i, line in enumerate(lines) if "m × D" in line)
    header, _, first, second = (line.split() for line in lines[top : top + 4])
    assert (
        "auto" in header
        and "load" in " ".join(lines[:top])
        and first[:5] == ["40", "×", "6,", "K", "="]
        and first[-1] in ("native", "chunked")
    )
    assert second[:3] == ["30", "×", "3,"] and float(second[6]) > 0
    kept = Results.read(tmp_path / "b.json")
    assert {r.case for r in kept.records} == {Case(40, 6), Case(30, 3, 1)} and kept.complete
    late = [replace(Record("distance", "native", 9, 2), reason="time: none was left")]
    told = command.summary(late, CPU, machine.describe_machine(CPU)).replace("\n", " ")
    assert "time ended before all backends at 9 × 2, K = 10: --seconds gives more" in told


@pytest.mark.slow
def test_the_command_interrupted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes that are done are shown and kept."""
    from segma_fast.bench import command

    measure = Session.measure

    def stopped(session: Session, case: Case, chosen: dict[str, Contender]) -> list[Record]:
        if case == Case(30, 3):
            raise KeyboardInterrupt
        return measure(session, case, chosen)

    monkeypatch.setattr(Session, "measure", stopped)
    monkeypatch.setattr(command, "CASES", {"cpu": [Case(40, 6), Case(30, 3)]})
    monkeypatch.setattr(command, "COMPILED", ())
    monkeypatch.setattr(command, "EACH", 0.0)
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--device", "cpu", "--out", str(tmp_path / "b.json")])
    shown = capsys.readouterr()
    assert stop.value.code == 130 and "40 × 6, K = 10" in shown.out and "interrupted" in shown.err
    kept = Results.read(tmp_path / "b.json")
    assert not kept.complete and {r.case for r in kept.records} == {Case(40, 6)}


def test_the_command_without_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--device", "cpu", "--seconds", "1e-9"])
    assert stop.value.code == 2 and "nothing could be measured in 1e-09 seconds" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--seconds", "0"], "must be > 0"),
        (["--device", "cuda"], "no GPU"),
        (["--out", "b.csv"], "ends in .json"),
        (["--out", "/proc/none/b.json"], "/proc/none"),
        ([], "'bogus' is unknown"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not arguments:
        monkeypatch.setenv("SEGMA_FAST_BACKEND", "bogus")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit):
        main(["bench", *arguments])
    assert message in capsys.readouterr().err
