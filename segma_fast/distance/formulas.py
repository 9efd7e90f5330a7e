"""The formulas that every backend shares: the profile of a pair, the bandwidth, closed forms.

With ``t = |a - b|²`` and ``h = 2 (v + 2γ)``, where ``v`` is the sum of both variances, the scalar product (3)
of the paper is ``k = π^(-1/2) h^(-1/2) φ_D(t / h)``. Both forms of φ_D make it a reciprocal square root times a
polynomial,

    k = π^(-1/2) r Q(2τ - 1),    r = (h + c t)^(-1/2),    τ = h r²

The paper's approximation, ``φ_D(s) ≈ (1 + 4s/(2D-3))^(-1/2)``, is Q = 1 with ``c = 4/(2D-3)``; for the exact
form Q and c are those of ``segma_fast.distance.exact_phi``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from segma_fast.distance.exact_phi import exact_coefficients, exact_slope
from segma_fast.distance.scalars import check_whole

INV_SQRT_PI = 1.0 / math.sqrt(math.pi)
FORMS = ("approx", "exact")


@dataclass(frozen=True)
class Form:
    """The constants of the profile for one form of φ_D.

    Attributes:
        slope: c, the factor of the squared distance; 1 in one dimension, where both forms are ``exp(-s)``.
        coefficients: of Q in powers of 2τ - 1, lowest first; ``(1.0,)`` for the approximation, empty for D = 1.
    """

    slope: float
    coefficients: tuple[float, ...]

    def resolved(self, limit: float, dim: int) -> float:
        """Convert a limit of ``c|x|²/h`` from the paper's c to this c: how k changes with t does not depend on c."""
        return limit * self.slope / form_of(dim, "approx").slope

    def own(self, dtype: torch.dtype) -> float:
        """Q of a point with itself: 1, up to the rounding of the coefficients, which affects all pairs alike."""
        return 1.0 if len(self.coefficients) < 2 else torch.tensor(self.coefficients, dtype=dtype).double().sum().item()

    @property
    def flat(self) -> bool:
        """Whether Q = 1."""
        return len(self.coefficients) == 1


def form_of(dim: int, phi: str, dtype: torch.dtype = torch.float64) -> Form:
    """The form ``phi`` ("approx" or "exact") of φ_D for arithmetic in ``dtype``."""
    if dim == 1:
        return Form(1.0, ())
    if phi == "approx":
        return Form(4.0 / (2 * dim - 3), (1.0,))
    if torch.compiler.is_compiling() or isinstance(
        dim, torch.SymInt
    ):  # a graph is specialised on D: its coefficients are constants
        from torch.fx.experimental.symbolic_shapes import guard_scalar

        dim = int(guard_scalar(dim))
    return Form(exact_slope(dim), _coefficients(dim, dtype == torch.float64))


def _coefficients(dim: int, double: bool) -> tuple[float, ...]:
    return exact_coefficients(dim, double)


# As torch.compiler.assume_constant_result does, without importing the compiler; else dynamo traces the quadrature.
_coefficients._dynamo_marked_constant = True  # type: ignore[attr-defined]


def polynomial(x: Tensor, coefficients: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """``Q(x)`` and ``dQ/dx``, differentiable, by Horner's rule."""
    q = torch.full_like(x, coefficients[-1])
    steep = torch.zeros_like(x)
    for coefficient in coefficients[-2::-1]:
        steep = steep * x + q
        q = q * x + coefficient
    return q, steep


def phi_of(s: Tensor, dim: int, phi: str = "approx") -> Tensor:
    """``φ_D(s)`` of equation (3) for ``s ≥ 0``: the paper's approximation, or exact; always exact for D = 1.

    The approximation needs ``2D > 3``.
    """
    if dim == 1:
        return torch.exp(-s)
    form = form_of(dim, phi, s.dtype)
    root = torch.rsqrt(1 + form.slope * s)
    return root if form.flat else root * polynomial(2 * root * root - 1, form.coefficients)[0]


def profile(t: Tensor, h: Tensor, dim: int, phi: str = "approx") -> tuple[Tensor, Tensor, Tensor]:
    """The kernel and both derivatives, ``(k, ∂k/∂t, ∂k/∂h)``, element by element and differentiable.

    Args:
        t: squared distances, any shape.
        h: ``2 (v + 2γ)``, broadcastable to ``t``.
        dim: the dimension D of the points.
        phi: the form of φ_D.
    """
    if dim == 1:
        s = (t / h).clamp_max(1e4)  # exp(-1e4) is 0 in every dtype, and t may have overflowed
        k = INV_SQRT_PI * torch.rsqrt(h) * torch.exp(-s)
        return k, -k / h, k * (s - 0.5) / h
    form = form_of(dim, phi, t.dtype)
    r = torch.rsqrt(h + form.slope * t)
    cube = (-0.5 * INV_SQRT_PI) * r * r * r
    if form.flat:
        return INV_SQRT_PI * r, form.slope * cube, cube
    tau = h * r * r
    q, steep = polynomial(2 * tau - 1, form.coefficients)
    pull = q + 4 * tau * steep  # P = Q + 2τ dQ/dτ
    return INV_SQRT_PI * r * q, form.slope * cube * pull, cube * (pull - 4 * steep)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """``|a_i - b_j|²`` for all pairs, (..., m, D) and (..., n, D) -> (..., m, n), without an (m, n, D) temporary.

    In float64 the values are sums of squared differences, for full accuracy; the derivatives are those of
    ``|a|² + |b|² - 2ab``, to any order and also where points coincide. In float32 the values are those of that
    formula too, with negative rounding errors set to 0; this does not change the derivatives.
    """
    expanded = (a * a).sum(-1)[..., :, None] + (b * b).sum(-1)[..., None, :] - 2 * a @ b.mT
    if expanded.dtype != torch.float64:
        expanded.detach().clamp_(min=0)
        return expanded
    exact = torch.cdist(a.detach(), b.detach(), compute_mode="donot_use_mm_for_euclid_dist").square()
    return expanded + (exact - expanded).detach()


def unit_of(*points: Tensor) -> Tensor:
    """1, or the power of two to divide coordinates by so that their squares are finite; divide d² by it too."""
    most = torch.stack([part.detach().abs().amax() for part in points]).amax()
    largest = torch.finfo(most.dtype).max ** 0.5 / 1e3  # D largest² is finite up to D = 1,000,000
    return torch.exp2(torch.log2(most / largest).ceil().clamp_min(0))


def silverman_gamma(rows: int, components: int = 1) -> float:
    """The paper's bandwidth, ``γ = (4 / (3 N))^(2/5)`` with ``N = rows / components`` samples per class.

    Args:
        rows: m, the samples in the batch, at least 1.
        components: K, the components that they are spread over, at least 1.

    Raises:
        TypeError: if either is not an int, Python's or NumPy's.
        ValueError: if either is below 1.
    """
    rows, components = check_whole("rows", rows, 1), check_whole("components", components, 1)
    ratio = 4.0 * components / (3.0 * rows)
    bandwidth: float = ratio**0.4  # symbolic for a traced size, which float() would specialise
    return bandwidth


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """float64 for sums, or float32 on the one device type that has no float64 (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64
