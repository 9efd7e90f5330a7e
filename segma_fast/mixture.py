"""The prior of SeGMA: a mixture of spherical Gaussians with learnable means, one component a class."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

MeansInit = Literal["coordinates", "normal", "sphere", "simplex"]


def initial_means(
    components: int,
    dim: int,
    init: MeansInit = "coordinates",
    scale: float = 0.1,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Starting means, (K, D) in float32.

    Args:
        components, dim: how many, K ≥ 1, and in how many dimensions, D ≥ 1.
        init: ``"coordinates"`` as the authors' code does: ``scale·K/D`` on the coordinates j ≡ k (mod K) plus
            N(0, 0.001²) noise for K ≤ D, N(0, scale²) for K > D, zeros for K = 1; ``"normal"`` N(0, scale²);
            ``"sphere"`` random directions of length ``scale``; ``"simplex"`` the corners of a regular simplex
            at distance ``scale`` from the origin (K ≤ D + 1).
        scale: see above.

    Raises:
        ValueError: for an unknown ``init``, K < 1, D < 1, or a simplex with more corners than D + 1.
    """
    if components < 1 or dim < 1:
        raise ValueError(f"expected components >= 1 and dim >= 1, got components={components}, dim={dim}")
    noise = torch.randn(components, dim, generator=generator)
    if init == "coordinates":
        if components == 1:
            return torch.zeros(1, dim)
        if components > dim:
            return scale * noise
        own = torch.arange(dim) % components == torch.arange(components)[:, None]
        return torch.where(own, scale * components / dim, 0.0) + 1e-3 * noise
    if init == "normal":
        return scale * noise
    if init == "sphere":
        return scale * torch.nn.functional.normalize(noise)
    if init == "simplex":
        if components > dim + 1:
            raise ValueError(
                f"a simplex in {dim} dimensions has {dim + 1} corners, got components={components}; use the means init "
                "'normal' or 'sphere'"
            )
        return scale * _simplex(components, dim)
    raise ValueError(f"init={init!r} is unknown, expected one of {get_args(MeansInit)}")


def _simplex(components: int, dim: int) -> Tensor:
    """K points of length 1 in D ≥ K - 1 dimensions, all equally far from each other and summing to 0."""
    if components == 1:
        return torch.zeros(1, dim)
    corners = torch.eye(components, dtype=torch.float64) - 1 / components
    basis = torch.linalg.eigh(corners)[1][:, 1:]  # the K - 1 directions orthogonal to (1, ..., 1)
    flat = corners @ basis
    flat = flat / flat.norm(dim=1, keepdim=True)
    return torch.nn.functional.pad(flat, (0, dim - components + 1)).float()


class GaussianMixture(nn.Module):
    """``P_Z = Σ_k p_k N(μ_k, σ_k² I)`` with learnable means and fixed proportions and variances.

    Args:
        means: where the means start, (K, D); :func:`segma_fast.mixture.initial_means` makes some.
        proportions: p_k ≥ 0, (K,), scaled to sum to 1; default uniform.
        variances: σ_k² > 0, (K,) or one number for all.

    Attributes:
        means: parameter (K, D); ``proportions`` and ``variances`` are buffers (K,).

    Raises:
        ValueError: for shapes that do not fit, proportions that are negative or all zero, or variances ≤ 0.
    """

    means: nn.Parameter
    proportions: Tensor
    variances: Tensor

    def __init__(self, means: Tensor, proportions: Tensor | None = None, variances: float | Tensor = 1.0) -> None:
        super().__init__()
        if not isinstance(means, Tensor):
            raise TypeError(f"means must be a torch.Tensor of shape (K, D), got {type(means).__name__}")
        if means.ndim != 2 or 0 in means.shape:
            raise ValueError(f"means must have shape (K, D) with K, D >= 1, got shape {tuple(means.shape)}")
        self.means = nn.Parameter(means.detach().clone())
        components = means.shape[0]
        spread = torch.as_tensor(variances, dtype=means.dtype, device=means.device)
        if spread.shape not in ((), (components,)) or not (spread > 0).all() or not spread.isfinite().all():
            raise ValueError(f"variances must be one number > 0 or ({components},) of them, got {variances}")
        self.register_buffer("variances", spread.expand(components).clone())
        self.register_buffer("proportions", means.new_full((components,), 1 / components))
        if proportions is not None:
            self.set_proportions(proportions)

    @property
    def components(self) -> int:
        """K."""
        return self.means.shape[0]

    @property
    def dim(self) -> int:
        """D."""
        return self.means.shape[1]

    @torch.no_grad()
    def set_proportions(self, proportions: Tensor) -> None:
        """Set p from numbers ≥ 0, (K,), such as the counts of each label, scaled to sum to 1."""
        given = proportions.detach().to(self.proportions)
        if given.shape != (self.components,) or not (given >= 0).all() or not 0 < given.sum() < math.inf:
            raise ValueError(
                f"proportions must be ({self.components},) numbers >= 0, not all 0, got {proportions.tolist()}"
            )
        self.proportions.copy_(given / given.sum())

    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """n codes, (n, D), of the mixture or of one component.

        Args:
            n: how many, n ≥ 0.
            component: a component 0 … K-1 for all codes, a tensor (n,) with one for each, or None to draw them
                by the proportions.
            generator: random numbers, on the means' device.

        Raises:
            ValueError: if ``n`` is negative or a component is outside 0 … K-1.
        """
        if n < 0:
            raise ValueError(f"n must be >= 0, got {n}")
        if component is None:
            chosen = torch.multinomial(self.proportions, n, replacement=True, generator=generator) if n else None
        else:
            chosen = torch.as_tensor(component, device=self.means.device).expand(n)
            if n and not (0 <= int(chosen.min()) and int(chosen.max()) < self.components):
                raise ValueError(f"component must be in 0 ... {self.components - 1}, got {component}")
        if chosen is None:
            return self.means.new_empty(0, self.dim)
        noise = torch.randn(n, self.dim, generator=generator, dtype=self.means.dtype, device=self.means.device)
        return self.means[chosen] + self.variances[chosen].sqrt()[:, None] * noise

    def joint_log_prob(self, z: Tensor) -> Tensor:
        """``log p_k N(μ_k, σ_k² I)(z)`` for every component, (..., D) -> (..., K)."""
        if z.shape[-1] != self.dim:
            raise ValueError(f"z must have {self.dim} columns, got shape {tuple(z.shape)}")
        squared = (z[..., None, :] - self.means).square().sum(-1)
        normaliser = 0.5 * self.dim * torch.log(2 * math.pi * self.variances)
        return self.proportions.log() - normaliser - squared / (2 * self.variances)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of the mixture, (..., D) -> (...)."""
        return self.joint_log_prob(z).logsumexp(-1)

    def log_posterior(self, z: Tensor) -> Tensor:
        """Logarithm of :meth:`posterior`, (..., D) -> (..., K); its cross-entropy is equation (5)."""
        return self.joint_log_prob(z).log_softmax(-1)

    def posterior(self, z: Tensor) -> Tensor:
        """``P(k | z)`` of equation (7), (..., D) -> (..., K)."""
        return self.joint_log_prob(z).softmax(-1)

    def extra_repr(self) -> str:
        return f"components={self.components}, dim={self.dim}"
