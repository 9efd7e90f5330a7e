"""The exact form of φ, part 2: the points that minimise d² to N(0, I), found by L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from segma_fast import cw_normality
from segma_fast.distance.formulas import FORMS

DIMS = (2, 3, 5, 8, 10, 20)
SIZES = {100: 4, 1000: 1}  # particles, and how many starts are averaged
SHOWN = 3  # the dimension whose coordinates are kept
EDGES = tuple(0.5 * i for i in range(-20, 21))  # of their histogram; those outside are counted as one more
ROUND, ROUNDS, STILL = 200, 15, 1e-5  # iterations at once, how often, and the relative fall of d² that ends it
SCALE = 1e3  # of the loss: the tolerances of L-BFGS are absolute


def measure(
    dims: Sequence[int] = DIMS, sizes: dict[int, int] = SIZES, iterations: int = ROUND, rounds: int = ROUNDS
) -> dict[str, Any]:
    """What the particles look like at the end, for each number of them, dimension and form."""
    rows, coordinates = [], {}
    for size, starts in sizes.items():
        for dim in dims:
            for phi in FORMS:
                found = [descend(start(size, dim, seed), phi, iterations, rounds) for seed in range(starts)]
                described = [describe(points) | {"d2": value, "iterations": n} for points, value, n in found]
                mean = {name: fmean(one[name] for one in described) for name in described[0]}
                drawn = fmean(cw_normality(start(size, dim, seed), phi=phi).item() for seed in range(starts))
                rows.append({"m": size, "starts": starts, "dim": dim, "phi": phi, "d2_drawn": drawn} | mean)
                print("particles", rows[-1])
                if dim == SHOWN and size == max(sizes):
                    coordinates[phi] = histogram(found[0][0])
    return {"limit": [limit(dim) for dim in dims], "rows": rows, "edges": EDGES, "coordinates": coordinates}


def start(size: int, dim: int, seed: int) -> Tensor:
    return torch.randn(size, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def descend(points: Tensor, phi: str, iterations: int, rounds: int) -> tuple[Tensor, float, int]:
    """The points at the end, their d² with γ by the rule, and the number of iterations."""
    points = points.clone().requires_grad_()
    before, done = math.inf, 0
    while done < iterations * rounds:
        optimizer = torch.optim.LBFGS(
            [points],
            max_iter=iterations,
            max_eval=2 * iterations,
            history_size=20,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-12,
            tolerance_change=1e-14,
        )

        def loss(optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            value = SCALE * cw_normality(points, phi=phi)
            value.backward()
            return value

        optimizer.step(loss)
        done += optimizer.state[points]["n_iter"]
        value = cw_normality(points.detach(), phi=phi).item()
        if value > (1 - STILL) * before:
            break
        before = value
    return points.detach(), value, done


def describe(points: Tensor) -> dict[str, float]:
    """Variance and kurtosis of a coordinate, all taken together: 1 and 3 for N(0, I)."""
    square = points.square().mean().item()
    return {"variance": square, "kurtosis": points.pow(4).mean().item() / square**2}


def histogram(points: Tensor) -> list[int]:
    """Coordinates, all taken together, in each bin of ``EDGES``, and outside."""
    counts = torch.histogram(points.flatten(), torch.tensor(EDGES, dtype=points.dtype))[0].int().tolist()
    return [*counts, points.numel() - sum(counts)]


def limit(dim: int) -> dict[str, Any]:
    """The same of Student's distribution with D - 1 degrees of freedom, which minimises the approximation as γ → 0.

    None where a moment is infinite. ``docs/exact_phi.md`` says why it is the minimiser.
    """
    variance = (2 * dim - 3) / (2 * (dim - 3)) if dim > 3 else None
    kurtosis = 3 * (dim - 3) / (dim - 5) if dim > 5 else None
    return {"dim": dim, "variance": variance, "kurtosis": kurtosis}
