"""The checkpoints of a run: its state after a step, each in a folder that gets its final name once complete.

``step-N`` is the last one, and ``best`` has the weights of that with the lowest test error so far::

    model.safetensors     weights
    optimizer.bin         Adam's moments; optimizer_1.bin, … for further optimisers
    random_states_N.pkl   random number generator states of process N
    clock.json            time spent so far
    checksums.json        CRC-32 of each of these files; checkpoints of before have none and are not checked
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import load
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from segma_fast.trainer.checksums import SUMS, check_sum, write_sums
from segma_fast.trainer.files import publish_folder, usual_mode, writing
from segma_fast.trainer.models import ImageModel

CHECKPOINTS, DRAFT, BEST = "checkpoints", ".part", "best"
WEIGHTS, CLOCK, FORMER_CLOCK = "model.safetensors", "clock.json", "custom_checkpoint_0.pkl"
ADAM = {"step", "exp_avg", "exp_avg_sq"}


@dataclass
class Clock:
    """Time spent in training steps, summed over all sessions of a resumed run; part of each checkpoint."""

    seconds: float = 0.0
    steps: int = 0
    epochs: float = 0.0
    allowed: float = 0.0
    """time limit in seconds that ended the run; 0 if none did"""
    per_step: list[float] = field(default_factory=list)
    """mean seconds per step for each interval between two lines of metrics"""
    lowest: float | None = None
    """lowest test error of a checkpoint so far"""

    def advance(self, step: int, seconds: float) -> int:
        """Add the interval that ends with this step and return its number of steps."""
        done = step - self.steps
        self.seconds += seconds
        self.steps = step
        self.per_step.append(seconds / done)
        return done

    def load(self, checkpoint: Path, step: int) -> None:
        """Load the values from a checkpoint of this step; a damaged checkpoint raises errors of various types."""
        former = not (checkpoint / CLOCK).exists() and (checkpoint / FORMER_CLOCK).exists()
        kept = _load(checkpoint / FORMER_CLOCK) if former else json.loads((checkpoint / CLOCK).read_text())
        self.seconds, self.epochs, self.allowed = (float(kept[name]) for name in ("seconds", "epochs", "allowed"))
        self.steps, self.per_step = int(kept["steps"]), [float(value) for value in kept["per_step"]]
        self.lowest = None if kept.get("lowest") is None else float(kept["lowest"])
        if self.steps != step:
            raise ValueError(f"belongs to step {self.steps}")


@dataclass(frozen=True)
class State:
    """The training state that a checkpoint holds, apart from the random number generator states."""

    model: ImageModel
    optimizers: Sequence[Optimizer]
    clock: Clock = field(default_factory=Clock)


def checkpoint_steps(run_dir: Path) -> list[int]:
    """The steps of the complete checkpoints in a run folder, ascending."""
    names = (path.name.removeprefix("step-") for path in (run_dir / CHECKPOINTS).glob("step-*"))
    return sorted(int(name) for name in names if name.isdecimal())


def latest_checkpoint(run_dir: Path) -> tuple[Path, int] | None:
    """The newest complete checkpoint and its step, or None."""
    steps = checkpoint_steps(run_dir)
    return (run_dir / CHECKPOINTS / f"step-{steps[-1]}", steps[-1]) if steps else None


def find_checkpoint(path: Path) -> tuple[Path, tuple[Path, int] | None]:
    """For a run folder, or one of its checkpoints: the run folder, and that checkpoint, or the newest, with its step.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    folder = path.absolute()
    if folder.parent.name != CHECKPOINTS or not (folder / CLOCK).exists():
        return path, latest_checkpoint(path)
    with _reading(path / CLOCK):
        return folder.parent.parent, (path, int(json.loads((path / CLOCK).read_text())["steps"]))


