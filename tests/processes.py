"""Several processes of ``torch.distributed`` on this machine, each of which runs a function of this file.

``run("one", 3, folder)`` starts three; each writes what the function returns into the folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import segma_fast
from segma_fast import CWDistanceLoss, SIGReg, cw_normality, fast_cw_distance, large_batch, sigreg
from segma_fast.distance import dispatch, groups

ROWS = {2: (9, 3), 3: (2, 0, 12)}  # codes of each process, by how many processes there are
VIEWS = {2: 3, 3: 2}  # which divide them
WAIT = 3  # seconds until a process that others wait for counts as lost


def run(name: str, processes: int, folder: Path, timeout: float = 120) -> list[Any]:
    """What the function gave in each process; None for one that ended without."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(segma_fast.__file__).parents[1])}
    commands = [[sys.executable, __file__, name, str(rank), str(processes), str(folder)] for rank in range(processes)]
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    results: list[Any] = []
    try:
        for rank, process in enumerate(started):
            errors = process.communicate(timeout=timeout)[1]
            path = folder / f"{rank}.pt"
            assert path.exists() or process.returncode < 0, errors[-3000:]
            results.append(torch.load(path) if path.exists() else None)
    finally:
        for process in started:
            process.kill()
    return results


def own_rows(rank: int, processes: int) -> slice:
    """The rows of a process among all."""
    start = sum(ROWS[processes][:rank])
    return slice(start, start + ROWS[processes][rank])


def inputs(dtype: torch.dtype, dim: int, processes: int) -> list[Tensor]:
    """All codes, means, weights, variances and γ of a case, the same in every process."""
    generator = torch.Generator().manual_seed(dim)
    means = torch.randn(4, dim, generator=generator, dtype=torch.float64)
    codes = torch.randn(sum(ROWS[processes]), dim, generator=generator, dtype=torch.float64) + means[0]
    weights = torch.rand(4, generator=generator, dtype=torch.float64) + 0.1
    variances = torch.rand(4, generator=generator, dtype=torch.float64)
    gamma = torch.tensor(0.3, dtype=torch.float64)
    return [tensor.to(dtype) for tensor in (codes, means, weights / weights.sum(), variances, gamma)]


def evaluate(leaves: list[Tensor], given: int, **options: Any) -> tuple[Tensor, ...]:
    """The distance of the first inputs, as many as are given, and its gradients in them; of codes alone SIGReg's.

    With groups or views, that of the codes to N(0, I), and its gradients in codes and γ.
    """
    if "slices" in options:
        options["generator"] = torch.Generator().manual_seed(3)
    grouped = given != 1 and ("groups" in options or "views" in options)
    leaves = [leaf.clone().requires_grad_() for leaf in ([leaves[0], leaves[4]] if grouped else leaves[:given])]
    if given == 1:
        value = sigreg(torch.stack([leaves[0], 0.5 * leaves[0]]), **options)
    else:
        value = (cw_normality if grouped else fast_cw_distance)(*leaves, **options)
    return value.detach(), *torch.autograd.grad(value, leaves)


def groups_of_all(processes: int) -> Tensor:
    """The group of every code: some are of one process, some span two, one has a row in each that has rows."""
    return torch.tensor([7, 1, 1, 2, 2, 2, 7, 3, 4, 2, 7, 3] + [5, -1] * (processes - 2))


