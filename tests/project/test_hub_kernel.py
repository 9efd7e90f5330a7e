"""The folders for Hugging Face's Hub: what its tools ask for, loaded by its loader, also twice."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.cpp_extension import include_paths, library_paths

import segma_fast

kernels = pytest.importorskip("kernels")
from kernels._rust import Build, Digest, DigestAlgorithm  # noqa: E402

ROOT = Path(__file__).parents[2]
COMPILER = os.environ.get("CXX") or "c++"
REGISTRATION = """#include <Python.h>
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)
#define REGISTER_EXTENSION(NAME)                                                           \\
  PyMODINIT_FUNC JOIN(PyInit_, NAME)() {                                                   \\
    static PyModuleDef module = {PyModuleDef_HEAD_INIT, TEXT(NAME), nullptr, 0, nullptr};  \\
    return PyModule_Create(&module);                                                       \\
  }
"""
DEFINITIONS = ["-DPy_LIMITED_API=0x03090000", "-DTORCH_TARGET_VERSION=0x020b000000000000ULL", "-DCPU_KERNEL"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hub")
    script = runpy.run_path(str(ROOT / ".ci" / "hub_kernel.py"))
    for name, compiled in (("segma-fast", True), ("segma-fast-python", False)):
        script["write"](out / name, name, compiled)
    return out


def compile_library(folder: Path, library: Path, name: str) -> None:
    """Compile the sources of ``build.toml`` for the CPU, with its flags, as a module for all Pythons from 3.9 on."""
    settings = tomllib.loads((folder / "build.toml").read_text())
    kernel = settings["kernel"]["cpu"]
    sources = [path for path in settings["torch"]["src"] + kernel["src"] if path.endswith(".cpp")]
    (folder / "torch-ext" / "registration.h").write_text(REGISTRATION)
    include = [*kernel["include"], "torch-ext", *include_paths(), sysconfig.get_path("include")]
    flags = ["-shared", "-fPIC", "-O1", "-std=c++17", f"-DTORCH_EXTENSION_NAME={name}", *DEFINITIONS]
    flags += [*kernel["cxx-flags"], *(f"-I{path}" for path in include), *(f"-L{path}" for path in library_paths())]
    done = subprocess.run(
        [COMPILER, *flags, *sources, "-ltorch_cpu", "-o", library], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def as_built(folder: Path, variant: str, build: str, compiled: bool = False) -> Path:
    """What kernel-builder leaves for the CPU, in ``folder/build/variant``: all Python, a library, and metadata."""
    name = folder.name.replace("-", "_")
    place, operators = folder / "build" / variant, f"_{name}_cpu_{build}"
    shutil.copytree(folder / "torch-ext" / name, place)
    prefix = f"def add_op_namespace_prefix(name):\n    return f'{operators}::{{name}}'\n"
    load = f"from . import {operators}" if compiled else ""
    (place / "_ops.py").write_text(f"import torch\n{load}\nops = getattr(torch.ops, '{operators}')\n{prefix}")
    if compiled:
        compile_library(folder, place / f"{operators}.abi3.so", operators)
    digest = {"algorithm": "sha256", "files": Digest.hash_variant(DigestAlgorithm.SHA256, place).files}
    about = {"id": operators, "name": folder.name, "version": 1, "license": "MIT", "python-depends": []}
    (place / "metadata.json").write_text(json.dumps(about | {"backend": {"type": "cpu"}, "digest": digest}))
    return place


def check_distances(kernel: ModuleType, backend: str) -> None:
    codes, means = torch.randn(150, 17, requires_grad=True), torch.randn(5, 17)
    for ours, theirs in (
        (segma_fast.fast_cw_distance(codes, means, backend=backend), kernel.fast_cw_distance(codes, means)),
        (segma_fast.sigreg(codes, backend=backend), kernel.SIGReg()(codes)),
        (segma_fast.cw_normality(codes, backend=backend), torch.compile(kernel.cw_normality)(codes)),
    ):
        torch.testing.assert_close(theirs, ours)
        (expected,) = torch.autograd.grad(ours, codes)
        torch.testing.assert_close(torch.autograd.grad(theirs, codes)[0], expected)


@pytest.mark.parametrize("name", ["segma-fast", "segma-fast-python"])
def test_what_the_hub_asks_for(folders: Path, name: str) -> None:
    """Its parser takes the configuration, whose files are there; imports are relative, torch's, or Python's own."""
    assert {str(backend) for backend in Build.open(folders / name).general.backends} == {"cpu", "cuda"}
    settings = tomllib.loads((folders / name / "build.toml").read_text())
    listed = [path for kernel in settings.get("kernel", {}).values() for path in kernel["src"]]
    assert all((folders / name / path).is_file() for path in listed)
    for path in (folders / name / "torch-ext").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 10))):
            if isinstance(node, ast.ImportFrom) and node.level == 0 or isinstance(node, ast.Import):
                named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
                tops = {one.split(".")[0] for one in named}
                assert tops <= {"torch", "triton", *sys.stdlib_module_names}, (path, tops)


def test_python_kernel(folders: Path) -> None:
    as_built(folders / "segma-fast-python", "torch-cpu", "first")
    first = kernels.get_local_kernel(folders / "segma-fast-python", backend="cpu")
    again = shutil.copytree(folders / "segma-fast-python", folders / "copy" / "segma-fast-python")
    shutil.rmtree(again / "build")
    as_built(again, "torch-cpu", "second")
    second = kernels.get_local_kernel(again, backend="cpu")
    assert first is not second and first.fast_cw_distance is not second.fast_cw_distance
    for kernel in (first, second):
        check_distances(kernel, "chunked")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or shutil.which(COMPILER) is None, reason=f"no C++ compiler ({COMPILER})")
def test_compiled_kernel(folders: Path) -> None:
    checker = pytest.importorskip("kernel_abi_check")
    place = as_built(folders / "segma-fast", "torch-stable-abi211-cpu-x86_64-linux", "build", compiled=True)
    assert not checker.ObjectFile(str(next(place.glob("*.so")))).check_python_abi("3.9")
    check_distances(kernels.get_local_kernel(folders / "segma-fast", backend="cpu"), "native")
