"""Trains and evaluates trials one after the other, resuming after a stop; shared by ``reproduce`` and ``compare``."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from tyro.conf import arg

from segma_fast import __version__
from segma_fast.trainer.checkpoints import progress
from segma_fast.trainer.config import TrainConfig, build_model, check_step
from segma_fast.trainer.data import ImageData, load_data
from segma_fast.trainer.device import check_device, processor, use_device
from segma_fast.trainer.experiments.frechet import Features, FrechetDistance
from segma_fast.trainer.experiments.paper import Trial
from segma_fast.trainer.experiments.scores import NO_ESTIMATE, kept_scores, score
from segma_fast.trainer.experiments.tables import Result, duration
from segma_fast.trainer.loop import choose_rows, train
from segma_fast.trainer.metrics import ImportanceSampling
from segma_fast.trainer.run import load_run
from segma_fast.trainer.run_folder import check_folder, holds_run
from segma_fast.trainer.side_by_side import train_side_by_side

_UNITS = {"s": 1, "m": 60, "h": 3600}

# Flags with their help.
DatasetFlag = Annotated[str | None, arg(help="name on the Hub or folder in place of the experiment's own")]
ImagesFlag = Annotated[int, arg(help="images drawn for each Fréchet distance")]
FeaturesFlag = Annotated[
    Features,
    arg(help="whose activations the Fréchet distances compare; auto is Inception's where its weights are at hand"),
]
WeightsFlag = Annotated[Path | None, arg(help="file of Inception's weights; default where torch-fidelity keeps it")]
SideBySideFlag = Annotated[
    bool,
    arg(help="train all at once: faster for small models on one GPU, no gain on a CPU; each gets all of a budget"),
]
DeviceFlag = Annotated[str, arg(help="auto, which takes a GPU where there is one, or cpu, cuda, cuda:1")]


def check_flags(command: Any, **least: int) -> None:
    """Raise ``ValueError`` for a flag below its minimum, no device, or an output folder that is a file."""
    check_device(command.device)
    for name, smallest in least.items():
        if getattr(command, name) < smallest:
            raise ValueError(f"{name} must be >= {smallest}, got {getattr(command, name)}")
    if command.folder.exists() and not command.folder.is_dir():
        raise ValueError(f"out must be a folder, {command.folder} is a file")


@dataclass(frozen=True)
class Conditions:
    """The conditions under which all trials of an experiment are trained and evaluated."""

    data: ImageData
    device: torch.device
    """device for the evaluation"""
    budget: float
    """seconds of training per trial; NaN without a limit"""
    images: int
    """images that are sampled for a Fréchet distance"""
    frechet: FrechetDistance | None
    """None skips the Fréchet distances"""
    floor: float
    """Fréchet distance of real training images; NaN if Fréchet distances are skipped"""

    @property
    def machine(self) -> str:
        """Description of the machine and of the versions."""
        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        machine = gpu or f"{processor()}, {torch.get_num_threads()} threads"
        return f"{machine}, torch {torch.__version__}, segma_fast {__version__}."

    @property
    def distances(self) -> str:
        """Description of the Fréchet distances; empty if they are skipped."""
        if self.frechet is None:
            return ""
        return (
            f"Fréchet distances: {self.images} images against the {len(self.data.test_images)} test images, in the "
            f"features of: {self.frechet.features}."
        )


def prepare(
    plan: Sequence[Trial],
    budget: float,
    device: str,
    images: int,
    features: Features,
    inception_weights: Path | None,
    distances: bool = True,
) -> Conditions:
    """Check all trials before the first is trained, and load what they share.

    Args:
        plan: trials on the same data.
        budget: seconds of training per trial; NaN without a limit.
        device, images, features, inception_weights: the flags.
        distances: whether Fréchet distances are wanted.

    Raises:
        ValueError: for run folders or settings that do not fit, or missing features.
    """
    check(plan)
    config = plan[0].config.data
    data, chosen = load_data(config), use_device(device)
    check_fit(plan, data, chosen)
    frechet, floor = None, math.nan
    if distances:
        began = time.perf_counter()
        frechet = FrechetDistance(data, config, chosen, features, inception_weights)
        floor = frechet.floor(data.train_images, images)
        print(f"the Fréchet distances were prepared in {duration(time.perf_counter() - began)}", flush=True)
    return Conditions(data, chosen, budget, images, frechet, floor)


def finish_all(
    plan: Sequence[Trial],
    conditions: Conditions,
    likelihood: ImportanceSampling = NO_ESTIMATE,
    side_by_side: bool = False,
) -> Iterator[Result]:
    """The results of all trials, which are trained one after the other or ``side_by_side``; see :func:`finish`."""
    c = conditions
    if not math.isnan(c.budget):
        print(f"the budget is for training: judging each of {len(plan)} models comes on top", flush=True)
    failures: dict[Path, str] = {}
    if side_by_side:
        waiting = [left for trial in plan if (left := left_to_train(trial, c.budget)) is not None]
        for config, outcome in zip(waiting, train_side_by_side(waiting), strict=True):
            if isinstance(outcome, FloatingPointError):
                failures[config.run_dir] = str(outcome)
    for number, trial in enumerate(plan):
        print(f"{'judging ' if side_by_side else ''}{number + 1} of {len(plan)}: {trial.title}", flush=True)
        if failure := failures.get(trial.config.run_dir):
            clock = progress(trial.config.run_dir)
            yield Result(trial, None, clock.epochs, clock.seconds, failure)
            continue
        yield finish(trial, c.data, c.frechet, c.images, c.budget, c.device, likelihood)


def budget_of_each(budget: str | None, trials: int) -> float:
    """The seconds per trial when ``trials`` trials in turn share a budget equally; NaN without a budget."""
    return math.nan if budget is None else parse_budget(budget) / trials


def parse_budget(text: str) -> float:
    """``"90s"``, ``"20m"`` or ``"1.5h"`` in seconds.

    Raises:
        ValueError: for any other format, or a time of zero.
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
    likelihood: ImportanceSampling = NO_ESTIMATE,
) -> Result:
    """Train a trial until its epochs or its budget are used up, resuming an earlier run, and evaluate it.

    Args:
        trial: what to train; its run folder holds the progress so far.
        data: the trial's data set.
        frechet, images, likelihood: see :func:`segma_fast.trainer.experiments.scores.score`.
        budget: seconds of training, including those of earlier sessions; NaN without a limit.
        device: device for the evaluation.

    Returns:
        The result; if the loss was not finite, a result with ``failure`` set.
    """
    config = trial.config
    left = left_to_train(trial, budget)
    if left is not None:
        try:
            train(left, resume=holds_run(config.run_dir))
        except FloatingPointError as error:
            clock = progress(config.run_dir)
            return Result(trial, None, clock.epochs, clock.seconds, failure=str(error))
    clock = progress(config.run_dir)
    run = load_run(config.run_dir, device)
    began = time.perf_counter()
    scores = score(run, data, frechet, images, likelihood)
    print(f"judged in {duration(time.perf_counter() - began)}", flush=True)
    return Result(trial, scores, clock.epochs, clock.seconds)


