"""The distance as a kernel for Hugging Face's Hub: folders in the layout of its kernel-builder, from the same sources.

``python .ci/hub_kernel.py build/hub`` makes two. ``segma-fast`` has the kernels in C++ for CPUs and in CUDA, on torch's
stable ABI, beside Triton's and plain torch; kernel-builder compiles them. ``segma-fast-python`` has the last two alone
and needs no compiler. Several versions of a kernel can be loaded in one process, so imports are relative and operators
are registered under a name of each build, which kernel-builder writes into ``_ops.py``.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = "segma-fast"
LEFT_OUT = {"mixture.py", "toolchain.py"}  # of a trainer, of segma-fast info
COMPILED = {"native.py", "cuda.py"}
ARCHITECTURES = ["8.0", "9.0a", "10.0", "12.0"]
CXX_FLAGS = ["-DSEGMA_OPERATORS=TORCH_EXTENSION_NAME", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
CUDA_FLAGS = [CXX_FLAGS[0], f"-DSEGMA_CUDA_ARCHITECTURES={'_'.join(ARCHITECTURES)}"]
PUBLIC = {
    "formulas": ["silverman_gamma"],
    "functional": ["cw_distance_reference", "cw_normality", "fast_cw_distance"],
    "modules": ["CWDistanceLoss", "CWNormalityLoss", "SIGReg"],
    "sigreg": ["sigreg"],
    "two_sample": ["cw_two_sample"],
}
EXTENSION = '''"""The compiled operators of this kernel, which ``_ops`` loads, and the name of their registration."""

from typing import Any, Dict, Optional

from ..._ops import add_op_namespace_prefix, ops

NAMESPACE = add_op_namespace_prefix("")[: -len("::")]
OPERATORS = ops
REASON: Optional[str] = None
AGAIN = "a build of this kernel for CUDA"


def build_info() -> Dict[str, Any]:
    """Nothing is known of how this kernel was built."""
    return {}
'''
BINDING = """// The operators register themselves, in csrc/; this makes the library a module of Python.
#include "registration.h"

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
"""
FLAKE = """{
  description = "segma_fast for Hugging Face's Hub";
  inputs.kernel-builder.url = "github:huggingface/kernels";
  outputs = { self, kernel-builder }: kernel-builder.lib.genKernelFlakeOutputs { inherit self; path = ./.; };
}
"""
CARD = """---
library_name: kernels
license: mit
---

# {name}

The Cramer-Wold distance between a batch of codes and N(0, I), a Gaussian mixture or another sample, as a loss for
torch: value and gradients in one pass over the pairs of codes, in memory that grows with the codes, not their square.

```python
import torch
from kernels import get_kernel

segma_fast = get_kernel("{{{{ repo_id }}}}", version={{{{ version }}}})
codes = torch.randn(4096, 32, device="cuda", requires_grad=True)
loss = segma_fast.cw_normality(codes, log=True) + segma_fast.sigreg(codes)
loss.backward()
```

Functions: {functions}.
{holds} It needs torch 2.11 and Python 3.10 or later.
"""
HOLDS = {
    True: "This is compiled C++ and CUDA, with Triton's kernels and plain torch beside them.",
    False: "This is Python alone: Triton's kernels on GPUs, plain torch elsewhere.",
}


def relative(source: str, depth: int) -> str:
    """A file's text with the imports of the package made relative; ``depth`` is that of the file's folder."""
    return re.sub(r"^(\s*)from segma_fast\.", rf"\1from {'.' * (depth + 1)}", source, flags=re.MULTILINE)


def write_python(package: Path, compiled: bool) -> None:
    for path in sorted((ROOT / "segma_fast" / "distance").rglob("*.py")):
        if path.name not in LEFT_OUT and (compiled or path.name not in COMPILED):
            place = path.relative_to(ROOT / "segma_fast")
            text = EXTENSION if path.name == "extension.py" else relative(path.read_text(), len(place.parts) - 1)
            (package / place).parent.mkdir(parents=True, exist_ok=True)
            (package / place).write_text(text)
    lines = [f"from .distance.{module} import {', '.join(names)}" for module, names in PUBLIC.items()]
    names = sorted(name for names in PUBLIC.values() for name in names)
    about = '"""The Cramer-Wold distance between codes and a Gaussian mixture, value and gradient in one pass."""\n'
    (package / "__init__.py").write_text("\n".join([about, *lines, "", f"__all__ = {names}", ""]))


def configuration(name: str, compiled: bool, sources: list[str]) -> str:
    """``build.toml``. Whatever the device, codes on the CPU need the kernels for CPUs, so both builds have them."""
    head = [
        "[general]",
        f'name = "{name}"',
        "version = 1",
        "edition = 5",
        'license = "MIT"',
        'backends = ["cpu", "cuda"]',
    ]
    if not compiled:
        return "\n".join([*head, "", "[torch-noarch]", ""])
    for_cpu = [path for path in sources if not path.startswith("csrc/cuda/")]
    lines = [*head, "", "[torch]", 'src = ["torch-ext/torch_binding.cpp"]', 'stable-abi = "2.11"']
    for backend, own in (("cpu", for_cpu), ("cuda", sources)):
        lines += ["", f"[kernel.{backend}]", f'backend = "{backend}"', 'depends = ["torch"]', 'include = ["csrc"]']
        lines += [f"src = {own}", f"cxx-flags = {CXX_FLAGS}"]
        if backend == "cuda":
            lines += [f"cuda-capabilities = {ARCHITECTURES}", f"cuda-flags = {CUDA_FLAGS}"]
    return "\n".join([*lines, ""]).replace("'", '"')


def write(folder: Path, name: str, compiled: bool) -> None:
    """Make a folder for kernel-builder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    write_python(folder / "torch-ext" / name.replace("-", "_"), compiled)
    sources = []
    if compiled:
        leave_out = shutil.ignore_patterns("bindings.cpp")  # pybind11's, which is not of Python's stable ABI
        shutil.copytree(ROOT / "csrc", folder / "csrc", ignore=leave_out)
        sources = sorted(path.relative_to(folder).as_posix() for path in (folder / "csrc").rglob("*.*"))
        (folder / "torch-ext" / "torch_binding.cpp").write_text(BINDING)
    (folder / "build.toml").write_text(configuration(name, compiled, sources))
    (folder / "flake.nix").write_text(FLAKE)
    functions = ", ".join(f"`{name}`" for names in PUBLIC.values() for name in names)
    (folder / "CARD.md").write_text(CARD.format(name=name, functions=functions, holds=HOLDS[compiled]))
    shutil.copy(ROOT / "LICENSE", folder)


if __name__ == "__main__":
    for name, compiled in ((NAME, True), (f"{NAME}-python", False)):
        write(Path(sys.argv[1]) / name, name, compiled)
        print(Path(sys.argv[1]) / name)
