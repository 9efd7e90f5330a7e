"""What a trained run is judged by, kept in its folder."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from segma_fast.data import ImageData
from segma_fast.experiments.frechet import FrechetDistance, interpolations, samples
from segma_fast.files import write_text
from segma_fast.metrics import evaluate
from segma_fast.run import SCORES, Run


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


def score(run: Run, data: ImageData, frechet: FrechetDistance | None, images: int) -> Scores:
    """Judge a run and keep the scores in its folder, or take those that are kept of the same step and features.

    Args:
        run: a trained run, on the device on which its networks are to be run.
        data: its data set.
        frechet: distances to the real images; None leaves them out.
        images: how many to sample for a distance.
    """
    kept = kept_scores(run.folder, run.step, frechet, images)
    if kept is not None:
        return kept
    found = _judge(run, data, frechet, images)
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(found).items()}
    write_text(run.folder / SCORES, json.dumps(finite, indent=2) + "\n")
    return found


def _judge(run: Run, data: ImageData, frechet: FrechetDistance | None, images: int) -> Scores:
    device = run.model.device
    test_images, test_labels = data.test_images.to(device), data.test_labels.to(device)
    figures = evaluate(run.model, test_images, test_labels, data.classes)
    if frechet is None:
        return Scores(run.step, figures.test_error, figures.reconstruction)
    generator = torch.Generator(device).manual_seed(run.config.seed)
    drawn = frechet.of(samples(run.model, images, generator))
    between = frechet.of(interpolations(run.model, test_images, images, generator))
    names = frechet.features, images, frechet.extractor
    return Scores(run.step, figures.test_error, figures.reconstruction, drawn, between, *names)


def kept_scores(run_dir: Path, step: int, frechet: FrechetDistance | None, images: int) -> Scores | None:
    """The scores in a run folder if they are of this step and in these features, or None."""
    found = load_scores(run_dir)
    if found is None or found.step != step:
        return None
    same = frechet is None or (found.extractor, found.images) == (frechet.extractor, images)
    return found if same else None


def load_scores(run_dir: Path) -> Scores | None:
    """The scores that were kept in a run folder, or None where there are none that can be read."""
    try:
        kept: dict[str, Any] = json.loads((run_dir / SCORES).read_text())
        values: dict[str, Any] = {name: math.nan if value is None else value for name, value in kept.items()}
        scores = Scores(**values)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    kinds = {"int": int, "float": int | float, "str": str}
    sound = all(isinstance(getattr(scores, item.name), kinds[str(item.type)]) for item in fields(scores))
    return scores if sound else None
