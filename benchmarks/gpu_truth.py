"""The float64 truth on the device, by the chunked backend, and how exact a result of float32 can be expected to be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from problems import Errors, Problem
from torch import Tensor

from segma_fast.autograd import cloud
from segma_fast.backends.reference import scalar_product
from segma_fast.operators import ENERGY, GRADIENT

WHOLE = 131072  # points up to which all gradients are made in float64; beyond, those of SOME codes and of all means
SOME = 2048
VALUE = {"highest": 2e-5, "high": 2e-5, "medium": 1e-4}  # of ours near the optimum
GRADIENTS = {"highest": 2e-5, "high": 1e-3, "medium": 1e-3}
PEER_VALUE, PEER_GRADIENTS = 2e-4, 1e-3


@dataclass(frozen=True)
class Truth:
    """``expected`` is the value and the gradients in (the first) codes and in the means."""

    expected: tuple[float, Tensor, Tensor]
    kappa: float  # (A + B + C) / d² of the three sums of equation (8)

    def too_far(self, found: Errors, precision: str | None) -> str | None:
        """What is wrong with a result of ours, or with a peer's where no precision is given."""
        limit = (VALUE[precision] if precision else PEER_VALUE) * max(1.0, self.kappa / 2000)
        most = GRADIENTS[precision] if precision else PEER_GRADIENTS
        gradients = [error for error in (found.grad_z, found.grad_means) if error is not None]
        if found.value <= limit and max(gradients) <= most:
            return None
        return f"d² is off by {found.value:.1e} (limit {limit:.1e}), gradients by {max(gradients):.1e} ({most:.0e})"


@torch.no_grad()
def make_truth(problem: Problem, phi: str = "approx") -> Truth:
    z, means, gamma = problem.z.double(), problem.means.double(), problem.gamma
    rows, components = len(z), len(means)
    h, w = cloud(rows, components, z.device, None, None, 1.0, gamma)
    total = rows + components
    if total <= WHOLE:
        value, grad_z, grad_means = GRADIENT["chunked"](z, means, h, w, 0, total, "highest", phi)[:3]
    else:
        value = ENERGY["chunked"](z, means, h, w, 0, total, "highest", phi)
        grad_z = GRADIENT["chunked"](z, means, h, w, 0, SOME, "highest", phi)[1]
        grad_means = GRADIENT["chunked"](z, means, h, w, rows, total, "highest", phi)[2]
    one = torch.ones((), dtype=torch.float64, device=z.device)
    cross = scalar_product(z, means, one, gamma * one, phi).mean()
    return Truth((value.item(), grad_z, grad_means), 1 + (4 * cross / value).item())
