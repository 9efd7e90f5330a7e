"""Inputs and yardsticks that the tests share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from segma_fast import cw_distance_reference, fast_cw_distance, silverman_gamma
from segma_fast.distance import dispatch
from segma_fast.distance.backends.reference import scalar_product

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BACKENDS = [
    entry.name
    for entry in dispatch.BACKENDS
    if (entry.missing() or entry.unsuitable(DEVICE, torch.float32, 10)) is None
]
OPTIMISED = [name for name in BACKENDS if name != "reference"]


def skip_unless_served(backend: str, dtype: torch.dtype, dim: int) -> None:
    """Skip a test whose points the backend does not take."""
    entry = next(entry for entry in dispatch.BACKENDS if entry.name == backend)
    reason = entry.missing() or entry.unsuitable(DEVICE, dtype, dim)
    if reason is not None:
        pytest.skip(f"{backend}: {reason}")


def near_optimum(m: int, components: int, dim: int, offset: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Codes drawn from the mixture of unit variance around the means, all moved by ``offset``; float32."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(components, dim, generator=generator) * (2 / dim**0.5)
    label = torch.randint(components, (m,), generator=generator)
    z = means[label] + torch.randn(m, dim, generator=generator)
    return (z + offset).to(DEVICE), (means + offset).to(DEVICE)


def seeded(seed: int = 5) -> torch.Generator:
    """A generator on the CPU in a state of its own."""
    return torch.Generator().manual_seed(seed)


def five_inputs(dtype: torch.dtype, m: int = 5, components: int = 3, dim: int = 3) -> list[Tensor]:
    """z, means, weights, variances and gamma, all of them leaves that want a gradient."""
    z, means = near_optimum(m, components, dim)
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(components, generator=generator, dtype=torch.float64) + 0.2
    variances = torch.rand(components, generator=generator, dtype=torch.float64) + 0.1
    inputs = (z, means, weights / weights.sum(), variances, torch.tensor(0.3, dtype=torch.float64))
    return [tensor.detach().to(DEVICE, dtype, copy=True).requires_grad_() for tensor in inputs]


def evaluate(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], dtype: torch.dtype | None = None, **options: Any
) -> tuple[Tensor, list[Tensor]]:
    """Value and gradients of a distance in all the given tensors, in ``dtype`` where one is given."""
    leaves = [tensor.detach().to(dtype or tensor.dtype, copy=True).requires_grad_() for tensor in inputs]
    value = function(*leaves, **options)
    return value.detach(), list(torch.autograd.grad(value, leaves))


def truth(inputs: Sequence[Tensor], **options: Any) -> tuple[Tensor, list[Tensor]]:
    """Value and gradients by the reference in float64."""
    return evaluate(cw_distance_reference, inputs, torch.float64, **options)


def relative_error(value: Tensor, expected: Tensor) -> float:
    """``|value - expected| / |expected|`` in the Euclidean norm, in float64."""
    return ((value.double() - expected.double()).norm() / expected.double().norm()).item()


def condition(z: Tensor, means: Tensor, distance: Tensor) -> float:
    """``(A + B + C) / d²`` for the three sums of equation (8): how much larger they are than their result."""
    z, means = z.double(), means.double()
    gamma = torch.tensor(silverman_gamma(z.shape[0], means.shape[0]), dtype=torch.float64, device=z.device)
    variance = torch.ones((), dtype=torch.float64, device=z.device)
    codes = scalar_product(z, z, 0 * variance, gamma).mean()
    cross = scalar_product(z, means, variance, gamma).mean()
    prior = scalar_product(means, means, 2 * variance, gamma).mean()
    return ((codes + 2 * cross + prior) / distance.double()).item()


def equation_8(
    z: Sequence[Sequence[float]],
    means: Sequence[Sequence[float]],
    weights: Sequence[float],
    variances: Sequence[float],
    gamma: float,
) -> float:
    """Equation (8) in plain Python, written from the paper and not from the package."""

    def product(a: Sequence[float], b: Sequence[float], variance: float) -> float:
        width = variance + 2 * gamma
        s = sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / (2 * width)
        phi = math.exp(-s) if len(a) == 1 else (1 + 4 * s / (2 * len(a) - 3)) ** -0.5
        return phi / math.sqrt(2 * math.pi * width)

    mixture = list(zip(weights, means, variances, strict=True))
    codes = math.fsum(product(a, b, 0) for a in z for b in z) / len(z) ** 2
    cross = math.fsum(p * product(a, b, v) for a in z for p, b, v in mixture) / len(z)
    prior = math.fsum(p * q * product(a, b, v + u) for p, a, v in mixture for q, b, u in mixture)
    return codes - 2 * cross + prior


def distance_with(backend: str) -> Callable[..., Tensor]:
    """:func:`fast_cw_distance` with the weights scaled to sum to 1, so that they can be varied one by one."""

    def distance(
        z: Tensor, means: Tensor, weights: Tensor, variances: Tensor, gamma: Tensor, log: bool = False
    ) -> Tensor:
        return fast_cw_distance(z, means, weights / weights.sum(), variances, gamma, log=log, backend=backend)

    return distance


@contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic algorithms only, and NaN in all memory that is not yet written."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
