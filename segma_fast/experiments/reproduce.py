"""``segma-fast reproduce``: the paper's tables and figures from one command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
import tyro

from segma_fast.data import ImageData, load_data
from segma_fast.experiments import figures, runner, tables
from segma_fast.experiments.frechet import Features, FrechetDistance
from segma_fast.experiments.paper import TABLES, TITLES, Experiment, Preset, Table, trials
from segma_fast.files import only_one, write_text
from segma_fast.run import load_run
from segma_fast.version import __version__


def reproduce(
    experiment: tyro.conf.Positional[Experiment],
    table: Table | None = None,
    seeds: int = 5,
    budget: str | None = None,
    preset: Preset = "authors",
    dataset: str | None = None,
    out: Path | None = None,
    images: int = 10_000,
    features: Features = "auto",
    inception_weights: Path | None = None,
    device: Literal["auto", "cpu"] = "auto",
) -> None:
    """Train the models of the paper's tables over several seeds, and leave its tables and figures.

    A command that was stopped goes on where it was; one with a greater budget or more seeds adds to what is there.
    The Fréchet distances are between images of the model and the test images.

    examples:
      segma-fast reproduce mnist
      segma-fast reproduce mnist --dataset ./mnist --table 2 --seeds 3 --budget 30m
      segma-fast reproduce svhn --preset paper --features inception
      segma-fast reproduce celeba --budget 10h

    Args:
        experiment: data set, networks and batches
        table: train only what this table of the paper shows (1 FID, 2 test error, 3 FID of interpolations); default all
        seeds: trainings of each model, with seeds 0, 1, …
        budget: time for all trainings in --out together, such as 90s, 20m or 10h, in equal shares; default none, the
            full epochs; a classifier for the FID's features comes on top, once
        preset: rules of training: of the authors' code, of the paper, or those that were found to work best
        dataset: name on the Hub or folder in place of the experiment's own
        out: folder of all runs, tables and figures; default runs/reproduce/EXPERIMENT-PRESET
        images: images drawn for each Fréchet distance
        features: whose activations the Fréchet distances compare; auto is Inception's where its weights are at hand
        inception_weights: file of Inception's weights; default where torch-fidelity keeps it
        device: auto takes a GPU where there is one
    """
    for name, value, least in (("seeds", seeds, 1), ("images", images, 2)):
        if value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}")
    folder = out or Path(f"runs/reproduce/{experiment}-{preset}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, {folder} is a file")
    plan = trials(experiment, preset, seeds, table, folder, device, dataset)
    share = math.nan if budget is None else runner.parse_budget(budget) / len(plan)
    with only_one(folder):
        runner.check(plan)
        data = load_data(plan[0].config.data)
        where = _device(device)
        shown: tuple[Table, ...] = tuple(TABLES) if table is None else (table,)
        page = folder / ("tables.md" if table is None else f"table-{table}.md")
        frechet, floor = None, math.nan
        if shown != (2,):
            frechet = FrechetDistance(data, plan[0].config.data, where, features, inception_weights)
            some = torch.randperm(len(data.train_images), generator=torch.Generator().manual_seed(0))[:images]
            floor = frechet.of(data.train_images[some].split(500))
        head = _conditions(experiment, preset, data, len(plan), budget, share, frechet, images, where)
        results = [runner.kept_result(trial) for trial in plan]
        for number, trial in enumerate(plan):
            print(f"{number + 1} of {len(plan)}: {trial.title}", flush=True)
            results[number] = runner.finish(trial, data, frechet, images, share, where)
            done = [result for result in results if result is not None]
            tale = f"{head}\n{len(done)} of {len(plan)} trainings are in the tables."
            parts = [tables.render(experiment, which, done, floor, _inception(frechet)) for which in shown]
            write_text(page, "\n\n".join([tale, *parts]) + "\n")
        print("\n\n".join(["", tale, *parts]))
        first = next((r for r in done if r.trial.model == "segma" and r.scores), None)
        if first is not None:
            model = load_run(first.trial.config.run_dir, where).model
            paths = figures.draw_figures(model, data, folder, f"{first.trial.title}, {first.epochs:.3g} epochs")
            print(f"\n{page}, and of {first.trial.title}: {', '.join(path.name for path in paths)}")


def _device(device: Literal["auto", "cpu"]) -> torch.device:
    found = torch.accelerator.current_accelerator() if device == "auto" and torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def _inception(frechet: FrechetDistance | None) -> bool:
    return frechet is not None and frechet.is_inception


def _conditions(
    experiment: Experiment,
    preset: Preset,
    data: ImageData,
    count: int,
    budget: str | None,
    share: float,
    frechet: FrechetDistance | None,
    images: int,
    device: torch.device,
) -> str:
    """What the tables below it were made of."""
    machine = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU with {torch.get_num_threads()} threads"
    )
    time = "no limit of time" if budget is None else f"{budget} for {count} trainings, {tables.duration(share)} each"
    lines = [
        f"{TITLES[experiment]} ({data.name}), rules: {preset}; {time}; {machine}, torch {torch.__version__}, "
        f"segma_fast {__version__}."
    ]
    if frechet is not None:
        lines.append(
            f"Fréchet distances: {images} images against the {len(data.test_images)} test images, in the features of: "
            f"{frechet.features}. They depend on both, and compare only with others made the same way."
        )
        if not frechet.is_inception:
            lines.append("The paper's are in those of Inception: the two cannot be compared.")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Run ``segma-fast reproduce`` with these arguments."""
    tyro.cli(reproduce, prog="segma-fast reproduce", args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
