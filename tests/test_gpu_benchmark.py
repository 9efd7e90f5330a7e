"""The GPU benchmark on the CPU, tiny: the contenders that can run here, the files, the verdicts. Nothing is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_benchmarks import FOLDER, helper  # noqa: F401  a fixture

CPU = torch.device("cpu")


class FakeEvent:
    """A CUDA event, ten milliseconds after the other."""

    def __init__(self, enable_timing: bool) -> None: ...

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: FakeEvent) -> float:
        return 10.0


@pytest.fixture
def quick(helper: Any, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """The benchmark without compilers: graphs run as they are traced."""
    monkeypatch.setattr(helper("gpu_tiles"), "COMPILE", {"backend": "eager"})
    monkeypatch.setattr(helper("gpu_tiles"), "LARGEST_TILE", 128)
    monkeypatch.setattr(helper("gpu_timing"), "SAMPLE", 1e-4)
    gpu = helper("gpu")
    monkeypatch.setattr(gpu, "EACH", 1e-3)
    monkeypatch.setattr(gpu, "cold_first_call", lambda *_: 1.0)
    return helper


@pytest.mark.parametrize("shape", [(300, 64, 10), (100, 10, 3)])
def test_compiled_tiles_are_the_distance(quick: Any, shape: tuple[int, int, int]) -> None:
    problem = quick("problems").make_problem(*shape)
    found = quick("gpu_tiles").compiled_tiles(problem)()
    truth = quick("gpu_truth").make_truth(problem)
    assert truth.too_far(quick("problems").errors(found, truth.expected), "highest") is None


def test_truth_is_the_reference(quick: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only some of the gradient is made, and the terms are as large as the plain sums say."""
    problems, gpu_truth = quick("problems"), quick("gpu_truth")
    expected = problems.truth(300, 10, 10)
    whole = gpu_truth.make_truth(problems.make_problem(300, 10, 10))
    monkeypatch.setattr(gpu_truth, "WHOLE", 100)
    monkeypatch.setattr(gpu_truth, "SOME", 20)
    some = gpu_truth.make_truth(problems.make_problem(300, 10, 10))
    assert len(some.expected[1]) == 20
    for truth in (whole, some):
        found = problems.errors((torch.tensor(expected[0], dtype=torch.float64), *expected[1:]), truth.expected)
        assert max(found.value, found.grad_z, found.grad_means) < 1e-10
    wrong = problems.errors((torch.tensor(expected[0] * 1.01), *expected[1:]), whole.expected)
    assert "d² is off by 1.0e-02" in whole.too_far(wrong, "high")


