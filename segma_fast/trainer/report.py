"""The summary table printed at the end of a run."""

from __future__ import annotations

import math
from typing import Any

import torch

from segma_fast.distance.dispatch import choose_backend
from segma_fast.trainer.config import TrainConfig
from segma_fast.trainer.loop import Outcome
from segma_fast.trainer.metrics import Evaluation, LogLikelihood
from segma_fast.trainer.models import MODELS
from segma_fast.trainer.models.segma import SeGMA


def summarize(outcome: Outcome, config: TrainConfig) -> dict[str, Any]:
    """The metrics and settings of a finished run, in the order of the table."""
    model, data = outcome.model, outcome.data
    found: dict[str, Any] = {
        "model": config.model,
        "data": data.name,
        "labels": config.used_labels,
        "test_error": outcome.evaluation.test_error,
        "classifier": outcome.evaluation.classifier,
        "other_errors": dict(outcome.evaluation.other_errors),
        "reconstruction": outcome.evaluation.reconstruction,
        "distance": outcome.evaluation.distance,
        "epochs": outcome.epochs,
        "steps": outcome.steps,
        "complete": outcome.complete,
        "seconds_per_step": outcome.seconds_per_step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "threads": torch.get_num_threads(),
        "device": str(model.device),
    }
    if isinstance(model, SeGMA):
        dim = config.network.latent_dim
        found["backend"] = choose_backend(model.settings.backend, model.device, torch.float32, dim)
    return found


def table(summary: dict[str, Any]) -> str:
    """The summary as lines of text."""
    s = summary
    evaluation = Evaluation(s["test_error"], s["reconstruction"], s["distance"], s["classifier"], s["other_errors"])
    lines = [
        *_quality(s["model"], s["data"], s["labels"], evaluation),
        (
            "trained",
            f"{s['epochs']:.1f} epochs, {s['steps']} steps" + ("" if s["complete"] else " (stopped by --minutes)"),
        ),
        ("time per step", f"{1e3 * s['seconds_per_step']:.2f} ms (median) on {s['device']}, {s['threads']} threads"),
    ]
    if "backend" in s:
        lines.append(("distance by", f"the {s['backend']} backend"))
    return _aligned(lines)


def quality_table(model: str, name: str, labels: int, evaluation: Evaluation, rows: int) -> str:
    """The table that ``segma-fast evaluate`` prints for a model and a test set of ``rows`` images."""
    return _aligned([*_quality(model, name, labels, evaluation), ("test images", str(rows))])


def likelihood(found: LogLikelihood, samples: int) -> str:
    """The table line for log p(x)."""
    known = (
        f"at least {found.mean:.2f} nats in expectation, by {samples} importance-weighted samples for each of "
        f"{found.images} test images at random; standard error over images {found.standard_error:.2f}"
    )
    return _aligned([("log p(x)", "not defined for this model" if math.isnan(found.mean) else known)])


def _quality(model: str, name: str, labels: int, evaluation: Evaluation) -> list[tuple[str, str]]:
    by = f" by {evaluation.classifier}" if evaluation.other_errors else ""
    error = f"{100 * evaluation.test_error:.2f} %{by}"
    if math.isnan(evaluation.test_error):
        error = "not defined for one component"
    lines = [("model", MODELS[model].title), ("data", f"{name}, {labels} labels")]
    if evaluation.classifier:  # else there are no labels to judge it by
        lines.append(("test error", error))
    for other, value in evaluation.other_errors.items():
        lines.append((f"  by {other}", f"{100 * value:.2f} %"))
    lines.append(("reconstruction error", f"{evaluation.reconstruction:.4f} (squared, summed over pixels)"))
    if not math.isnan(evaluation.distance):
        lines.append(("d² of the test codes", f"{evaluation.distance:.3e}"))
    return lines


def _aligned(lines: list[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<22} {value}" for name, value in lines)
