"""The results that the paper reports, and the models trained for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from segma_fast.trainer import models
from segma_fast.trainer.config import Preset, TrainConfig, starting_config
from segma_fast.trainer.labels import LabelChoice

Experiment = Literal["mnist", "svhn", "celeba"]
Table = Literal[1, 2, 3]

TITLES = {"mnist": "MNIST", "svhn": "SVHN", "celeba": "CelebA"}
TABLES: dict[Table, str] = {
    1: "Table I: FID of samples",
    2: "Table II: test error, %",
    3: "Table III: FID of interpolations",
}
MODELS = {"segma": "SeGMA", "unsupervised": "SeGMA, unsupervised (β = 0)", "cwae": "CWAE (β = 0, K = 1)"}
SHOWN: dict[Table, tuple[str, ...]] = {
    1: ("cwae", "unsupervised", "segma"),
    2: ("unsupervised", "segma"),
    3: ("segma",),
}
REPORTED: dict[Experiment, dict[Table, dict[str, float]]] = {
    "mnist": {1: {"cwae": 20.76, "unsupervised": 17.79, "segma": 12.51}, 2: {"segma": 12.7}, 3: {"segma": 13.40}},
    "svhn": {1: {"cwae": 49.30, "unsupervised": 61.11, "segma": 63.80}, 2: {"segma": 32.8}, 3: {"segma": 63.47}},
    "celeba": {1: {"cwae": 51.94, "unsupervised": 51.13, "segma": 50.54}, 2: {"segma": 24.6}, 3: {"segma": 48.14}},
}
"""Tables I, II and III of the paper: FID, test error in percent, FID of interpolations."""


@dataclass(frozen=True)
class Trial:
    """One model trained with one seed."""

    model: str
    """a key of ``MODELS`` in this file, or of ``models.MODELS``"""
    seed: int
    config: TrainConfig

    @property
    def labels(self) -> str:
        """How many labels it was given and how they were chosen, in words; a dash without labels."""
        config = self.config
        return f"{config.labels} {config.label_choice}" if config.takes_labels else "–"

    @property
    def name(self) -> str:
        return MODELS.get(self.model) or models.MODELS[self.model].title

    @property
    def title(self) -> str:
        labels = "" if self.labels == "–" else f", {self.labels} labels"
        return f"{self.name}{labels}, seed {self.seed}"


def trials(
    experiment: Experiment,
    preset: Preset,
    seeds: int,
    table: Table | None,
    out: Path,
    device: str = "auto",
    dataset: str | None = None,
    hidden: tuple[int, ...] = (),
) -> list[Trial]:
    """The trainings in order, seed by seed, so that a stopped command has trained all models for the first seeds.

    Args:
        experiment: defines the networks, batch sizes and data set.
        preset: defines the training settings.
        seeds: number of seeds, 0 … seeds - 1.
        table: train only the models of this table; default all.
        out: the folder of all run folders.
        device: where to train.
        dataset: Hub name or folder in place of the experiment's own.
        hidden: widths of the dense layers in place of the experiment's.

    Returns:
        For MNIST, SeGMA with two choices of the labels: first the preset's, then the first rows of the data set, as in
        the authors' code, or, if that is the preset's choice, equally many per class.
    """
    base = starting_config(experiment, preset)
    data = base.data if dataset is None else replace(base.data, dataset=dataset)
    base = replace(base, data=data, checkpoint_every=3000, device=device)
    if hidden:
        base = replace(base, network=replace(base.network, hidden=hidden))
    assert isinstance(base.objective, models.SeGMAConfig)
    unsupervised = replace(base.objective, beta=0.0)
    choices: tuple[LabelChoice, ...] = (base.label_choice,)
    if experiment == "mnist":
        choices += ("stratified",) if base.label_choice == "first" else ("first",)
    configs = {
        "segma": [replace(base, label_choice=choice) for choice in choices],
        "unsupervised": [replace(base, objective=unsupervised)],
        "cwae": [replace(base, objective=unsupervised, components=1)],
    }
    wanted = MODELS if table is None else SHOWN[table]
    found = []
    for seed in range(seeds):
        for model in (name for name in MODELS if name in wanted):
            for config in configs[model]:
                label_choice = f"-{config.label_choice}" if len(configs[model]) > 1 else ""
                folder = out / f"{model}{label_choice}-seed{seed}"
                found.append(Trial(model, seed, replace(config, seed=seed, run_dir=folder)))
    return found
