"""The input of every contender, and the float64 truth against which its result is checked before timing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from segma_fast.distance.autograd import widths_and_weights
from segma_fast.distance.backends.reference import scalar_product
from segma_fast.distance.formulas import silverman_gamma
from segma_fast.distance.operators import ENERGY, GRADIENT

Run = Callable[[], tuple[Tensor, ...]]  # returns the value, and the gradients if requested
LARGEST_PLAIN = 8192  # up to this many codes the truth is equation (8) in blocks, else chunked in float64
SOME = 2048  # number of codes with gradients in the truth of a larger batch, besides all means
BLOCK = 256  # codes per block of equation (8)
VALUE = {"single": 2e-5, "highest": 2e-5, "high": 2e-5, "medium": 1e-4}  # error limits near the optimum
GRADIENTS = {"single": 1e-4, "highest": 2e-5, "high": 1e-3, "medium": 1e-2}  # single: backends with one precision
PEER_VALUE, PEER_GRADIENTS = 2e-4, 1e-3  # error limits of implementations other than segma_fast
EXACT_VALUE = 4e-4  # error limit for the exact φ, whose d² is smaller
FAR_APART = 2.0  # std of the means per coordinate: clusters that do not overlap
IN_HALF = 1e-2  # error limit for a gradient returned in 16 bits


@dataclass(frozen=True)
class Case:
    """A problem size. If ``gamma`` is None, it follows the paper's rule; for K = 1 the mixture is N(0, I)."""

    rows: int
    dim: int
    components: int = 10
    dtype: str = "float32"  # of codes and means
    gradients: bool = True  # whether to compute those of codes and means, besides the value
    gamma: float | None = None

    def __str__(self) -> str:
        parts = [f"{self.rows} × {self.dim}", f"K = {self.components}"]
        parts += [self.dtype] * (self.dtype != "float32") + ["value"] * (not self.gradients)
        return ", ".join(parts + ([] if self.gamma is None else [f"γ = {self.gamma:g}"]))


@dataclass(frozen=True)
class Problem:
    """Codes (m, D), means (K, D) and γ; codes and means require gradients if the case has gradients."""

    case: Case
    z: Tensor
    means: Tensor
    gamma: float

    def run(self, function: Callable[[], Tensor], *inputs: Tensor) -> Run:
        """A function for the value of ``function`` and, if the case has them, its gradients w.r.t. the inputs."""
        if not self.case.gradients:
            return torch.no_grad()(lambda: (function(),))

        def run() -> tuple[Tensor, ...]:
            value = function()
            return value.detach(), *torch.autograd.grad(value, inputs)

        return run


def near_optimum(case: Case) -> float:
    """A spread of means so close together that d² is smallest, and errors are largest; accuracy is promised there."""
    return 2 / math.sqrt(case.dim)


def make_problem(case: Case, device: torch.device | str = "cpu", spread: float = FAR_APART) -> Problem:
    """Codes drawn from the mixture, as late in training; ``spread`` is the std of its means per coordinate."""
    generator = torch.Generator().manual_seed(case.rows + case.dim)
    means = spread * torch.randn(case.components, case.dim, generator=generator) * (case.components > 1)
    chosen = torch.randint(case.components, (case.rows,), generator=generator)
    z = means[chosen] + torch.randn(case.rows, case.dim, generator=generator)
    z, means = (t.to(device, getattr(torch, case.dtype)).requires_grad_(case.gradients) for t in (z, means))
    gamma = silverman_gamma(case.rows, case.components) if case.gamma is None else case.gamma
    return Problem(case, z, means, gamma)


@dataclass(frozen=True)
class Errors:
    """Errors relative to float64; None for a gradient that a contender does not compute."""

    value: float
    grad_z: float | None
    grad_means: float | None

    @property
    def gradient(self) -> float | None:
        """The larger of the two gradient errors; NaN if either is NaN."""
        found = [error for error in (self.grad_z, self.grad_means) if error is not None]
        return math.nan if any(map(math.isnan, found)) else max(found, default=None)


