"""The short table at the end of a run, and how long the distance takes in a step."""

from __future__ import annotations

import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segma_fast.config import TrainConfig
from segma_fast.dispatch import choose_backend
from segma_fast.files import write_text
from segma_fast.metrics import Evaluation
from segma_fast.models.segma import SeGMA
from segma_fast.run import REPORT
from segma_fast.training import Outcome


def distance_seconds(model: SeGMA, codes: Tensor, repeats: int = 30) -> float:
    """Median time of log d² of codes (m, D) and its gradient in the codes and the means, in seconds."""
    codes = codes.detach().requires_grad_()
    means = model.prior.means
    times = []
    for _ in range(repeats + 3):
        _synchronize(codes.device)
        begin = time.perf_counter()
        torch.autograd.grad(model.distance(codes, log=True), (codes, means))
        _synchronize(codes.device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[3:])


def summarize(outcome: Outcome, config: TrainConfig) -> dict[str, Any]:
    """The figures of a finished run, in the order in which the table shows them."""
    model, data = outcome.model, outcome.data
    device = model.prior.means.device
    labelled = min(config.labels, config.labelled_batch_size) if config.objective.beta > 0 else 0
    rows = config.batch_size + (labelled if config.objective.rows == "all" else 0)
    pick = torch.arange(rows) % len(data.train_images)
    seconds = distance_seconds(model, model.encode(data.train_images[pick].to(device)))
    return {
        "data": data.name,
        "labels": config.labels if labelled else 0,
        "test_error": outcome.evaluation.test_error,
        "reconstruction": outcome.evaluation.reconstruction,
        "distance": outcome.evaluation.distance,
        "epochs": outcome.epochs,
        "steps": outcome.steps,
        "complete": outcome.complete,
        "seconds_per_step": outcome.seconds_per_step,
        "distance_share": seconds / outcome.seconds_per_step if outcome.seconds_per_step else float("nan"),
        "backend": choose_backend(config.objective.backend, device, torch.float32, config.network.latent_dim),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }


def save(summary: dict[str, Any], run_dir: Path) -> None:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in summary.items()}
    write_text(run_dir / REPORT, json.dumps(finite, indent=2) + "\n")


def table(summary: dict[str, Any]) -> str:
    """The summary as lines of text."""
    s = summary
    lines = [
        *_quality(s["data"], s["labels"], s["test_error"], s["reconstruction"], s["distance"]),
        (
            "trained",
            f"{s['epochs']:.1f} epochs, {s['steps']} steps" + ("" if s["complete"] else " (stopped by --minutes)"),
        ),
        ("time per step", f"{1e3 * s['seconds_per_step']:.2f} ms (median) on {s['device']}, {s['threads']} threads"),
        ("of it in the distance", f"{100 * s['distance_share']:.1f} % ({s['backend']} backend)"),
    ]
    return _aligned(lines)


def quality_table(name: str, labels: int, evaluation: Evaluation, rows: int) -> str:
    """What ``segma-fast evaluate`` prints of a test set of so many rows."""
    lines = _quality(name, labels, evaluation.test_error, evaluation.reconstruction, evaluation.distance)
    return _aligned([*lines, ("test images", str(rows))])


def _quality(
    name: str, labels: int, test_error: float, reconstruction: float, distance: float
) -> list[tuple[str, str]]:
    error = f"{100 * test_error:.2f} %" + ("" if labels else " (best mapping of components to classes)")
    if math.isnan(test_error):
        error = "not defined for one component"
    return [
        ("data", f"{name}, {labels} labels"),
        ("test error", error),
        ("reconstruction error", f"{reconstruction:.4f} (squared, summed over pixels)"),
        ("d² of the test codes", f"{distance:.3e}"),
    ]


def _aligned(lines: list[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<22} {value}" for name, value in lines)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
