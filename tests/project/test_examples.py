"""Every example runs in a short form, is short itself, and shows in its docstring what it prints."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parents[2] / "examples"
SHORT = {
    "cwae": ["--steps", "8"],
    "lightning_cwae": ["--epochs", "1"],
    "lejepa": ["--steps", "2", "--seeds", "1"],
    "two_sample_test": ["--permutations", "9", "--rows", "60"],
    "fit_mixture": ["--steps", "10"],
}


def words(text: str) -> list[str]:
    """The words of a text, without numbers and what digits look like."""
    return re.findall(r"[^\W\d_]{3,}", text)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SHORT)


@pytest.mark.parametrize("name", SHORT)
def test_example_runs_and_prints_what_it_says(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"{name}.py"
    source = path.read_text()
    assert source.index("OMP_WAIT_POLICY") < source.index("import torch")
    assert source.count("\n") <= (170 if name == "lejepa" else 120)
    command = [sys.executable, str(path), *SHORT[name]]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert f"python examples/{name}.py" in docstring
    seen = docstring.partition("Output::")[2]
    assert words(seen) and set(words(seen)) == set(words(done.stdout))
    assert [item.name for item in tmp_path.iterdir()] == (["fit_mixture.png"] if name == "fit_mixture" else [])
