"""A run folder: what a training run leaves behind, and the model that comes out of it again.

::

    config.json           the configuration
    data.json             image shape and class names of the data set
    metrics.csv           loss terms and test error against the step
    tensorboard/          the same as TensorBoard events
    checkpoints/step-N/   model, optimiser and random state of the last checkpoint
    report.json           the figures printed at the end
    *.png                 pictures
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from segma_fast.config import TrainConfig, load_config
from segma_fast.files import write_text
from segma_fast.mixture import GaussianMixture, initial_means
from segma_fast.models.autoencoder import AutoEncoder
from segma_fast.models.segma import SeGMA

CONFIG, DATA, METRICS, REPORT, CHECKPOINTS = "config.json", "data.json", "metrics.csv", "report.json", "checkpoints"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class DataInfo:
    """What of the data set the model depends on."""

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    def save(self, run_dir: Path) -> None:
        write_text(run_dir / DATA, json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def load(run_dir: Path) -> DataInfo:
        values = json.loads((run_dir / DATA).read_text())
        return DataInfo(values["name"], tuple(values["image_shape"]), tuple(values["class_names"]))


@dataclass(frozen=True)
class Run:
    """A trained model with its configuration and data set's description."""

    folder: Path
    config: TrainConfig
    data: DataInfo
    model: SeGMA
    step: int


def build_model(config: TrainConfig, data: DataInfo, label_counts: Tensor | None = None) -> SeGMA:
    """A new model with random weights from torch's generator.

    Args:
        config: networks, components and objective.
        data: image shape and classes.
        label_counts: labelled rows of each class, (K,), which become the proportions; uniform without.

    Raises:
        ValueError: if β > 0 and there is not one component a class.
    """
    classes = len(data.class_names)
    components = classes if config.components is None else config.components
    if config.objective.beta > 0 and components != classes:
        raise ValueError(
            f"{components} components for {classes} classes: with beta > 0 each class needs its own component; "
            "leave components out, or set beta to 0 for an unsupervised model"
        )
    means = initial_means(components, config.network.latent_dim, config.means_init, config.means_scale)
    prior = GaussianMixture(means, label_counts)
    return SeGMA(AutoEncoder(data.image_shape, config.network), prior, config.objective)


def latest_checkpoint(run_dir: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step, or None."""
    found = [(int(path.name[5:]), path) for path in (run_dir / CHECKPOINTS).glob("step-*") if path.name[5:].isdigit()]
    if not found:
        return None
    step, path = max(found)
    return path, step


def load_run(run_dir: Path, device: torch.device | str = "cpu") -> Run:
    """The model of a run folder, in evaluation mode.

    Raises:
        ValueError: if the folder holds no run, no checkpoint yet, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = load_config(run_dir / CONFIG) if (run_dir / CONFIG).exists() else None
    checkpoint = latest_checkpoint(run_dir)
    if config is None or checkpoint is None or not (run_dir / DATA).exists():
        raise ValueError(f"{run_dir} holds no trained model: train one with segma-fast train --run-dir {run_dir}")
    path, step = checkpoint
    data = DataInfo.load(run_dir)
    model = build_model(config, data)
    try:
        model.load_state_dict(load_file(path / WEIGHTS))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(f"the checkpoint {path} cannot be read: {error}") from error
    return Run(run_dir, config, data, model.to(device).eval(), step)


def clear_run(run_dir: Path) -> None:
    """Delete what a former run left in its folder, and nothing else."""
    for name in (CONFIG, DATA, METRICS, REPORT):
        (run_dir / name).unlink(missing_ok=True)
    for folder in (CHECKPOINTS, "tensorboard"):
        shutil.rmtree(run_dir / folder, ignore_errors=True)
