"""Builds from a copy of the sources: without a compiler, over an earlier build, as sdist and wheel, for old torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from segma_fast.distance.backends import extension

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
COMPILER = os.environ.get("CXX") or "c++"
OLDEST = os.environ.get("SEGMA_FAST_OLDEST_PYTHON")
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


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    skip_without("build")
    sources = copy_sources(tmp_path_factory.mktemp("sources"))
    succeed(sys.executable, "-m", "build", "--no-isolation", cwd=sources, SEGMA_FAST_REQUIRE_NATIVE="1")
    return sources / "dist"


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site-packages of a new environment with the wheel; torch is borrowed, whatever else lies beside it."""
    skip_without("pip")
    folder = tmp_path_factory.mktemp("environment")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    wheel = next(distributions.glob("*.whl"))
    succeed(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(succeed(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))  # .pth files there, as of editables, do not count
    return site


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


@needs_compiler
def test_sdist_and_wheel_hold_what_they_should(distributions: Path) -> None:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*") if path.suffix in (".cpp", ".h", ".cu")}
    assert sources | {"setup.py", "segma_fast/py.typed"} <= packed
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {f"segma_fast/{MODULE}", "segma_fast/py.typed"} <= names
    assert not {name for name in names | packed if "_build_note" in name}
    assert not {name for name in packed if name.endswith((".so", ".pyd"))}


@needs_compiler
def test_wheel_in_a_new_environment(installed: Path, tmp_path: Path) -> None:
    (python,) = (
        parent / name
        for parent in installed.parents
        for name in ("bin/python", "Scripts/python.exe")
        if (parent / name).exists() and (parent / "pyvenv.cfg").exists()
    )
    said = succeed(python, "-c", CALL, "native", cwd=tmp_path)
    assert said.split() == [str(installed / "segma_fast/distance/backends/extension.py"), "None"]
    shown = succeed(python, "-m", "segma_fast", "info", cwd=tmp_path)
    assert "native code: built by" in shown and "auto chooses: native on cpu" in shown


@needs_compiler
@pytest.mark.skipif(OLDEST is None, reason="SEGMA_FAST_OLDEST_PYTHON names no interpreter with the oldest torch")
def test_same_binary_under_the_oldest_torch(installed: Path, tmp_path: Path) -> None:
    assert OLDEST is not None
    versions = "import sys, torch; print(torch.__version__, sys.implementation.cache_tag)"
    torch_version, tag = succeed(OLDEST, "-c", versions, cwd=tmp_path).split()
    if tag != sys.implementation.cache_tag:
        pytest.skip(f"{OLDEST} is {tag}, the module was built for {sys.implementation.cache_tag}")
    oldest = re.search(r"torch>=([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert oldest is not None and torch_version.startswith(oldest[1] + ".")
    said = succeed(OLDEST, "-c", CALL, "native", cwd=tmp_path, PYTHONPATH=str(installed))
    assert said.split() == [str(installed / "segma_fast/distance/backends/extension.py"), "None"]


@needs_compiler
@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_stable_abi_only(installed: Path) -> None:
    """Of torch the module takes C functions alone: C++ names would bind it to the torch that it was built with."""
    symbols = succeed("nm", "-DC", "--undefined-only", installed / "segma_fast" / MODULE, cwd=installed)
    assert "torch_library_impl" in symbols
    assert not re.findall(r"^.*\b(?:at|c10|torch|caffe2)::.*$", symbols, re.MULTILINE)


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
