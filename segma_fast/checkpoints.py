"""How a run begins, is saved, and goes on: the folder's checks, checkpoints, and the time that it has taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import load
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from segma_fast.config import TrainConfig
from segma_fast.config_file import differences, load_config, save_config
from segma_fast.files import only_one, publish_folder
from segma_fast.models import ImageModel
from segma_fast.run import (
    CHECKPOINTS,
    CONFIG,
    WEIGHTS,
    DataInfo,
    checkpoint_steps,
    clear_run,
    holds_run,
    latest_checkpoint,
)

CLOCK, FORMER_CLOCK = "clock.json", "custom_checkpoint_0.pkl"
ADAM = {"step", "exp_avg", "exp_avg_sq"}


@dataclass
class Clock:
    """Time spent in steps, over all sittings of a run; a part of the checkpoint."""

    seconds: float = 0.0
    steps: int = 0
    epochs: float = 0.0
    allowed: float = 0.0
    """seconds after which a limit of time ended the run; 0 if none did"""
    per_step: list[float] = field(default_factory=list)
    """mean of each stretch between two lines of metrics"""

    def advance(self, step: int, seconds: float) -> int:
        """Add a stretch that ends with this step; the number of its steps."""
        done = step - self.steps
        self.seconds += seconds
        self.steps = step
        self.per_step.append(seconds / done)
        return done

    def load(self, checkpoint: Path, step: int) -> None:
        """Set to what a checkpoint of this step holds; raises errors of many kinds if that is damaged."""
        former = not (checkpoint / CLOCK).exists() and (checkpoint / FORMER_CLOCK).exists()
        kept = _load(checkpoint / FORMER_CLOCK) if former else json.loads((checkpoint / CLOCK).read_text())
        self.seconds, self.epochs, self.allowed = (float(kept[name]) for name in ("seconds", "epochs", "allowed"))
        self.steps, self.per_step = int(kept["steps"]), [float(value) for value in kept["per_step"]]
        if self.steps != step:
            raise ValueError(f"of step {self.steps}")


@dataclass(frozen=True)
class State:
    """What of a training a checkpoint keeps, beside the states of the random generators."""

    model: ImageModel
    optimizers: Sequence[Optimizer]
    clock: Clock = field(default_factory=Clock)


def progress(run_dir: Path) -> Clock:
    """What the last checkpoint of a run folder tells of the run's time; nothing spent without a checkpoint.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    clock, checkpoint = Clock(), latest_checkpoint(run_dir)
    if checkpoint is not None:
        try:
            clock.load(*checkpoint)
        except Exception as error:  # of many kinds
            raise ValueError(f"the checkpoint {checkpoint[0]} cannot be read: {CLOCK}: {_first_line(error)}") from error
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


@contextmanager
def begin(
    config: TrainConfig, accelerator: Accelerator, resume: bool, overwrite: bool, data: DataInfo, state: State
) -> Iterator[int]:
    """Restore a checkpoint, or empty the folder for a new run; describe the run there. Gives the step to go on from.

    Raises:
        ValueError: as :func:`check_folder` does, or if another command is at work in the folder.
    """
    with only_one(config.run_dir) if accelerator.is_main_process else nullcontext():
        checkpoint = check_folder(config, resume, overwrite)  # again, for another command may have been there
        if checkpoint is not None:
            DataInfo.load(config.run_dir).check_same(data)
            load_checkpoint(accelerator, *checkpoint, state)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if checkpoint is None:
                clear_run(config.run_dir)
            save_config(config, config.run_dir / CONFIG)
            data.save(config.run_dir)
        accelerator.wait_for_everyone()
        yield 0 if checkpoint is None else checkpoint[1]


def save_checkpoint(accelerator: Accelerator, run_dir: Path, step: int, state: State) -> None:
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
        draft.mkdir(parents=True, exist_ok=True)
        _save(_random_states(accelerator.device), draft / _random_name(accelerator))
        if accelerator.is_main_process:
            save_file(state.model.state_dict(), draft / WEIGHTS)
            for number, optimizer in enumerate(state.optimizers):
                _save(optimizer.state_dict(), draft / _optimizer_name(number))
            (draft / CLOCK).write_text(json.dumps(asdict(state.clock)))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            publish_folder(draft, final)
    except (OSError, SafetensorError) as error:  # each writer tells a full disk in its own way
        shutil.rmtree(draft, ignore_errors=True)
        raise OSError(f"the checkpoint {final} cannot be written: {_first_line(error)}") from error
    if accelerator.is_main_process:
        for old in checkpoint_steps(run_dir):
            if old != step:
                shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, path: Path, step: int, state: State) -> None:
    """Restore model, optimisers, random states and clock; nothing but numbers is taken from the files.

    Raises:
        ValueError: if the checkpoint is damaged or of another model.
    """
    parts: dict[str, Callable[[Path], Any]] = {WEIGHTS: lambda file: state.model.load_state_dict(load_file(file))}
    for number, optimizer in enumerate(state.optimizers):
        parts[_optimizer_name(number)] = partial(_load_optimizer, optimizer)
    random = _random_name(accelerator)
    if accelerator.is_main_process or (path / random).exists():  # a run may go on in more processes than before
        parts[random] = lambda file: _set_random_states(accelerator.device, _load(file))
    parts[CLOCK] = lambda file: state.clock.load(path, step)
    for name, restore in parts.items():
        try:
            restore(path / name)
        except Exception as error:  # of many kinds: each file has its own reader
            raise ValueError(f"the checkpoint {path} cannot be read: {name}: {_first_line(error)}") from error


def _save(content: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # what torch makes of the file's own
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def _load(path: Path) -> dict[str, Any]:
    """What ``torch.save`` wrote, of tensors, arrays and plain values alone: no code of the file is run."""
    with path.open("rb") as file:
        try:
            found: dict[str, Any] = load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whose own advice is to run the code
            raise ValueError("damaged, or holds more than numbers") from error
    return found


def _optimizer_name(number: int) -> str:
    return f"optimizer_{number}.bin" if number else "optimizer.bin"


def _load_optimizer(optimizer: Optimizer, path: Path) -> None:
    """Restore Adam's moments; its settings stay those of the configuration."""
    kept, own = _load(path)["state"], optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in kept.items():
        shapes = {moments[name].shape for name in ADAM - {"step"}}
        if set(moments) != ADAM or moments["step"].numel() != 1 or shapes != {parameters[index].shape}:
            raise ValueError("of another model")
    optimizer.load_state_dict({**own, "state": kept})


def _random_name(accelerator: Accelerator) -> str:
    return f"random_states_{accelerator.process_index}.pkl"


def _random_states(device: torch.device) -> dict[str, Any]:
    """The states of torch's generators that a process draws from, under the names of Accelerate."""
    states: dict[str, Any] = {"torch_manual_seed": torch.get_rng_state()}
    if device.type != "cpu":
        states[f"torch_{device.type}_manual_seed"] = [torch.get_device_module(device).get_rng_state()]
    return states


def _set_random_states(device: torch.device, states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch_manual_seed"])
    own = states.get(f"torch_{device.type}_manual_seed")  # Accelerate's are of all devices of the machine
    if own:
        torch.get_device_module(device).set_rng_state(own[(device.index or 0) % len(own)])


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
