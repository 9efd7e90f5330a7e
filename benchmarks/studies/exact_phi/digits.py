"""The exact form of φ, part 3: SeGMA on scikit-learn's digits under both forms and several weights α of log d²."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from segma_fast import fast_cw_distance, silverman_gamma
from segma_fast.distance.formulas import FORMS
from segma_fast.distance.mixture import GaussianMixture, MeansInit
from segma_fast.trainer.config import TrainConfig
from segma_fast.trainer.loop import Outcome, train
from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.segma import SeGMAConfig

DIMS = (2, 10)
MEANS_INIT: dict[int, MeansInit] = {2: "normal", 10: "simplex"}  # in the plane there is no simplex of 10 corners
ALPHAS = (0.5, 1.0, 2.0, 5.0, 10.0)
SEEDS = (0, 1)
EPOCHS = 120
NEVER = 10**9
DRAWS = 20  # samples of the prior, whose mean d² says what a perfect fit would have


def measure(
    dims: Sequence[int] = DIMS, alphas: Sequence[float] = ALPHAS, seeds: Sequence[int] = SEEDS, epochs: int = EPOCHS
) -> dict[str, Any]:
    """One training run for each form, dimension of the codes, α and seed."""
    runs = []
    for dim in dims:
        for alpha in alphas:
            for phi in FORMS:
                for seed in seeds:
                    settings: dict[str, Any] = {"dim": dim, "alpha": alpha, "phi": phi, "seed": seed}
                    runs.append(settings | judge(trained(settings, epochs)))
                    print("digits", runs[-1])
    return {"epochs": epochs, "runs": runs}


def trained(settings: dict[str, Any], epochs: int, labels: bool = True) -> Outcome:
    """The defaults of ``segma-fast train`` with another form, dimension, α, seed and length; CWAE without labels."""
    objective = SeGMAConfig(phi=settings["phi"], alpha=settings["alpha"], means_init=MEANS_INIT[settings["dim"]])
    with tempfile.TemporaryDirectory(prefix="segma_fast_") as folder:
        config = TrainConfig(
            objective=objective if labels else replace(objective, beta=0.0, means_init="simplex"),
            components=None if labels else 1,
            network=NetworkConfig(latent_dim=settings["dim"]),
            epochs=epochs,
            seed=settings["seed"],
            device="cpu",
            run_dir=Path(folder),
            checkpoint_every=NEVER,
            log_every=NEVER,
        )
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            return train(config, overwrite=True)


def judge(outcome: Outcome) -> dict[str, float]:
    """Error and reconstruction on the test set, and how well the codes of the training set fit the prior.

    ``fit_approx`` and ``fit_exact`` are d² with γ by the rule, in float64; ``drawn_approx`` and ``drawn_exact`` the
    mean of as many codes drawn from the prior. ``spread`` is the mean squared distance of a code to the mean of its
    likeliest component, relative to that of codes drawn from the prior.
    """
    model, data = outcome.model, outcome.data
    codes, prior = model.encode(data.train_images).double(), model.prior.double()
    generator = torch.Generator().manual_seed(0)
    drawn = [prior.sample(len(codes), generator=generator).detach() for _ in range(DRAWS)]
    scores = {"test_error": outcome.evaluation.test_error, "reconstruction": outcome.evaluation.reconstruction}
    for phi in FORMS:
        scores[f"fit_{phi}"] = fit(codes, prior, phi)
        scores[f"drawn_{phi}"] = fmean(fit(sample, prior, phi) for sample in drawn)
    return scores | {"spread": spread(codes, prior) / fmean(spread(sample, prior) for sample in drawn)}


@torch.no_grad()
def spread(codes: torch.Tensor, prior: GaussianMixture) -> float:
    """Mean squared distance of a code to the mean of its likeliest component."""
    return (codes - prior.means[prior.joint_log_prob(codes).argmax(1)]).square().sum(1).mean().item()


@torch.no_grad()
def fit(codes: torch.Tensor, prior: GaussianMixture, phi: str) -> float:
    """d² of codes to the prior, γ by the rule."""
    gamma = silverman_gamma(len(codes), prior.components)
    return fast_cw_distance(codes, prior.means, prior.proportions, prior.variances, gamma, phi=phi).item()
