"""One visit to a GPU: its clock and its folders, programs that it ends in time, and what is kept of what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import time
from typing import Any

from benchmarks import ROOT
from benchmarks.gpu.pack import CACHE

PACK = ROOT / ".gpu"  # what pack.py leaves


class Visit:
    """The clock, the folders and the findings of a run of the stages."""

    def __init__(self, out: Path, seconds: float, device: str, workers: int, only: str) -> None:
        self.out, self.device, self.workers, self.only = out, device, workers, only
        self.started, self.seconds = time(), seconds
        self.longest = 90.0 if device == "cuda" else 10.0  # seconds of a case, with its turn at the GPU
        self.faults: list[str] = []
        self.figures: dict[str, Any] = {}
        self.room = tempfile.TemporaryDirectory(prefix="segma_fast_gpu_")
        self.work = Path(self.room.name)  # logs of single cases, and the peers
        out.mkdir(parents=True, exist_ok=True)
        (out / "log.txt").unlink(missing_ok=True)
        path = os.pathsep.join(map(str, (ROOT, self.work / "packages")))
        self.variables = os.environ | {
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "2",
            "SEGMA_FAST_TESTS": "all",
        }
        if (PACK / "triton.tar.xz").exists():
            self.variables["TRITON_CACHE_DIR"] = str(CACHE)

    @property
    def left(self) -> float:
        return self.seconds - (time() - self.started)

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.keep(text)

    def keep(self, text: str) -> None:
        with open(self.out / "log.txt", "a", encoding="utf-8") as file:
            file.write(text + "\n")

    def save(self) -> None:
        text = json.dumps(self.figures | {"faults": self.faults}, indent=1)
        (self.out / "stages.json").write_text(text + "\n", encoding="utf-8")

    def command(self, arguments: Sequence[str], seconds: float, name: str, **variables: str) -> tuple[int | str, str]:
        """Run a program; its status, "HANG" where it was killed with its children, and what it said."""
        log = self.work / name
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(
                arguments, cwd=ROOT, env=self.variables | variables, stdout=file, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            status: int | str
            try:
                status = process.wait(max(1.0, seconds))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = "HANG"
        return status, log.read_text(encoding="utf-8", errors="replace")
