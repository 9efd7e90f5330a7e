"""What ``segma-fast info`` says about the compiled kernels and about the compilers of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import torch

from segma_fast.distance.backends import extension


def describe_native() -> list[str]:
    """A few lines: how the kernels were built, or why they were not, and which CUDA toolkit is installed."""
    info = extension.build_info()
    if not info:
        return [f"native code: {extension.REASON}", f"c++ compiler: {_compiler()}", f"cuda toolkit: {_cuda_toolkit()}"]
    path = f"{info['code_path']} is in use" if info["code_path"] else info["code_path_error"]
    return [
        f"native code: built by {info['compiler']} with torch {info['built_with_torch']} for torch >= "
        f"{info['torch_target']}{', with sanitizers' if info['sanitized'] else ''}",
        f"  code paths: {', '.join(info['code_paths'])}; {path}",
        f"  CUDA architectures: {', '.join(info['cuda_architectures']) or 'none'}",
        f"cuda toolkit: {_cuda_toolkit()}",
    ]


def _compiler() -> str:
    name = os.environ.get("CXX") or ("cl" if os.name == "nt" else "c++")
    return shutil.which(name.split()[0]) or f"none found ({name})"


def _cuda_toolkit() -> str:
    cuda = torch.version.cuda
    ours = f"torch {torch.__version__} is " + (f"built with CUDA {cuda}" if cuda else "a build without CUDA")
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which("nvcc", path=str(Path(home) / "bin")) if home else shutil.which("nvcc")
    nvcc = nvcc or (None if home else shutil.which("nvcc", path="/usr/local/cuda/bin"))
    if nvcc is None:
        return f"none ({f'no nvcc in CUDA_HOME={home}' if home else 'no nvcc, CUDA_HOME not set'}); {ours}"
    try:
        shown = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{nvcc} does not run ({error}); {ours}"
    release = re.search(r"release ([\d.]+)", shown)
    return f"nvcc {release[1] if release else 'of unknown version'} at {nvcc}{',' if cuda else ', but'} {ours}"
