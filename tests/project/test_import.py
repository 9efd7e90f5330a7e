"""Importing the package costs no more than importing torch does."""

from __future__ import annotations

import json
import subprocess
import sys

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
