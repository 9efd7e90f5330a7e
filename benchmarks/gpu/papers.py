"""``python -m benchmarks.gpu.papers --out FOLDER`` trains models with their papers' networks, side by side on one GPU.

SeGMA (preset tuned, layers of 256) with five seeds and up to 500 epochs, ADGM, CaGeM and AMM with as many epochs as
``--minutes`` allow, or the ``--trainings`` named; judging them comes on top. Matrix products are rounded to TF32.
Leaves the run folders, and tables.md with errors, Fréchet distances and likelihoods; run again, it goes on.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.studies.long_runs import AUTHORS
from segma_fast.trainer.config import TrainConfig, starting_config
from segma_fast.trainer.experiments import runner
from segma_fast.trainer.experiments.comparison_table import table
from segma_fast.trainer.experiments.paper import Trial
from segma_fast.trainer.experiments.tables import Result
from segma_fast.trainer.files import write_text
from segma_fast.trainer.metrics import ImportanceSampling
from segma_fast.trainer.models import MODELS, ImageModel
from segma_fast.trainer.run import load_run

TRAININGS = ("segma:5", "adgm", "cagem", "amm")
EPOCHS = 1000  # of the others, if there is time
WARM_UP = 12_000  # steps of CaGeM: 20 epochs
FIRST_STEPS = 30_000  # of M1 in M1+M2: 50 epochs


def starting(model: str) -> TrainConfig:
    """The settings of a model with its paper's networks, on MNIST."""
    config = starting_config("mnist", "tuned" if model == "segma" else None, model)
    if model == "segma":
        return config
    if model == "adgm":  # its authors' settings have the fewest errors
        config = config.with_options(**AUTHORS)
    if model == "cagem":
        config = config.with_options(warm_up=WARM_UP, batch_norm=True, decay=0.75, decay_every=25)
    if model == "m1m2":
        config = config.with_options(first_steps=FIRST_STEPS)
    if model in ("amm", "samm"):
        config = replace(config, **MODELS[model].convolutional("mnist"))
    if model == "amm":  # at one rate its errors stay where they are from epoch 12 on
        config = config.with_options(decay=0.3, decay_every=20)
    return replace(config, epochs=EPOCHS)


def plan(
    dataset: str, out: Path, device: runner.Device = "auto", trainings: Sequence[str] = TRAININGS
) -> list[Trial]:  # fmt: skip
    """The trainings, each ``MODEL`` or ``MODEL:SEEDS``: all of MNIST with 100 labels, ten of each class; AMM has none.

    Raises:
        ValueError: for a training of another form, or a model that there is not.
    """
    found = []
    for training in trainings:
        model, _, seeds = training.partition(":")
        if model not in MODELS or not (seeds or "1").isdecimal():
            raise ValueError(f"a training is MODEL or MODEL:SEEDS with one of {', '.join(MODELS)}, got {training!r}")
        config = starting(model)
        for seed in range(int(seeds or 1)):
            own = replace(config, data=replace(config.data, dataset=dataset), device=device, seed=seed)
            own = replace(own, label_choice="stratified", checkpoint_every=12_000, log_every=100)
            found.append(Trial(own.model, seed, replace(own, run_dir=out / f"{own.model}-seed{seed}")))
    return found


def run(
    trials: list[Trial], minutes: float, page: Path, device: runner.Device, by: ImportanceSampling, images: int
) -> str:
    """Train and judge all, and write the table after each."""
    conditions = runner.prepare(trials, 60 * minutes, device, images, "classifier", None)
    results: list[Result] = []
    models: dict[str, ImageModel] = {}
    text = ""
    for result in runner.finish_all(trials, conditions, by, side_by_side=True):
        results.append(result)
        if not result.failure:
            models[result.trial.model] = load_run(result.trial.config.run_dir, conditions.device).model
        above = (
            f"{conditions.data.name}, {minutes:g} minutes side by side; {conditions.machine}\n{conditions.distances}"
        )
        text = "\n\n".join([above, *table(results, models, conditions.floor)])
        write_text(page, text + "\n")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dataset", default="ylecun/mnist", help="Hub name or folder of MNIST")
    parser.add_argument("--trainings", nargs="+", default=TRAININGS, metavar="MODEL[:SEEDS]")
    parser.add_argument("--minutes", type=float, default=8.0, help="time of training")
    parser.add_argument("--likelihood-samples", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/papers"))
    options = parser.parse_args()
    if not (math.isfinite(options.minutes) and options.minutes > 0):
        parser.error(f"--minutes must be finite and > 0, got {options.minutes}")
    try:
        trials = plan(options.dataset, options.out, trainings=options.trainings)
    except ValueError as error:
        parser.error(str(error))
    torch.set_float32_matmul_precision("high")
    by = ImportanceSampling(options.likelihood_samples)
    print(run(trials, options.minutes, options.out / "tables.md", "auto", by, 10_000))


if __name__ == "__main__":
    main()
