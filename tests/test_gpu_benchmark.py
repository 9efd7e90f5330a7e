"""The GPU benchmark on the CPU, tiny: the contenders that can run here, the files, the verdicts. Nothing is timed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_benchmarks import FOLDER, helper  # noqa: F401  a fixture

from segma_fast.bench.contenders import Contender
from segma_fast.bench.machine import gpu_state
from segma_fast.bench.problems import Case
from segma_fast.bench.records import Record, Results

CPU = torch.device("cpu")


@pytest.fixture
def quick(helper: Any, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """The benchmark without compilers: graphs run as they are traced."""
    monkeypatch.setattr("segma_fast.bench.tiles.COMPILE", {"backend": "eager"})
    monkeypatch.setattr("segma_fast.bench.tiles.LARGEST_TILE", {"cpu": 128})
    gpu = helper("gpu")
    monkeypatch.setattr(gpu, "EACH", 1e-3)
    monkeypatch.setattr(gpu, "cold_first_call", lambda *_: 1.0)
    return helper


def test_a_run_on_the_cpu(quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = quick("gpu").gpu_contenders

    def chosen(device: torch.device, main: str) -> dict[str, Contender]:
        slow = ("compiled reference", "pykeops", "cw-torch", "sigreg")
        found = {name: c for name, c in every(device, main).items() if name not in slow}
        missing = Contender(lambda problem: lambda: (), missing="it is not there")
        return found | {"broken": Contender(lambda problem: lambda: 1 / 0), "pykeops": missing}

    monkeypatch.setattr(quick("gpu"), "gpu_contenders", chosen)
    path = quick("gpu").run(CPU, tmp_path, 60.0, "chunked", [Case(300, 64), Case(64, 3), Case(64, 16, 1)])
    results = Results.read(path)
    done = [record for record in results.records if record.measured]
    names = {(record.rows, record.contender) for record in done}
    assert names >= {(300, "chunked high"), (300, "chunked medium"), (300, "reference"), (64, "chunked high")}
    assert all(record.too_far is None for record in done)
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "300 × 64, K = 10, broken: ZeroDivisionError" in text and "pykeops: it is not there" in text
    assert re.search(r"within the promised error of float64 \| all \| at all \d+ \| met", text)


def test_no_time_is_said(quick: Any, tmp_path: Path) -> None:
    path = quick("gpu").run(CPU, tmp_path, -1.0, "chunked", [Case(64, 3)])
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "64 × 3, K = 10, chunked high: time: none was left" in text


def test_state_of_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what a program prints in the place of nvidia-smi."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: type("Properties", (), {"uuid": "1-2"}))
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ntest "$1" = --id=GPU-1-2 && echo 1980 MHz, 3201 MHz, 600.00 W, 50, 100 %\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpu_state(torch.device("cuda"))["power.draw"] == "600.00 W" and gpu_state(CPU) == {}


def record(case: Case, contender: str, ms: float, **fields: Any) -> Record:
    times = {"median_s": ms / 1e3, "p20_s": ms / 1e3, "p80_s": ms / 1e3, "alone_s": ms / 1e3, "first_call_s": 1.0}
    errors = {"error_value": 1e-6, "error_gradient": 1e-6}
    shape = {"rows": case.rows, "dim": case.dim, "components": case.components}
    return Record("distance", contender, **shape, device="cuda", **(times | errors | fields))


def results_of(*records: Record) -> Results:
    return Results("2026-01-02T03:04:05", {"main": "triton"}, list(records))


def test_verdicts_take_the_worst(quick: Any) -> None:
    large, small, million = Case(65536, 64), Case(256, 64), Case(1 << 20, 64)
    ours = {"precision": "high", "peak_mb": 10.0}
    found = results_of(
        record(large, "triton high", 5.0, **ours),
        record(large, "compiled tiles", 15.0),
        record(small, "triton high", 0.1, **ours | {"peak_mb": 65.0}),
        record(small, "reference", 1.0),
        record(Case(1024, 64), "triton high", 0.1, **ours | {"too_far": "it is wrong"}),
        record(Case(1024, 64), "reference", 0.4),
        record(million, "triton high", 1400.0, **ours | {"peak_mb": 3000.0}),
        Record("distance", "reference", 65536, 64, reason="m×m"),
    )
    report = quick("gpu_report")
    verdicts = {v.goal: (v.measured, v.met) for v in report.verdicts(report.GpuResults(found))}
    assert verdicts["65536 × 64, K = 10, high"] == ("5 ms", False)
    assert verdicts["65536 × 64, K = 10, medium"] == ("not measured", None)
    eager = verdicts["eager reference, at the largest m that it holds, D = 64"]
    assert eager == ("4.00× at 1024 × 64, K = 10; below at 1 of 1 sizes", False)
    assert verdicts["compiled tiles in plain torch"] == ("3.00× at 65536 × 64, K = 10; below at 1 of 1 sizes", False)
    assert verdicts["one million codes, D = 64"] == ("1.4 s", False)
    assert verdicts["memory of one million codes, D = 64, beyond inputs"] == ("3000 MB", False)
    assert verdicts["memory beyond inputs and gradients, m ≤ 262144"] == ("65 MB at 256 × 64, K = 10", False)
    assert verdicts["within the promised error of float64"] == ("not at 1024 × 64, K = 10, triton high", False)


def test_where_cuda_is_ahead(quick: Any) -> None:
    case, ours = Case(4096, 64), {"precision": "high"}
    found = results_of(
        record(case, "triton high", 0.3, **ours),
        record(case, "cuda high", 0.2, **ours),
        record(case, "cuda high, graph", 0.1, **ours),
        record(Case(256, 64), "cuda high", 0.2, **ours),
        record(Case(65536, 64), "cuda highest", 16.0, precision="highest"),
    )
    report = quick("gpu_report")
    results = report.GpuResults(found)
    assert report.lead(results) == [["4096 × 64, K = 10", "high", "1.50×"]]
    shares = {(line[0], line[1]): line[6] for line in report.rows(results)}
    flops = 12 * 65546**2 * 64 / 16e-3  # six products of fp16
    assert shares["65536 × 64, K = 10", "cuda highest"] == f"{1e-10 * flops / report.LIMIT:.1f} %"


def test_counters_of_nsight_compute(quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what a program prints in the place of ncu; and why there are none, if it prints something else."""
    counters = quick("gpu_counters")
    tool = tmp_path / "ncu"
    lines = [
        "==PROF== Connected to process 1",
        '"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"',
        '"0","1","void wgmma<64, 1, 1>(Work)","SpeedOfLight","Duration","ms","4,567"',
        '"0","1","void wgmma<64, 1, 1>(Work)","SpeedOfLight","DRAM Frequency","GHz","3"',
        '"0","1","void wgmma<64, 1, 1>(Work)","ComputeWorkloadAnalysis","SM Busy","%","81.5"',
    ]
    tool.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    tool.chmod(0o755)
    monkeypatch.setattr(counters, "NCU", str(tool))
    assert counters.counters(["cuda"]) == [
        ["void wgmma<64, 1, 1>", "Duration", "4,567 ms"],
        ["void wgmma<64, 1, 1>", "SM Busy", "81.5 %"],
    ]
    tool.write_text("#!/bin/sh\necho no permission\n")
    assert counters.counters(["cuda"]) == "nsight-compute: no permission"
    monkeypatch.setattr(counters, "NCU", None)
    assert counters.counters(["cuda"]) == "nsight-compute is not there"


def test_interpreted_kernels_go_through_it(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    variables = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(FOLDER.parent)}
    code = (
        "import gpu, pathlib, torch; from segma_fast.bench.problems import Case; gpu.EACH = 0; "
        "gpu.cold_first_call = lambda *_: None; every = gpu.gpu_contenders; gpu.gpu_contenders = "
        "lambda device, main: {n: c for n, c in every(device, main).items() if 'triton' in n}; "
        f"path = pathlib.Path({str(tmp_path)!r}); cases = [Case(40, 3, 3), Case(40, 12, 3)]; "
        "print(gpu.run(torch.device('cpu'), path, 300, 'triton', cases))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = Results.read(Path(done.stdout.split()[-1])).records
    found = [record for record in found if record.error_value is not None]
    assert [record.contender for record in found] == ["triton high"] * 2
    assert all(record.error_value <= 2e-5 and record.error_gradient <= 1e-2 for record in found)
