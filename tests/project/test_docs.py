"""README and documentation: their Python runs, their commands parse, what they name exists, and the site builds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import segma_fast
from segma_fast import trainer
from segma_fast.__main__ import COMMANDS
from segma_fast.trainer.commands.train import parse

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted([README, *DOCS.rglob("*.md")])
RUN = ("README.md", "index.md", "first_distance.md", "mixtures.md", "compile.md", "python.md", "your_data.md")
LINK = re.compile(r"\]\(([\w./-]+)(?:#[\w-]*)?\)")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def shell_lines(start: str) -> list[list[str]]:
    lines = "\n".join(block for page in PAGES for block in blocks(page, "sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name in RUN], ids=lambda page: page.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page, one after the other in one program."""
    monkeypatch.chdir(tmp_path)
    found = blocks(page, "python")
    assert found
    program = ModuleType("page")
    monkeypatch.setitem(sys.modules, program.__name__, program)  # where torch.compile looks for global names
    exec(compile("\n".join(found), page.name, "exec"), vars(program))


def test_python_of_several_processes(tmp_path: Path) -> None:
    block = next(block for block in blocks(DOCS / "large_batches.md", "python") if "init_process_group" in block)
    script = tmp_path / "script.py"
    script.write_text(block + 'print(f"loss {loss.item()} {encoder.module.weight.grad.norm().item()};")')
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    # not the exit status: after its last line a process of torch's gloo aborts now and then on a busy machine
    printed = re.findall(r"loss (\S+) (\S+);", done.stdout)
    assert len(printed) == 2 and printed[0] == printed[1], done.stderr[-3000:]


def test_commands_parse() -> None:
    commands = shell_lines("segma-fast")
    assert len(commands) > 20
    for command in commands:
        assert command[1] in COMMANDS
        if command[1] == "train" and "--resume" not in command:
            parse(command[2:])


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {command[1] for command in shell_lines("make") if command[1] != "gpu"}
    for page in PAGES:
        named |= set(re.findall(r"`make ([a-z-]+)", page.read_text()))
    assert (
        {"train", "test"} <= named <= targets | {"gpu", "gpu-smoke", "gpu-times", "gpu-tests", "gpu-bench", "gpu-train"}
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [path for path in LINK.findall(page.read_text()) if not (page.parent / path).exists()]
    assert not missing


def test_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 110 and len(text.split()) <= 900


def test_reference_has_every_public_name() -> None:
    shown = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    names = set(re.findall(r"^::: [\w.]+\.(\w+)$", shown, re.MULTILINE))
    assert set(segma_fast.__all__) - {"__version__", "large_batch"} <= names
    assert set(trainer.__all__) <= names


@pytest.mark.slow
def test_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "fast_cw_distance" in (tmp_path / "reference" / "distance" / "index.html").read_text()
    page = (tmp_path / "models" / "index.html").read_text()
    assert "<code>segma_fast/trainer/models/base.py</code>" in page and "https://fonts." not in page


@pytest.mark.slow
def test_notebook_runs(tmp_path: Path) -> None:
    """The tour, cell by cell in a kernel; the file keeps outputs and pictures."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs) >= 6
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    client.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    drawn = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs if "data" in output
    ]
    assert sum("image/png" in output.data for output in drawn) >= 6
