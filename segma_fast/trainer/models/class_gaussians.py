"""A normal distribution of codes for each class, fitted to codes of which only some have a label."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ITERATIONS = 10  # more are worse on held-out images
NEIGHBOURS, FROM_NEIGHBOURS = 10, 0.5  # of a code, and how much of its class comes from them
FITTED = 10_000  # unlabelled images whose codes the classes are fitted to, and most labels that spread
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

        It starts from the labels that spread to the unlabelled codes over a graph of nearest neighbours: from the means
        of the labelled codes it may end where two classes share what is one. A class without a label gets
        probability 0 and N(0, I), which is the prior of codes. Codes that are not finite change nothing.
        """
        unlabelled, labelled, classes = unlabelled.double(), labelled.double(), len(self.means)
        codes = torch.cat([unlabelled, labelled])
        if not codes.isfinite().all():
            return
        given = F.one_hot(labels, classes).double()
        some = slice(None, None, -(-len(labels) // FITTED))
        own = _spread_labels(unlabelled, labelled[some], labels[some], classes)
        found = _fitted_to(codes, torch.cat([own, given]))
        for _ in range(ITERATIONS - 1):
            own = self._log_joint(unlabelled, *found).softmax(-1)
            found = _fitted_to(codes, torch.cat([own, given]))
        for buffer, value in zip((self.means, self.factors, self.proportions), found, strict=True):
            buffer.copy_(value)

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


def _spread_labels(unlabelled: Tensor, labelled: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Class probabilities (n, K) of codes (n, D), from codes (l, D) with labels (l,)."""
    from sklearn.semi_supervised import LabelSpreading

    codes, none = torch.cat([unlabelled, labelled]), labels.new_full((len(unlabelled),), -1)
    spreading = LabelSpreading(kernel="knn", n_neighbors=min(NEIGHBOURS, len(codes)), alpha=FROM_NEIGHBOURS)
    spreading.fit(codes.cpu().numpy(), torch.cat([none, labels]).cpu().numpy())
    found = codes.new_zeros(len(unlabelled), classes)
    found[:, spreading.classes_] = torch.from_numpy(spreading.label_distributions_[: len(unlabelled)]).to(codes)
    found[found.sum(1) == 0] = F.one_hot(labels, classes).to(codes).mean(0)  # those that no label reaches
    return found


def _fitted_to(codes: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means (K, D), factors (K, D, D) and proportions (K,) of codes (N, D), which classes have shares of, (N, K)."""
    counts = shares.sum(0)
    means = shares.T @ codes / counts.clamp(min=1)[:, None]  # a class has a label, which counts 1, or nothing
    factors = torch.eye(codes.shape[1]).to(codes).repeat(len(means), 1, 1)
    for k in (counts > 0).nonzero().flatten().tolist():
        gaps = codes - means[k]
        covariance = (gaps * shares[:, k, None]).T @ gaps / counts[k]
        covariance.diagonal().add_(RIDGE + 1e-10 * covariance.diagonal().mean())
        factors[k] = torch.linalg.cholesky(covariance)
    return means, factors, counts / counts.sum()
