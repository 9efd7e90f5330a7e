"""``segma-fast compare``: several models on the same data and labels, for the same epochs or the same time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from segma_fast.trainer.commands.full_help import with_plain_help
from segma_fast.trainer.config import ExperimentName, starting_config
from segma_fast.trainer.data import ImageData
from segma_fast.trainer.experiments import runner
from segma_fast.trainer.experiments.comparison_table import table
from segma_fast.trainer.experiments.paper import MODELS as VARIANTS
from segma_fast.trainer.experiments.paper import Trial
from segma_fast.trainer.experiments.runner import (
    Conditions,
    DatasetFlag,
    DeviceFlag,
    FeaturesFlag,
    ImagesFlag,
    SideBySideFlag,
    WeightsFlag,
)
from segma_fast.trainer.experiments.tables import Result, duration
from segma_fast.trainer.figures.grids import save_grid
from segma_fast.trainer.files import write_text
from segma_fast.trainer.labels import LabelChoice
from segma_fast.trainer.lock import only_one
from segma_fast.trainer.metrics import ImportanceSampling
from segma_fast.trainer.models import MODELS, ImageModel, SeGMAConfig
from segma_fast.trainer.run import load_run

COLUMNS = 10


@dataclass(frozen=True)
class Comparison:
    """Train several models on the same data and labels, and compare them in a table and a picture.

    A stopped command continues where it was when run again; more models, seeds, epochs or budget extend the results.
    The table shows the models and seeds of the last command.

    examples:
      segma-fast compare
      segma-fast compare --experiment mnist --dataset ./mnist --models segma m1m2 adgm cagem --epochs 20 --seeds 2
      segma-fast compare --experiment svhn --models segma samm --budget 20h
    """

    experiment: Annotated[ExperimentName, tyro.conf.arg(aliases=["--data"])] = "digits"
    """data set, with each model's own networks for it"""
    models: tuple[str, ...] = ("segma", "m1m2", "adgm", "samm", "cagem", "amm")
    """segma, unsupervised (SeGMA with β = 0), cwae (and K = 1), m1, m2, m1m2, adgm, amm, samm, cagem"""
    budget: str | None = None
    """time for all trainings together, such as 90s, 20m or 10h, shared equally unless side by side; default no
    limit; judging each model comes on top, and once a classifier for the FID's features, minutes on a CPU"""
    seeds: int = 1
    """N trains each model with the seeds 0 … N-1 of weights, labels and batches; the table has mean ± deviation"""
    labels: int | None = None
    """labelled rows; default the experiment's"""
    label_choice: LabelChoice = "stratified"
    """how they are chosen; stratified: as many of each class"""
    validation: int = 0
    """training rows, drawn at random, that take the place of the test rows: settings are chosen on them"""
    dataset: DatasetFlag = None
    hidden: tuple[int, ...] = ()
    """widths of the dense layers of all models in place of their own; a model with fewer layers takes the first ones"""
    network: Literal["dense", "conv"] | None = None
    """kind of all networks in place of their own; amm and samm then have their paper's networks and settings"""
    epochs: int | None = None
    """of all models; default the experiment's, so that all see the same number of images"""
    out: Path | None = None
    """folder of all runs, the table and the picture; default runs/compare-EXPERIMENT"""
    images: ImagesFlag = 10_000
    features: FeaturesFlag = "auto"
    inception_weights: WeightsFlag = None
    likelihood_samples: int = 100
    """importance-weighted samples for the log-likelihood of a test image; 0 leaves it out"""
    likelihood_images: int = 1000
    """test images, at random, of which the log-likelihood is estimated; all if there are no more"""
    side_by_side: SideBySideFlag = False
    device: DeviceFlag = "auto"

    def __post_init__(self) -> None:
        runner.check_flags(self, seeds=1, images=2, likelihood_samples=0, likelihood_images=2)
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {self.epochs}")
        known = dict.fromkeys([*VARIANTS, *MODELS])
        for name in self.models:
            if name not in known:
                raise ValueError(f"unknown model {name!r}, expected one of {', '.join(known)}")
        if not self.models or len(set(self.models)) < len(self.models):
            raise ValueError(f"models must be different and at least one, got {' '.join(self.models) or 'none'}")

    @property
    def folder(self) -> Path:
        return self.out or Path(f"runs/compare-{self.experiment}")

    def trials(self) -> list[Trial]:
        """Seed by seed one training per model, with its own settings for the data; SeGMA with those that work best."""
        found = []
        epochs = self.epochs or starting_config(self.experiment).epochs
        for seed, name in product(range(self.seeds), self.models):
            is_segma = name in VARIANTS
            preset = "tuned" if is_segma and self.experiment != "digits" else None  # digits are tuned
            config = starting_config(self.experiment, preset, "segma" if is_segma else name)
            config = replace(config, seed=seed, label_choice=self.label_choice, device=self.device, epochs=epochs)
            config = replace(config, checkpoint_every=3000, run_dir=self.folder / f"{name}-seed{seed}")
            if self.network == "conv" and not is_segma:
                config = replace(config, **(MODELS[name].convolutional(self.experiment) | {"epochs": epochs}))
            if self.network is not None:
                config = replace(config, network=replace(config.network, network=self.network))
            if self.labels is not None:
                config = replace(config, labels=self.labels)
            if isinstance(config.objective, SeGMAConfig) and name != "segma":
                config = replace(config, objective=replace(config.objective, beta=0.0))
                config = replace(config, components=1 if name == "cwae" else None)
            data = replace(config.data, validation=self.validation)
            config = replace(config, data=replace(data, dataset=self.dataset or data.dataset))
            if self.hidden:
                widths = self.hidden[: len(config.network.hidden)]
                network = replace(config.network, hidden=widths, decoder_hidden=None)
                config = replace(config, network=network, objective=config.objective.with_hidden(self.hidden))
            found.append(Trial(name, seed, config))
        return found

    def run(self) -> None:
        """Train what is not trained yet, and write the table after each training and the picture at the end."""
        plan = self.trials()
        budget = runner.budget_of_each(self.budget, 1 if self.side_by_side else len(plan))
        with only_one(self.folder):
            conditions = runner.prepare(plan, budget, self.device, self.images, self.features, self.inception_weights)
            likelihood = ImportanceSampling(self.likelihood_samples, self.likelihood_images)
            results: list[Result] = []
            models: dict[str, ImageModel] = {}
            for result in runner.finish_all(plan, conditions, likelihood, self.side_by_side):
                results.append(result)
                if not result.failure and result.trial.model not in models:
                    models[result.trial.model] = load_run(result.trial.config.run_dir, conditions.device).model
                parts = [self._above(conditions), *table(results, models, conditions.floor)]
                page = "\n\n".join(part for part in parts if part)
                write_text(self.folder / "tables.md", page + "\n")
            print(f"\n{page}\n\n{self.folder / 'tables.md'}")
            if models:
                print(self._picture(conditions.data, models))

    def _above(self, conditions: Conditions) -> str:
        """The header of the table: data set, seed, budget, machine and features."""
        each = f"a budget of {duration(conditions.budget)} each"
        limit = "no limit of time" if math.isnan(conditions.budget) else each
        limit += ", side by side, so that times are those of all together" * self.side_by_side
        seeds = f"{self.seeds} seeds, mean ± sd" if self.seeds > 1 else "one seed"
        return f"{conditions.data.name}, {seeds}; {limit}; {conditions.machine}\n{conditions.distances}"

    def _picture(self, data: ImageData, models: Mapping[str, ImageModel]) -> Path:
        """One row of samples per model, cycling through the components."""
        rows: list[Tensor] = []
        for model in models.values():
            generator = torch.Generator(model.device).manual_seed(0)
            component = torch.arange(COLUMNS, device=model.device) % model.components
            codes = model.sample(COLUMNS, component, generator=generator)
            rows.append(model.decode_sample(codes, generator).cpu())
        names = [VARIANTS.get(name) or MODELS[name].title for name in models]
        columns = [data.class_names[i % data.classes] for i in range(COLUMNS)]
        title = "Samples, one component a column (with labels: the class)"
        return save_grid(torch.stack(rows), self.folder / "samples.png", title, names, columns)


def main(arguments: list[str]) -> None:
    """Run ``segma-fast compare`` with these arguments."""
    prog, config = "segma-fast compare", (tyro.conf.FlagCreatePairsOff,)
    with_plain_help(lambda: tyro.cli(Comparison, prog=prog, args=arguments, config=config), arguments).run()
