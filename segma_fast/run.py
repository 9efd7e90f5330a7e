"""A run folder: what a training run leaves behind, and the model that comes out of it again.

::

    config.json           the configuration
    data.json             image shape, class names and checksum of the data set
    metrics.csv           loss terms and test error against the step
    tensorboard/          the same as TensorBoard events
    checkpoints/step-N/   model, optimisers, random states and clock of the last checkpoint
    report.json           the figures printed at the end
    scores.json           figures of the paper's tables (segma-fast reproduce)
    *.png                 pictures

Nothing of it is trusted: tensors come from safetensors or from ``torch.load`` with ``weights_only``, the rest is text.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from segma_fast.config import TrainConfig, build_model
from segma_fast.config_file import load_config
from segma_fast.data import ImageData
from segma_fast.files import write_text
from segma_fast.models import ImageModel

CONFIG, DATA, METRICS, REPORT, SCORES = "config.json", "data.json", "metrics.csv", "report.json", "scores.json"
CHECKPOINTS, TENSORBOARD, WEIGHTS = "checkpoints", "tensorboard", "model.safetensors"
PICTURES = ("samples.png", "codes.png", "reconstructions.png", "interpolations.png", "transfer.png", "top_layer.png")


def checksum(tensors: Iterable[Tensor]) -> int:
    """CRC-32 of the contents of tensors, one after the other."""
    total = 0
    for tensor in tensors:
        total = zlib.crc32(tensor.cpu().contiguous().numpy().data, total)
    return total


@dataclass(frozen=True)
class DataInfo:
    """What of the data set a run depends on."""

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    rows: tuple[int, int]
    """training and test images"""
    checksum: int
    """of all pixels and labels"""

    @staticmethod
    def of(data: ImageData) -> DataInfo:
        tensors = (data.train_images, data.train_labels, data.test_images, data.test_labels)
        rows = (len(data.train_labels), len(data.test_labels))
        return DataInfo(data.name, data.image_shape, data.class_names, rows, checksum(tensors))

    def save(self, run_dir: Path) -> None:
        write_text(run_dir / DATA, json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def load(run_dir: Path) -> DataInfo:
        try:
            values = json.loads((run_dir / DATA).read_text())
            channels, height, width = map(int, values["image_shape"])
            train, test = map(int, values["rows"])
            names = tuple(map(str, values["class_names"]))
            return DataInfo(values["name"], (channels, height, width), names, (train, test), int(values["checksum"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{run_dir / DATA} cannot be read: {type(error).__name__}: {error}") from error

    def check_same(self, data: DataInfo) -> None:
        """Raise ``ValueError`` if the data set is not the one that the run was trained on."""
        for item in fields(self):
            before, now = getattr(self, item.name), getattr(data, item.name)
            if before != now:
                raise ValueError(f"the data set is not the one of the run: its {item.name} was {before}, is {now}")


@dataclass(frozen=True)
class Run:
    """A trained model with its configuration and data set's description."""

    folder: Path
    config: TrainConfig
    data: DataInfo
    model: ImageModel
    step: int


def checkpoint_steps(run_dir: Path) -> list[int]:
    """The steps of the whole checkpoints in a run folder, in order."""
    names = (path.name.removeprefix("step-") for path in (run_dir / CHECKPOINTS).glob("step-*"))
    return sorted(int(name) for name in names if name.isdecimal())


def latest_checkpoint(run_dir: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step, or None."""
    steps = checkpoint_steps(run_dir)
    return (run_dir / CHECKPOINTS / f"step-{steps[-1]}", steps[-1]) if steps else None


def load_run(run_dir: Path, device: torch.device | str = "cpu") -> Run:
    """The model of a run folder, in evaluation mode.

    Raises:
        ValueError: if the folder holds no run, no checkpoint yet, or a damaged one.
    """
    from safetensors.torch import load_file

    checkpoint = latest_checkpoint(run_dir)
    if checkpoint is None or not (run_dir / CONFIG).exists():
        raise ValueError(f"{run_dir} holds no trained model: train one with segma-fast train --run-dir {run_dir}")
    config, data = load_config(run_dir / CONFIG), DataInfo.load(run_dir)
    model = build_model(config, data.image_shape, len(data.class_names))
    path, step = checkpoint
    try:
        model.load_state_dict(load_file(path / WEIGHTS))
    except Exception as error:  # of many kinds, depending on the damage
        raise ValueError(f"the checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error
    return Run(run_dir, config, data, model.to(device).eval(), step)


def holds_run(run_dir: Path) -> bool:
    """Whether a folder holds anything that a run would write over."""
    return any((run_dir / name).exists() for name in (CONFIG, DATA, METRICS, REPORT, CHECKPOINTS))


def clear_run(run_dir: Path) -> None:
    """Delete what a former run left in its folder, and nothing else; the configuration last."""
    for step in checkpoint_steps(run_dir):
        shutil.rmtree(run_dir / CHECKPOINTS / f"step-{step}")
    shutil.rmtree(run_dir / CHECKPOINTS / ".part", ignore_errors=True)
    for events in (run_dir / TENSORBOARD).glob("events.out.tfevents.*"):
        events.unlink()
    for folder in (run_dir / CHECKPOINTS, run_dir / TENSORBOARD):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    for name in (*PICTURES, REPORT, SCORES, METRICS, DATA, CONFIG):
        (run_dir / name).unlink(missing_ok=True)
