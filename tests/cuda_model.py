"""The CUDA kernels on the CPU: built by a C++ compiler, with a model (``gpu_model/``) of what a GPU does.

``GPU_MODEL_MACHINE`` names the GPU by its compute capability ("9.0", "8.0", "8.6", "10.0", "12.0") and
``GPU_MODEL_ORDER=reverse`` runs threads and blocks from the last to the first.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "gpu_model"
FLAGS = ["-std=c++17", "-O3", "-fno-trapping-math", "-march=native", "-g0", "-fPIC", "-Wall", "-Wno-unknown-pragmas"]
FLAGS += ["-DTORCH_TARGET_VERSION=0x020b000000000000ULL", "-DSEGMA_HALVES=1100000"]  # 4096 sources of 64 dimensions


def compiler() -> list[str]:
    """The C++ compiler and what has to follow its name; empty where there is none."""
    words = shlex.split(os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++")
    return words if words and shutil.which(words[0]) else []


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While another process builds, wait for it."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build() -> Path:
    """The library, built where its sources or its compiler have changed."""
    sources = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    headers = [*(ROOT / "csrc").rglob("*.h"), *(ROOT / "tests" / "gpu_model").glob("*.h")]
    command = [*compiler(), *FLAGS, f"-I{ROOT / 'tests' / 'gpu_model'}", f"-I{ROOT / 'csrc'}"]
    command += [f"-I{path}" for path in cpp_extension.include_paths()]
    version = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    said = "".join(path.read_text() for path in [*sources, *sorted(headers)])
    mark = hashlib.sha256("\0".join([*command, version, torch.__version__, said]).encode()).hexdigest()[:16]
    library = CACHE / f"{mark}.so"
    with _alone(CACHE), tempfile.TemporaryDirectory(dir=CACHE) as folder:
        if library.exists():
            return library

        def compile_source(source: Path) -> str:
            name = os.path.join(folder, source.stem + ".o")
            _run([*command, "-x", "c++", "-c", str(source), "-o", name])
            return name

        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compile_source, sources))
        unfinished = os.path.join(folder, library.name)
        paths = [f"-L{path}" for path in cpp_extension.library_paths()]
        _run([*compiler(), "-shared", "-o", unfinished, *objects, *paths, "-ltorch_cpu"])
        for old in CACHE.glob("*.so"):
            old.unlink()
        os.replace(unfinished, library)
    return library


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0 or "warning:" in result.stderr:
        raise RuntimeError(f"{shlex.join(command)}\n{result.stderr[-4000:]}")


def load() -> bool:
    """Let the backend "cuda" serve CPU tensors in this process; says whether it could be built."""
    if os.name == "nt" or not compiler():
        return False
    import segma_fast.backends.cuda

    torch.ops.load_library(build())
    segma_fast.backends.cuda.DEVICES = ("cpu",)
    return True