def left_to_train(trial: Trial, budget: float) -> TrainConfig | None:
    """The trial's configuration with the time that is left of a budget in seconds; None if its training has ended."""
    clock = progress(trial.config.run_dir)
    used_up = max(clock.seconds, clock.allowed) >= budget * (1 - 1e-9)
    if clock.epochs >= trial.config.epochs or used_up:
        return None
    return replace(trial.config, minutes=None if math.isnan(budget) else (budget - clock.seconds) / 60)


def check_fit(trials: Sequence[Trial], data: ImageData, device: torch.device) -> None:
    """Check, before the first trial is trained, that all of them can be trained on the data.

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
        ValueError: if one holds a run with another configuration, or one that has trained for more epochs.
    """
    for trial in trials:
        folder = trial.config.run_dir
        try:
            check_folder(trial.config, resume=holds_run(folder), overwrite=False)
            trained = progress(folder).epochs
            if trained > trial.config.epochs:
                raise ValueError(f"{folder} holds {trained:.3g} epochs, more than {trial.config.epochs}")
        except ValueError as error:
            raise ValueError(f"{error}; --out names another folder") from error


def kept_result(trial: Trial, frechet: FrechetDistance | None, images: int) -> Result | None:
    """The result that an earlier command left for a trial, if it was evaluated in the same way, or None."""
    clock = progress(trial.config.run_dir)
    scores = kept_scores(trial.config.run_dir, clock.steps, frechet, images)
    return None if scores is None else Result(trial, scores, clock.epochs, clock.seconds)
