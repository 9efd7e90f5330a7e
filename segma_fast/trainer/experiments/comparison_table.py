"""The table of ``segma-fast compare``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from segma_fast.trainer.checkpoints import progress
from segma_fast.trainer.experiments.tables import Result, between, duration, fid_parts, other_errors, row, spread
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
    "steps",
    "epochs",
    "time",
)


def table(results: Sequence[Result], models: Mapping[str, ImageModel], floor: float) -> tuple[str, str]:
    """A Markdown table with one row per model, means and deviations over its seeds, and the list of notes below it.

    Args:
        results: results of the trainings.
        models: a trained model of each name, of those that could be trained.
        floor: Fréchet distance of real training images.
    """
    lines = [row(list(HEAD)), row(["---"] * len(HEAD))]
    notes = [f"{result.trial.title}: {result.failure}." for result in results if result.scores is None]
    estimates: dict[tuple[str, int, int, bool], list[str]] = {}
    for key, model in models.items():
        own = [result for result in results if result.trial.model == key and result.scores is not None]
        lines.append(row([own[0].trial.name, own[0].trial.labels, *_figures(own, model)]))
        notes += _notes(own)
        scores = own[0].scores
        assert scores is not None
        if not math.isnan(scores.log_likelihood):
            kind = getattr(getattr(model, "pixels", None), "kind", "")
            how = (kind, scores.likelihood_samples, scores.likelihood_images)
            estimates.setdefault((*how, len(own) > 1), []).append(own[0].trial.name)
    lines.append(row(["real training images", "–", "–", f"{floor:.2f}", *["–"] * (len(HEAD) - 4)]))
    for (kind, samples, count, several), names in estimates.items():
        pixels = "pixels are drawn black or white" if kind == "binary" else "log density is that of pixels in [0, 1]"
        notes.append(
            f"log p(x) of {', '.join(names)}: by {samples} importance-weighted samples for each of {count} test "
            f"images at random, whose {pixels}; ± is {'over seeds' if several else 'the standard error over images'}."
        )
    return "\n".join(lines), "\n".join(f"- {note}" for note in notes)


def _figures(results: Sequence[Result], model: ImageModel) -> list[str]:
    """The cells after the model's name and labels."""
    scores = [result.scores for result in results if result.scores is not None]
    planned = results[0].trial.config.epochs
    errors, fids, others = (
        [100 * s.test_error for s in scores],
        [s.fid for s in scores],
        [s.fid_interpolations for s in scores],
    )
    likelihoods = [s.log_likelihood for s in scores]
    shown = ["–" if math.isnan(cell[0]) else spread(cell) for cell in (errors, fids, others, likelihoods)]
    if len(scores) == 1 and shown[-1] != "–":
        shown[-1] += f" ± {scores[0].likelihood_error:.2f}"
    clocks = [progress(result.trial.config.run_dir) for result in results]
    per_step = [value for clock in clocks for value in clock.per_step] or [math.nan]
    steps = between([f"{n:,}" for n in sorted(clock.steps for clock in clocks)])
    epochs = between([f"{n:.3g}" for n in sorted(result.epochs for result in results)])
    cut = any(result.cut for result in results)
    return [
        *shown,
        f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        f"{1e3 * statistics.median(per_step):.1f}",
        steps,
        f"**{epochs} of {planned}**" if cut else str(planned),
        between([duration(seconds) for seconds in sorted(result.seconds for result in results)]),
    ]


def _notes(results: Sequence[Result]) -> list[str]:
    name = results[0].trial.name
    return [*other_errors(name, results), *fid_parts(name, results)]
