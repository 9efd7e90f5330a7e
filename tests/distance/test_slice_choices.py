"""What slices draw and choose: directions without bias, frequencies that far rows and offsets do not disturb."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from cases import BACKENDS, DEVICE, evaluate, near_optimum, relative_error, seeded
from torch import Tensor

from segma_fast import fast_cw_distance, sigreg
from segma_fast.distance.slices.directions import draw_directions, project
from segma_fast.distance.slices.operators import WAVES

SWIFT = [name for name in ("reference", *WAVES) if name in BACKENDS and (name != "triton" or DEVICE.type != "cpu")]


@pytest.mark.parametrize("dim", [3, 64, 96, 100])
@pytest.mark.parametrize("kind", ["normal", "axes"])
def test_the_mean_over_directions_is_the_exact_distance(dim: int, kind: str) -> None:
    """Unbiased, to four standard errors of 100 draws; also for codes along the axes, which signs alone do not mix."""
    z = torch.randn(60, dim)
    if kind == "axes":
        z = math.sqrt(dim) * torch.eye(dim)[torch.arange(60) % dim]
    exact = sigreg(z)
    found = torch.stack([sigreg(z, slices=256) for _ in range(100)])
    assert (found.mean() - exact).abs() <= 4 * found.std() / math.sqrt(len(found))
    assert found.std() <= 0.2 * exact


def test_gradients_average_to_the_exact_one() -> None:
    z = torch.randn(60, 16, requires_grad=True)
    (exact,) = torch.autograd.grad(sigreg(z), z)
    once, mean = [], torch.zeros_like(z)
    for _ in range(64):
        (gradient,) = torch.autograd.grad(sigreg(z, slices=64), z)
        once.append(relative_error(gradient, exact))
        mean += gradient / 64
    assert relative_error(mean, exact) <= 1.5 * min(once) / math.sqrt(64)


@pytest.mark.parametrize(("dim", "slices"), [(7, 20), (64, 150), (100, 30)])
def test_directions(dim: int, slices: int) -> None:
    """Unit vectors; those of a block are orthogonal, where it is not cut from a longer one."""
    directions = draw_directions(dim, slices, torch.empty(0, dtype=torch.float64), seeded())
    vectors = project(torch.eye(dim, dtype=torch.float64), directions, slices)
    assert torch.allclose(vectors.norm(dim=0), torch.ones(slices, dtype=torch.float64))
    block = vectors[:, : min(dim, slices)]
    products = block.mT @ block - torch.eye(block.shape[1], dtype=block.dtype)
    assert products.abs().max() <= (1e-12 if dim != 100 else 0.5)
    other = draw_directions(dim, slices, torch.empty(0, dtype=torch.float64), seeded(6))
    assert not torch.equal(directions, other)


def test_what_is_not_read_is_not_aliased() -> None:
    """Where the spread cannot be read, codes that are spread widely leave out high frequencies, and nothing else."""
    z = 20 * torch.randn(50, 8)
    unread = torch.func.vmap(lambda z: sigreg(z, slices=200), randomness="same")(z[None])[0]
    exact = sigreg(z)
    assert 0.5 * exact <= unread <= exact
    for factor in (1e6, 1e15, math.inf):
        gradient = torch.func.vmap(torch.func.grad(lambda z: sigreg(z, slices=50)), randomness="same")(factor * z[None])
        assert gradient.isfinite().all() == math.isfinite(factor)


@pytest.mark.parametrize("name", SWIFT)
@pytest.mark.parametrize("frequencies", [None, 17])
@pytest.mark.parametrize("factor", [10.0, 1e3, 1e6])
def test_one_far_row_changes_nothing_for_the_others(factor: float, frequencies: int | None, name: str) -> None:
    z = torch.randn(200, 16)
    z[3] *= factor
    exact, (wanted,) = evaluate(sigreg, (z,))
    sliced: Callable[[Tensor], Tensor] = lambda z: sigreg(  # noqa: E731
        z, slices=2048, frequencies=frequencies, generator=seeded(), backend=name
    )
    value, (gradient,) = evaluate(sliced, (z,))
    assert relative_error(value, exact) <= 0.1
    assert relative_error(gradient[:3], wanted[:3]) <= 0.3
    assert gradient[3].norm() <= 0.1 * gradient.norm()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_not_hidden(bad: float) -> None:
    z = 3 * torch.randn(2, 30, 5)
    alone = sigreg(z[0], slices=4, generator=seeded())
    z[1, 3, 2] = bad
    first, second = sigreg(z, slices=4, generator=seeded(), reduction="none")
    assert second.isnan() and torch.isclose(first, alone, rtol=1e-5)


def test_an_offset_costs_no_digits() -> None:
    z, means = near_optimum(60, 3, 70, offset=1e4)
    found: Callable[..., Tensor] = lambda *points: fast_cw_distance(  # noqa: E731
        *points, phi="exact", slices=40, frequencies=30, generator=seeded()
    )
    value, gradients = evaluate(found, (z, means))
    expected, exact = evaluate(found, (z, means), torch.float64)
    assert relative_error(value, expected) <= 1e-5
    assert all(relative_error(a, b) <= 1e-4 for a, b in zip(gradients, exact, strict=True))
