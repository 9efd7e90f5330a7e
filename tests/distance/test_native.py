"""What only the compiled CPU kernels need: code paths, sizes around their blocks, threads, forks, raw operators."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import evaluate, near_optimum, relative_error
from torch import Tensor

from segma_fast import fast_cw_distance
from segma_fast.distance.backends import extension

pytestmark = pytest.mark.skipif(extension.REASON is not None, reason=f"native: {extension.REASON}")

EDGES = (1, 2, 6, 12, 15, 16, 17, 32, 47, 48, 49, 95, 96, 97, 191, 192, 193, 383, 384, 385, 512, 513)
DIMENSIONS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65, 255, 256, 257, 512, 513, 640, 775)
TOLERANCES = {  # of d², of the gradients of codes and means, and of the other three
    "float16": (2e-5, 1e-1, 2e-4),  # small gradients are subnormal
    "bfloat16": (2e-5, 5e-3, 2e-4),
    "float32": (2e-5, 1e-4, 2e-4),
    "float64": (1e-11, 1e-11, 1e-11),
}


def inputs_of(m: int, components: int, dim: int, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """z and means of one dtype; weights, variances (some are 0) and gamma in float64."""
    generator = torch.Generator().manual_seed(seed)
    points = [t.cpu().to(dtype) for t in near_optimum(m, components, dim, seed=seed)]
    weights = torch.rand(components, generator=generator, dtype=torch.float64) + 0.1
    variances = (torch.rand(components, generator=generator, dtype=torch.float64) * 2 - 0.4).clamp_min(0)
    return [*points, weights / weights.sum(), variances, torch.tensor(0.3, dtype=torch.float64)]


def run(inputs: list[Tensor], backend: str = "native", **options: Any) -> list[Tensor]:
    value, gradients = evaluate(fast_cw_distance, inputs, backend=backend, **options)
    return [value, *gradients]


def errors(m: int, components: int, dim: int, dtype: str, seed: int = 0) -> Tensor:
    """Relative errors of d², of the gradients of z and means, and of the other gradients, over their tolerances."""
    inputs = inputs_of(m, components, dim, getattr(torch, dtype), seed)
    exact = run(inputs, "reference" if m <= 2000 else "chunked", dtype=torch.float64)
    found = torch.tensor([relative_error(a, b) for a, b in zip(run(inputs), exact, strict=True)])
    return torch.stack([found[0], found[1:3].max(), found[3:].max()]) / torch.tensor(TOLERANCES[dtype])


def worst_errors(count: int) -> dict[str, list[float]]:
    choice, worst = random.Random(0), {name: torch.zeros(3) for name in TOLERANCES}
    for seed in range(count):
        name = list(TOLERANCES)[seed % len(TOLERANCES)]
        m, dim = [choice.choice((n, choice.randint(1, 40))) for n in (choice.choice(EDGES), choice.choice(DIMENSIONS))]
        worst[name] = worst[name].maximum(errors(m, choice.randint(1, 12), dim, name, seed))
    return {name: errors.tolist() for name, errors in worst.items()}


@pytest.mark.parametrize("path", extension.build_info().get("code_paths", ["none"]))
def test_every_code_path(path: str) -> None:
    """The path is chosen once for a process, so each gets a process of its own."""
    environment = os.environ | {"SEGMA_FAST_CPU_PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    if "is not a code path of this processor" in done.stderr:
        pytest.skip(f"this processor has no {path}")
    assert done.returncode == 0, done.stderr
    used, worst = json.loads(done.stdout)
    assert used == path and all(error <= 1 for errors in worst.values() for error in errors), worst


BLOCKS = [(90, 6, 17), (3, 1000, 5), (400, 112, 33), (4085, 10, 3), (4086, 10, 9), (4087, 10, 3)]
STRIPS = [(30, 5, 4096), (380, 4, 513), (379, 6, 600), (3, 900, 600), (761, 6, 1023), (1152, 97, 530), (4100, 7, 520)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m, components, dim", BLOCKS + STRIPS)
def test_sizes_around_blocks(m: int, components: int, dim: int, dtype: str) -> None:
    assert (errors(m, components, dim, dtype) <= 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("m, dim", [(700, 1), (95, 300), (1000, 8), (1300, 33), (1300, 600)])
def test_same_bits_for_any_number_of_threads(m: int, dim: int, dtype: torch.dtype) -> None:
    inputs, results = inputs_of(m, 9, dim, dtype), []
    for count in (2, 3, 1):  # the last is what the tests run with
        torch.set_num_threads(count)
        results.append(run(inputs))
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*results, strict=True))


@pytest.mark.parametrize("phi", ["approx", "exact"])
@pytest.mark.parametrize("m, dim", [(800, 1), (800, 8), (800, 33), (800, 600), (4090, 514)])
def test_parts_of_the_rows_are_the_whole(m: int, dim: int, phi: str) -> None:
    z, means, *_ = inputs_of(m, 9, dim, torch.float64)
    h, w = torch.rand(m + 9).double() + 0.5, torch.randn(m + 9).double()
    whole, *expected = torch.ops.segma_fast.native_gradient(z, means, h, w, 0, m + 9, "default", phi)
    ends = (0, 1, 399, 400, 797, m, m + 9)
    parts = [
        torch.ops.segma_fast.native_gradient(z, means, h, w, a, b, "default", phi)
        for a, b in zip(ends, ends[1:], strict=False)
    ]
    assert relative_error(sum(part[0] for part in parts), whole) <= 1e-11
    for found, exact in zip(zip(*parts, strict=True), [whole, *expected], strict=True):
        if exact.ndim > 0:
            assert relative_error(torch.cat(found), exact) <= 1e-11


def test_callers_at_once() -> None:
    cases = [inputs_of(m, 4, dim, torch.float32, m) for m, dim in ((3, 2), (700, 5), (50, 300), (60, 1), (500, 40))]
    expected = [run(inputs) for inputs in cases]
    with ThreadPoolExecutor(4, initializer=lambda: torch.set_num_threads(2)) as pool:
        results = list(pool.map(lambda i: run(cases[i % 5]), range(60)))
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for i, r in enumerate(results) for a, b in zip(r, expected[i % 5], strict=True))


def _call_in_child(inputs: list[Tensor], queue: Any) -> None:
    torch.set_num_threads(1)  # as in a DataLoader's worker: after a fork GNU's OpenMP has no other threads
    queue.put([tensor.tolist() for tensor in run(inputs)])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use() -> None:
    inputs, context = inputs_of(600, 4, 9, torch.float32), multiprocessing.get_context("fork")
    torch.set_num_threads(2)
    expected = [tensor.tolist() for tensor in run(inputs)]
    torch.set_num_threads(1)
    queue = context.Queue()
    context.Process(target=_call_in_child, args=(inputs, queue), daemon=True).start()
    assert queue.get(timeout=30) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [40, 600])
@pytest.mark.parametrize(
    "gamma, variance, scale",
    [(1e-10, 1.0, 1.0), (0.1, 1e38, 1.0), (1e38, 1.0, 1.0), (1e-30, 0.0, 1e-15), (0.1, 1.0, 1e6)],
)
def test_widths_out_of_the_ordinary(gamma: float, variance: float, scale: float, dim: int, dtype: str) -> None:
    """Beyond what float32 resolves or holds the arithmetic is double."""
    inputs = inputs_of(30, 4, dim, getattr(torch, dtype))
    inputs[0] *= scale
    inputs[1] *= scale
    inputs[3].fill_(variance)
    inputs[4].fill_(gamma)
    exact = run(inputs, "reference", dtype=torch.float64)
    tolerance = 1e-9 if dtype == "float64" else 2e-5
    for result, expected in zip(run(inputs), exact, strict=True):
        assert result.isfinite().all()
        assert relative_error(result, expected) <= tolerance or expected.norm() < 1e-30


def test_coincident_points_far_away() -> None:
    z, means = (t.double() for t in near_optimum(60, 3, 40))
    z[::4] = 1e7 * torch.rand(40, dtype=torch.float64)
    apart = torch.cat([z, means])[:, None] - torch.cat([z, means])
    square, gamma = apart.square().sum(-1), 0.3
    h = 2 * gamma * torch.ones(63, dtype=torch.float64) + torch.tensor([0.0] * 60 + [2.0] * 3, dtype=torch.float64)
    w = torch.tensor([1 / 60] * 60 + [-1 / 3] * 3, dtype=torch.float64)
    expected = w @ (torch.pi * (h[:, None] + h + 4 / 77 * square)).rsqrt() @ w
    assert relative_error(fast_cw_distance(z, means, gamma=gamma, backend="native"), expected) <= 1e-12


def test_inference_mode_first() -> None:
    z, means = (t.cpu() for t in near_optimum(71, 3, 5))
    with torch.inference_mode():
        value = fast_cw_distance(z, means, backend="native").item()
    again, gradient, _ = run([z, means])
    transformed = torch.func.grad(lambda points: fast_cw_distance(points, means, backend="native"))(z)
    assert again.item() == value and torch.equal(transformed, gradient)


@pytest.mark.parametrize("kind", ["energy", "gradient"])
def test_bad_arguments_of_the_operators(kind: str) -> None:
    operator, z, ones = getattr(torch.ops.segma_fast, f"native_{kind}"), torch.ones(7, 3), torch.ones(9).double()
    bad: list[tuple[int, list[Any], str]] = [
        (0, [z.int(), z.double(), z[0], z[:, :2], z[None], torch.ones(3, 7).T], "one dtype|shapes|contiguous"),
        (2, [ones.float(), ones[:8], ones[:, None], torch.cat([ones, ones])[::2]], "float64 vectors of 9|contiguous"),
        (5, [10, -1, 2**62], "not within 0:9"),
    ]
    empty = operator(z[:0], z[:0], ones[:0], ones[:0], 0, 0, "highest", "approx")
    assert (empty if kind == "energy" else empty[0]).item() == 0
    for index, values, message in bad:
        for value in values:
            arguments = [z, z[:2], ones, ones, 0, 9, "highest", "approx"]
            arguments[index] = value
            with pytest.raises(RuntimeError, match=message):
                operator(*arguments)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([extension.build_info()["code_path"], worst_errors(160)]))


def test_errors_hold_no_path_of_the_build_machine() -> None:
    z, h = torch.randn(5, 3), torch.rand(6)
    with pytest.raises(RuntimeError, match="h and w must be float64") as caught:
        torch.ops.segma_fast.native_energy(z, z[:1].clone(), h, h.double(), 0, 6, "default", "approx")
    assert str(Path(__file__).parents[2]) not in str(caught.value)
