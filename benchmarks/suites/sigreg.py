"""SIGReg, value and gradient: exact and sliced by segma_fast, as LeJEPA and lightly compute it, and by cw-torch.

``python -m benchmarks.suites.sigreg --out FILE.json`` times all at one size in turns, in one process, on the same
embeddings from N(0, I); memory is measured in a process of its own. All slices are 1,024 directions and 17 frequencies,
drawn in the call. "two products" is what it takes at least to project on so many directions and back by matrix
products. The gradient of each is compared with that over all directions in float64. About 10 minutes on a CPU, two on a
GPU (``--device cuda``, where all multiply matrices at torch's precision "high"); ``--page docs/sigreg.md`` writes the
table there, also from an earlier file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.gpu.lineup import captured
from benchmarks.suites.memory import peak_beyond, peak_of
from segma_fast import sigreg
from segma_fast.bench.contenders import without_compiler
from segma_fast.bench.machine import describe_machine
from segma_fast.bench.timing import take_turns
from segma_fast.trainer.files import write_text

SIZES = {
    "cpu": [(256, 64), (1024, 512), (2048, 512), (4096, 512), (4096, 2048), (10000, 512), (65536, 64)],
    "cuda": [(1024, 64), (1024, 512), (4096, 512), (8192, 1024), (4096, 2048), (2048, 4096), (65536, 64)],
}
SLICES, FREQUENCIES, LARGEST = 1024, 17, 3.0
MOST_WAVES = 1 << 28  # N R T up to which eager torch gets memory for its tensors, 8 GB or so
MOST_OF_CW_TORCH = 4096**2 * 512
REPLAYED = ("two products", "exact", "sliced", "LeJEPA's form, compiled")  # on a GPU also in a CUDA graph
MARKS = {"cpu": "<!-- benchmark -->\n", "cuda": "<!-- benchmark on a GPU -->\n"}
END = "<!-- end -->\n"
Loss = Callable[[Tensor], Tensor]


def as_lejepa(z: Tensor) -> Tensor:
    """The form of LeJEPA and lightly: the mean over random directions, by the trapezoidal rule on [0, 3]."""
    directions = torch.nn.functional.normalize(torch.randn(z.shape[1], SLICES, device=z.device), dim=0)
    t = torch.linspace(0, LARGEST, FREQUENCIES, device=z.device)
    weights = torch.full_like(t, 2 * LARGEST / (FREQUENCIES - 1))
    weights[0] = weights[-1] = LARGEST / (FREQUENCIES - 1)
    normal = torch.exp(-t * t / 2)
    angles = (z @ directions)[:, :, None] * t
    gaps = (angles.cos().mean(0) - normal).square() + angles.sin().mean(0).square()
    return len(z) * (gaps @ (weights * normal)).mean()


def of_lightly() -> Loss:
    from lightly.loss.lejepa_loss import SIGReg  # type: ignore[import-not-found]

    module = SIGReg(knots=FREQUENCIES, num_vectors=SLICES)
    return lambda z: module(z[None])


def of_cw_torch() -> Loss:
    from cw_torch.metric import cw_normality

    return lambda z: cw_normality(z, torch.tensor(0.5, device=z.device))


def two_products(z: Tensor) -> Callable[[], Tensor]:
    directions = torch.randn(z.shape[1], SLICES, device=z.device)
    return lambda: torch.mm(torch.mm(z, directions), directions.mT, out=torch.empty_like(z))


def losses(rows: int, dim: int) -> dict[str, Loss | str]:
    """By name, or why it is missing at this size."""
    too_large = "memory" if rows * SLICES * FREQUENCIES > MOST_WAVES else None
    sliced = {"slices": SLICES, "frequencies": FREQUENCIES}
    found: dict[str, Loss | str] = {
        "exact": sigreg,
        "sliced": lambda z: sigreg(z, **sliced),
        "sliced, plain torch tiles": lambda z: sigreg(z, **sliced, backend="chunked"),
        "LeJEPA's form": too_large or as_lejepa,
        "LeJEPA's form, compiled": without_compiler() or torch.compile(as_lejepa, dynamic=False),
    }
    found["lightly"] = too_large or (of_lightly() if find_spec("lightly") else "not installed")
    small = rows**2 * dim <= MOST_OF_CW_TORCH
    found["cw-torch"] = (of_cw_torch() if find_spec("cw_torch") else "not installed") if small else "time"
    return found


def step(loss: Loss, z: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        (gradient,) = torch.autograd.grad(loss(z), z)
        return gradient

    return run


def embeddings(rows: int, dim: int, device: torch.device) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()


def measure(rows: int, dim: int, device: torch.device, seconds: float) -> list[dict[str, Any]]:
    torch.compiler.reset()  # else the ninth size is not compiled any more
    z = embeddings(rows, dim, device)
    runs: dict[str, Callable[[], Any]] = {"two products": two_products(z.detach())}
    compared = losses(rows, dim)
    records = {name: {"rows": rows, "dim": dim, "contender": name} for name in ["two products", *compared]}
    exact = step(sigreg, z.detach().double().requires_grad_())()
    for name, loss in compared.items():
        if isinstance(loss, str):
            records[name]["reason"] = loss
            continue
        runs[name] = step(loss, z)
        gradient = runs[name]()
        if name != "cw-torch":  # another form of φ, and another scale
            records[name]["error_gradient"] = ((gradient - exact).norm() / exact.norm()).item()
    for name in [name for name in REPLAYED if device.type == "cuda" and name in runs]:
        replayed = f"{name}, in a CUDA graph"
        records[replayed] = {"rows": rows, "dim": dim, "contender": replayed}
        try:
            runs[replayed] = captured(runs[name], device)
        except RuntimeError as error:
            records[replayed]["reason"] = " ".join(str(error).split())[:100]
    for name, times in take_turns(runs, seconds, device).items():
        records[name] |= {"reason": times.failure} if times.failure else times.summary()
        if name in compared:
            records[name]["peak_mb"] = peak_in_process(rows, dim, name) if device.type == "cpu" else peak(z, name)
    return list(records.values())


def peak_in_process(rows: int, dim: int, name: str) -> float | None:
    """MB at the peak of a step beyond its inputs and its gradient, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.suites.sigreg", "--peak", str(rows), str(dim), name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return None if done.returncode else float(done.stdout.splitlines()[-1])


