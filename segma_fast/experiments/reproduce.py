"""``segma-fast reproduce``: the paper's tables and figures from one command."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from segma_fast.data import ImageData, load_data
from segma_fast.experiments import figures, runner, tables
from segma_fast.experiments.course import render_course
from segma_fast.experiments.frechet import Features, FrechetDistance
from segma_fast.experiments.paper import TABLES, TITLES, Experiment, Preset, Table, trials
from segma_fast.files import only_one, write_text
from segma_fast.run_folder import load_run
from segma_fast.version import __version__


@dataclass(frozen=True)
class Reproduction:
    """Train the models of the paper's tables over several seeds, and leave its tables and figures.

    A command that was stopped goes on where it was; one with a greater budget or more seeds adds to what is there.
    The Fréchet distances are between images of the model and the test images.

    examples:
      segma-fast reproduce mnist
      segma-fast reproduce mnist --dataset ./mnist --table 2 --seeds 3 --budget 30m
      segma-fast reproduce mnist --preset tuned --hidden 256 256 --budget 4h --out runs/reproduce/small
      segma-fast reproduce svhn --preset paper --features inception
      segma-fast reproduce celeba --budget 10h
    """

    experiment: tyro.conf.Positional[Experiment]
    """data set, networks and batches"""
    table: Table | None = None
    """train only what this table of the paper shows (1 FID, 2 test error, 3 FID of interpolations); default all"""
    seeds: int = 5
    """trainings of each model, with seeds 0, 1, …"""
    budget: str | None = None
    """time for all trainings in --out together, such as 90s, 20m or 10h, in equal shares; default none, the full
    epochs; a classifier for the FID's features comes on top, once"""
    preset: Preset = "authors"
    """rules of training: of the authors' code, of the paper, or those that were found to work best"""
    dataset: str | None = None
    """name on the Hub or folder in place of the experiment's own"""
    hidden: tuple[int, ...] = ()
    """widths of the encoder's dense layers in place of the paper's, such as 256 256 where a CPU has to do"""
    out: Path | None = None
    """folder of all runs, tables and figures; default runs/reproduce/EXPERIMENT-PRESET"""
    images: int = 10_000
    """images drawn for each Fréchet distance"""
    features: Features = "auto"
    """whose activations the Fréchet distances compare; auto is Inception's where its weights are at hand"""
    inception_weights: Path | None = None
    """file of Inception's weights; default where torch-fidelity keeps it"""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU where there is one"""

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("images", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"out must be a folder, {self.folder} is a file")

    @property
    def folder(self) -> Path:
        return self.out or Path(f"runs/reproduce/{self.experiment}-{self.preset}")

    def run(self) -> None:
        """Train what is not trained yet, write the tables after each training, and draw the figures."""
        plan = trials(
            self.experiment, self.preset, self.seeds, self.table, self.folder, self.device, self.dataset, self.hidden
        )
        budget = math.nan if self.budget is None else runner.parse_budget(self.budget) / len(plan)
        with only_one(self.folder):
            runner.check(plan)
            data, config = load_data(plan[0].config.data), plan[0].config.data
            device = runner.chosen_device(self.device)
            shown: tuple[Table, ...] = tuple(TABLES) if self.table is None else (self.table,)
            page = self.folder / ("tables.md" if self.table is None else f"table-{self.table}.md")
            runner.check_fit(plan, data, device)
            frechet, floor = None, math.nan
            if shown != (2,):
                frechet = FrechetDistance(data, config, device, self.features, self.inception_weights)
                floor = frechet.floor(data.train_images, self.images)
            results = [runner.kept_result(trial, frechet, self.images) for trial in plan]
            for number, trial in enumerate(plan):
                print(f"{number + 1} of {len(plan)}: {trial.title}", flush=True)
                results[number] = runner.finish(trial, data, frechet, self.images, budget, device)
                done = [result for result in results if result is not None]
                parts = [self._conditions(data, frechet, device, len(plan), len(done), budget)]
                is_inception = frechet is not None and frechet.is_inception
                parts += [tables.render(self.experiment, which, done, floor, is_inception) for which in shown]
                if 2 in shown and (course := render_course(done)):
                    parts.append(course)
                write_text(page, "\n\n".join(parts) + "\n")
            print("\n\n".join(["", *parts]))
            first = next((r for r in done if r.trial.model == "segma" and r.scores), None)
            if first is not None:
                name = f"{first.trial.title}, {first.epochs:.3g} epochs"
                model = load_run(first.trial.config.run_dir, device).model
                paths = figures.draw_figures(model, data, self.folder, name)
                print(f"\n{page}, and of {name}: {', '.join(path.name for path in paths)}")

    def _conditions(
        self,
        data: ImageData,
        frechet: FrechetDistance | None,
        device: torch.device,
        plan: int,
        done: int,
        budget: float,
    ) -> str:
        """What the tables below it were made of."""
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        machine = gpu or f"CPU with {torch.get_num_threads()} threads"
        networks = f"networks of {'-'.join(map(str, self.hidden))}" if self.hidden else "the paper's networks"
        time = (
            f"{self.budget} for {plan} trainings, {tables.duration(budget)} each" if self.budget else "no limit of time"
        )
        lines = [
            f"{TITLES[self.experiment]} ({data.name}), rules: {self.preset}, {networks}; {time}; "
            f"{machine}, torch {torch.__version__}, segma_fast {__version__}.",
            f"{done} of {plan} trainings are in the tables.",
        ]
        if frechet is not None:
            lines.append(
                f"Fréchet distances: {self.images} images against the {len(data.test_images)} test images, in the "
                f"features of: {frechet.features}. They depend on both, and compare only with others made the same way."
            )
            if not frechet.is_inception:
                lines.append("The paper's are in those of Inception: the two cannot be compared.")
        return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Run ``segma-fast reproduce`` with these arguments."""
    prog, config = "segma-fast reproduce", (tyro.conf.FlagCreatePairsOff,)
    tyro.cli(Reproduction, prog=prog, args=arguments, config=config).run()
