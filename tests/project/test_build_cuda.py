"""A build with the kernels for GPUs, without a GPU: with a torch that pretends to have CUDA, and a real toolkit."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from test_build import ROOT, copy_sources, needs_compiler, run, succeed

# A torch without CUDA that says it has it, and a library with the one function of libtorch_cuda that the kernels call.
PRETENDED = """
import runpy, sys, torch
torch.version.cuda = sys.argv[1]
sys.argv = ["setup.py", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""
STREAM = "int aoti_torch_get_current_cuda_stream(int device, void** stream) { *stream = 0; return 0; }"
TOOLKIT = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")
USED = """
import torch, segma_fast

print(torch._C._dispatch_has_kernel_for_dispatch_key('segma_fast::cuda_kernels', 'CUDA'))
"""


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(not (TOOLKIT / "bin" / "nvcc").exists(), reason="there is no CUDA toolkit")
@pytest.mark.skipif(torch.version.cuda is not None, reason="torch has CUDA: the kernels are those that all tests use")
def test_kernels_for_gpus_are_built(tmp_path: Path) -> None:
    """With nvcc, into the module, which loads and registers them; without them where nvcc fails."""
    sources = copy_sources(tmp_path)
    (tmp_path / "stub.c").write_text(STREAM)
    compiler = sysconfig.get_config_var("CC").split()[0]
    succeed(compiler, "-shared", "-fPIC", "-o", "libtorch_cuda.so", "stub.c", cwd=tmp_path)
    said = succeed(TOOLKIT / "bin" / "nvcc", "--version", cwd=tmp_path)
    version = re.search(r"release (\d+\.\d+)", said).group(1)
    there = {
        "CUDA_HOME": str(TOOLKIT),
        "TORCH_CUDA_ARCH_LIST": "8.0",
        "NVCC_APPEND_FLAGS": "-Xptxas -O0 -Xcicc -O1",  # what is built is not run
        "LIBRARY_PATH": str(tmp_path),
        "LD_LIBRARY_PATH": os.pathsep.join([str(tmp_path), str(TOOLKIT / "lib64")]),
    }
    build = (sys.executable, "-c", PRETENDED, version)
    succeed(*build, cwd=sources, SEGMA_FAST_REQUIRE_NATIVE="1", **there)
    assert succeed(sys.executable, "-c", USED, cwd=sources, **there).split() == ["True"]
    assert "CUDA architectures: 8.0" in succeed(sys.executable, "-m", "segma_fast", "info", cwd=sources, **there)

    for source in sources.glob("csrc/cuda/*.cu"):
        source.write_text("#error broken\n")
    required = run(*build, cwd=sources, SEGMA_FAST_REQUIRE_NATIVE="1", **there)
    assert required.returncode != 0 and "SEGMA_FAST_REQUIRE_NATIVE is set" in required.stdout + required.stderr
    said = succeed(*build, cwd=sources, SEGMA_FAST_REQUIRE_NATIVE="0", **there)
    assert "without kernels for GPUs: compiling failed" in said
    shown = succeed(sys.executable, "-m", "segma_fast", "info", cwd=sources)
    assert "CUDA architectures: none" in shown and "native       available" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "wanted, version, chosen",
    [
        ("", "13.0", ["8.0+PTX", "9.0a", "10.0", "12.0"]),
        ("", "12.6", ["8.0+PTX", "9.0a"]),
        ("7.5 8.0 8.6 9.0 12.0+PTX", "13.0", ["8.0", "8.6", "9.0a", "12.0+PTX"]),
        ("Turing;Hopper;9.0a", "13.0", ["9.0a"]),
        ("7.0+PTX", "13.0", []),
    ],
)
def test_architectures(wanted: str, version: str, chosen: list[str]) -> None:
    """What is too old is left out, and Hopper gets its own instructions."""
    code = "import setuptools, runpy, sys; setuptools.setup = lambda **_: None; "
    code += "print(*runpy.run_path('setup.py')['choose_architectures'](*sys.argv[1:]))"
    assert succeed(sys.executable, "-c", code, wanted, version, cwd=ROOT).split() == chosen


def test_make_shows_what_is_compiled() -> None:
    """A line for each file, and what the build says itself; everything if the command fails."""
    said = ["  segma_fast: compiling", "  [1/2] c++ -MMD -I/a -c /a/csrc/cpu/avx2.cpp -o /a/avx2.o -O3", "other"]
    code = f"import sys; print(*{said}, sep='\\n'); sys.exit(int(sys.argv[1]))"
    watch = (sys.executable, ROOT / ".ci" / "watch_build.py", sys.executable, "-c", code)
    shown = ["segma_fast: compiling", "[1/2] csrc/cpu/avx2.cpp"]
    assert [line.strip() for line in succeed(*watch, "0", cwd=ROOT).splitlines()] == shown
    failed = run(*watch, "3", cwd=ROOT)
    assert failed.returncode == 3 and "\n".join(said) in failed.stdout
