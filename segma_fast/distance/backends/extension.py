"""The compiled module ``segma_fast._C``: whether it was built and loads here, and if not, why.

Loading it registers its operators with torch: those of the backend ``native``, and where it was built with a CUDA
toolkit the kernels of ``cuda``.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import torch  # first: the module is linked to torch's libraries, but records no path to them

NAMESPACE = "segma_fast"  # of the operators of all backends
OPERATORS = getattr(torch.ops, NAMESPACE)
AGAIN = (
    "`pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps segma-fast`, "
    "or in a clone with `pip install --no-build-isolation -e .`"
)
NOTE = Path(__file__).parents[2] / "_build_note.txt"  # left by setup.py instead of the module


def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return None, f"not built: {NOTE.read_text(encoding='utf-8').strip()}"
    except OSError:
        pass
    try:
        return import_module("segma_fast._C"), None
    except ModuleNotFoundError:
        return None, _not_built()
    except Exception as error:  # importing the package must not fail because of it
        return None, f"built, but does not load with torch {torch.__version__}: {' '.join(str(error).split())}"


def _not_built() -> str:
    """Why there is no module: this is the source folder, beside an installed copy that has one; or none was built."""
    here = Path(__file__).parents[2]
    try:
        installed = Path(str(distribution("segma-fast").locate_file("segma_fast"))).resolve()
    except PackageNotFoundError:
        installed = here
    if installed != here and any(installed.glob("_C*")):
        return f"{here} is the source, the copy with the kernels is {installed}: start Python in another folder"
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    return f"not built for {python}: install segma_fast again with {AGAIN}"


MODULE, REASON = _load()


def cache_folder() -> Path:
    """Where segma_fast keeps what later processes use: ``$SEGMA_FAST_CACHE`` or ``~/.cache/segma_fast``."""
    return Path(os.environ.get("SEGMA_FAST_CACHE") or "~/.cache/segma_fast").expanduser()


def tell_once() -> None:
    """Say on stderr, in one line, that there are no compiled kernels and why: once for each installation.

    An empty file in :func:`cache_folder` remembers it.
    """
    if REASON is None or sys.stderr is None:
        return
    said = f"segma_fast: on CPUs plain torch computes the distance, more slowly than compiled kernels: {REASON}"
    mark = "told-" + sha256(f"{__file__} {said}".encode()).hexdigest()[:12]
    try:
        folder = cache_folder()
        if (folder / mark).exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / mark).touch()
    except (OSError, RuntimeError):  # nowhere to write, no home
        pass
    with suppress(OSError, ValueError):  # nobody listens
        print(said, file=sys.stderr, flush=True)


def build_info() -> dict[str, Any]:
    """How the kernels were built, and the code path that this CPU uses; empty if they are not available.

    Keys: ``compiler``, ``cxx_standard``, ``built_with_torch``, ``torch_target`` (the oldest torch that they serve),
    ``code_paths``, ``code_path`` (None if ``SEGMA_FAST_CPU_PATH`` names no valid one; see ``code_path_error``),
    ``cuda_architectures`` and ``sanitized``.
    """
    return {} if MODULE is None else dict(MODULE.build_info())