@dataclass(frozen=True)
class Truth:
    """d² and its gradients w.r.t. the (first) codes and w.r.t. the means, in float64."""

    value: float
    grad_z: Tensor
    grad_means: Tensor
    kappa: float  # (A + B + C) / d², with the three sums A, B, C of equation (8)
    case: Case
    phi: str = "approx"

    def errors(self, result: tuple[Tensor, ...]) -> Errors:
        """The errors of a value, alone or with gradients w.r.t. the codes, or w.r.t. codes and means."""
        value, *gradients = result
        pairs = [(g[: len(e)].double(), e) for g, e in zip(gradients, (self.grad_z, self.grad_means), strict=False)]
        norms = [((g - e).norm() / e.norm()).item() for g, e in pairs]
        return Errors(abs(value.item() / self.value - 1), *(norms + [None, None])[:2])

    def too_far(self, found: Errors, precision: str | None) -> str | None:
        """Why a result is too inaccurate, or None; ``precision`` is None for implementations other than segma_fast."""
        limit = (VALUE[precision] if precision else PEER_VALUE) * max(1.0, self.kappa / 2000)
        limit = max(limit, EXACT_VALUE) if self.phi == "exact" else limit
        most = GRADIENTS[precision] if precision else PEER_GRADIENTS
        most = most if self.case.dtype in ("float32", "float64") else IN_HALF
        if self.case.gradients and found.grad_z is None:
            return f"d² is off by {found.value:.1e}, and the gradients of the codes are missing"
        gradient = found.gradient or 0.0
        if found.value <= limit and gradient <= most:
            return None
        return f"d² is off by {found.value:.1e} (limit {limit:.1e}), gradients by {gradient:.1e} ({most:.0e})"


def truth(problem: Problem, phi: str = "approx") -> Truth:
    """The truth for codes and means as they are rounded in their dtype."""
    z, means = problem.z.detach().double(), problem.means.detach().double()
    one = z.new_ones(())
    product = partial(scalar_product, gamma=problem.gamma * one, phi=phi)
    found = _plain(z, means, product) if len(z) <= LARGEST_PLAIN else _chunked(z, means, problem.gamma, phi)
    kappa = 1 + 4 * product(z, means, one).mean().item() / found[0]
    return Truth(*found, kappa, problem.case, phi)


def _plain(z: Tensor, means: Tensor, product: Callable[..., Tensor]) -> tuple[float, Tensor, Tensor]:
    rows, one = len(z), z.new_ones(())
    means = means.clone().requires_grad_()
    prior = product(means, means, 2 * one).mean()
    total, (grad_means,) = prior.item(), torch.autograd.grad(prior, means)
    parts = []
    for block in z.split(BLOCK):
        block = block.clone().requires_grad_()
        codes = product(block, z, 0 * one).sum() / rows**2
        cross = 2 * product(block, means, one).mean() * len(block) / rows
        total += (codes - cross).item()
        part, more = torch.autograd.grad(2 * codes - cross, (block, means))  # 2: codes are on both sides of pairs
        parts.append(part)
        grad_means = grad_means + more
    return total, torch.cat(parts), grad_means


def _chunked(z: Tensor, means: Tensor, gamma: float, phi: str) -> tuple[float, Tensor, Tensor]:
    rows, total = len(z), len(z) + len(means)
    inputs = (z, means, *widths_and_weights(rows, len(means), z.device, None, None, 1.0, gamma))
    value = ENERGY["chunked"](*inputs, 0, total, "highest", phi)
    grad_z = GRADIENT["chunked"](*inputs, 0, min(SOME, rows), "highest", phi)[1]
    grad_means = GRADIENT["chunked"](*inputs, rows, total, "highest", phi)[2]
    return value.item(), grad_z, grad_means