def progress(run_dir: Path) -> Clock:
    """The clock of the last checkpoint in a run folder; all zeros without a checkpoint.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    clock, checkpoint = Clock(), latest_checkpoint(run_dir)
    if checkpoint is not None:
        with _reading(checkpoint[0] / CLOCK):
            clock.load(*checkpoint)
    return clock


def save_checkpoint(
    accelerator: Accelerator, run_dir: Path, step: int, state: State, test_error: float = math.nan
) -> None:
    """Write a checkpoint under a temporary name, rename it once complete, and delete the earlier ones.

    If no checkpoint before had a lower test error, ``best`` has its weights, too; NaN is none.

    Raises:
        WriteError: if it cannot be written; the previous checkpoint is kept.
    """
    folder = run_dir / CHECKPOINTS
    final, draft = folder / f"step-{step}", folder / DRAFT
    best = test_error <= (math.inf if state.clock.lowest is None else state.clock.lowest)
    if best:
        state.clock.lowest = test_error
    if accelerator.is_main_process:
        shutil.rmtree(draft, ignore_errors=True)
    accelerator.wait_for_everyone()
    with writing(f"the checkpoint {final}"):
        try:
            draft.mkdir(parents=True, exist_ok=True)
            _save(_random_states(accelerator.device), draft / _random_name(accelerator))
            if accelerator.is_main_process:
                save_weights(state.model.state_dict(), draft / WEIGHTS)
                for number, optimizer in enumerate(state.optimizers):
                    _save(optimizer.state_dict(), draft / _optimizer_name(number))
                (draft / CLOCK).write_text(json.dumps(asdict(state.clock)))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                write_sums(draft)
                if best:  # first, so that no checkpoint knows of a lower error than it has
                    _copy_weights(draft, folder / BEST)
                publish_folder(draft, final)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    if accelerator.is_main_process:
        for old in checkpoint_steps(run_dir):
            if old != step:
                shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
    accelerator.wait_for_everyone()


def _copy_weights(checkpoint: Path, copy: Path) -> None:
    """What a trained model needs of a checkpoint, in another folder, by hard links where there are any."""
    draft = copy.with_name(f"{copy.name}{DRAFT}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name in (WEIGHTS, CLOCK, SUMS):
        try:
            os.link(checkpoint / name, draft / name)
        except OSError:
            shutil.copyfile(checkpoint / name, draft / name)
    publish_folder(draft, copy)


def load_checkpoint(accelerator: Accelerator, path: Path, step: int, state: State) -> None:
    """Restore model, optimisers, random states and clock; the files are read as plain data, no code in them is run.

    Raises:
        ValueError: if the checkpoint is damaged or of another model.
    """
    load_weights(path, state.model)
    parts: dict[str, Callable[[Path], Any]] = {}
    for number, optimizer in enumerate(state.optimizers):
        parts[_optimizer_name(number)] = partial(_load_optimizer, optimizer)
    random = _random_name(accelerator)
    if accelerator.is_main_process or (path / random).exists():  # a run may go on in more processes than before
        parts[random] = lambda file: _set_random_states(accelerator.device, _load(file))
    parts[CLOCK] = lambda file: state.clock.load(path, step)
    for name, restore in parts.items():
        with _reading(path / name):
            restore(path / name)


def save_weights(weights: dict[str, Tensor], file: Path, about: dict[str, str] | None = None) -> None:
    """Write tensors by name to a safetensors file, with texts as its metadata.

    Raises:
        OSError: if it cannot be written.
    """
    try:
        save_file(weights, file, about)
    except SafetensorError as error:
        raise OSError(_first_line(error)) from error
    usual_mode(file)


def load_weights(checkpoint: Path, model: ImageModel) -> None:
    """Give a model the weights of a checkpoint.

    Raises:
        ValueError: if they are damaged or of another model.
    """
    with _reading(checkpoint / WEIGHTS):
        model.load_state_dict(load_file(checkpoint / WEIGHTS))


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Check a file's sum, and convert any error into one that names it; each file has its own reader and errors."""
    try:
        check_sum(file)
        yield
    except Exception as error:
        raise ValueError(f"the checkpoint {file.parent} cannot be read: {file.name}: {_first_line(error)}") from error


def _save(content: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch raises this on top of the file's OSError
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def _load(path: Path) -> dict[str, Any]:
    """Load a ``torch.save`` file that holds only tensors, arrays and plain values; no code in the file is run."""
    with path.open("rb") as file:
        try:
            found: dict[str, Any] = load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch's own message advises to run the code
            raise ValueError("damaged, or holds more than numbers") from error
    return found


def _optimizer_name(number: int) -> str:
    return f"optimizer_{number}.bin" if number else "optimizer.bin"


def _load_optimizer(optimizer: Optimizer, path: Path) -> None:
    """Restore Adam's moments; its hyperparameters stay those of the configuration."""
    kept, own = _load(path)["state"], optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in kept.items():
        shapes = {moments[name].shape for name in ADAM - {"step"}}
        if set(moments) != ADAM or moments["step"].numel() != 1 or shapes != {parameters[index].shape}:
            raise ValueError("belongs to another model")
    optimizer.load_state_dict({**own, "state": kept})


def _random_name(accelerator: Accelerator) -> str:
    return f"random_states_{accelerator.process_index}.pkl"


def _random_states(device: torch.device) -> dict[str, Any]:
    """The states of the torch generators that a process uses, under the key names of Accelerate."""
    states: dict[str, Any] = {"torch_manual_seed": torch.get_rng_state()}
    if device.type != "cpu":
        states[f"torch_{device.type}_manual_seed"] = [torch.get_device_module(device).get_rng_state()]
    return states


def _set_random_states(device: torch.device, states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch_manual_seed"])
    own = states.get(f"torch_{device.type}_manual_seed")  # Accelerate stores one state per device of the machine
    if own:
        torch.get_device_module(device).set_rng_state(own[(device.index or 0) % len(own)])


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
