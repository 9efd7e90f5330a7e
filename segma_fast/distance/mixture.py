"""The prior of SeGMA: a mixture of spherical Gaussians with learnable means, one component per class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from segma_fast.distance.arguments import check_dense, check_device, check_floating
from segma_fast.distance.scalars import as_float, check_whole

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
        components, dim: the number of means, K ≥ 1, and their dimension, D ≥ 1.
        init: ``"coordinates"`` as the authors' code does: ``scale·K/D`` on the coordinates j ≡ k (mod K) plus
            N(0, 0.001²) noise for K ≤ D, N(0, scale²) for K > D, zeros for K = 1; ``"normal"`` N(0, scale²);
            ``"sphere"`` random directions of length ``scale``; ``"simplex"`` the corners of a regular simplex
            at distance ``scale`` from the origin (K ≤ D + 1).
        scale: see above.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for an unknown ``init``, K < 1, D < 1, a ``scale`` that is not finite, or a simplex with more
            corners than D + 1.
    """
    components, dim = check_whole("components", components, 1), check_whole("dim", dim, 1)
    if not isinstance(init, str) or init not in get_args(MeansInit):
        raise ValueError(f"init={init!r} is unknown, expected one of {get_args(MeansInit)}")
    scale = as_float("scale", scale)
    if not math.isfinite(scale):
        raise ValueError(f"scale must be finite, got {scale}")
    _check_generator(generator)
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
    if components > dim + 1:
        raise ValueError(
            f"a simplex in {dim} dimensions has {dim + 1} corners, got components={components}; use the means init "
            "'normal' or 'sphere'"
        )
    return scale * _simplex(components, dim)


def _known(valid: Tensor) -> bool:
    """Whether a condition holds; True for a meta tensor, which has no value."""
    return valid.is_meta or bool(valid)


def _check_generator(generator: object) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")


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
        means: where the means start, (K, D); :func:`segma_fast.distance.mixture.initial_means` makes some.
        proportions: p_k ≥ 0, (K,), a tensor, array or list, scaled to sum to 1; default uniform.
        variances: σ_k² > 0, (K,) or one number for all; a tensor, array or list like the proportions.

    Attributes:
        means: parameter (K, D); ``proportions`` and ``variances`` are buffers (K,).

    Raises:
        TypeError: for means of an unsupported type, dtype or layout, or proportions or variances that are not real
            numbers.
        ValueError: for shapes that do not fit, proportions that are negative or all zero, or variances ≤ 0.
    """

    means: nn.Parameter
    proportions: Tensor
    variances: Tensor

    def __init__(
        self,
        means: Tensor,
        proportions: Tensor | Sequence[float] | None = None,
        variances: float | Tensor | Sequence[float] = 1.0,
    ) -> None:
        super().__init__()
        means = check_floating("means", means, "(K, D)")
        if means.ndim != 2 or 0 in means.shape:
            raise ValueError(f"means must have shape (K, D) with K, D >= 1, got shape {tuple(means.shape)}")
        self.means = nn.Parameter(means.detach().clone())
        components = means.shape[0]
        spread = self._numbers("variances", variances).to(means.dtype)
        if spread.shape not in ((), (components,)) or not _known((spread > 0).all() & spread.isfinite().all()):
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
    def set_proportions(self, proportions: Tensor | Sequence[float]) -> None:
        """Set p from numbers ≥ 0, (K,), such as the counts of each label, scaled to sum to 1.

        Raises:
            TypeError, ValueError: as for the class.
        """
        given = self._numbers("proportions", proportions).to(self.proportions.dtype)
        total = given.sum()
        if given.shape != (self.components,) or not _known((given >= 0).all() & (total > 0) & total.isfinite()):
            raise ValueError(f"proportions must be ({self.components},) numbers >= 0, not all 0, got {proportions}")
        self.proportions.copy_(given / total)

    def _numbers(self, name: str, values: object) -> Tensor:
        """Convert a tensor, array or list of real numbers, or one number, to a tensor on the means' device."""
        if isinstance(values, Tensor):
            found = check_dense(name, values.detach(), "(K,)")
        else:
            try:
                values = values.tolist() if hasattr(values, "tolist") else values  # an array of NumPy or the like
                found = torch.tensor(values)
                if not (found.is_complex() or found.dtype == torch.bool):
                    found = torch.tensor(values, dtype=torch.float64 if found.is_floating_point() else torch.int64)
            except (RuntimeError, TypeError, ValueError):  # None, words, nested lists of different lengths
                raise TypeError(f"{name} must be real numbers, got {values!r}") from None
        if found.is_complex() or found.is_quantized or found.dtype == torch.bool:
            raise TypeError(f"{name} must be real numbers, got dtype {found.dtype}")
        if found.is_meta:
            check_device(name, found, "means", self.means.device)
        return found.to(self.means.device)

    def sample(
        self, n: int, component: int | Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw n codes, (n, D), from the mixture or from given components.

        Args:
            n: the number of codes, n ≥ 0.
            component: a component 0 … K-1 for all codes, a tensor (n,) with one for each, or None to draw them
                by the proportions.
            generator: torch's random generator, on the means' device.

        Raises:
            TypeError: if ``n`` is no int, or ``component`` holds no integers.
            ValueError: if ``n`` is negative, a component is outside 0 … K-1, or there are not n components.
        """
        n = check_whole("n", n, 0)
        _check_generator(generator)
        if component is None:
            chosen = torch.multinomial(self.proportions, n, replacement=True, generator=generator) if n else None
        else:
            chosen = self._chosen(n, component)
        if chosen is None:
            return self.means.new_empty(0, self.dim)
        noise = torch.randn(n, self.dim, generator=generator, dtype=self.means.dtype, device=self.means.device)
        return self.means[chosen] + self.variances[chosen].sqrt()[:, None] * noise

    def _chosen(self, n: int, component: object) -> Tensor:
        """The component of each of n codes, int64, on the means' device."""
        given = self._numbers("component", component)
        if given.is_floating_point():
            raise TypeError(f"component must be integers, got {component!r}")
        if given.shape not in ((), (n,)):
            raise ValueError(f"component must be one integer or ({n},) of them, got shape {tuple(given.shape)}")
        chosen = given.long().expand(n)  # a tensor of bytes would be a mask
        if n and not _known((chosen >= 0).all() & (chosen < self.components).all()):
            raise ValueError(f"component must be in 0 ... {self.components - 1}, got {component}")
        return chosen

    def joint_log_prob(self, z: Tensor) -> Tensor:
        """``log p_k N(μ_k, σ_k² I)(z)`` for every component, (..., D) -> (..., K).

        Raises:
            TypeError: for codes of an unsupported type, dtype or layout; the methods below raise the same errors.
            ValueError: for codes of another dimension or on another device.
        """
        z = check_floating("z", z, "(..., D)")
        if z.ndim == 0 or z.shape[-1] != self.dim:
            raise ValueError(f"z must have {self.dim} columns, got shape {tuple(z.shape)}")
        check_device("z", z, "means", self.means.device)
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
