"""Training in several processes of which one is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_training import FLAGS

from segma_fast.trainer.run import load_run

DIES = """
import os, signal, sys
from segma_fast import __main__ as cli
from segma_fast.trainer import metrics_log

def advance(self):
    self.seen = getattr(self, "seen", 0) + 1
    if self.seen == 7 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)

metrics_log.Records.advance = advance
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_others_end_with_a_line_and_the_checkpoint_stays(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    arguments = ["train", "--run-dir", str(tmp_path / "run"), *FLAGS, "--epochs", "9", "--checkpoint-every", "5"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DIES, *arguments],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [2, -9], errors
    assert "Traceback" not in errors[0]
    assert "segma-fast: error: a process was lost (" in errors[0] and "--resume --run-dir" in errors[0]
    assert load_run(tmp_path / "run").step == 5
