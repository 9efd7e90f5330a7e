"""``python -m benchmarks.gpu.pack FOLDER`` makes, on a machine without a GPU, what a GPU's minutes are too dear for.

With the Python, torch and Triton of the machine with the GPU, and nvcc: the compiled module, the Triton kernels of all
cases of ``make gpu`` in a cache that must lie at ``CACHE`` there too, and wheels of the peers. ``make gpu-pack`` runs
this, and ``make gpu`` takes from the folder what fits; a data set in Parquet files that was put beside it is what the
trainings are timed on, else the digits.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.gpu.cases import CASES, VARIABLES

STAND_IN = Path(__file__).with_name("stand_in.c")
CACHE = Path("/tmp/segma_fast_triton")  # Triton writes absolute paths into it
PEERS = ("cw-torch==0.4.2", "pykeops==2.3", "keopscore==2.3")
TRAINER = ("datasets", "multiprocess", "dill", "fsspec", "tyro", "docstring-parser", "typeguard")  # what it lacks there
PROCESSES = 2


def module(folder: Path) -> None:
    """Build the compiled module from the sources at hand, without leaving anything beside them."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "segma_fast"
        kept = shutil.ignore_patterns(".*", "build", "*.so", "runs", "tests", "docs")
        shutil.copytree(ROOT, copy, ignore=kept)
        variables = os.environ | {"SEGMA_FAST_REQUIRE_NATIVE": "1"}
        variables.setdefault("TORCH_CUDA_ARCH_LIST", "9.0a")
        if os.path.isdir("/usr/local/cuda"):
            variables.setdefault("CUDA_HOME", "/usr/local/cuda")
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        subprocess.run(command, cwd=copy, env=variables, check=True, stdout=subprocess.DEVNULL)
        for old in folder.glob("_C*.so"):
            old.unlink()
        for built in (copy / "segma_fast").glob("_C*.so"):
            shutil.copy2(built, folder)


def triton_cases() -> list[dict[str, Any]]:
    """What makes a kernel of its own; splits make two of one."""
    cases = [case for make in CASES.values() for case in make() if case["backend"] == "triton"]
    return list({json.dumps(case | {"timed": True}, sort_keys=True): case for case in cases}.values())


def compile_case(case: dict[str, Any]) -> str:
    """Call the backend on memory of the CPU, as if it were that of an H100."""
    for option, variable in VARIABLES.items():
        os.environ.pop(variable, None)
        if option in case:
            os.environ[variable] = str(case[option])
    import torch

    from segma_fast.distance.backends.triton import launch as triton_launch

    dim, total = case["dim"], case["rows"] + 10
    z, means = (torch.zeros(n, dim, dtype=getattr(torch, case.get("dtype", "float32"))) for n in (case["rows"], 10))
    h, w = torch.ones(total, dtype=torch.float64), torch.ones(total, dtype=torch.float64)
    phi, gradient = case.get("phi", "approx"), case.get("gradients", True)
    try:
        triton_launch.evaluate(z, means, h, w, 0, total, case["precision"], phi, gradient)
    except Exception as error:
        return f"{case}: {type(error).__name__}: {' '.join(str(error).split())[-200:]}"
    return ""


def stand_in(library: str) -> None:
    """Make Triton and the plans of this process believe in an H100."""
    os.environ["TRITON_LIBCUDA_PATH"] = os.path.dirname(library)
    os.environ["TRITON_CACHE_DIR"] = str(CACHE)
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    import torch
    import triton
    from triton.backends.nvidia.driver import CudaDriver

    torch.set_num_threads(1)
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.current_device = lambda: 0
    driver = CudaDriver()
    driver.get_current_stream = lambda device: 0
    triton.runtime.driver.set_active(driver)

    from segma_fast.distance.backends.triton import launch as triton_launch
    from segma_fast.distance.backends.triton import panels as triton_panels
    from segma_fast.distance.backends.triton import plan as triton_plan

    gpu = torch.device("cuda", 0)
    make_plan, sizes_for, divide = triton_plan.make_plan, triton_plan.panel_sizes, triton_plan.divide
    triton_plan.multiprocessors = lambda device: 132
    triton_plan.capability = lambda device: (9, 0)
    triton_launch.make_plan = lambda *described: make_plan(*described[:5], gpu, *described[6:])
    triton_launch.divide = lambda *described: divide(*described[:5], gpu, *described[6:])
    triton_plan.panel_sizes = triton_panels.panel_sizes = lambda device: sizes_for(gpu)
    triton_panels.product = lambda left, right: torch.zeros(left.shape[0], right.shape[1])


def triton_cache(folder: Path) -> None:
    shutil.rmtree(CACHE, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        library = os.path.join(place, "libcuda.so.1")
        command = ["cc", "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", str(STAND_IN)]
        subprocess.run([*command, "-o", library], check=True)
        with ProcessPoolExecutor(PROCESSES, initializer=stand_in, initargs=(library,)) as pool:
            for failure in filter(None, pool.map(compile_case, triton_cases())):
                print(failure, flush=True)
    with tarfile.open(folder / "triton.tar.xz", "w:xz") as archive:
        archive.add(CACHE, ".")


def wheels(folder: Path) -> None:
    place = folder / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place)]
    subprocess.run([*command, *PEERS, *TRAINER], check=True)


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for make in (triton_cache, wheels, module):
        if len(sys.argv) < 3 or make.__name__ in sys.argv[2:]:
            make(folder)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
            print(f"{make.__name__}: {folder.name} has {size:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
