"""Time of the distance, value and all gradients, for every backend that is available here, side by side.

``make bench`` prints the table. The result of each backend is checked against float64 before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from segma_fast import cw_distance_reference, fast_cw_distance, silverman_gamma
from segma_fast.dispatch import describe_backends

COMPONENTS = 10
AVAILABLE = [name for name, reason, _ in describe_backends() if reason is None]
LARGEST_REFERENCE = 8192  # its matrices would not fit into a laptop beyond


def problem(rows: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes drawn from the mixture, as they are late in a training."""
    generator = torch.Generator().manual_seed(rows + dim)
    means = 2 * torch.randn(COMPONENTS, dim, generator=generator)
    chosen = torch.randint(COMPONENTS, (rows,), generator=generator)
    return means[chosen] + torch.randn(rows, dim, generator=generator), means


def step(z: torch.Tensor, means: torch.Tensor, backend: str) -> Callable[[], tuple[torch.Tensor, ...]]:
    z, means = z.clone().requires_grad_(), means.clone().requires_grad_()
    gamma = silverman_gamma(len(z), len(means))

    def run() -> tuple[torch.Tensor, ...]:
        value = fast_cw_distance(z, means, gamma=gamma, backend=backend)
        return value.detach(), *torch.autograd.grad(value, (z, means))

    return run


@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize("dim", [10, 32, 64, 256])
@pytest.mark.parametrize("rows", [128, 1024, 4096, 16384])
def test_forward_and_backward(benchmark, rows: int, dim: int, backend: str) -> None:
    if backend == "reference" and rows > LARGEST_REFERENCE:
        pytest.skip(f"the reference would need {12 * rows * rows >> 30} GiB")
    z, means = problem(rows, dim)
    run = step(z, means, backend)
    value, grad_z, _ = run()
    if rows <= LARGEST_REFERENCE:
        truth, true_grad = exact(z, means)
        assert abs(value.item() - truth.item()) <= 2e-4 * truth.item()
        assert (grad_z - true_grad).norm() <= 1e-3 * true_grad.norm()
    benchmark.extra_info |= {"threads": torch.get_num_threads(), "torch": torch.__version__}
    benchmark.pedantic(run, rounds=5 if rows > 1024 else 25, warmup_rounds=1)


def exact(z: torch.Tensor, means: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    z = z.double().requires_grad_()
    value = cw_distance_reference(z, means.double())
    return value.detach(), torch.autograd.grad(value, z)[0]
