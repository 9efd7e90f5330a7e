"""Builds the compiled kernels ``segma_fast._C`` where torch and a C++ compiler are; else says why not.

The kernels for GPUs are built where torch has CUDA and a CUDA toolkit is there, whether or not a GPU is; else a note
says why not. All else is in pyproject.toml. Environment variables: ``SEGMA_FAST_REQUIRE_NATIVE=1`` makes it an error if
what is to be built cannot be, ``SEGMA_FAST_CUDA=0`` leaves out the kernels for GPUs, ``TORCH_CUDA_ARCH_LIST`` chooses
their architectures, and ``SEGMA_FAST_SANITIZE=1`` builds with the address and undefined behaviour sanitizers.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from glob import glob
from pathlib import Path
from textwrap import shorten

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
MODULE = "segma_fast._C"
NOTE = "_build_note.txt"  # beside the module's place: the reason why it was not built
CUDA_NOTE = "_build_note_cuda.txt"  # beside the module: the reason why it has no kernels for GPUs
TARGET = (2, 11)  # the stable ABI of this torch serves it and all later ones
ARCHITECTURES, OLDER_ARCHITECTURES = "8.0+PTX;9.0a;10.0;12.0", "8.0+PTX;9.0a"  # older: of CUDA before 12.8
NAMED = {"Volta": "7.0", "Turing": "7.5", "Ampere": "8.0", "Ada": "8.9", "Hopper": "9.0a", "Blackwell": "10.0"}
LIBRARIES = ["torch_cpu"]  # holds the whole stable ABI
VERSION = ("--version", r"release (\d+\.\d+)")
CPU_SECONDS, CUDA_SECONDS = 60, 150  # on one core, the latter for each architecture
REQUIRE = os.environ.get("SEGMA_FAST_REQUIRE_NATIVE", "0") not in ("", "0")
CUDA = os.environ.get("SEGMA_FAST_CUDA", "1") not in ("", "0")
SANITIZE = os.environ.get("SEGMA_FAST_SANITIZE", "0") not in ("", "0")
AGAIN = (
    "install segma_fast again with `pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps "
    "segma-fast`, or in a clone with `pip install --no-build-isolation -e .`"
)

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


def ask_nvcc(home: str, question: str, answer: str) -> str:
    """What the nvcc of a folder says, or nothing."""
    try:
        command = [os.path.join(home, "bin", "nvcc"), *question.split()]
        said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(answer, said.stdout + said.stderr, re.MULTILINE)
    return found[1] if found else ""


def find_toolkits() -> list[str]:
    """Folders with ``bin/nvcc``, best first: the one that is named, that in PATH, the usual one, and those of pip.

    An nvcc may be a script that starts another one: each says where it lies itself.
    """
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    in_path = shutil.which("nvcc")
    homes = [named, in_path and os.path.dirname(os.path.dirname(in_path)), "/usr/local/cuda"]
    pip = importlib.util.find_spec("nvidia")
    for folder in (pip and pip.submodule_search_locations) or []:
        homes += sorted(glob(os.path.join(folder, "cu*")), reverse=True)
    found: dict[str, str] = {}
    for home in homes:
        if home and shutil.which("nvcc", path=os.path.join(home, "bin")):
            found.setdefault(os.path.realpath(home), home)
            top = os.path.realpath(ask_nvcc(home, "--dryrun any.cu", r"^#\$ TOP=(.+)$") or home)
            if shutil.which("nvcc", path=os.path.join(top, "bin")):
                found.setdefault(top, top)
    return list(found.values())


def choose_architectures(wanted: str, version: str) -> list[str]:
    """What of ``TORCH_CUDA_ARCH_LIST`` to build for with a CUDA, Hopper with its own instructions; all if unset."""
    recent = tuple(map(int, version.split("."))) >= (12, 8)
    names = wanted.replace(";", " ").split() or (ARCHITECTURES if recent else OLDER_ARCHITECTURES).split(";")
    names = [NAMED.get(name, name) for name in names]
    numbers = [re.match(r"(\d+)\.\d", name) for name in names]
    names = [name for name, number in zip(names, numbers, strict=True) if number is None or int(number[1]) >= 8]
    return list(dict.fromkeys("9.0a" if name in ("9.0", "9.0+PTX") else name for name in names))


class BuildNative(BuildExtension):  # type: ignore[misc, valid-type]
    """Build the module or leave a note in its place, never both, and never a module of an earlier build."""

    without_cuda = ""  # why the module has no kernels for GPUs

    def run(self) -> None:
        in_build, in_source = Path(self.get_built_path()), Path(self.get_source_path())
        places = [in_build, in_source] if self.inplace else [in_build]
        try:
            for place in places:
                for name in (place.name, NOTE, CUDA_NOTE):
                    place.with_name(name).unlink(missing_ok=True)
            self.check_tools()
            before = self.compiler, self.inplace
            try:
                super().run()
            except Exception as error:
                if self.without_cuda or REQUIRE or isinstance(error, NotBuilt):
                    raise
                self.without_cuda = why_not_compiled(error)
                self.compiler, self.inplace = before  # which the first run changed
                super().run()
            if torch.version.cuda and self.without_cuda:
                for place in places:
                    place.with_name(CUDA_NOTE).write_text(self.without_cuda + "\n", encoding="utf-8")
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

    def add_cuda(self) -> str:
        """Add the kernels for GPUs, or say why not. What is compiled for the CPU is the same with and without them."""
        if not torch.version.cuda:
            return f"torch {torch.__version__} has no CUDA"
        if not CUDA:
            return "SEGMA_FAST_CUDA=0 left them out"
        if os.name == "nt":
            return "they are not built on Windows"
        reason = self.take_toolkit()
        if reason:
            return reason
        wanted = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
        architectures = choose_architectures(wanted, ask_nvcc(cpp_extension.CUDA_HOME, *VERSION))
        if not architectures:
            return f"TORCH_CUDA_ARCH_LIST={wanted} names no compute capability from 8.0 on"
        os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(architectures)
        extension = self.extensions[0]
        extension.sources += sorted(glob("csrc/cuda/*.cu"))
        for_gpus = ["-std=c++17", "-O3", "-Xcompiler", "-fvisibility=hidden", "-DUSE_CUDA"]
        for_gpus += [f"-DSEGMA_CUDA_ARCHITECTURES={'_'.join(architectures)}"]
        for_gpus += [f"-I{folder}" for folder in cpp_extension.include_paths("cuda", torch_include_dirs=False)]
        extension.extra_compile_args = {"cxx": extension.extra_compile_args, "nvcc": for_gpus}
        return ""

    def take_toolkit(self) -> str:
        """Take the first CUDA toolkit that can be used, or say why there is none."""
        reasons = []
        for home in find_toolkits():
            reason = self.try_toolkit(home)
            if not reason:
                return ""
            reasons.append(f"{home}: {reason}")
        cuda = torch.version.cuda
        if not reasons:
            return f"there is no nvcc: install the toolkit of CUDA {cuda}, then {AGAIN}"
        reason = f"no CUDA toolkit fits ({'; '.join(reasons)}): name one of CUDA {cuda} in CUDA_HOME, then {AGAIN}"
        if REQUIRE:
            raise NotBuilt(reason)
        return reason

    def try_toolkit(self, home: str) -> str:
        """Take a CUDA toolkit, or say why it cannot be used: nothing is compiled that cannot be linked."""
        version, cuda = ask_nvcc(home, *VERSION), torch.version.cuda
        if version.split(".")[0] != cuda.split(".")[0]:
            return f"its CUDA is {version or 'unknown'}, torch's {cuda}"
        cpp_extension.CUDA_HOME = home  # whose tools and libraries torch takes
        folders = cpp_extension.library_paths("cuda")
        # pip's packages have libcudart.so.13 alone, which the linker finds only by its whole name.
        files = sorted(os.path.basename(path) for folder in folders for path in glob(f"{folder}/libcudart.so*"))
        libraries = [f":{files[0]}" if files else "cudart", "torch_cuda"]
        with tempfile.TemporaryDirectory() as place:
            Path(place, "empty.cpp").touch()
            command = [*self.compiler.linker_so_cxx, f"{place}/empty.cpp", "-o", f"{place}/empty.so"]
            command += [*(f"-L{folder}" for folder in folders), *(f"-l{library}" for library in libraries)]
            linked = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if linked.returncode != 0:
            return shorten(f"linking fails, {linked.stderr.partition(chr(10))[0]}", 120, placeholder=" ...")
        self.extensions[0].library_dirs += folders
        self.extensions[0].libraries += libraries
        return ""

    def announce(self) -> None:
        sources = self.extensions[0].sources
        for_gpus = [path for path in sources if path.endswith(".cu")]
        jobs = os.environ.get("MAX_JOBS", "")
        cores = int(jobs) if jobs.isdigit() and int(jobs) > 0 else os.cpu_count() or 1
        seconds = CPU_SECONDS / cores
        said = f"segma_fast: compiling {len(sources) - len(for_gpus)} files for the CPU"
        if for_gpus:
            names = os.environ["TORCH_CUDA_ARCH_LIST"].split(";")
            seconds += CUDA_SECONDS * len(names) / min(cores, 2)  # one of the files takes half of it
            said += f" and {len(for_gpus)} for GPUs of {', '.join(names)} with {cpp_extension.CUDA_HOME}/bin/nvcc"
            tip = "SEGMA_FAST_CUDA=0 leaves out those for GPUs, which take nearly all of the time"
        else:
            tip = f"without kernels for GPUs: {self.without_cuda}"
        print(f"{said}, roughly {max(1, round(seconds / 60))} min on {cores} idle cores; {tip}", flush=True)

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        if not msvc and shutil.which(self.compiler.compiler_cxx[0]) is None:
            compiler = self.compiler.compiler_cxx[0]
            raise NotBuilt(f"the C++ compiler {compiler!r} is not there: install g++ or clang, then {AGAIN}")
        extension = self.extensions[0]
        extension.sources = [path for path in extension.sources if not path.endswith(".cu")]  # of a run that failed
        extension.libraries = list(LIBRARIES)
        if msvc:
            extension.extra_compile_args = ["/std:c++17", "/O2"]
        else:
            # Infinities and NaN keep their meaning; FMA is used. Nothing is exported but the module's entry.
            extension.extra_compile_args = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden"]
            extension.extra_compile_args += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
            extension.extra_compile_args += [f"-ffile-prefix-map={ROOT}/="]  # for messages
        if SANITIZE:
            sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
            extension.extra_compile_args += [*sanitizers, "-g", "-O1", "-DSEGMA_SANITIZED"]
            extension.extra_link_args = sanitizers
        if not self.without_cuda:
            self.without_cuda = self.add_cuda()
        self.announce()
        super().build_extensions()


native = Extension(
    MODULE,
    sources=sorted(glob("csrc/**/*.cpp", recursive=True)),
    depends=sorted(glob("csrc/**/*.h", recursive=True)),
    include_dirs=[str(ROOT / "csrc")],  # ninja runs in another folder
    # No path to torch's libraries is recorded: segma_fast imports torch first, which loads them.
    libraries=LIBRARIES,
    define_macros=[
        ("TORCH_TARGET_VERSION", f"0x{TARGET[0]:02x}{TARGET[1]:02x}{0:012x}ULL"),
        ("SEGMA_TORCH_VERSION", "none" if WITHOUT_TORCH else torch.__version__),
    ],
    language="c++",
)
setup(ext_modules=[native], cmdclass={"build_ext": BuildNative})
