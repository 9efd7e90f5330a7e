"""The CUDA kernels compile for the GPUs that matter, without spills and with the instructions that they are made for.

Wherever nvcc is: neither a GPU nor a CUDA build of torch is needed. ``SEGMA_FAST_COMPILE_ALL=1`` (``make compile-all``)
compiles for every architecture and not only for those that are most different.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "cuda_compile"
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
pytestmark = pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
ARCHITECTURES = ("80", "90a", "100", "120")
SHARED = 48 * 1024  # bytes that a kernel may have without asking
# what the machine code has to hold: products of fp16, of warpgroups on Hopper, and copies in the background
WANTED = {
    "mma": ["HMMA.16816.F32", "LDSM.16.M88.4", "LDSM.16.MT88.4", "LDGSTS.E.BYPASS.128", "MUFU.RSQ"],
    "wgmma": ["HGMMA.64x128x16.F32", "HGMMA.64x64x16.F32", "UBLKCP", "SYNCS.PHASECHK", "USETMAXREG", "MUFU.RSQ"]
    + ["WARPGROUP.ARRIVE", "WARPGROUP.DEPBAR", "FENCE.VIEW.ASYNC", "MEMBAR"],
    "simt": ["FFMA", "DFMA", "MUFU.RSQ"],
}
SOURCES = ("mma", "wgmma", "simt", "operator")
JOBS = [("mma", "80"), ("wgmma", "90a"), ("simt", "90a"), ("operator", "90a")]
if os.environ.get("SEGMA_FAST_COMPILE_ALL") == "1":
    JOBS = [(source, architecture) for source in SOURCES for architecture in ARCHITECTURES]


def tool(name: str) -> str | None:
    """A program of the CUDA toolkit, or the copy that Triton brings."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(NVCC or "").parent))
    if found is None:
        try:
            import triton

            brought = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
            found = str(brought) if brought.exists() else None
        except ImportError:
            pass
    return found


@pytest.fixture(scope="module")
def compiled() -> dict[tuple[str, str], tuple[str, Path]]:
    """What ptxas said, and the object, of every source and architecture; kept until a source or nvcc changes."""
    sources = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cu"))
    said = [path.read_text() for path in sources] + [_output([NVCC or "", "--version"]), torch.__version__]
    state = hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)

    def build(job: tuple[str, str]) -> tuple[str, Path]:
        source, architecture = job
        target = CACHE / f"{source}-{architecture}-{state}.o"
        command = [NVCC or "", "-std=c++17", "-O3", f"-gencode=arch=compute_{architecture},code=sm_{architecture}"]
        command += ["-Xptxas", "-v", "-DUSE_CUDA", "-DSEGMA_CUDA_ARCHITECTURES=9.0a"]
        command += ["-DTORCH_TARGET_VERSION=0x020b000000000000ULL", f"-I{ROOT / 'csrc'}"]
        command += [f"-I{path}" for path in cpp_extension.include_paths()]
        command += ["-c", str(ROOT / "csrc" / "cuda" / f"{source}.cu")]
        told = target.with_suffix(".txt")
        if not told.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                draft = Path(folder) / "object.o"
                words = _output([*command, "-o", str(draft)])
                draft.replace(target)
            told.write_text(words)
        return told.read_text(), target

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return dict(zip(JOBS, pool.map(build, JOBS), strict=True))


def _output(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said[-4000:]
    return said


@pytest.mark.parametrize("source, architecture", JOBS)
def test_nothing_is_spilled(compiled: dict, source: str, architecture: str) -> None:
    said = compiled[source, architecture][0]
    kernels = re.findall(r"Compiling entry function '(\w+)'", said)
    assert source == "operator" or len(kernels) > 10
    usage = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert len(usage) >= len(kernels) and all(numbers == ("0", "0", "0") for numbers in usage), said
    # ptxas says so where it cannot keep products of warpgroups in the background
    assert not re.findall(r"C75\d\d.*|warning.*", said)
    assert all(int(size) <= SHARED for size in re.findall(r"(\d+) bytes smem", said))


@pytest.mark.parametrize(
    "source, architecture",
    [job for job in JOBS if job[0] in WANTED and (job[0] != "wgmma" or job[1] == "90a")],  # elsewhere it is empty
)
def test_instructions(compiled: dict, source: str, architecture: str) -> None:
    cuobjdump = tool("cuobjdump")
    if cuobjdump is None:
        pytest.skip("there is no cuobjdump")
    listing = subprocess.run([cuobjdump, "-sass", compiled[source, architecture][1]], capture_output=True, text=True)
    assert listing.returncode == 0, listing.stderr
    missing = [name for name in WANTED[source] if name not in listing.stdout]
    assert not missing
    local = re.findall(r"\b(?:LDL|STL)\b", listing.stdout)
    assert not local, f"{len(local)} accesses to local memory"
