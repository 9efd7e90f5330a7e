"""Compile the Triton kernels for NVIDIA GPUs that need not be here, and say what ptxas made of them.

``python tests/aot.py`` reads a list of jobs (``Job``'s fields) as JSON and prints the reports in their order. It has to
be a process of its own: where ``TRITON_INTERPRET`` is set when the kernels are imported, there is nothing to compile.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

WORKERS = 2
MATRIX_INSTRUCTIONS = ("wgmma.mma_async", "tcgen05.mma", "mma.sync")


@dataclass(frozen=True)
class Job:
    """What a user asks for; ``shape`` (rows, columns, warps, stages) takes the place of the table's."""

    kernel: str  # "pairs", "prepare" or "lay_out", one of panels, or for slices "sum_waves" or "differentiate_waves"
    architecture: int  # 90 is sm_90
    dim: int
    dtype: str = "float32"
    precision: str = "highest"
    gradient: bool = True
    phi: str = "approx"
    split: bool = False
    samples: bool = False
    shape: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Report:
    """Rows of a block, registers and spilled bytes of a thread, and the shared and tensor memory of a program."""

    rows: int
    registers: int
    spilled: int
    shared: int
    tensor_memory: int
    ptx: str

    @property
    def products(self) -> list[str]:
        """The matrix instructions that occur."""
        return [name for name in MATRIX_INSTRUCTIONS if name in self.ptx]


def plan_of(job: Job) -> Any:
    """The plan that a call on such a GPU gets."""
    import torch

    from segma_fast.distance.backends.triton import plan as triton_plan

    triton_plan.make_plan.cache_clear()
    triton_plan.capability = lambda device: divmod(job.architecture, 10)
    dtype = getattr(torch, job.dtype)
    return triton_plan.make_plan(job.dim, dtype, job.precision, job.phi, job.gradient, torch.device("cuda", 0))


def pointers(job: Job) -> dict[str, str]:
    """Types of the arrays, as ``launch.evaluate`` makes them."""
    points = {"float64": "*fp64", "float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16"}[job.dtype]
    real = "*fp64" if job.dtype == "float64" else "*fp32"
    return {
        **dict.fromkeys(("z", "means"), points),
        **dict.fromkeys(("h", "w", "doubles", "u_sums", "q_sums", "dh", "dw", "energy"), "*fp64"),
        **dict.fromkeys(("forces", "dz", "dmeans", "projected", "steps", "sums", "factors"), real),
        "halves": "*fp16",
        "singles": "*fp32",
        "flat": "*fp32",
        "tickets": "*i32",
        **dict.fromkeys(("head", "products"), "*fp32"),
        **dict.fromkeys(("norms", "field_sums", "p_sums"), "*fp64"),
        "scores": "*fp32",
        **dict.fromkeys(("weights", "low_weights"), "*fp16"),
    }


def wanted(job: Job) -> tuple[Any, dict[str, Any], dict[str, int]]:
    """The kernel, its constants, and how it is compiled."""
    import torch

    from segma_fast.distance.backends.triton import panels as triton_panels
    from segma_fast.distance.backends.triton.kernels import pairs, panels, prepare, waves

    if job.kernel.endswith("waves"):
        from segma_fast.distance.backends.triton.waves import shape

        known = shape(getattr(torch, job.dtype))
        return getattr(waves, job.kernel), known, {"num_warps": known["num_warps"]}
    plan = plan_of(job)
    if hasattr(panels, job.kernel):
        sizes = triton_panels.panel_sizes(torch.device("cuda", 0))
        known = triton_panels.constants(plan, sizes)[job.kernel] | {"KEEP": False}
        return getattr(panels, job.kernel), known, {"num_warps": known.get("num_warps", 4)}
    known = dict(plan.options, LIMIT=plan.limit, WIDE=plan.form[0], COARSE=plan.coarse, SPLIT=job.split)
    known |= {"WHOLE": True, "FIRST": True, "LAST": True, "SAMPLES": job.samples}
    if job.kernel != "pairs":
        return getattr(prepare, job.kernel), known, {}
    if job.shape is not None:
        known |= dict(zip(("ROWS", "COLUMNS", "num_warps", "num_stages"), job.shape, strict=True))
    return pairs.pairs, known, {name: known[name] for name in ("num_warps", "num_stages")}


def compile_job(job: Job) -> Report:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from segma_fast.distance.backends.triton.kernels import panels

    function, known, options = wanted(job)
    constants = {name: value for name, value in known.items() if name in function.arg_names}
    types = pointers(job)
    names = function.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    specialized = {"floats"}  # integers that are multiples of 16 always
    if hasattr(panels, job.kernel):
        specialized |= {p.name for p in function.params if not p.do_not_specialize}
    multiples = [i for i, name in enumerate(names) if signature[name].startswith("*") or name in specialized]
    aligned = {(i,): [["tt.divisibility", 16]] for i in multiples if signature[names[i]] != "constexpr"}
    places = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(function, signature, places, attrs=aligned)
    binary = compile(source, target=GPUTarget("cuda", job.architecture, 32), options=options)
    registers, spilled = usage(binary.asm["cubin"])
    shared, tensor_memory = binary.metadata.shared, binary.metadata.tmem_size or 0
    return Report(known.get("ROWS", 0), registers, spilled, shared, tensor_memory, binary.asm["ptx"])


def usage(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread, and the bytes of its stack and local memory: nothing but spills in these kernels."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = map(int, re.search(r"REG:(\d+) STACK:(\d+).*?LOCAL:(\d+)", found).groups())
    return registers, stack + local


def report_of(job: Job) -> dict[str, Any]:
    """The report as JSON takes it; ptxas may refuse what does not fit at all."""
    try:
        report = compile_job(job)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[-400:]}"}
    return {**{name: value for name, value in asdict(report).items() if name != "ptx"}, "products": report.products}


def compile_all(jobs: list[Job]) -> list[dict[str, Any]]:
    """Reports of all jobs, from processes that have no ``TRITON_INTERPRET``."""
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    asked = json.dumps([asdict(job) for job in jobs])
    result = subprocess.run([sys.executable, __file__], input=asked, env=kept, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout)


if __name__ == "__main__":
    with ProcessPoolExecutor(WORKERS) as pool:
        print(json.dumps(list(pool.map(report_of, [Job(**fields) for fields in json.load(sys.stdin)]))))
