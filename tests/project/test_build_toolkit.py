"""Which CUDA toolkit a build takes, and what it says and keeps if none: tiny sources, a toolkit of scripts."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from test_build import COMPILER, MODULE, copy_sources, needs_compiler, run, succeed
from test_build_cuda import PRETENDED

pytestmark = [
    pytest.mark.slow,
    needs_compiler,
    pytest.mark.skipif(torch.version.cuda is not None, reason="torch has CUDA: it need not pretend"),
]
CUDA = "99.0"  # which no toolkit of the machine has
NVCC = f"""#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release {CUDA}, V{CUDA}.1"; exit;;
--dryrun) echo "#$ TOP=$(dirname "$0")/.." >&2; exit;;
esac
for word in "$@"; do
  case "$before" in -o) to=$word;; -c) from=$word;; esac
  case "$word" in -DUSE_CUDA|-DSEGMA_*) defined="$defined $word";; esac
  before=$word
done
exec {COMPILER} -fPIC $defined -x c++ -c "$from" -o "$to"
"""
MODULE_CODE = """#include <Python.h>
#ifdef USE_CUDA
#error what only kernels for GPUs need
#endif
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C"};
PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&definition); }
"""
CUDA_CODE = """#ifndef USE_CUDA
#error USE_CUDA is not defined
#endif
#define TEXT(x) #x
#define EXPANDED(x) TEXT(x)
extern const char* const architectures = EXPANDED(SEGMA_CUDA_ARCHITECTURES);
"""
REASON = """
import torch
torch.version.cuda = "99.0"
from segma_fast.distance.backends import cuda
print(cuda.missing())
"""


class Build:
    """A copy of the sources with a module of one line and one kernel, beside libraries of an imagined torch."""

    def __init__(self, folder: Path) -> None:
        self.sources = copy_sources(folder / "sources", leave_out=["*.cpp", "*.cu"])
        (self.sources / "csrc" / "module.cpp").write_text(MODULE_CODE)
        self.kernel = self.sources / "csrc" / "cuda" / "kernel.cu"
        self.kernel.write_text(CUDA_CODE)
        self.module = self.sources / "segma_fast" / MODULE
        self.note = self.sources / "segma_fast" / "_build_note_cuda.txt"
        self.environment = {"CUDA_HOME": "", "CUDA_PATH": "", "TORCH_CUDA_ARCH_LIST": "", "MAX_JOBS": "2"}
        self.environment["LIBRARY_PATH"] = str(folder)
        self.library = make_library(folder / "libtorch_cuda.so")

    def __call__(self, **environment: str) -> str:
        command = (sys.executable, "-c", PRETENDED, CUDA)
        said = succeed(*command, cwd=self.sources, **(self.environment | environment))
        assert self.module.exists(), said
        return said

    def reason(self) -> str:
        """What ``segma-fast info`` says of the kernels for GPUs."""
        return succeed(sys.executable, "-c", REASON, cwd=self.sources).strip()


def make_library(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler = sysconfig.get_config_var("CC").split()[0]
    succeed(compiler, "-shared", "-o", path, "-x", "c", os.devnull, cwd=path.parent)
    return path


def make_script(path: Path, code: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    path.chmod(0o755)
    return path


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


@pytest.fixture
def toolkit(tmp_path: Path) -> Path:
    folder = tmp_path / "toolkit"
    make_library(folder / "lib64" / "libcudart.so")
    return make_script(folder / "bin" / "nvcc", NVCC).parents[1]


def test_toolkit_behind_a_script(build: Build, toolkit: Path, tmp_path: Path) -> None:
    """nvcc says where it lies; the first line says what is built, how long it takes, and the way out."""
    script = make_script(tmp_path / "usual" / "bin" / "nvcc", f'#!/bin/sh\nexec {toolkit}/bin/nvcc "$@"\n')
    said = build(PATH=os.pathsep.join([str(script.parent), os.environ["PATH"]]))
    (line,) = [line for line in said.splitlines() if line.startswith("segma_fast: ")]
    assert f"1 files for the CPU and 1 for GPUs of 8.0+PTX, 9.0a, 10.0, 12.0 with {toolkit}/bin/nvcc, roughly" in line
    assert "SEGMA_FAST_CUDA=0 leaves out those for GPUs" in line
    assert b"8.0+PTX_9.0a_10.0_12.0" in build.module.read_bytes() and not build.note.exists()


def test_named_toolkit_comes_first_if_it_works(build: Build, toolkit: Path, tmp_path: Path) -> None:
    named = shutil.copytree(toolkit, tmp_path / "named")
    path = os.pathsep.join([str(toolkit / "bin"), os.environ["PATH"]])
    assert f"with {named}/bin/nvcc" in build(CUDA_HOME=str(named), PATH=path)
    make_script(named / "bin" / "nvcc", NVCC.replace(CUDA, "98.0"))
    assert f"with {toolkit}/bin/nvcc" in build(CUDA_HOME=str(named), PATH=path)


def test_toolkit_of_pip(build: Build, toolkit: Path, tmp_path: Path) -> None:
    """Its runtime library has the version in its name alone."""
    folder = tmp_path / "site" / "nvidia" / "cu99"
    shutil.copytree(toolkit, folder)
    (folder / "lib64").rename(folder / "lib")
    (folder / "lib" / "libcudart.so").rename(folder / "lib" / "libcudart.so.99")
    assert f"with {folder}/bin/nvcc" in build(PYTHONPATH=str(tmp_path / "site"))
    assert not build.note.exists()


def test_nothing_is_compiled_that_cannot_be_linked(build: Build, toolkit: Path) -> None:
    """The true reason is kept until a build succeeds."""
    build.library.unlink()
    there = {"CUDA_HOME": str(toolkit)}
    said = build(**there)
    assert "kernel.cu" not in said and "without kernels for GPUs: no CUDA toolkit fits" in said
    assert build.reason().startswith("not built: no CUDA toolkit fits") and "cannot find -ltorch_cuda" in build.reason()
    command = (sys.executable, "-c", PRETENDED, CUDA)
    required = run(*command, cwd=build.sources, SEGMA_FAST_REQUIRE_NATIVE="1", **(build.environment | there))
    assert required.returncode != 0 and "is set, but no CUDA toolkit fits" in required.stdout + required.stderr
    make_library(build.library)
    build(**there)
    assert not build.note.exists() and not [*build.sources.glob("build/lib*/**/_build_note*")]


def test_the_reason_is_kept_in_every_case(build: Build, toolkit: Path) -> None:
    there = {"CUDA_HOME": str(toolkit)}
    build(**there, SEGMA_FAST_CUDA="0")
    assert build.reason() == "not built: SEGMA_FAST_CUDA=0 left them out"
    build(**there | {"TORCH_CUDA_ARCH_LIST": "7.5"})
    assert build.reason() == "not built: TORCH_CUDA_ARCH_LIST=7.5 names no compute capability from 8.0 on"
    make_script(toolkit / "bin" / "nvcc", NVCC.replace(CUDA, "98.0"))
    build(**there)
    assert f"{toolkit}: its CUDA is 98.0, torch's 99.0" in build.reason()
    build.note.unlink()
    assert build.reason().startswith("built with a torch without CUDA")


def test_what_was_compiled_for_the_cpu_is_kept(build: Build, toolkit: Path) -> None:
    build.kernel.write_text("#error broken\n")
    said = build(CUDA_HOME=str(toolkit))
    compiled = [line for line in said.splitlines() if " -c " in line and "module.cpp" in line]
    assert len(compiled) == 1 and "without kernels for GPUs: compiling failed" in said
    assert build.reason().startswith("not built: compiling failed")
