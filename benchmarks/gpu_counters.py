"""The hardware's counters of our kernels at one shape, where nsight-compute is: ``counters(backends)``."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SECTIONS = ("SpeedOfLight", "ComputeWorkloadAnalysis", "Occupancy", "WarpStateStats", "LaunchStats")
KEPT = (
    "Duration",
    "Compute (SM) Throughput",
    "Memory Throughput",
    "L2 Cache Throughput",
    "SM Busy",
    "Issue Slots Busy",
    "Registers Per Thread",
    "Executed Ipc Active",
    "Achieved Occupancy",
    "Warp Cycles Per Issued Instruction",
)
NCU = shutil.which("ncu") or shutil.which("/usr/local/cuda/bin/ncu")


def read_csv(text: str) -> list[list[str]]:
    """Kernel, metric, and value with its unit, of the lines that nsight-compute printed."""
    lines = text[text.find('"ID"') :] if '"ID"' in text else ""
    found = []
    for line in csv.DictReader(io.StringIO(lines)):
        name, metric = line.get("Kernel Name") or "", line.get("Metric Name") or ""
        if metric in KEPT:
            found.append(
                [
                    name.split("(")[0][-60:],
                    metric,
                    f"{line.get('Metric Value')} {line.get('Metric Unit') or ''}".strip(),
                ]
            )
    return found


def counters(backends: Sequence[str], rows: int = 65536, dim: int = 64, seconds: float = 60.0) -> list[list[str]] | str:
    """Lines of kernel, metric and value, or why there are none."""
    if NCU is None:
        return "nsight-compute is not there"
    calls = Path(__file__).parents[1] / "tests" / "gpu_calls.py"
    found: list[list[str]] = []
    for backend in backends:
        command = [NCU, "--csv", "--page", "details", "--clock-control", "none", "--target-processes", "all"]
        command += ["--kernel-name", "regex:pairs|wgmma|mma|simt", "--launch-count", "3"]
        for section in SECTIONS:
            command += ["--section", section]
        command += [sys.executable, str(calls), str(rows), str(dim), backend]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds / len(backends))
        except subprocess.TimeoutExpired:
            return f"nsight-compute was not done after {seconds:.0f} s"
        lines = read_csv(done.stdout)
        if not lines:
            return f"nsight-compute: {' '.join((done.stdout + done.stderr).split())[-300:]}"
        found += lines
    return found