def test_a_run_on_the_cpu(quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contenders = quick("gpu").contenders

    def chosen(main: str) -> dict[str, Any]:
        found = {name: c for name, c in contenders(main).items() if name != "compiled reference"}
        broken = quick("gpu_contenders").GpuContender(lambda problem: lambda: 1 / 0, lambda shape: True)
        missing = quick("gpu_contenders").GpuContender(lambda problem: None, lambda shape: True, "it is not there")
        return {name: c for name, c in found.items() if name not in ("pykeops", "cw-torch")} | {
            "broken": broken,
            "pykeops": missing,
        }

    monkeypatch.setattr(quick("gpu"), "contenders", chosen)
    path = quick("gpu").run(CPU, tmp_path, 60.0, "chunked", [(300, 64, 10), (64, 3, 10), (64, 16, 1)])
    content = json.loads(path.read_text(encoding="utf-8"))
    done = [entry for entry in content["benchmarks"] if "stats" in entry]
    names = {(entry["params"]["rows"], entry["params"]["contender"]) for entry in done}
    assert names >= {(300, "chunked high"), (300, "chunked medium"), (300, "reference"), (64, "chunked high")}
    assert all(entry["extra_info"]["too_far"] is None for entry in done)
    assert all(entry["stats"][clock]["median"] > 0 for entry in done for clock in ("events", "wall"))
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "300 × 64, K = 10, broken: skipped: ZeroDivisionError" in text
    assert "pykeops: skipped: it is not there" in text
    assert (
        f"within the promised error of float64 | all | at all {len([n for _, n in names if 'chunked ' in n])}" or text
    )


def test_no_time_is_said(quick: Any, tmp_path: Path) -> None:
    path = quick("gpu").run(CPU, tmp_path, -1.0, "chunked", [(64, 3, 10)])
    assert "64 × 3, K = 10, chunked high: skipped: no time was left" in path.with_suffix(".md").read_text(
        encoding="utf-8"
    )


def test_what_is_read_from_cuda(quick: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With torch.cuda and nvidia-smi replaced: milliseconds, bytes, the memory of matrices, the state of the GPU."""
    device, calls = torch.device("cuda"), []
    properties = SimpleNamespace(
        name="GPU", major=9, minor=0, multi_processor_count=132, total_memory=150 * 10**9, uuid="1-2"
    )
    found = {"memory_allocated": 10_000_000, "max_memory_allocated": 13_000_000, "get_device_properties": properties}
    for name, value in (found | {"synchronize": None, "reset_peak_memory_stats": None}).items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    timing = quick("gpu_timing")
    assert timing.by_events(lambda: calls.append(1), 5, device) == pytest.approx(2e-3)
    assert len(calls) == 6
    memory = timing.peak_memory(lambda: (torch.zeros(()), torch.zeros(250_000)), device)
    assert memory == {"peak_mb": 13.0, "extra_mb": 2.0}
    plain = quick("gpu_contenders").contenders("chunked")["reference"]
    assert quick("gpu_contenders").why_not(plain, (32768, 64, 10), device) is None
    assert "241 GB" in quick("gpu_contenders").why_not(plain, (65536, 64, 10), device)
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ntest "$1" = --id=GPU-1-2 && echo 1980 MHz, 3201 MHz, 600.00 W, 50, 100 %\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert quick("gpu_machine").gpu_state(device)["power.draw"] == "600.00 W"
    assert quick("gpu_machine").describe_gpu(device)["gpu"] == "GPU"


def entry(shape: tuple[int, int, int], contender: str, ms: float, **extra: Any) -> dict[str, Any]:
    params = dict(zip(("rows", "dim", "components"), shape, strict=True)) | {"contender": contender}
    times = {"median": ms / 1e3, "p20": ms / 1e3, "p80": ms / 1e3}
    errors = {"value": 1e-6, "grad_z": 1e-6, "grad_means": None}
    info = {"first_call_s": 1.0, "errors": errors, "too_far": None, "precision": None} | extra
    return {"params": params, "stats": {"events": times, "wall": times}, "extra_info": info}


def test_verdicts_take_the_worst(quick: Any) -> None:
    large, small, million = (65536, 64, 10), (256, 64, 10), (1 << 20, 64, 10)
    ours = {"precision": "high", "extra_mb": 10.0, "peak_mb": 3000.0}
    content = {
        "machine_info": {"main": "triton"},
        "datetime": "2026-01-02T03:04:05",
        "seconds": 1.0,
        "benchmarks": [
            entry(large, "triton high", 5.0, **ours),
            entry(large, "compiled tiles", 15.0),
            entry(small, "triton high", 0.1, **ours | {"extra_mb": 65.0}),
            entry(small, "reference", 1.0),
            entry((1024, 64, 10), "triton high", 0.1, **ours | {"too_far": "it is wrong"}),
            entry((1024, 64, 10), "reference", 0.4),
            entry(million, "triton high", 1400.0, **ours),
            {"params": entry(large, "reference", 1)["params"], "skipped": "m×m"},
        ],
    }
    report = quick("gpu_report")
    found = {v.goal: (v.measured, v.met) for v in report.verdicts(report.GpuResults(content))}
    assert found["65536 × 64, K = 10, high"] == ("5 ms", True)
    assert found["65536 × 64, K = 10, medium"] == ("not measured", None)
    assert found["eager reference, at the largest m that it holds, D = 64"][0].startswith("4.00× at 1024 × 64")
    assert found["compiled tiles in plain torch"] == ("3.00× at 65536 × 64, K = 10; below at 1 of 1 shapes", False)
    assert found["one million codes, D = 64"] == ("1.4 s", True)
    assert found["memory of one million codes, D = 64"] == ("3000 MB", False)
    assert found["memory beyond inputs and gradients, m ≤ 262144"] == ("65 MB at 256 × 64, K = 10", False)
    assert found["within the promised error of float64"] == ("not at 1024 × 64, K = 10, triton high", False)


def test_where_cuda_is_ahead(quick: Any) -> None:
    shape, ours = (4096, 64, 10), {"precision": "high"}
    content = {
        "machine_info": {"main": "triton"},
        "datetime": "2026-01-02T03:04:05",
        "seconds": 1.0,
        "benchmarks": [
            entry(shape, "triton high", 0.3, **ours),
            entry(shape, "cuda high", 0.2, **ours),
            entry(shape, "cuda high, graph", 0.1, **ours),
            entry((256, 64, 10), "cuda high", 0.2, **ours),
            entry((65536, 64, 10), "cuda highest", 16.0, precision="highest"),
        ],
    }
    report = quick("gpu_report")
    results = report.GpuResults(content)
    assert report.lead(results) == [["4096 × 64, K = 10", "high", "1.50×"]]
    shares = {(line[0], line[1]): line[6] for line in report.rows(results)}
    flops = 4 * 65546**2 * 64 / 16e-3  # two products of float32, on the units for it
    assert shares["65536 × 64, K = 10", "cuda highest"] == f"{1e-10 * flops / report.LIMIT_SINGLE:.1f} %"


def test_counters_of_nsight_compute(quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what a program prints in the place of ncu; and why there are none, if it prints something else."""
    counters = quick("gpu_counters")
    tool = tmp_path / "ncu"
    lines = [
        "==PROF== Connected to process 1",
        '"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"',
        '"0","1","void hopper<64, 1, 1>(Work)","SpeedOfLight","Duration","ms","4,567"',
        '"0","1","void hopper<64, 1, 1>(Work)","SpeedOfLight","DRAM Frequency","GHz","3"',
        '"0","1","void hopper<64, 1, 1>(Work)","ComputeWorkloadAnalysis","SM Busy","%","81.5"',
    ]
    tool.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    tool.chmod(0o755)
    monkeypatch.setattr(counters, "NCU", str(tool))
    assert counters.counters(["cuda"]) == [
        ["void hopper<64, 1, 1>", "Duration", "4,567 ms"],
        ["void hopper<64, 1, 1>", "SM Busy", "81.5 %"],
    ]
    tool.write_text("#!/bin/sh\necho no permission\n")
    assert counters.counters(["cuda"]) == "nsight-compute: no permission"
    monkeypatch.setattr(counters, "NCU", None)
    assert counters.counters(["cuda"]) == "nsight-compute is not there"


def test_interpreted_kernels_go_through_it(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    variables = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(FOLDER.parent)}
    code = (
        "import gpu, pathlib, torch; gpu.EACH = 0; gpu.cold_first_call = lambda *_: None; every = gpu.contenders; "
        "gpu.contenders = lambda main: {n: c for n, c in every(main).items() if 'triton' in n}; "
        f"path = pathlib.Path({str(tmp_path)!r}); shapes = [(40, 3, 3), (40, 12, 3)]; "
        "print(gpu.run(torch.device('cpu'), path, 300, 'triton', shapes))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    content = json.loads(Path(done.stdout.split()[-1]).read_text(encoding="utf-8"))
    assert [entry["params"]["contender"] for entry in content["benchmarks"]] == ["triton high"] * 2
    for entry in content["benchmarks"]:
        assert entry["extra_info"]["errors"]["value"] <= 2e-5
        assert entry["extra_info"]["errors"]["grad_z"] <= 1e-2
