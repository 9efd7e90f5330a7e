"""Trains and judges the trials of an experiment one after the other, and goes on where it was stopped."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from pathlib import Path

import torch

from segma_fast.checkpoints import check_folder
from segma_fast.data import ImageData
from segma_fast.experiments.frechet import FrechetDistance
from segma_fast.experiments.paper import Trial
from segma_fast.experiments.scores import load_scores, score
from segma_fast.experiments.tables import Result
from segma_fast.run import METRICS, holds_run, latest_checkpoint, load_run
from segma_fast.training import train

_UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_budget(text: str) -> float:
    """``"90s"``, ``"20m"`` or ``"1.5h"`` in seconds.

    Raises:
        ValueError: for anything else, or no time at all.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh])", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise ValueError(f"the budget must be a time > 0 such as 90s, 20m or 1.5h, got {text!r}")
    return seconds


def finish(
    trial: Trial, data: ImageData, frechet: FrechetDistance | None, images: int, budget: float, device: torch.device
) -> Result:
    """Train a trial as far as its epochs or its budget go, from where it was left, and judge it.

    Args:
        trial: what to train; its run folder tells what has been done.
        data: the trial's data set.
        frechet, images: see :func:`segma_fast.experiments.scores.score`.
        budget: seconds of training, those of former sittings included; NaN without a limit.
        device: where it is judged.

    Returns:
        The result; a training whose loss stopped being finite is a result too, with ``failure``.

    Raises:
        ValueError: if the run folder holds a run with another configuration.
    """
    config = trial.config
    check_folder(config, resume=holds_run(config.run_dir), overwrite=False)
    epochs, spent = progress(config.run_dir)
    kept = load_scores(config.run_dir)
    used_up = kept is not None and kept.budget >= budget or spent >= budget
    if epochs < config.epochs and not used_up:
        minutes = None if math.isnan(budget) else (budget - spent) / 60
        try:
            train(replace(config, minutes=minutes), resume=holds_run(config.run_dir))
        except FloatingPointError as error:
            return Result(trial, None, *progress(config.run_dir), failure=str(error))
        epochs, spent = progress(config.run_dir)
    run = load_run(config.run_dir, device)
    return Result(trial, score(run, data, frechet, images, budget), epochs, spent)


def progress(run_dir: Path) -> tuple[float, float]:
    """Epochs and seconds of training that the last checkpoint of a run folder holds; (0, 0) without one."""
    checkpoint = latest_checkpoint(run_dir)
    if checkpoint is None:
        return 0.0, 0.0
    with (run_dir / METRICS).open() as file:
        for line in csv.DictReader(file):
            if line["step"] == str(checkpoint[1]):
                return float(line["epoch"]), float(line["seconds"])
    raise ValueError(f"{run_dir / METRICS} has no line of step {checkpoint[1]}, which the checkpoint is of")
