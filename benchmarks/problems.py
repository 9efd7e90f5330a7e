"""What every contender is given, and the float64 truth that its result is held against before it is timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from segma_fast import fast_cw_distance, silverman_gamma
from segma_fast.backends import reference

Run = Callable[[], tuple[Tensor, ...]]  # gives the value and the gradients
LARGEST_PLAIN = 8192  # rows up to which the truth is the plain equation; beyond, the chunked backend in float64
BLOCK = 256  # rows of the plain equation at once


@dataclass(frozen=True)
class Problem:
    """Codes (m, D), means (K, D), both float32 and wanting gradients, and γ by the paper's rule."""

    z: Tensor
    means: Tensor
    gamma: float


@dataclass(frozen=True)
class Errors:
    """Of a float32 result, relative to float64; None for a gradient that the contender does not give."""

    value: float
    grad_z: float
    grad_means: float | None


def make_problem(rows: int, dim: int, components: int, device: torch.device | str = "cpu") -> Problem:
    """Codes drawn from the mixture, as they are late in a training; for K = 1 the mixture is N(0, I)."""
    generator = torch.Generator().manual_seed(rows + dim)
    means = 2 * torch.randn(components, dim, generator=generator) * (components > 1)
    chosen = torch.randint(components, (rows,), generator=generator)
    z = means[chosen] + torch.randn(rows, dim, generator=generator)
    z, means = z.to(device), means.to(device)
    return Problem(z.requires_grad_(), means.requires_grad_(), silverman_gamma(rows, components))


@lru_cache(maxsize=1)
def truth(rows: int, dim: int, components: int) -> tuple[float, Tensor, Tensor]:
    """d² and its gradients in codes and means, in float64."""
    problem = make_problem(rows, dim, components)
    z = problem.z.detach().double().requires_grad_()
    means = problem.means.detach().double().requires_grad_()
    if rows > LARGEST_PLAIN:
        value = fast_cw_distance(z, means, gamma=problem.gamma, backend="chunked")
        return value.item(), *torch.autograd.grad(value, (z, means))
    one, gamma = z.new_ones(()), z.new_tensor(problem.gamma)
    prior = reference.scalar_product(means, means, 2 * one, gamma).mean()
    total, (grad_means,) = prior.item(), torch.autograd.grad(prior, means)
    parts = []
    for block in z.detach().split(BLOCK):
        block.requires_grad_()
        codes = reference.scalar_product(block, z.detach(), 0 * one, gamma).sum() / rows**2
        cross = 2 * reference.scalar_product(block, means, one, gamma).sum() / (rows * components)
        total += (codes - cross).item()
        part, more = torch.autograd.grad(2 * codes - cross, (block, means))  # a pair moves with both of its ends
        parts.append(part)
        grad_means = grad_means + more
    return total, torch.cat(parts), grad_means


def errors(result: tuple[Tensor, ...], expected: tuple[float, Tensor, Tensor]) -> Errors:
    """Of ``(value, gradient in z)`` or ``(value, gradient in z, gradient in means)``, in as many rows as expected."""
    value, *gradients = result
    pairs = [(g[: len(e)].double(), e) for g, e in zip(gradients, expected[1:], strict=False)]
    norms = [((g - e).norm() / e.norm()).item() for g, e in pairs]
    return Errors(abs(value.item() / expected[0] - 1), norms[0], norms[1] if len(norms) > 1 else None)


def with_gradients(function: Callable[[], Tensor], *inputs: Tensor) -> Run:
    def run() -> tuple[Tensor, ...]:
        value = function()
        return value.detach(), *torch.autograd.grad(value, inputs)

    return run
