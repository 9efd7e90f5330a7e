"""A normal distribution of codes for each class, fitted to codes of which only some have a label."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ITERATIONS = 30
FITTED = 10_000  # unlabelled images whose codes the classes are fitted to
AT_ONCE = 1000  # images that are encoded at once
RIDGE = 1e-2  # added to the variances of codes, whose prior has 1


class ClassGaussians(nn.Module):
    """``p_k N(m_k, C_k)`` with full covariances, by expectation maximisation.

    Args:
        classes: K.
        dim: D.
    """

    means: Tensor
    factors: Tensor
    proportions: Tensor

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(classes, dim))
        self.register_buffer("factors", torch.eye(dim).repeat(classes, 1, 1))  # C_k = L_k L_kᵀ
        self.register_buffer("proportions", torch.full((classes,), 1 / classes))

    @property
    def is_fitted(self) -> bool:
        """Whether there was a fit, now or in the run that the weights are of."""
        return bool(self.means.any())

    def fit_images(
        self,
        encode: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        unlabelled: Tensor,
        labelled: Tensor,
    ) -> None:
        """Fit to the codes of all labelled images and of up to 10,000 others; see :meth:`ImageModel.settle`."""
        some = unlabelled[:: -(-len(unlabelled) // FITTED)]
        codes = [encode(images[rows.to(images.device)]) for rows in torch.cat([some, labelled]).split(AT_ONCE)]
        free, given = torch.cat(codes).tensor_split([len(some)])
        self.fit(free, given, labels[labelled.to(labels.device)])

    @torch.no_grad()
    def fit(self, unlabelled: Tensor, labelled: Tensor, labels: Tensor) -> None:
        """Fit to codes (n, D) and (l, D), of which the latter keep their labels (l,), l ≥ 1.

        It starts from the means of the labelled codes and one diagonal covariance for all classes. A class without a
        label gets probability 0 and N(0, I), which is the prior of codes. Codes that are not finite change nothing.
        """
        codes, classes = torch.cat([unlabelled, labelled]).double(), len(self.means)
        if not codes.isfinite().all():
            return
        given = F.one_hot(labels, classes).double()
        present = given.sum(0) > 0
        means = given.T @ labelled.double() / given.sum(0).clamp(min=1)[:, None]
        within = (labelled.double() - means[labels]).square().mean(0) + RIDGE
        spread = torch.where(present[:, None], within.sqrt(), 1.0)
        factors, proportions = spread.diag_embed(), present / present.sum()
        for _ in range(ITERATIONS):
            own = self._log_joint(codes[: len(unlabelled)], means, factors, proportions).softmax(-1)
            shares = torch.cat([own, given])
            counts = shares.sum(0).clamp(min=1e-6)
            proportions = torch.where(present, counts, 0.0)
            proportions = proportions / proportions.sum()
            means = torch.where(present[:, None], shares.T @ codes / counts[:, None], means)
            for k in present.nonzero().flatten().tolist():
                gaps = codes - means[k]
                covariance = (gaps * shares[:, k, None]).T @ gaps / counts[k]
                covariance.diagonal().add_(RIDGE + 1e-10 * covariance.diagonal().mean())
                factors[k] = torch.linalg.cholesky(covariance)
        for buffer, found in ((self.means, means), (self.factors, factors), (self.proportions, proportions)):
            buffer.copy_(found)

    @staticmethod
    def _log_joint(codes: Tensor, means: Tensor, factors: Tensor, proportions: Tensor) -> Tensor:
        """log p_k N(z | m_k, C_k), (N, K)."""
        found = []
        for mean, factor, proportion in zip(means, factors, proportions, strict=True):
            whitened = torch.linalg.solve_triangular(factor, (codes - mean).T, upper=False)
            scale = factor.diagonal().log().sum() + 0.5 * codes.shape[1] * math.log(2 * math.pi)
            found.append(proportion.log() - 0.5 * whitened.square().sum(0) - scale)
        return torch.stack(found, 1)

    def posterior(self, codes: Tensor) -> Tensor:
        """Probabilities of the classes, (N, D) -> (N, K)."""
        return self._log_joint(codes, self.means, self.factors, self.proportions).softmax(-1)

    def at(self, chosen: Tensor, noise: Tensor) -> Tensor:
        """Samples (N, D) of the classes (N,) from standard normal noise (N, D)."""
        return self.means[chosen] + (self.factors[chosen] @ noise[..., None])[..., 0]
