"""The trainings of a study, several at once with one thread each; what was trained stays, so a study goes on."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import ROOT
from segma_fast.trainer.config import TrainConfig
from segma_fast.trainer.data import load_data
from segma_fast.trainer.experiments import runner
from segma_fast.trainer.experiments.paper import Trial
from segma_fast.trainer.experiments.scores import NO_ESTIMATE
from segma_fast.trainer.experiments.tables import Result
from segma_fast.trainer.metrics import ImportanceSampling

EXPERIMENTS = ROOT / "docs" / "experiments.md"  # of SeGMA, and each model at its best
OTHER_MODELS = ROOT / "docs" / "other_models.md"
FIRST_SEED = 20  # seeds that no result of `compare` or `reproduce` has


def flags(about: str | None, out: str, seeds: int) -> argparse.ArgumentParser:
    """The flags that all studies have; ``about`` is the module's docstring."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--dataset", default="ylecun/mnist", help="Hub name or folder of MNIST")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at once, one thread each")
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser


def folder_name(name: str, seed: int) -> str:
    """Of the run of a named setting, so that a setting with another name never finds it."""
    slug = re.sub(r"\W+", "-", name).strip("-")
    return f"{slug}-seed{seed}"


def every_seed(settings: Mapping[str, TrainConfig], seeds: range, out: Path) -> list[tuple[str, Trial]]:
    """A trial of each named setting with each seed, all settings of one seed first, each in a folder of its own."""
    found = []
    for seed in seeds:
        for name, setting in settings.items():
            config = setting.with_options(seed=seed, run_dir=out / folder_name(name, seed))
            found.append((name, Trial(config.model, seed, config)))
    return found


def finish_all(
    planned: Sequence[tuple[str, Trial]], workers: int, likelihood: ImportanceSampling = NO_ESTIMATE
) -> Iterator[tuple[str, Result]]:
    """Names and results of named trials in their order, as they are finished."""
    runner.check([trial for _, trial in planned])
    os.environ["OMP_NUM_THREADS"] = "1"
    one = partial(_finish, likelihood=likelihood)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for (name, _), result in zip(planned, pool.map(one, [trial for _, trial in planned]), strict=True):
            print(f"{name}, seed {result.trial.seed}: {result.failure or f'{result.figure(2):.2f} %'}", flush=True)
            yield name, result


def _finish(trial: Trial, likelihood: ImportanceSampling) -> Result:
    torch.set_num_threads(1)
    data = load_data(trial.config.data)
    return runner.finish(trial, data, None, 0, math.nan, torch.device("cpu"), likelihood)
