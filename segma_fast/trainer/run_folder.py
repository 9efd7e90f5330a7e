"""A run folder: the files that a training run leaves.

::

    config.json           the configuration
    data.json             image shape, class names and checksum of the data set
    metrics.csv           loss terms and test error against the step
    tensorboard/          the same as TensorBoard events
    checkpoints/step-N/   model, optimisers, random states and clock after the last saved step (checkpoints.py)
    checkpoints/best/     the weights with the lowest test error of all saved steps
    report.json           the metrics printed at the end
    scores.json           metrics for the paper's tables (segma-fast reproduce)
    *.png                 pictures

The files are not trusted: tensors are read by safetensors or by ``torch.load`` with ``weights_only``, the rest is text.
"""

from __future__ import annotations

import json
import math
import shlex
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from segma_fast.trainer.checkpoints import (
    BEST,
    CHECKPOINTS,
    DRAFT,
    WEIGHTS,
    State,
    checkpoint_steps,
    latest_checkpoint,
    load_checkpoint,
)
from segma_fast.trainer.config import TrainConfig
from segma_fast.trainer.config_file import differences, load_config, save_config
from segma_fast.trainer.data import UNLABELLED, DataConfig, DataError, ImageData, cached_data, load_data
from segma_fast.trainer.files import WriteError, file_on_the_way, write_text
from segma_fast.trainer.lock import only_one

CONFIG, DATA, METRICS, REPORT, SCORES = "config.json", "data.json", "metrics.csv", "report.json", "scores.json"
TENSORBOARD = "tensorboard"
PICTURES = {
    "samples.png": "samples of each component",
    "codes.png": "codes of test images in two dimensions, coloured by class if it is known",
    "reconstructions.png": "test images, and below each its reconstruction",
    "interpolations.png": "from one test image to another through the latent space",
    "transfer.png": "test images moved to another class, keeping their style",
    "confusion.png": "which classes the test images were taken for",
    "curves.png": "learning curves",
    "top_layer.png": "what the upper layer of the model holds",
}


def checksum(tensors: Iterable[Tensor]) -> int:
    """CRC-32 over the contents of all tensors, in order."""
    total = 0
    for tensor in tensors:
        total = zlib.crc32(tensor.cpu().contiguous().numpy().data, total)
    return total


@dataclass(frozen=True)
class DataInfo:
    """The properties of the data set that a run depends on."""

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    rows: tuple[int, int]
    """number of training and of test images"""
    checksum: int
    """CRC-32 of all pixels and labels"""

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
            reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            raise ValueError(f"{run_dir / DATA} cannot be read: {reason}") from error

    def check_same(self, data: DataInfo, *names: str) -> None:
        """Raise ``ValueError`` if the data set is not the one of the run, by the fields of these names or by all."""
        for name in names or [item.name for item in fields(self)]:
            before, now = getattr(self, name), getattr(data, name)
            if before != now:
                raise ValueError(f"the data set is not the one of the run: its {name} was {before}, is {now}")

    def find(self, config: DataConfig) -> ImageData:
        """The data set of the run; from the cache of decoded pictures if it is in no folder.

        Raises:
            ValueError: if it is not there any more, or has changed.
        """
        if not (config.folder or config.dataset == "digits"):
            for kept in cached_data(config, self.name):
                if DataInfo.of(kept) == self:
                    return kept
        try:
            data = load_data(config, labelled=self.class_names != UNLABELLED)
            self.check_same(DataInfo.of(data))
        except ValueError as error:
            if config.dataset == "digits" or (config.folder is not None and isinstance(error, DataError)):
                raise
            raise DataError(f"{error}; say where the pictures are now by --dataset FOLDER (dataset=…)") from error
        return data


def check_folder(config: TrainConfig, resume: bool, overwrite: bool) -> tuple[Path, int] | None:
    """Check the run folder against the arguments, changing nothing; return the checkpoint to resume from, if any."""
    run_dir = config.run_dir
    if (file := file_on_the_way(run_dir)) is not None:
        raise ValueError(f"run_dir must be a folder, got {run_dir}: {file} is a file")
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other")
    if resume:
        if not (run_dir / CONFIG).exists():
            raise ValueError(nothing_to_resume(run_dir))
        changed = differences(load_config(run_dir / CONFIG), config)
        if changed:
            raise ValueError(f"cannot resume {run_dir} with another configuration: {'; '.join(changed)}")
        if (run_dir / WEIGHTS).exists() and not checkpoint_steps(run_dir):
            raise ValueError(f"{run_dir} holds a model to hand on, with nothing to go on training")
        return latest_checkpoint(run_dir)
    check_place(config)
    if holds_run(run_dir):
        if not overwrite:
            raise ValueError(
                f"{run_dir} holds a run already: --resume (resume=True) continues it, --overwrite (overwrite=True) "
                "replaces it, and another --run-dir keeps it"
            )
        try:
            load_config(run_dir / CONFIG)
        except ValueError as error:
            raise ValueError(f"{run_dir} holds files that are not a run's, which stay: {error}") from error
    return None


def check_place(config: TrainConfig) -> None:
    """Raise ``ValueError`` if the folder of a run is a place for something else."""
    run_dir, folder = config.run_dir, config.data.folder
    if (run := run_of(run_dir)) is not None:
        raise ValueError(f"{run_dir} belongs to the run {run}: name that folder, or another one")
    if folder is not None and run_dir.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{run_dir} is in the folder of the data set, {folder}: name another --run-dir (run_dir)")
    others = [path.name for path in run_dir.glob("*/") if (path / CONFIG).exists() and (path / CHECKPOINTS).exists()]
    if others and not holds_run(run_dir):
        raise ValueError(f"{run_dir} holds other runs, as {min(others)}: name a new folder in it")


