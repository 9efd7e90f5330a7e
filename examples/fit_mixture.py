"""Fit a mixture of Gaussians to points by gradient descent on the distance: ``python examples/fit_mixture.py``.

Means, variances and proportions are all differentiable inputs of ``fast_cw_distance``; no point is assigned to a
component. The picture, ``fit_mixture.png``, has the points, the components at the start and at the end (circles of
one and two standard deviations), and the logarithm of the distance: γ falls from 2.02 to 0.02 in the first half of the
steps, and with a smaller γ the distance sees finer detail, so the curve rises while the fit improves.

Output::

       true mean   deviation  proportion      found mean    deviation  proportion
    (-4.00,  0.00)   1.20       0.40      (-4.04, -0.00)     1.23       0.40
    ( 0.00,  4.00)   0.50       0.10      ( 0.08,  3.94)     0.50       0.10
    ( 4.00,  0.00)   0.80       0.25      ( 4.00,  0.04)     0.79       0.26
    ( 0.00, -4.00)   0.50       0.15      ( 0.02, -4.03)     0.50       0.13
    ( 0.00,  0.00)   0.30       0.10      (-0.04,  0.02)     0.32       0.11
    log d² from -5.09 to -7.35; picture: fit_mixture.png
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads sleep; to be set before its import
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # but not at once

import torch
from torch import Tensor

from segma_fast import fast_cw_distance

MEANS = torch.tensor([[-4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [0.0, -4.0], [0.0, 0.0]])
DEVIATIONS = torch.tensor([1.2, 0.5, 0.8, 0.5, 0.3])
PROPORTIONS = torch.tensor([0.4, 0.1, 0.25, 0.15, 0.1])


def fit(points: Tensor, steps: int) -> tuple[list[Tensor], list[float], Tensor]:
    """Means, standard deviations and proportions that are near the points, log d² of each step, the first means."""
    start = points[torch.randperm(len(points))[: len(MEANS)]]
    means = start.clone().requires_grad_()
    logits, log_deviations = torch.zeros(len(MEANS), requires_grad=True), torch.zeros(len(MEANS), requires_grad=True)
    optimizer = torch.optim.Adam([means, logits, log_deviations], 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history = []
    for step in range(steps):
        gamma = 0.02 + 2.0 * max(0.0, 1 - 2 * step / steps) ** 2  # wide at first, so that far components are seen
        proportions, variances = logits.softmax(0), (2 * log_deviations).exp()
        loss = fast_cw_distance(points, means, proportions, variances, gamma, log=True, phi="exact")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        history.append(loss.item())
    return [means.detach(), log_deviations.detach().exp(), logits.detach().softmax(0)], history, start


def save_picture(points: Tensor, fitted: list[Tensor], start: Tensor, history: list[float], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    ones = torch.ones(len(start))
    for axis, title, means, deviations in ((axes[0], "start", start, ones), (axes[1], "fitted", *fitted[:2])):
        axis.scatter(*points.T, s=2, color="0.7")
        for mean, deviation in zip(means.tolist(), deviations.tolist(), strict=True):
            for times in (1, 2):
                axis.add_patch(plt.Circle(mean, times * deviation, fill=False, color="C0"))
            axis.plot(*mean, "+", color="C3")
        axis.set(title=title, aspect="equal", xlim=(-8, 8), ylim=(-7, 7))
    axes[2].plot(history)
    axes[2].set(title="log d² (γ falls until the middle)", xlabel="step")
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main(steps: int, out: Path) -> None:
    torch.manual_seed(0)
    component = torch.multinomial(PROPORTIONS, 2000, replacement=True)
    points = MEANS[component] + DEVIATIONS[component, None] * torch.randn(2000, 2)
    fitted, history, start = fit(points, steps)
    means, deviations, proportions = fitted
    print("   true mean   deviation  proportion      found mean    deviation  proportion")
    for mean, deviation, proportion in zip(MEANS, DEVIATIONS, PROPORTIONS, strict=True):
        k = (means - mean).norm(dim=1).argmin()
        print(f"({mean[0]:5.2f}, {mean[1]:5.2f})  {deviation:5.2f}  {proportion:9.2f}", end="")
        print(f"      ({means[k, 0]:5.2f}, {means[k, 1]:5.2f})  {deviations[k]:7.2f}  {proportions[k]:9.2f}")
    save_picture(points, fitted, start, history, out)
    print(f"log d² from {history[0]:.2f} to {history[-1]:.2f}; picture: {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("fit_mixture.png"))
    main(**vars(parser.parse_args()))
