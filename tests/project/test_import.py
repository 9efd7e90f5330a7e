"""Importing the package costs no more than importing torch does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import segma_fast

INFO = "from segma_fast.bench.info import info; info([])"
SCRIPT = """
import json, sys
import torch
before = set(sys.modules)
import segma_fast
print(json.dumps([sorted(before), sorted(set(sys.modules) - before), torch.cuda.is_initialized()]))
"""
HEAVY = {"accelerate", "datasets", "matplotlib", "PIL", "scipy", "sklearn", "tensorboard", "tqdm", "triton", "tyro"}


def run(script: str, warnings: str = "error") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", warnings, "-c", script], capture_output=True, text=True, check=True)


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


def test_missing_kernels_are_told_of_in_one_line_and_once(tmp_path: Path) -> None:
    """For each reason, by a copy of the package without the compiled module; without a place to remember it, always."""
    copy = tmp_path / "segma_fast"
    shutil.copytree(Path(segma_fast.__file__).parent, copy, ignore=shutil.ignore_patterns("_C*", "__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "SEGMA_FAST_CACHE": str(tmp_path / "kept")}

    def told() -> str:
        command = [sys.executable, "-c", "import segma_fast"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert not done.stdout
        return done.stderr

    (copy / "_build_note.txt").write_text("no compiler")
    slower = "segma_fast: on CPUs plain torch computes the distance, more slowly than compiled kernels"
    assert told() == f"{slower}: not built: no compiler\n"
    assert told() == ""
    (copy / "_build_note.txt").write_text("no ninja")
    assert told().endswith("not built: no ninja\n") and told() == ""
    environment["SEGMA_FAST_CACHE"] = str(copy / "_build_note.txt")  # not a folder
    assert told() and told()
    with open("/dev/full", "w") as full:  # and nowhere to say it
        subprocess.run(
            [sys.executable, "-c", "import segma_fast"], cwd=tmp_path, env=environment, stderr=full, check=True
        )


def test_numpy_is_not_needed() -> None:
    """torch works without NumPy, and so do the distance and mixtures."""
    run(
        "import sys; sys.modules['numpy'] = None\n"
        "import torch, segma_fast\n"
        "mixture = segma_fast.GaussianMixture(torch.zeros(2, 3), [0.5, 2])\n"
        "assert segma_fast.fast_cw_distance(torch.randn(8, 3), mixture.means, mixture.proportions) > 0",
        warnings="ignore",  # torch has one
    )


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