def nothing_to_resume(run_dir: Path) -> str:
    """Why a run cannot go on that is not there."""
    run = run_of(run_dir)
    return f"nothing to resume: {run_dir} holds no run" + (f"; it belongs to {run}" if run else "")


def run_of(path: Path) -> Path | None:
    """The run folder whose checkpoints these are, or one of which this is, whether or not it is there."""
    folder = path.absolute()
    runs = [place.parent for place in (folder, folder.parent) if place.name == CHECKPOINTS]
    return next((run for run in runs if (run / CONFIG).exists()), None)


def why_no_model(run_dir: Path) -> str:
    """What to do about a folder that has no checkpoint."""
    command = f"segma-fast train --run-dir {shlex.quote(str(run_dir))}"
    if (run := run_of(run_dir)) is not None:
        return f"{run_dir} is no checkpoint of the run {run}, which has no best one if it has no test error: name {run}"
    if not holds_run(run_dir):
        return f"{run_dir} holds no trained model: train one with {command}"
    why = f"if it has ended, {command} --overwrite, with a lower --learning-rate if its loss was not finite"
    return f"{run_dir} holds a run without a checkpoint so far: {why}, starts another in its place"


def check_replaceable(config: TrainConfig, data: DataInfo) -> None:
    """Raise ``ValueError`` if the folder holds a run on another data set: by its name or path, and by its pictures."""
    try:
        saved, before = load_config(config.run_dir / CONFIG).data.located().dataset, DataInfo.load(config.run_dir)
    except ValueError:  # no run, or one that ended before anything was known of its data
        return
    if saved != config.data.located().dataset and before.checksum != data.checksum:
        raise ValueError(
            f"{config.run_dir} holds a run on other data ({saved}), which --overwrite does not replace: "
            f"name another --run-dir for {config.data.dataset}, or delete the folder"
        )


@contextmanager
def begin(
    config: TrainConfig, accelerator: Accelerator, resume: bool, overwrite: bool, data: DataInfo, state: State
) -> Iterator[int]:
    """Restore a checkpoint or clear the folder for a new run, write the run's description, and yield the start step.

    Raises:
        ValueError: as in :func:`check_folder` and :func:`check_replaceable`, or if another command is using the folder.
        WriteError: if a file of the run cannot be written, here or inside the block; it says which checkpoint stays.
    """
    with saying_what_stays(config.run_dir), only_one(config.run_dir) if accelerator.is_main_process else nullcontext():
        checkpoint = check_folder(config, resume, overwrite)  # again, because another command may have changed it
        if checkpoint is not None:
            DataInfo.load(config.run_dir).check_same(data)
            load_checkpoint(accelerator, *checkpoint, state)
        else:
            check_replaceable(config, data)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if checkpoint is None:
                clear_run(config.run_dir)
            save_config(replace(config, data=config.data.located()), config.run_dir / CONFIG)
            data.save(config.run_dir)
        accelerator.wait_for_everyone()
        yield 0 if checkpoint is None else checkpoint[1]


@contextmanager
def saying_what_stays(run_dir: Path) -> Iterator[None]:
    """Add the checkpoint that a run still has to a :class:`WriteError` inside the block."""
    try:
        yield
    except WriteError as error:
        kept = latest_checkpoint(run_dir)
        if kept is not None:
            error.args = (f"{error}; the checkpoint of step {kept[1]} stays",)
        raise


def holds_run(run_dir: Path) -> bool:
    """Whether a folder holds anything that a run would overwrite."""
    return any((run_dir / name).exists() for name in (CONFIG, DATA, METRICS, REPORT, CHECKPOINTS))


def clear_run(run_dir: Path) -> None:
    """Delete the files of a previous run and nothing else, the configuration last."""
    for step in checkpoint_steps(run_dir):
        shutil.rmtree(run_dir / CHECKPOINTS / f"step-{step}")
    for name in (BEST, DRAFT, BEST + DRAFT):
        shutil.rmtree(run_dir / CHECKPOINTS / name, ignore_errors=True)
    for events in (run_dir / TENSORBOARD).glob("events.out.tfevents.*"):
        events.unlink()
    for folder in (run_dir / CHECKPOINTS, run_dir / TENSORBOARD):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    for name in (*PICTURES, REPORT, SCORES, METRICS, DATA, CONFIG):
        (run_dir / name).unlink(missing_ok=True)


def save_figures(file: Path, figures: dict[str, Any]) -> None:
    """Write named numbers and strings as JSON; values that are not finite become null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
    write_text(file, json.dumps(finite, indent=2) + "\n")


def load_figures(file: Path) -> dict[str, Any]:
    """Read a file of :func:`save_figures`; null becomes NaN. Any other content raises errors of various types."""
    kept: dict[str, Any] = json.loads(file.read_text())
    return {name: math.nan if value is None else value for name, value in kept.items()}


def contents(run_dir: Path) -> str:
    """A listing of the files of a finished run, one line each, with the commands that use them."""
    named = {name: said for name, said in PICTURES.items() if (run_dir / name).exists()}
    named |= {
        REPORT: "the figures above",
        METRICS: f"learning curves as numbers; {TENSORBOARD}/ has the same",
        f"{CHECKPOINTS}/": "the trained model, for segma-fast explore, sample, transfer, …",
    }
    if (run_dir / CHECKPOINTS / BEST).exists():
        named[f"{CHECKPOINTS}/{BEST}/"] = "the same at its lowest test error; --run-dir takes this folder, too"
    return "\n".join([f"  {run_dir}/", *(f"    {name:<20} {said}" for name, said in named.items())])
