"""``segma-fast train``: turns flags into a configuration, trains, and writes the pictures and the summary table."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from segma_fast.trainer import report
from segma_fast.trainer.commands.full_help import with_plain_help
from segma_fast.trainer.commands.short_help import short_help
from segma_fast.trainer.config import (
    EXPERIMENTS,
    PRESETS,
    ExperimentName,
    Preset,
    TrainConfig,
    starting_config,
    with_preset,
)
from segma_fast.trainer.config_file import load_config
from segma_fast.trainer.data import DataConfig
from segma_fast.trainer.loop import Outcome, train
from segma_fast.trainer.models import MODELS
from segma_fast.trainer.run import Run
from segma_fast.trainer.run_folder import CONFIG, REPORT, DataInfo, contents, nothing_to_resume, save_figures


@dataclass(frozen=True)
class TrainCommand:
    """Train a model and leave a run folder: configuration, metrics, checkpoint, pictures, report.

    examples:
      segma-fast train                                          scikit-learn's 1,797 digits, 100 labels
      segma-fast train --experiment mnist --preset authors      MNIST by the rules of the authors
      segma-fast train --experiment mnist --dataset ./mnist     MNIST from a folder
      segma-fast train --beta 0 --run-dir runs/unsupervised     unsupervised SeGMA
      segma-fast train --beta 0 --components 1 --run-dir runs/cwae   CWAE
      segma-fast train --model adgm                             another model
      segma-fast train --dataset ./pictures --size 64 --network conv        leaves runs/pictures
      segma-fast train --resume --run-dir runs/digits           go on after an interruption
    """

    config: TrainConfig
    experiment: ExperimentName = "digits"
    """data set, networks and batch sizes to start from; every other flag changes one of them"""
    preset: Preset | None = None
    """the rules of the paper, or of its authors' code, where they differ, or those that were found to work best"""
    config_file: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """a config.json to start from instead"""
    resume: bool = False
    """continue the run in --run-dir from its last checkpoint"""
    overwrite: bool = False
    """replace the run in --run-dir"""


def train_command(arguments: list[str]) -> None:
    """Run ``segma-fast train`` with these arguments."""
    command = parse(arguments)
    config = command.config

    def finish(outcome: Outcome) -> None:
        from segma_fast.trainer.figures.run_pictures import save_pictures

        summary = report.summarize(outcome, config)
        save_figures(config.run_dir / REPORT, summary)
        run = Run(config.run_dir, config, DataInfo.load(config.run_dir), outcome.model, outcome.steps)
        save_pictures(run, outcome.data)
        print(report.table(summary))
        print(contents(config.run_dir))

    try:
        train(config, resume=command.resume, overwrite=command.overwrite, at_end=finish)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        if (config.run_dir / CONFIG).exists():
            print(f"\nstopped; continue with: {_continued(config)}", file=sys.stderr)
        raise
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise ConnectionError(f"a process was lost ({reason}); start all again with: {_continued(config)}") from error


def _continued(config: TrainConfig) -> str:
    return f"segma-fast train --resume --run-dir {shlex.quote(str(config.run_dir))}"


def parse(arguments: list[str]) -> TrainCommand:
    """Parse the flags; defaults come from the resumed run, ``--config``, or ``--experiment`` and ``--preset``."""
    early = argparse.ArgumentParser("segma-fast train", add_help=False, allow_abbrev=False)
    early.add_argument("--experiment", choices=EXPERIMENTS)
    early.add_argument("--preset", choices=PRESETS)
    early.add_argument("--model", choices=MODELS)
    early.add_argument("--config", type=Path)
    early.add_argument("--dataset", default=TrainConfig().data.dataset)
    early.add_argument("--run-dir", "--run_dir", type=Path)
    early.add_argument("--resume", action="store_true")
    known, _ = early.parse_known_args(arguments)
    if known.resume and (known.experiment or known.preset or known.config or known.model):
        raise ValueError(
            "--resume takes the configuration from --run-dir: leave --experiment, --model, --preset, --config out"
        )
    if known.config and (known.experiment or known.model):
        raise ValueError("--config says what to start from: leave --experiment and --model out")
    asked = "--help" in arguments or "-h" in arguments
    run_dir: Path = known.run_dir or default_run_dir(DataConfig(dataset=known.dataset), "segma")
    if known.resume and not asked and not (run_dir / CONFIG).exists():
        raise ValueError(nothing_to_resume(run_dir))
    if known.resume and not (asked and not run_dir.exists()):
        base = dataclasses.replace(load_config(run_dir / CONFIG), run_dir=run_dir, minutes=None)
    elif known.config:
        base = load_config(known.config)
        base = with_preset(base, known.preset) if known.preset else base
    else:
        base = starting_config(known.experiment or "digits", known.preset, known.model or "segma")
    if asked:
        print(short_help(TrainCommand(base)))
        raise SystemExit(0)
    given = ["--help" if argument == "--help-all" else argument for argument in arguments]
    options = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    default = TrainCommand(base)
    command = with_plain_help(
        lambda: tyro.cli(TrainCommand, prog="segma-fast train", args=given, default=default, config=options), given
    )
    config = command.config
    if known.run_dir or known.resume or config.data.located().dataset == base.data.located().dataset:
        return command
    config = dataclasses.replace(config, run_dir=default_run_dir(config.data, config.model))
    return dataclasses.replace(command, config=config)


def default_run_dir(data: DataConfig, model: str) -> Path:
    """Where a run on this data goes unless ``--run-dir`` says otherwise."""
    name = data.name.rstrip("/").rpartition("/")[2] or "data"
    return Path("runs") / (name if model == "segma" else f"{name}-{model}")
