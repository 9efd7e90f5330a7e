"""Builds the compiled kernels ``segma_fast._C`` where torch and a C++ compiler are; else says why not.

The kernels for GPUs are built where torch has CUDA and a CUDA toolkit is there, whether or not a GPU is. All else is in
pyproject.toml. Environment variables: ``SEGMA_FAST_REQUIRE_NATIVE=1`` makes it an error if what is to be built
cannot be, ``SEGMA_FAST_CUDA=0`` leaves out the kernels for GPUs, ``TORCH_CUDA_ARCH_LIST`` chooses their architectures,
and ``SEGMA_FAST_SANITIZE=1`` builds with the address and undefined behaviour sanitizers.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from glob import glob
from pathlib import Path
from textwrap import shorten

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
MODULE = "segma_fast._C"
NOTE = "_build_note.txt"  # beside the module's place: the reason why it was not built
TARGET = (2, 11)  # the stable ABI of this torch serves it and all later ones
ARCHITECTURES, OLDER_ARCHITECTURES = "8.0+PTX;9.0a;10.0;12.0", "8.0+PTX;9.0a"  # older: of CUDA before 12.8
NAMED = {"Volta": "7.0", "Turing": "7.5", "Ampere": "8.0", "Ada": "8.9", "Hopper": "9.0a", "Blackwell": "10.0"}
CUDA_LIBRARIES = ["cudart", "torch_cuda"]
REQUIRE = os.environ.get("SEGMA_FAST_REQUIRE_NATIVE", "0") not in ("", "0")
CUDA = os.environ.get("SEGMA_FAST_CUDA", "1") not in ("", "0")
SANITIZE = os.environ.get("SEGMA_FAST_SANITIZE", "0") not in ("", "0")
AGAIN = "install segma_fast again with `pip install --no-build-isolation`"

# ninja lies beside the interpreter, whose folder need not be in PATH
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])

try:
    import torch
    from torch.utils import cpp_extension
except (ImportError, OSError) as error:
    WITHOUT_TORCH = f"torch is not there for the build ({error}): install torch and ninja first, then {AGAIN}"
    BuildExtension = build_ext
else:
    WITHOUT_TORCH = ""
    BuildExtension = cpp_extension.BuildExtension


class NotBuilt(Exception):
    """The kernels cannot be built; the message says why and what to do."""


def why_not_compiled(error: Exception) -> str:
    cause = shorten(str(error), 100, placeholder=" ...") or type(error).__name__
    return f"compiling failed ({cause}): `pip install --no-build-isolation -v` shows the compiler's message"


def choose_architectures(wanted: str, home: str) -> list[str]:
    """What of ``TORCH_CUDA_ARCH_LIST`` the kernels are built for, Hopper with its own instructions; all if unset."""
    nvcc = os.path.join(home, "bin", "nvcc")
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"release (\d+)\.(\d+)", said)
    if version is None:
        return []
    recent = tuple(map(int, version.groups())) >= (12, 8)
    names = wanted.replace(";", " ").split() or (ARCHITECTURES if recent else OLDER_ARCHITECTURES).split(";")
    names = [NAMED.get(name, name) for name in names]
    numbers = [re.match(r"(\d+)\.\d", name) for name in names]
    names = [name for name, number in zip(names, numbers, strict=True) if number is None or int(number[1]) >= 8]
    return list(dict.fromkeys("9.0a" if name in ("9.0", "9.0+PTX") else name for name in names))


class BuildNative(BuildExtension):  # type: ignore[misc, valid-type]
    """Build the module or leave a note in its place, never both, and never a module of an earlier build."""

    def run(self) -> None:
        in_build, in_source = Path(self.get_built_path()), Path(self.get_source_path())
        places = [in_build, in_source] if self.inplace else [in_build]
        try:
            for place in places:
                place.unlink(missing_ok=True)
                place.with_name(NOTE).unlink(missing_ok=True)
            self.check_tools()
            with_cuda, before = self.add_cuda(), (self.compiler, self.inplace)
            try:
                super().run()
            except Exception as error:
                if not with_cuda or REQUIRE:
                    raise
                print(f"segma_fast: built without kernels for GPUs: {why_not_compiled(error)}", file=sys.stderr)
                self.remove_cuda()
                self.compiler, self.inplace = before  # which the first run changed
                super().run()
        except Exception as error:
            reason = str(error) if isinstance(error, NotBuilt) else why_not_compiled(error)
            if REQUIRE:
                raise RuntimeError(f"SEGMA_FAST_REQUIRE_NATIVE is set, but {reason}") from error
            print(f"segma_fast: installed without its compiled kernels: {reason}", file=sys.stderr)
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.with_name(NOTE).write_text(reason + "\n", encoding="utf-8")

    def get_built_path(self) -> str:
        return os.path.join(self.build_lib, self.get_ext_filename(MODULE))

    def get_source_path(self) -> str:
        package = self.get_finalized_command("build_py").get_package_dir(MODULE.rpartition(".")[0])
        return os.path.join(package, os.path.basename(self.get_ext_filename(MODULE)))

    def check_tools(self) -> None:
        if WITHOUT_TORCH:
            raise NotBuilt(WITHOUT_TORCH)
        found = tuple(int(part) for part in torch.__version__.split(".")[:2])
        if found < TARGET:
            raise NotBuilt(f"torch {torch.__version__} is older than {TARGET[0]}.{TARGET[1]}: upgrade it, then {AGAIN}")
        try:
            import pybind11
        except ImportError:  # torch brings a copy
            pass
        else:
            self.extensions[0].include_dirs += [pybind11.get_include()]
        self.extensions[0].include_dirs += cpp_extension.include_paths()
        self.extensions[0].library_dirs += cpp_extension.library_paths()

    def add_cuda(self) -> bool:
        """Add the kernels for GPUs where they can be built, and say whether."""
        home = cpp_extension.CUDA_HOME
        if not CUDA or not torch.version.cuda or home is None or os.name == "nt":
            return False
        architectures = choose_architectures(os.environ.get("TORCH_CUDA_ARCH_LIST", ""), home)
        if not architectures:
            return False
        os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(architectures)
        extension = self.extensions[0]
        extension.sources += sorted(glob("csrc/cuda/*.cu"))
        extension.include_dirs += cpp_extension.include_paths("cuda")
        extension.library_dirs += cpp_extension.library_paths("cuda")
        extension.libraries += CUDA_LIBRARIES
        extension.define_macros += [("USE_CUDA", None), ("SEGMA_CUDA_ARCHITECTURES", "_".join(architectures))]
        return True

    def remove_cuda(self) -> None:
        extension = self.extensions[0]
        extension.sources = [path for path in extension.sources if not path.endswith(".cu")]
        extension.libraries = [name for name in extension.libraries if name not in CUDA_LIBRARIES]
        cuda_only = ("USE_CUDA", "SEGMA_CUDA_ARCHITECTURES")
        extension.define_macros = [(name, value) for name, value in extension.define_macros if name not in cuda_only]

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        if not msvc and shutil.which(self.compiler.compiler_cxx[0]) is None:
            compiler = self.compiler.compiler_cxx[0]
            raise NotBuilt(f"the C++ compiler {compiler!r} is not there: install g++ or clang, then {AGAIN}")
        extension = self.extensions[0]
        if msvc:
            extension.extra_compile_args = ["/std:c++17", "/O2"]
        else:
            # Infinities and NaN keep their meaning; FMA is used. Nothing is exported but the module's entry.
            extension.extra_compile_args = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden"]
            extension.extra_compile_args += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
            extension.extra_compile_args += [f"-ffile-prefix-map={ROOT}/="]  # for messages
        if SANITIZE:
            sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
            extension.extra_compile_args += [*sanitizers, "-g", "-O1"]
            extension.extra_link_args = sanitizers
            extension.define_macros += [("SEGMA_SANITIZED", "1")]
        if any(path.endswith(".cu") for path in extension.sources):
            for_gpus = ["-std=c++17", "-O3", "-Xcompiler", "-fvisibility=hidden"]
            extension.extra_compile_args = {"cxx": extension.extra_compile_args, "nvcc": for_gpus}
        super().build_extensions()


native = Extension(
    MODULE,
    sources=sorted(glob("csrc/**/*.cpp", recursive=True)),
    depends=sorted(glob("csrc/**/*.h", recursive=True)),
    include_dirs=[str(ROOT / "csrc")],  # ninja runs in another folder
    # No path to torch's libraries is recorded: segma_fast imports torch first, which loads them.
    libraries=["torch_cpu"],  # holds the whole stable ABI
    define_macros=[
        ("TORCH_TARGET_VERSION", f"0x{TARGET[0]:02x}{TARGET[1]:02x}{0:012x}ULL"),
        ("SEGMA_TORCH_VERSION", "none" if WITHOUT_TORCH else torch.__version__),
    ],
    language="c++",
)
setup(ext_modules=[native], cmdclass={"build_ext": BuildNative})
