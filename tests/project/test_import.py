"""Importing the package costs no more than importing torch does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

INFO = "from segma_fast.bench.info import info; info([])"
SCRIPT = """
import json, sys
import torch
before = set(sys.modules)
import segma_fast
print(json.dumps([sorted(before), sorted(set(sys.modules) - before), torch.cuda.is_initialized()]))
"""
HEAVY = {"accelerate", "datasets", "matplotlib", "PIL", "scipy", "sklearn", "tensorboard", "tqdm", "triton", "tyro"}


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)


def test_import_loads_torch_and_nothing_else() -> None:
    before, added, initialised = json.loads(run(SCRIPT).stdout)
    packages = {name.partition(".")[0] for name in added}
    known = {name.partition(".")[0] for name in before}
    assert "segma_fast" in packages
    assert not packages & HEAVY - known
    assert packages - known - set(sys.stdlib_module_names) == {"segma_fast"}
    assert not initialised


def test_import_is_silent() -> None:
    result = run("import segma_fast")
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize(
    ("command", "rule"), [(["-m", "segma_fast", "info"], "spin shortly and sleep"), (["-c", INFO], "spin")]
)
@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_idle_threads_sleep_in_commands(command: list[str], rule: str, own: str | None) -> None:
    """Unless the user has a rule; a program that imports the package keeps torch's."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    environment |= {"OMP_WAIT_POLICY": own} if own else {}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=True)
    assert f"idle ones {'spin' if own else rule}" in done.stdout


def test_ctrl_c_while_torch_is_loaded_is_no_traceback() -> None:
    """The signal ends the process; once all is loaded, it raises KeyboardInterrupt again."""
    program = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["segma-fast", "info"]
from segma_fast.before_torch import imports_are_done
print(signal.getsignal(signal.SIGINT) is signal.SIG_DFL)
imports_are_done()
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