def peak(z: Tensor, name: str) -> float:
    rows, dim = z.shape
    loss, kept = losses(rows, dim)[name], []
    assert not isinstance(loss, str)
    step(loss, embeddings(min(rows, 128), dim, z.device))()
    if z.device.type == "cuda":
        return peak_of(lambda: (None, step(loss, z)()), z.device) / 1e6
    return (peak_beyond(lambda: kept.append(step(loss, z)())) - z.numel() * 4) / 1e6


def table(results: dict[str, Any]) -> str:
    """Milliseconds, MB and the error of the gradient, one line a contender and a column a size."""
    found = {(r["rows"], r["dim"], r["contender"]): r for r in results["records"]}
    sizes = list(dict.fromkeys(key[:2] for key in found))
    names = list(dict.fromkeys(key[2] for key in found))
    lines = ["| N × D | " + " | ".join(f"{rows} × {dim}" for rows, dim in sizes) + " |"]
    lines += ["|---" * (len(sizes) + 1) + "|"]
    for name in names:
        cells = []
        for rows, dim in sizes:
            record = found[rows, dim, name]
            if "median_s" not in record:
                cells.append(f"– ({record['reason']})")
                continue
            ms = 1e3 * record["median_s"]
            parts = [f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"]
            if record.get("peak_mb") is not None:
                parts.append(f"{max(0, record['peak_mb']):.0f} MB")
            if record.get("error_gradient") is not None:
                error = record["error_gradient"]
                parts.append("–" if error < 1e-4 else f"{error:.2g}")
            cells.append(" / ".join(parts))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    machine = results["machine"]
    built = f"torch {machine['torch']}"
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    how = 'matrix products at "high"' if machine["gpu"] else f"native on {machine['native'].get('code_path')}"
    lines += ["", f"{results['started'][:10]}, {where}, {built}, {how}; medians, float32."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file of the results; if it exists, what it lacks is measured")
    parser.add_argument("--page", type=Path, help="a page whose table is replaced")
    parser.add_argument("--device", choices=list(SIZES), default="cpu")
    parser.add_argument("--sizes", nargs="*", help="rows,dim of each; default: those of the device")
    parser.add_argument("--seconds", type=float, default=3.0, help="of timing, for each contender and size")
    parser.add_argument("--peak", nargs=3, metavar=("ROWS", "DIM", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.pop("SEGMA_FAST_BACKEND", None)
    device = torch.device(options.device)
    if options.peak:
        rows, dim, name = options.peak
        return print(peak(embeddings(int(rows), int(dim), device), name))
    if options.out is None:
        parser.error("--out is missing")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    started = datetime.now().isoformat(timespec="seconds")
    results = {"started": started, "machine": describe_machine(device), "records": []}
    if options.out.exists():
        results = json.loads(options.out.read_text(encoding="utf-8"))
    sizes = [tuple(map(int, size.split(","))) for size in options.sizes or ()] or SIZES[device.type]
    done = {(record["rows"], record["dim"]) for record in results["records"]}
    for size in tqdm([size for size in sizes if size not in done]):
        results["records"] += measure(*size, device, options.seconds)
        write_text(options.out, json.dumps(results, indent=1) + "\n")
    print(table(results))
    if options.page:
        text, begin = options.page.read_text(encoding="utf-8"), MARKS["cuda" if results["machine"]["gpu"] else "cpu"]
        before, rest = text.split(begin)
        write_text(options.page, before + begin + table(results) + END + rest.split(END, 1)[1])


if __name__ == "__main__":
    main()
