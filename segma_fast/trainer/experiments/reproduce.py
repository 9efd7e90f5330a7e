"""``segma-fast reproduce``: the paper's tables and figures from one command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from segma_fast.trainer.commands.full_help import with_plain_help
from segma_fast.trainer.config import Preset, starting_config
from segma_fast.trainer.experiments import paper_figures, runner, tables
from segma_fast.trainer.experiments.error_over_epochs import render_course
from segma_fast.trainer.experiments.paper import TABLES, TITLES, Experiment, Table, Trial, trials
from segma_fast.trainer.experiments.runner import (
    Conditions,
    DatasetFlag,
    DeviceFlag,
    FeaturesFlag,
    ImagesFlag,
    SideBySideFlag,
    WeightsFlag,
)
from segma_fast.trainer.files import write_text
from segma_fast.trainer.lock import only_one
from segma_fast.trainer.run import load_run


@dataclass(frozen=True)
class Reproduction:
    """Train the models of the paper's tables over several seeds, and leave its tables and figures.

    A stopped command continues where it was when run again; a larger budget or more seeds extend the results.
    The Fréchet distances are between images of the model and the test images.

    examples:
      segma-fast reproduce mnist
      segma-fast reproduce mnist --dataset ./mnist --table 2 --seeds 3 --budget 30m
      segma-fast reproduce mnist --preset tuned --budget 4h --out runs/reproduce/small
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
    epochs; judging each model comes on top, and once a classifier for the FID's features, minutes on a CPU"""
    preset: Preset = "authors"
    """rules of training: of the authors' code, of the paper, or those that were found to work best"""
    dataset: DatasetFlag = None
    hidden: tuple[int, ...] = ()
    """widths of the encoder's dense layers in place of the paper's, such as 256 256 where a CPU has to do"""
    out: Path | None = None
    """folder of all runs, tables and figures; default runs/reproduce/EXPERIMENT-PRESET"""
    images: ImagesFlag = 10_000
    features: FeaturesFlag = "auto"
    inception_weights: WeightsFlag = None
    side_by_side: SideBySideFlag = False
    device: DeviceFlag = "auto"

    def __post_init__(self) -> None:
        runner.check_flags(self, seeds=1, images=2)

    @property
    def folder(self) -> Path:
        return self.out or Path(f"runs/reproduce/{self.experiment}-{self.preset}")

    def run(self) -> None:
        """Train what is not trained yet, write the tables after each training, and draw the figures."""
        plan = trials(
            self.experiment, self.preset, self.seeds, self.table, self.folder, self.device, self.dataset, self.hidden
        )
        budget = runner.budget_of_each(self.budget, 1 if self.side_by_side else len(plan))
        with only_one(self.folder):
            conditions = runner.prepare(
                plan, budget, self.device, self.images, self.features, self.inception_weights, self.table != 2
            )
            shown: tuple[Table, ...] = tuple(TABLES) if self.table is None else (self.table,)
            page = self.folder / ("tables.md" if self.table is None else f"table-{self.table}.md")
            results = [runner.kept_result(trial, conditions.frechet, self.images) for trial in plan]
            is_inception = conditions.frechet is not None and conditions.frechet.is_inception
            for number, found in enumerate(runner.finish_all(plan, conditions, side_by_side=self.side_by_side)):
                results[number] = found
                done = [result for result in results if result is not None]
                parts = [self._above(conditions, plan, len(done))]
                parts += [
                    tables.render(self.experiment, which, done, conditions.floor, is_inception) for which in shown
                ]
                if 2 in shown and (course := render_course(done)):
                    parts.append(course)
                write_text(page, "\n\n".join(parts) + "\n")
            print("\n\n".join(["", *parts]))
            first = next((r for r in done if r.trial.model == "segma" and r.scores), None)
            if first is not None:
                name = f"{first.trial.title}, {first.epochs:.3g} epochs"
                run = load_run(first.trial.config.run_dir, conditions.device)
                paths = paper_figures.draw_figures(run, conditions.data, self.folder)
                print(f"\n{page}, and of {name}: {', '.join(path.name for path in paths)}")

    def _above(self, conditions: Conditions, plan: list[Trial], done: int) -> str:
        """The header of the tables: data set, settings, budget, machine and features."""
        each = f"{self.budget} for {len(plan)} trainings, {tables.duration(conditions.budget)} each"
        time = each if self.budget else "no limit of time"
        together = ", side by side, so that times are those of all together" * self.side_by_side
        lines = [
            f"{TITLES[self.experiment]} ({conditions.data.name}), rules: {self.preset}, "
            f"{networks(self.experiment, plan)}; {time}{together}; {conditions.machine}",
            f"{done} of {len(plan)} trainings are in the tables.",
        ]
        if conditions.frechet is not None:
            lines.append(
                f"{conditions.distances} They depend on the features and on the number of images: compare them only "
                "with others made in the same way."
            )
            if not conditions.frechet.is_inception:
                lines.append("The paper's Fréchet distances use Inception's features: the two cannot be compared.")
        return "\n".join(lines)


def networks(experiment: Experiment, plan: list[Trial]) -> str:
    """The networks of all trials in words."""
    network = plan[0].config.network
    as_published = network == starting_config(experiment, "paper").network
    return "the paper's networks" if as_published else f"networks of {'-'.join(map(str, network.hidden))}"


def main(arguments: list[str]) -> None:
    """Run ``segma-fast reproduce`` with these arguments."""
    prog, config = "segma-fast reproduce", (tyro.conf.FlagCreatePairsOff,)
    with_plain_help(lambda: tyro.cli(Reproduction, prog=prog, args=arguments, config=config), arguments).run()
