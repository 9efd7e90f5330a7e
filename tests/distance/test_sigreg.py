"""SIGReg with infinitely many slices: that of its definition and of lightly, module, samples, errors."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from cases import DEVICE
from torch import Tensor

from segma_fast import CWNormalityLoss, SIGReg, cw_normality, sigreg


def by_quadrature(z: Tensor, directions: Tensor, gamma: float = 0.5) -> Tensor:
    """``N ∫ |φ̂ - exp(-t²/2)|² exp(-γt²) dt`` in each direction, by the trapezoidal rule."""
    t = torch.linspace(-14, 14, 281, dtype=torch.float64)
    angles = t[:, None, None] * (z.double() @ directions.mT)
    normal, window = torch.exp(-t * t / 2)[:, None], torch.exp(-gamma * t * t)[:, None]
    apart = (torch.cos(angles).mean(1) - normal).square() + torch.sin(angles).mean(1).square()
    return len(z) * torch.trapezoid(apart * window, t, dim=0)


def directions(count: int, dim: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, dim, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("gamma", [0.5, 0.2, 3.0])
def test_one_dimension_is_the_quadrature(gamma: float) -> None:
    z = (0.7 * torch.randn(30, 1) + 0.3).double()
    expected = by_quadrature(z, torch.ones(1, 1, dtype=torch.float64), gamma)[0]
    assert sigreg(z, gamma).item() == pytest.approx(expected.item(), rel=1e-9)


def test_mean_over_many_directions_is_ours() -> None:
    z = (1.3 * torch.randn(40, 3) + 0.2).double().requires_grad_()
    chunks = [by_quadrature(z, part) for part in directions(20_000, 3).split(500)]
    found = torch.cat(chunks)
    error = 5 * (found.std() / math.sqrt(len(found))).item()
    assert sigreg(z).item() == pytest.approx(found.mean().item(), abs=error)
    (expected,) = torch.autograd.grad(found.mean(), z)
    (gradient,) = torch.autograd.grad(sigreg(z), z)
    assert (gradient - expected).norm() <= 0.05 * gradient.norm()  # some 2 (D/R)^(1/2)


def test_many_slices_of_lightly_are_ours() -> None:
    peer: Any = pytest.importorskip("lightly.loss.lejepa_loss", reason="lightly is not installed")
    z = 1.2 * torch.randn(2, 50, 8)
    many = peer.SIGReg(knots=65, t_max=8.0, num_vectors=20_000)
    assert SIGReg()(z).item() == pytest.approx(many(z).item(), rel=0.02)
    usual = peer.SIGReg(num_vectors=20_000)  # which ends at t = 3
    assert SIGReg()(z).item() == pytest.approx(usual(z).item(), rel=0.04)


def test_samples_are_taken_one_by_one(backend: str) -> None:
    z = torch.randn(2, 3, 20, 4).to(DEVICE).requires_grad_()
    values = sigreg(z, reduction="none", backend=backend)
    one = [2 * math.pi * 20 * cw_normality(x, 0.5, phi="exact", backend=backend) for x in z.flatten(0, 1)]
    assert values.shape == (2, 3) and torch.allclose(values.flatten(), torch.stack(one), rtol=1e-6)
    assert torch.equal(sigreg(z, backend=backend), values.mean())
    assert torch.allclose(sigreg(z[0, 0], backend=backend), values[0, 0], rtol=1e-6)
    (gradient,) = torch.autograd.grad(sigreg(z, backend=backend), z)
    (expected,) = torch.autograd.grad(torch.stack(one).mean(), z)
    assert torch.allclose(gradient, expected, rtol=1e-5, atol=1e-9)


def test_module_is_the_function() -> None:
    z, groups = torch.randn(2, 12, 3), torch.arange(12) // 2
    module = SIGReg(0.3, reduction="none", backend="chunked")
    for same in (module, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert torch.equal(same(z, groups), sigreg(z, 0.3, groups=groups, reduction="none", backend="chunked"))
        assert torch.equal(same(z, views=3), sigreg(z, 0.3, views=3, reduction="none", backend="chunked"))
    assert repr(module) == "SIGReg(gamma=0.3, reduction='none', backend='chunked', precision=None)"
    assert not list(module.parameters()) and not module.state_dict()
    loss = CWNormalityLoss(log=True)
    assert torch.equal(loss(z[0]), cw_normality(z[0], log=True))
    assert torch.equal(CWNormalityLoss(0.4)(z[0], groups), cw_normality(z[0], 0.4, groups=groups))
    assert torch.equal(CWNormalityLoss(0.4)(z[0], views=2), cw_normality(z[0], 0.4, views=2))
    assert repr(loss) == "CWNormalityLoss(gamma=None, log=True, phi='approx', backend='auto', precision=None)"


def test_derivatives() -> None:
    z = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    gamma = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sigreg, (z, gamma))
    assert torch.autograd.gradgradcheck(sigreg, (z, gamma))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_points_of_16_bits_and_autocast(dtype: torch.dtype) -> None:
    z = torch.randn(2, 30, 5).to(dtype)
    assert sigreg(z).dtype == torch.float32
    assert sigreg(z).item() == pytest.approx(sigreg(z.float()).item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sigreg(z.float()), sigreg(z.float()).float())
        inside = sigreg(z.float())
    assert torch.equal(inside, sigreg(z.float()))


def test_in_one_compiled_graph() -> None:
    z = torch.randn(3, 16, 4)
    compiled = torch.compile(SIGReg(), fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(z), sigreg(z), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sigreg(torch.randn(5)), ValueError, r"of shape \(..., N, D\), at least one, got shape \(5,\)"),
        (lambda: sigreg(torch.randn(0, 5, 2)), ValueError, r"at least one, got shape \(0, 5, 2\)"),
        (lambda: sigreg([1.0]), TypeError, "z must be a torch.Tensor, got list"),  # type: ignore[arg-type]
        (lambda: sigreg(torch.randn(5, 2), reduction="sum"), ValueError, "'mean' or 'none', got 'sum'"),  # type: ignore[arg-type]
        (lambda: SIGReg(reduction="sum"), ValueError, "'mean' or 'none', got 'sum'"),  # type: ignore[arg-type]
        (lambda: SIGReg(-1.0), ValueError, "gamma must be between"),
        (lambda: SIGReg(torch.tensor(1.0)), TypeError, "gamma must be a number"),  # type: ignore[arg-type]
        (lambda: SIGReg(backend="none"), ValueError, "is unknown"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
