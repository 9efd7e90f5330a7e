"""How a run begins, is saved, and goes on: the folder's checks, checkpoints, and the time that it has taken."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from segma_fast.config import TrainConfig, differences, load_config, save_config
from segma_fast.files import publish_folder
from segma_fast.run import CHECKPOINTS, CONFIG, DataInfo, checkpoint_steps, clear_run, holds_run, latest_checkpoint

CLOCK = "custom_checkpoint_0.pkl"  # as Accelerate calls the state of the one object that is registered


class Clock:
    """Time spent in steps, over all sittings of a run; a part of the checkpoint."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.steps = 0
        self.epochs = 0.0
        self.allowed = 0.0  # seconds after which a limit of time ended the run; 0 if none did
        self.per_step: list[float] = []  # mean of each stretch between two lines of metrics

    def advance(self, step: int, seconds: float) -> int:
        """Add a stretch that ends with this step; the number of its steps."""
        done = step - self.steps
        self.seconds += seconds
        self.steps = step
        self.per_step.append(seconds / done)
        return done

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def progress(run_dir: Path) -> Clock:
    """What the last checkpoint of a run folder tells of the run's time; nothing spent without a checkpoint.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    clock, checkpoint = Clock(), latest_checkpoint(run_dir)
    if checkpoint is not None:
        try:
            clock.load_state_dict(torch.load(checkpoint[0] / CLOCK, weights_only=True))
        except Exception as error:  # of many kinds
            raise ValueError(f"the checkpoint {checkpoint[0]} cannot be read: {_first_line(error)}") from error
    return clock


def check_folder(config: TrainConfig, resume: bool, overwrite: bool) -> tuple[Path, int] | None:
    """Check the run folder against what is asked, changing nothing; the checkpoint to continue from, if any."""
    run_dir = config.run_dir
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"run_dir must be a folder, {run_dir} is a file")
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other")
    if resume:
        if not (run_dir / CONFIG).exists():
            raise ValueError(f"nothing to resume: {run_dir} holds no run")
        changed = differences(load_config(run_dir / CONFIG), config)
        if changed:
            raise ValueError(f"cannot resume {run_dir} with another configuration: {'; '.join(changed)}")
        return latest_checkpoint(run_dir)
    if holds_run(run_dir):
        if not overwrite:
            raise ValueError(
                f"{run_dir} holds a run already: --resume continues it, --overwrite replaces it, and another "
                "--run-dir keeps it"
            )
        try:
            load_config(run_dir / CONFIG)
        except ValueError as error:
            raise ValueError(f"{run_dir} holds files that are not a run's, which stay: {error}") from error
    return None


def begin(config: TrainConfig, accelerator: Accelerator, checkpoint: tuple[Path, int] | None, data: DataInfo) -> int:
    """Restore a checkpoint, or empty the folder for a new run; describe the run there. Gives the step to go on from."""
    if checkpoint is not None:
        DataInfo.load(config.run_dir).check_same(data)
        load_checkpoint(accelerator, checkpoint[0])
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if checkpoint is None:
            clear_run(config.run_dir)
        save_config(config, config.run_dir / CONFIG)
        data.save(config.run_dir)
    accelerator.wait_for_everyone()
    return 0 if checkpoint is None else checkpoint[1]


def save_checkpoint(accelerator: Accelerator, run_dir: Path, step: int) -> None:
    """Write a checkpoint under another name, give it its own when it is whole, and drop the ones before it.

    Raises:
        OSError: if it cannot be written; the former checkpoint stays.
    """
    folder = run_dir / CHECKPOINTS
    final, draft = folder / f"step-{step}", folder / ".part"
    if accelerator.is_main_process:
        shutil.rmtree(draft, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(draft))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            publish_folder(draft, final)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        shutil.rmtree(draft, ignore_errors=True)
        raise OSError(f"the checkpoint {final} cannot be written: {_first_line(error)}") from error
    if accelerator.is_main_process:
        for old in checkpoint_steps(run_dir):
            if old != step:
                shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, path: Path) -> None:
    """Restore model, optimiser, random state and clock.

    Raises:
        ValueError: if the checkpoint is damaged or of another model.
    """
    try:
        accelerator.load_state(str(path))
    except Exception as error:  # of many kinds: each file has its own reader
        raise ValueError(f"the checkpoint {path} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
