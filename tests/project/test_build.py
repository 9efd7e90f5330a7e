"""Builds from a copy of the sources: without a compiler, and over an earlier build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from segma_fast.distance.backends import extension

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
COMPILER = os.environ.get("CXX") or "c++"
MODULE = "_C" + sysconfig.get_config_var("EXT_SUFFIX")
NO_COMPILER = {"CC": "no-compiler-here", "CXX": "no-compiler-here"}
CALL = """
import sys, torch
from segma_fast import cw_distance_reference, fast_cw_distance
from segma_fast.distance.backends import extension

z, means = torch.randn(200, 5), torch.randn(10, 5)
value = fast_cw_distance(z, means, backend=sys.argv[1])
torch.testing.assert_close(value, cw_distance_reference(z.double(), means.double()).float(), rtol=2e-5, atol=0)
print(extension.__file__, extension.REASON)
"""
needs_compiler = pytest.mark.skipif(
    os.name == "nt" or shutil.which(COMPILER) is None, reason=f"no C++ compiler ({COMPILER}) to build with"
)


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEGMA_FAST_", "PYTHONPATH"))}
    return subprocess.run(command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True)


def succeed(*command: str | Path, cwd: Path, **environment: str) -> str:
    result = run(*command, cwd=cwd, **environment)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout + result.stderr


def skip_without(package: str) -> None:
    """Unlike ``importorskip`` this looks for no module: to look for pip's turns setuptools' distutils off."""
    try:
        version(package)
    except PackageNotFoundError:
        pytest.skip(f"needs {package}")


def copy_sources(folder: Path, leave_out: Iterable[str] = ()) -> Path:
    """The sources without what builds left among them."""
    left = ("*.so", "*.pyd", "_build_note*.txt", "__pycache__", *leave_out)
    for name in ("csrc", "segma_fast", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*left))
    for path in ROOT.iterdir():
        if path.suffix in (".md", ".toml", ".py", ".in") or path.name == "LICENSE":
            shutil.copy(path, folder)
    return folder


def test_installation_without_a_compiler(tmp_path: Path) -> None:
    skip_without("pip")
    sources = copy_sources(tmp_path / "sources")
    bare = {**NO_COMPILER, "PATH": str(tmp_path)}
    pip = (sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index")
    said = succeed(*pip, "-v", "--target", tmp_path / "site", ".", cwd=sources, **bare)
    (line,) = {line.strip() for line in said.splitlines() if "compiled kernels" in line}
    assert "'no-compiler-here' is not there: install g++ or clang" in line
    there = {**bare, "PYTHONPATH": str(tmp_path / "site")}
    shown = succeed(sys.executable, "-m", "segma_fast", "info", cwd=tmp_path, **there)
    assert f"native code: not built: {line.partition('kernels: ')[2]}" in shown
    assert "c++ compiler: none found (no-compiler-here)" in shown
    assert str(tmp_path / "site") in succeed(sys.executable, "-c", CALL, "auto", cwd=tmp_path, **there)
    required = run(*pip, "--target", tmp_path / "other", ".", cwd=sources, SEGMA_FAST_REQUIRE_NATIVE="1", **bare)
    assert required.returncode != 0 and "SEGMA_FAST_REQUIRE_NATIVE is set" in required.stdout + required.stderr


@needs_compiler
def test_earlier_builds_leave_nothing(tmp_path: Path) -> None:
    """A failure takes away the module, a success the note, in the build folder and beside the sources."""
    sources = copy_sources(tmp_path, leave_out=["*.cpp"])
    build = (sys.executable, "setup.py", "build_ext", "--inplace")
    note, module = sources / "segma_fast" / "_build_note.txt", sources / "segma_fast" / MODULE
    code = '#include <Python.h>\n#include "version.h"\nPyMODINIT_FUNC PyInit__C() { return VERSION; }\n'
    (sources / "csrc" / "module.cpp").write_text(code)
    for header, built in (("1", False), ("nullptr", True), ("1", False), ("nullptr", True)):
        (sources / "csrc" / "version.h").write_text(f"#define VERSION {header}\n")
        succeed(*build, cwd=sources)
        assert (module.exists(), note.exists()) == (built, not built)
        assert len([*sources.glob("build/lib*/**/_C*")]) == built
    succeed(*build, cwd=sources, **NO_COMPILER)
    assert (module.exists(), note.exists()) == (False, True)


@pytest.mark.skipif(extension.MODULE is None, reason=f"native code: {extension.REASON}")
@pytest.mark.parametrize("forced", [None, "portable", "avx2", "avx512", "sse9"])
def test_code_path_is_told_and_can_be_forced(forced: str | None) -> None:
    code = "from segma_fast.distance.backends.extension import build_info as b; "
    code += "print(b()['code_path'], b()['code_path_error'])"
    environment = {} if forced is None else {"SEGMA_FAST_CPU_PATH": forced}
    path, _, error = succeed(sys.executable, "-c", code, cwd=ROOT, **environment).strip().partition(" ")
    paths = extension.build_info()["code_paths"]
    assert paths[-1] == "portable"
    if path == "None":
        assert forced is not None and forced != "portable"
        assert "SEGMA_FAST_CPU_PATH" in error and forced in error and "portable" in error
        called = run(sys.executable, "-c", CALL, "native", cwd=ROOT, **environment)
        assert called.returncode != 0 and error in called.stderr
    else:
        assert path in paths and error == "None" and forced in (None, path)
        succeed(sys.executable, "-c", CALL, "native", cwd=ROOT, **environment)


@pytest.mark.skipif(extension.MODULE is None, reason=f"native code: {extension.REASON}")
def test_info_tells_of_the_build() -> None:
    assert "native code: built by" in succeed(sys.executable, "-m", "segma_fast", "info", cwd=ROOT)
