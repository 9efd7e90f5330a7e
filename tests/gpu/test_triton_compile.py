"""The Triton kernels compile for the GPUs that matter, without spills and with matrix products, on any machine.

``SEGMA_FAST_COMPILE_ALL=1`` (``make compile-all``) compiles every precision for every architecture, and not only those
that need most for the two that are most different.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

triton = pytest.importorskip("triton")

from aot import Job, compile_all  # noqa: E402

from segma_fast.distance.backends.triton.blocks import (  # noqa: E402
    PRODUCTS,
    SHAPE,
    Blocks,
    blocks_from_environment,
    blocks_from_table,
)
from segma_fast.distance.backends.triton.plan import WIDEST  # noqa: E402

ALL = os.environ.get("SEGMA_FAST_COMPILE_ALL") == "1"
SHARED = {80: 166912, 86: 101376, 89: 101376, 90: 232448, 100: 232448, 120: 101376}  # bytes that a program may have
INSTRUCTION = {90: "wgmma.mma_async", 100: "tcgen05.mma"}
TENSOR_MEMORY = 512  # columns
RECENT = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 8)
SPILLED = 136 if RECENT else 0  # bytes of a thread; the blocks were chosen for Triton 3.6 (docs/gpu.md)
WIDTHS = (16, 32, 64, 128, 256)
# dtype, precision and gradient; the first of each column of the table takes most registers
COLUMNS = {
    "low weights": [("float32", "highest", True), ("float16", "highest", True)],
    "gradient": [("float32", "high", True), ("float32", "medium", True)],
    "value": [("float32", "high", False), ("float32", "medium", False)],
}
ABSURD = Job("pairs", 90, 64, shape=(256, 256, 4, 2))


def wanted() -> list[Job]:
    """Kinds of calls, the exact φ for those that need most registers."""
    jobs = []
    for architecture in SHARED if ALL else (80, 90):
        for width in WIDTHS:
            for name, variants in COLUMNS.items():
                if name == "low weights" and width > WIDEST["highest"]:
                    continue
                jobs += [Job("pairs", architecture, width, *v) for v in (variants if ALL else variants[:1])]
                if ALL or name == "low weights" or architecture == 90:
                    dtype, precision, gradient = variants[0]
                    jobs.append(Job("pairs", architecture, width, dtype, precision, gradient, "exact"))
        jobs += [Job("prepare", architecture, width) for width in (WIDTHS if ALL else (64, 256))]
        jobs += [Job("pairs", architecture, dim) for dim in ((1, 2, 3, 8) if ALL else (1, 3, 8))]
        jobs += [Job("pairs", architecture, 24, "float64"), Job("lay_out", architecture, 8)]
        jobs += [Job("pairs", architecture, dim, phi="exact") for dim in ((2, 3, 8) if ALL else (3, 8))]
        jobs += [Job("pairs", architecture, 24, "float64", phi="exact")]
        for kernel in ("sum_waves", "differentiate_waves"):
            jobs += [Job(kernel, architecture, 64, dtype) for dtype in ("float32", "float64")]
        for kernel in ("find_centre", "prepare_panels", "add_far_fields"):
            jobs += [Job(kernel, architecture, 1000), Job(kernel, architecture, 600, "bfloat16")]
        for phi in ("approx", "exact"):
            jobs += [Job(kernel, architecture, 1000, phi=phi) for kernel in ("weigh", "pairs")]
        jobs += [Job("finish_forces", architecture, 1000), Job("finish_forces", architecture, 1000, "float32", "high")]
    jobs += [Job("pairs", 90, 50, split=True), Job("pairs", 90, 20, "bfloat16")]
    several = [
        Job("pairs", 90, 64, phi="exact"),
        Job("pairs", 90, 3),
        Job("prepare", 90, 64),
    ]  # some others spill 48 bytes
    jobs += [replace(job, samples=True) for job in several]
    return sorted(jobs, key=lambda job: (job.kernel, -job.dim))  # long ones first


def name(job: Job) -> str:
    parts = (
        job.kernel,
        f"sm_{job.architecture}",
        job.dim,
        job.dtype,
        job.precision,
        job.phi,
        "gradient" * job.gradient,
    )
    return "-".join(str(part) for part in (*parts, "split" * job.split, "samples" * job.samples) if part)


JOBS = wanted()


@pytest.fixture(scope="module")
def reports() -> dict[Job, dict[str, Any]]:
    jobs = [*JOBS, ABSURD]
    return dict(zip(jobs, compile_all(jobs), strict=True))


def faults(job: Job, report: dict[str, Any]) -> list[str]:
    """What is wrong with a compiled kernel."""
    if "error" in report:
        return [report["error"]]
    found = []
    panels = job.kernel == "pairs" and job.dim > 256  # which have 8 bytes for calls of functions
    if report["spilled"] > max(SPILLED, 8 * panels):
        found.append(f"{report['spilled']} bytes of a thread are spilled")
    if report["shared"] > SHARED[job.architecture]:
        found.append(f"{report['shared']} bytes of shared memory")
    if report["tensor_memory"] > TENSOR_MEMORY:
        found.append(f"{report['tensor_memory']} columns of tensor memory")
    tall = report["rows"] >= 64  # what wgmma and tcgen05.mma need
    expected = INSTRUCTION.get(job.architecture, "mma.sync") if tall else "mma.sync"
    if job.kernel == "pairs" and 8 < job.dim <= 256 and job.dtype != "float64" and expected not in report["products"]:
        found.append(f"{expected} is missing")
    return found


@pytest.mark.parametrize("job", JOBS, ids=name)
def test_kernel_fits(job: Job, reports: dict[Job, dict[str, Any]]) -> None:
    assert not faults(job, reports[job])


def test_what_does_not_fit_is_seen(reports: dict[Job, dict[str, Any]]) -> None:
    assert faults(ABSURD, reports[ABSURD])


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (10, 3), (12, 0), (0, 0)])
def test_every_width_has_blocks(capability: tuple[int, int]) -> None:
    for width in WIDTHS:
        for low_weights, gradient in ((True, True), (False, True), (True, False)):
            if low_weights and gradient and width > WIDEST["highest"]:
                continue
            for exact in (False, True):
                arguments = (width, True, low_weights, gradient, exact, capability)
                blocks = blocks_from_table("products", *arguments)
                assert blocks.valid


def test_environment_overrides_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert blocks_from_environment() is None
    monkeypatch.setenv(SHAPE, "32,16,2,1")
    assert blocks_from_environment() == Blocks(32, 16, 2, 1)
    for wrong in ("64", "64,64,4", "64,64,4,x", "48,64,4,2", "512,64,4,2", "64,8,4,2", "64,64,32,2", "64,64,4,0"):
        monkeypatch.setenv(SHAPE, wrong)
        with pytest.raises(ValueError, match="rows,columns,warps,stages") as error:
            blocks_from_environment()
        assert repr(wrong) in str(error.value)


def test_table_has_every_width() -> None:
    assert all(set(table) == set(WIDTHS) for table in PRODUCTS.values())
