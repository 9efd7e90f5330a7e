"""Trains and judges the trials of an experiment one after the other, and goes on where it was stopped."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from segma_fast.checkpoints import progress
from segma_fast.config import build_model, check_step
from segma_fast.data import ImageData
from segma_fast.experiments.frechet import FrechetDistance
from segma_fast.experiments.paper import Trial
from segma_fast.experiments.scores import kept_scores, score
from segma_fast.experiments.tables import Result
from segma_fast.run_folder import check_folder, holds_run, load_run
from segma_fast.training import choose_rows, train

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
    trial: Trial,
    data: ImageData,
    frechet: FrechetDistance | None,
    images: int,
    budget: float,
    device: torch.device,
    likelihood_samples: int = 0,
) -> Result:
    """Train a trial as far as its epochs or its budget go, from where it was left, and judge it.

    Args:
        trial: what to train; its run folder tells what has been done.
        data: the trial's data set.
        frechet, images, likelihood_samples: see :func:`segma_fast.experiments.scores.score`.
        budget: seconds of training, those of former sittings included; NaN without a limit.
        device: where it is judged.

    Returns:
        The result; a training whose loss stopped being finite is a result too, with ``failure``.
    """
    config = trial.config
    clock = progress(config.run_dir)
    used_up = max(clock.seconds, clock.allowed) >= budget * (1 - 1e-9)
    if clock.epochs < config.epochs and not used_up:
        minutes = None if math.isnan(budget) else (budget - clock.seconds) / 60
        try:
            train(replace(config, minutes=minutes), resume=holds_run(config.run_dir))
        except FloatingPointError as error:
            clock = progress(config.run_dir)
            return Result(trial, None, clock.epochs, clock.seconds, failure=str(error))
        clock = progress(config.run_dir)
    run = load_run(config.run_dir, device)
    return Result(trial, score(run, data, frechet, images, likelihood_samples), clock.epochs, clock.seconds)


def chosen_device(choice: Literal["auto", "cpu"]) -> torch.device:
    """The GPU, where ``"auto"`` is asked for and there is one."""
    on_gpu = choice == "auto" and torch.accelerator.is_available()
    return on_gpu and torch.accelerator.current_accelerator() or torch.device("cpu")


def check_fit(trials: Sequence[Trial], data: ImageData, device: torch.device) -> None:
    """Check that all trials can be trained on the data before the first is.

    Raises:
        ValueError: for settings that do not fit the data or the model.
    """
    with torch.random.fork_rng():
        for trial in trials:
            config = trial.config
            check_step(config, device)
            choose_rows(config, data)
            build_model(config, data.image_shape, data.classes)


def check(trials: Sequence[Trial]) -> None:
    """Check the run folders of all trials before the first is trained.

    Raises:
        ValueError: if one holds a run with another configuration.
    """
    for trial in trials:
        folder = trial.config.run_dir
        try:
            check_folder(trial.config, resume=holds_run(folder), overwrite=False)
        except ValueError as error:
            raise ValueError(f"{error}; --out names another folder") from error


def kept_result(trial: Trial, frechet: FrechetDistance | None, images: int) -> Result | None:
    """What a former command left of a trial and judged in the same way, or None."""
    clock = progress(trial.config.run_dir)
    scores = kept_scores(trial.config.run_dir, clock.steps, frechet, images)
    return None if scores is None else Result(trial, scores, clock.epochs, clock.seconds)
