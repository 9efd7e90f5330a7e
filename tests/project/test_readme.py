"""What the README shows works: its Python runs, its commands parse, its make targets and pictures exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from segma_fast.__main__ import COMMANDS
from segma_fast.trainer.commands.train import parse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shell_lines(start: str) -> list[list[str]]:
    lines = "\n".join(blocks("sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]


def test_python_runs(tmp_path: Path) -> None:
    assert len(blocks("python")) > 2
    for block in blocks("python"):
        if "init_process_group" not in block:
            exec(compile(block, "README.md", "exec"), {})
            continue
        script = tmp_path / "script.py"
        script.write_text(block + 'print(f"loss {loss.item()} {encoder.module.weight.grad.norm().item()};")')
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        # not the exit status: after its last line a process of torch's gloo aborts now and then on a busy machine
        printed = re.findall(r"loss (\S+) (\S+);", done.stdout)
        assert len(printed) == 2 and printed[0] == printed[1], done.stderr[-3000:]


def test_commands_parse() -> None:
    commands = shell_lines("segma-fast")
    assert len(commands) > 10
    for command in commands:
        assert command[1] in COMMANDS
        if command[1] == "train" and "--resume" not in command:
            parse(command[2:])


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {command[1] for command in shell_lines("make")} | set(re.findall(r"`make ([a-z-]+)`", README))
    assert {"train", "test"} <= named <= targets


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()
