"""The scores of a trained run, stored in its folder."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch

from segma_fast.trainer.data import ImageData
from segma_fast.trainer.experiments.frechet import FrechetDistance, Pairs, interpolations, reconstructions, samples
from segma_fast.trainer.metrics import ImportanceSampling, evaluate, mean_log_likelihood
from segma_fast.trainer.run import Run
from segma_fast.trainer.run_folder import SCORES, load_figures, save_figures

NO_ESTIMATE = ImportanceSampling(samples=0)


@dataclass(frozen=True)
class Scores:
    """Scores of one run at one step; NaN where a score is not defined or was not requested."""

    step: int
    test_error: float
    """fraction of test images that the main classifier gets wrong; without labels under the best mapping"""
    reconstruction: float
    """squared error summed over pixels, mean over the test images"""
    fid: float = math.nan
    """Fréchet distance of images sampled from the prior to the test images"""
    fid_interpolations: float = math.nan
    """the same for interpolations between pairs of test images"""
    fid_parts: dict[str, float] = field(default_factory=dict)
    """the same for reconstructions of test images, and for interpolations within a class and between classes"""
    features: str = ""
    """description of the feature extractor of the Fréchet distances"""
    images: int = 0
    """images sampled for each Fréchet distance"""
    extractor: str = ""
    """exact identifier of the feature extractor"""
    classifier: str = ""
    """name of the main classifier"""
    other_errors: dict[str, float] = field(default_factory=dict)
    """test errors of the model's other classifiers"""
    log_likelihood: float = math.nan
    """estimate of log p(x) in nats, mean over some test images"""
    likelihood_error: float = math.nan
    """its standard error, by the spread over images"""
    likelihood_samples: int = 0
    """importance-weighted samples per image for the estimate of log p(x)"""
    likelihood_images: int = 0
    """number of test images in the estimate of log p(x)"""


def score(
    run: Run,
    data: ImageData,
    frechet: FrechetDistance | None,
    images: int,
    likelihood: ImportanceSampling = NO_ESTIMATE,
) -> Scores:
    """Evaluate a run and store the scores in its folder, or return stored scores of the same step and features.

    Args:
        run: a trained run, with the model on the device for the evaluation.
        data: its data set.
        frechet: distances to the real images; None leaves them out.
        images: number of images to sample for each distance.
        likelihood: how log p(x) is estimated, for models that have it; default not at all.
    """
    kept = kept_scores(run.folder, run.step, frechet, images)
    if kept is not None and not likelihood.samples:
        return replace(kept, log_likelihood=math.nan)
    used = min(likelihood.images, len(data.test_images))
    if kept is not None and kept.likelihood_samples == likelihood.samples and kept.likelihood_images in (0, used):
        return kept
    found = replace(_judge(run, data, frechet, images), likelihood_samples=likelihood.samples)
    if likelihood.samples:
        by = mean_log_likelihood(run.model, data.test_images, likelihood)
        found = replace(found, log_likelihood=by.mean, likelihood_error=by.standard_error, likelihood_images=by.images)
    save_figures(run.folder / SCORES, asdict(found))
    return found


def _judge(run: Run, data: ImageData, frechet: FrechetDistance | None, images: int) -> Scores:
    device = run.model.device
    test_images, test_labels = data.test_images.to(device), data.test_labels.to(device)
    figures = evaluate(run.model, test_images, test_labels, data.classes)
    found = Scores(run.step, figures.test_error, figures.reconstruction)
    found = replace(found, classifier=figures.classifier, other_errors=dict(figures.other_errors))
    if frechet is None:
        return found
    generator = torch.Generator(device).manual_seed(run.config.seed)
    drawn = frechet.of(samples(run.model, images, generator))
    between = frechet.of(interpolations(run.model, test_images, images, generator))
    parts = {"reconstructions": frechet.of(reconstructions(run.model, test_images, images))}
    kinds: dict[str, Pairs] = {"interpolations within a class": "same class"}
    if len(test_labels.unique()) > 1:
        kinds["interpolations between classes"] = "other class"
    for name, kind in kinds.items():
        parts[name] = frechet.of(interpolations(run.model, test_images, images, generator, kind, test_labels))
    found = replace(found, fid=drawn, fid_interpolations=between, fid_parts=parts)
    return replace(found, features=frechet.features, images=images, extractor=frechet.extractor)


def kept_scores(run_dir: Path, step: int, frechet: FrechetDistance | None, images: int) -> Scores | None:
    """The stored scores of a run folder if they are of this step and these features, or None."""
    found = load_scores(run_dir)
    if found is None or found.step != step:
        return None
    same = frechet is None or bool(found.fid_parts) and (found.extractor, found.images) == (frechet.extractor, images)
    return found if same else None


def load_scores(run_dir: Path) -> Scores | None:
    """The scores stored in a run folder, or None if there are no readable ones."""
    try:
        scores = Scores(**load_figures(run_dir / SCORES))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    kinds = {"int": int, "float": int | float, "str": str, "dict[str, float]": dict}
    sound = all(isinstance(getattr(scores, item.name), kinds[str(item.type)]) for item in fields(scores))
    return scores if sound else None
