"""The table of ``segma-fast compare``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from segma_fast.trainer.checkpoints import progress
from segma_fast.trainer.experiments.tables import Result, duration, row
from segma_fast.trainer.models import ImageModel

HEAD = (
    "model",
    "labels",
    "test error, %",
    "FID",
    "FID of interpolations",
    "log p(x) ≥, nats",
    "parameters",
    "ms a step",
    "epochs",
    "time",
)


def table(results: Sequence[Result], models: Sequence[ImageModel | None], floor: float) -> tuple[str, str]:
    """A Markdown table with one row per model, and the notes below it.

    Args:
        results: results of the trainings.
        models: the trained models; None where training failed.
        floor: Fréchet distance of real training images.
    """
    lines = [row(list(HEAD)), row(["---"] * len(HEAD))]
    notes = []
    estimates: dict[tuple[str, int, int], list[str]] = {}
    for result, model in zip(results, models, strict=True):
        if result.scores is None or model is None:
            notes.append(f"{result.trial.title}: {result.failure}.")
            continue
        lines.append(row([result.trial.name, result.trial.labels, *_figures(result, model)]))
        notes += _notes(result, model)
        if not math.isnan(result.scores.log_likelihood):
            kind = getattr(getattr(model, "pixels", None), "kind", "")
            key = (kind, result.scores.likelihood_samples, result.scores.likelihood_images)
            estimates.setdefault(key, []).append(result.trial.name)
    lines.append(row(["real training images", "–", "–", f"{floor:.2f}", *["–"] * (len(HEAD) - 4)]))
    for (kind, samples, count), names in estimates.items():
        pixels = "pixels are drawn black or white" if kind == "binary" else "log density is that of pixels in [0, 1]"
        notes.append(
            f"log p(x) of {', '.join(names)}: by {samples} importance-weighted samples for each of {count} test "
            f"images at random, whose {pixels}; ± is the standard error over images."
        )
    return "\n".join(lines), "\n".join(notes)


def _figures(result: Result, model: ImageModel) -> list[str]:
    """The cells after the model's name and labels."""
    scores, config = result.scores, result.trial.config
    assert scores is not None
    step = statistics.median(progress(config.run_dir).per_step or [math.nan])
    cells = [100 * scores.test_error, scores.fid, scores.fid_interpolations]
    epochs = f"**{result.epochs:.3g} of {config.epochs}**" if result.cut else str(config.epochs)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shown = ["–" if math.isnan(cell) else f"{cell:.2f}" for cell in cells]
    likelihood = f"{scores.log_likelihood:.2f} ± {scores.likelihood_error:.2f}"
    shown.append("–" if math.isnan(scores.log_likelihood) else likelihood)
    return [*shown, f"{parameters:,}", f"{1e3 * step:.1f}", epochs, duration(result.seconds)]


def _notes(result: Result, model: ImageModel) -> list[str]:
    assert result.scores is not None
    notes = [
        f"{result.trial.name}: test error {100 * error:.2f} % by {name}."
        for name, error in result.scores.other_errors.items()
    ]
    if not result.trial.config.takes_labels and model.components > 1:
        notes.append(f"{result.trial.name}: by the best {model.mapping} mapping of components to classes.")
    return notes
