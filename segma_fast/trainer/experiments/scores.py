"""What a trained run is judged by, kept in its folder."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch

from segma_fast.trainer.data import ImageData
from segma_fast.trainer.experiments.frechet import FrechetDistance, interpolations, samples
from segma_fast.trainer.metrics import evaluate, mean_log_likelihood
from segma_fast.trainer.run_folder import SCORES, Run, load_figures, save_figures


@dataclass(frozen=True)
class Scores:
    """Figures of one run at one step; NaN where a figure is not defined or was not asked for."""

    step: int
    test_error: float
    """share of the test images, by equation (7), or by the best one-to-one mapping where there are no labels"""
    reconstruction: float
    """squared error summed over pixels, mean over the test images"""
    fid: float = math.nan
    """Fréchet distance of images sampled from the prior to the test images"""
    fid_interpolations: float = math.nan
    """the same of images from between pairs of test images"""
    features: str = ""
    """whose activations the Fréchet distances compare"""
    images: int = 0
    """images that were sampled for each"""
    extractor: str = ""
    """which features they were, to the bit"""
    other_errors: dict[str, float] = field(default_factory=dict)
    """test errors of the model's other classifiers"""
    log_likelihood: float = math.nan
    """estimate of log p(x) in nats, mean over the first test images"""
    likelihood_samples: int = 0
    """importance-weighted samples of it for an image"""
    likelihood_images: int = 0
    """test images of it"""


def score(
    run: Run, data: ImageData, frechet: FrechetDistance | None, images: int, likelihood_samples: int = 0
) -> Scores:
    """Judge a run and keep the scores in its folder, or take those that are kept of the same step and features.

    Args:
        run: a trained run, on the device on which its networks are to be run.
        data: its data set.
        frechet: distances to the real images; None leaves them out.
        images: how many to sample for a distance.
        likelihood_samples: of the log-likelihood, of models that have one; 0 leaves it out.
    """
    kept = kept_scores(run.folder, run.step, frechet, images, likelihood_samples)
    if kept is not None:
        return kept if likelihood_samples else replace(kept, log_likelihood=math.nan)
    found = replace(_judge(run, data, frechet, images), likelihood_samples=likelihood_samples)
    if likelihood_samples:
        mean, count = mean_log_likelihood(run.model, data.test_images, likelihood_samples)
        found = replace(found, log_likelihood=mean, likelihood_images=count)
    save_figures(run.folder / SCORES, asdict(found))
    return found


def _judge(run: Run, data: ImageData, frechet: FrechetDistance | None, images: int) -> Scores:
    device = run.model.device
    test_images, test_labels = data.test_images.to(device), data.test_labels.to(device)
    figures = evaluate(run.model, test_images, test_labels, data.classes)
    found = Scores(run.step, figures.test_error, figures.reconstruction, other_errors=dict(figures.other_errors))
    if frechet is None:
        return found
    generator = torch.Generator(device).manual_seed(run.config.seed)
    drawn = frechet.of(samples(run.model, images, generator))
    between = frechet.of(interpolations(run.model, test_images, images, generator))
    found = replace(found, fid=drawn, fid_interpolations=between)
    return replace(found, features=frechet.features, images=images, extractor=frechet.extractor)


def kept_scores(
    run_dir: Path, step: int, frechet: FrechetDistance | None, images: int, likelihood_samples: int = 0
) -> Scores | None:
    """The scores in a run folder if they are of this step and in these features, or None."""
    found = load_scores(run_dir)
    if found is None or found.step != step:
        return None
    same = frechet is None or (found.extractor, found.images) == (frechet.extractor, images)
    return found if same and likelihood_samples in (0, found.likelihood_samples) else None


def load_scores(run_dir: Path) -> Scores | None:
    """The scores that were kept in a run folder, or None where there are none that can be read."""
    try:
        scores = Scores(**load_figures(run_dir / SCORES))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    kinds = {"int": int, "float": int | float, "str": str, "dict[str, float]": dict}
    sound = all(isinstance(getattr(scores, item.name), kinds[str(item.type)]) for item in fields(scores))
    return scores if sound else None