def groups_of_views(processes: int) -> Tensor:
    """The same for codes that are views on each process."""
    groups = [torch.arange(rows // VIEWS[processes]).repeat(VIEWS[processes]) for rows in ROWS[processes]]
    return torch.cat([found + 100 * process for process, found in enumerate(groups)])


def combinations(processes: int) -> dict[str, tuple[list[Tensor], int, dict[str, Any]]]:
    """Inputs, how many of them to give, and options, of every case."""
    found = {}
    for backend in [entry.name for entry in dispatch.BACKENDS]:
        for dim in (1, 2, 5):
            for phi in ("approx", "exact"):
                tensors = inputs(torch.float32, dim, processes)
                options: dict[str, Any] = {"backend": backend, "phi": phi, "log": phi == "exact"}
                found[f"{backend} {dim} {phi}"] = (tensors, 5 if dim == 5 else 2, options)
        found[f"{backend} sigreg"] = (inputs(torch.float32, 3, processes), 1, {"backend": backend})
        options = {"backend": backend, "groups": groups_of_all(processes)}
        for dtype in (torch.float32, torch.float64):
            for name in ("groups", "large groups"):
                found[f"{backend} {name} {dtype}"] = (inputs(dtype, 5, processes), 5, options | {"phi": "exact"})
            views = options | {"groups": groups_of_views(processes)}
            found[f"{backend} views {dtype}"] = (inputs(dtype, 2, processes), 5, views)
        found[f"{backend} sigreg groups"] = (inputs(torch.float32, 3, processes), 1, options | {"gamma": None})
        found[f"{backend} groups bfloat16"] = (inputs(torch.bfloat16, 3, processes), 5, options)
        options = {"backend": backend, "slices": 20}
        found[f"{backend} slices"] = (inputs(torch.float32, 5, processes), 5, options | {"phi": "exact", "log": True})
        found[f"{backend} slices double"] = (inputs(torch.float64, 70, processes), 5, options | {"phi": "exact"})
        found[f"{backend} sigreg slices"] = (inputs(torch.float32, 3, processes), 1, options)
        found[f"{backend} double"] = (inputs(torch.float64, 3, processes), 5, {"backend": backend})
        found[f"{backend} bfloat16"] = (inputs(torch.bfloat16, 3, processes), 2, {"backend": backend})
    return found


def distances(rank: int, processes: int) -> dict[str, tuple[Tensor, ...] | str]:
    """Value and gradients of every case in this process, whose rows are its own; the reason for what is not served."""
    import cuda_model

    if not torch.cuda.is_available():
        cuda_model.load()
    own = own_rows(rank, processes)
    found: dict[str, tuple[Tensor, ...] | str] = {}
    for name, (tensors, given, options) in combinations(processes).items():
        if "groups" in options:
            mine = {"views": VIEWS[processes]} if "views" in name else {"groups": options["groups"][own]}
            options = {key: value for key, value in options.items() if key != "groups"} | mine
        groups.LARGE = 2 if "large" in name else 64
        try:
            shares = [tensors[0][own], *tensors[1:]]
            found[name] = evaluate(shares, given, **options, process_group=dist.group.WORLD)
        except ValueError as error:
            found[name] = str(error)
    return found


class Embedding(nn.Module):
    """A model of somebody else's: an encoder, means, and the distances of the codes of all processes."""

    def __init__(self, micro_batch: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        self.means = nn.Parameter(torch.randn(4, 3))
        self.distance = CWDistanceLoss(log=True, process_group=dist.group.WORLD)
        self.regularise = SIGReg(process_group=dist.group.WORLD)
        drawn = torch.Generator().manual_seed(0)
        self.regularise_sliced = SIGReg(slices=8, generator=drawn, process_group=dist.group.WORLD)
        self.micro_batch = micro_batch

    def forward(self, x: Tensor, groups: Tensor) -> Tensor:
        codes = large_batch.encode(self.encoder, x, micro_batch=self.micro_batch)
        samples = torch.stack([codes, 2 * codes])
        loss: Tensor = self.distance(codes, self.means) + self.regularise(samples, groups)
        return loss + self.regularise_sliced(samples)


def train(model: nn.Module, rows: slice, processes: int) -> tuple[list[float], list[Tensor]]:
    """Losses and trained parameters of a few steps on some rows of a batch."""
    x = torch.randn(sum(ROWS[processes]), 6, generator=torch.Generator().manual_seed(1))[rows]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(x, groups_of_all(processes)[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach() for p in model.parameters()]


def ddp(rank: int, processes: int) -> Any:
    """Train under DistributedDataParallel, at once and in micro-batches."""
    rows = own_rows(rank, processes)
    wrap = nn.parallel.DistributedDataParallel
    return [train(wrap(Embedding(micro_batch)), rows, processes) for micro_batch in (None, 2)]


def disagreements(rank: int, processes: int) -> dict[str, str]:
    """The errors of processes that call with what does not fit together, or of which process 1 calls wrongly."""
    z, means, other = torch.zeros(3, 4), torch.ones(2, 4), rank == 1
    group = dist.group.WORLD

    def call(z: Any = z, means: Any = means, **options: Any) -> Any:
        return fast_cw_distance(z, means, process_group=group, **options)

    def seeded(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    def sliced(z: Tensor) -> Tensor:
        return sigreg(z, slices=3, process_group=group)

    uneven = torch.tensor([0.25, 0.75])
    calls: dict[str, Callable[[], Any]] = {
        "columns": lambda: call(z[:, : 3 if other else 4], means[:, : 3 if other else 4]),
        "components": lambda: call(means=means[: 1 if other else 2]),
        "means": lambda: call(means=means + 0.001 * other),
        "weights": lambda: call(means=1000 * means, weights=uneven if other else None),
        "variances": lambda: call(means=1000 * means, variances=0.5 if other else torch.ones(2)),
        "gamma": lambda: call(means=1000 * means, gamma=1.001 if other else 1.0),
        "gamma by the rule": lambda: call(gamma=1.0 if other else None),
        "dtype": lambda: call(z.double() if other else z),
        "backend": lambda: call(backend="reference" if other else "chunked"),
        "phi": lambda: call(phi="exact" if other else "approx"),
        "log": lambda: call(log=other),
        "no codes": lambda: call(z[:0]),
        "wrong gamma": lambda: call(gamma=-1.0 if other else 1.0),
        "wrong shape": lambda: call(z[0] if other else z),
        "wrong type": lambda: call([1.0] if other else z),
        "wrong columns": lambda: call(z[:, :2] if other else z),
        "wrong weights": lambda: call(weights=(2 if other else 1) * uneven),
        "wrong phi": lambda: call(phi="Exact" if other else "exact"),
        "wrong in sigreg": lambda: sigreg(z[0] if other else z, process_group=group),
        "samples": lambda: sigreg(torch.stack([z] * (2 if other else 3)), process_group=group),
        "wrong in cw_normality": lambda: cw_normality(z[0] if other else z, process_group=group),
        "groups": lambda: cw_normality(z, groups=torch.arange(3) if other else None, process_group=group),
        "views": lambda: cw_normality(z, views=3 if other else 1, process_group=group),
        "one group": lambda: cw_normality(z, groups=torch.ones(3, dtype=torch.int64), process_group=group),
        "one image": lambda: cw_normality(z[: 3 * other], views=3, process_group=group),
        "wrong groups": lambda: cw_normality(z, groups=torch.arange(4 if other else 3), process_group=group),
        "wrong groups of sigreg": lambda: sigreg(z, groups=[0, 1] if other else torch.arange(3), process_group=group),
        "wrong views": lambda: cw_normality(z, views=2 if other else 3, process_group=group),
        "slices": lambda: call(phi="exact", slices=4 if other else 3),
        "samples of slices": lambda: sigreg(torch.stack([z] * (2 if other else 3)), slices=3, process_group=group),
        "generator": lambda: sigreg(z, slices=3, generator=seeded(1 if other else 2), process_group=group),
        "no generator": lambda: sigreg(z, slices=3, generator=seeded(1) if other else None, process_group=group),
        "wrong slices": lambda: sigreg(z, slices=0 if other else 3, process_group=group),
        "wrong slices of cw_normality": lambda: cw_normality(
            z, phi="approx" if other else "exact", slices=3, process_group=group
        ),
        "seed of the first": lambda: sliced(z + torch.arange(4)),
        "transform of slices": lambda: (torch.func.grad(sliced)(z) if other else sliced(z)).sum(),
        "transform": lambda: torch.func.grad(call)(z) if other else call(),
        "same in another way": lambda: call(
            weights=uneven.new_full((2,), 0.5) if other else None, variances=1 if other else torch.ones(2)
        ),
        "still in step": lambda: call(),
    }
    messages = {}
    for name, attempt in calls.items():
        try:
            messages[name] = f"no error, {attempt():.6g}"
        except (TypeError, ValueError) as error:
            messages[name] = str(error)
    return messages


def second_derivatives(rank: int, processes: int) -> list[str]:
    """What comes of a penalty on the gradient, for every backend, with and without logarithm."""
    z, means = torch.randn(5, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    found = []
    for backend in ("chunked", "native"):
        for log in (False, True):
            try:
                value = fast_cw_distance(z, means, backend=backend, log=log, process_group=dist.group.WORLD)
                value = value + cw_normality(z, groups=torch.arange(5), backend=backend, process_group=dist.group.WORLD)
            except ValueError:  # no such backend
                continue
            for leaf in (z, means):
                (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
                try:
                    gradient.square().sum().backward(retain_graph=True)
                    found.append("no error")
                except RuntimeError as error:
                    found.append(str(error))
    return found


def lost(rank: int, processes: int, hangs: bool) -> tuple[str, float] | None:
    """The last process dies, or hangs, while the others are in a step; what they see, and after how long."""
    z, means = torch.randn(5, 3), torch.ones(2, 3)
    fast_cw_distance(z, means, process_group=dist.group.WORLD)
    if rank == processes - 1:
        time.sleep(10 if hangs else 0.5)
        os.kill(os.getpid(), 9)
    began = time.monotonic()
    try:
        fast_cw_distance(z, means, process_group=dist.group.WORLD)
    except RuntimeError as error:
        return str(error), time.monotonic() - began
    return None


dies, hangs = (partial(lost, hangs=way) for way in (False, True))


if __name__ == "__main__":
    name, rank, processes, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    meeting, wait = f"file://{folder}/meeting", timedelta(seconds=WAIT if name == "hangs" else 60)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes, timeout=wait)
    torch.save(globals()[name](rank, processes), folder / f"{rank}.tmp")
    (folder / f"{rank}.tmp").rename(folder / f"{rank}.pt")
    if name not in ("dies", "hangs"):
        dist.destroy_process_group()
    os._exit(0)
