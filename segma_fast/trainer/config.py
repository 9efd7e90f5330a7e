"""The configuration of a training run: the command line's flags, the presets, and the model that it describes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from segma_fast.trainer.data import DataConfig
from segma_fast.trainer.device import check_device
from segma_fast.trainer.labels import LabelChoice
from segma_fast.trainer.models import MODELS, ImageModel, ModelConfig, NetworkConfig, SeGMAConfig
from segma_fast.trainer.models.base import StepPlan, Task


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training run is made of."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    model: str = "segma"
    """what is trained: segma, m1, m2, m1m2, adgm, amm, samm or cagem"""
    objective: ModelConfig = field(default_factory=SeGMAConfig)
    """the model's own settings"""
    run_dir: Path = Path("runs/digits")
    """folder that receives the run, by default runs/ with the name of the data set and the model"""
    components: int | None = None
    """components of the mixture, or clusters; default: one per class"""
    labels: int = 100
    """total number of labelled rows"""
    label_choice: LabelChoice = "stratified"
    """how labelled rows are chosen: equally many per class, at random, or the first rows of the data set"""
    unlabelled_pool: Literal["rest", "all"] = "rest"
    """rows drawn as unlabelled: those without a label, or the whole training set"""
    batch_size: int = 100
    """unlabelled rows a step, over all processes"""
    labelled_batch_size: int = 100
    """labelled rows per step, over all processes; cycles through them, or uses all if there are no more"""
    micro_batch: int | None = None
    """rows that go through the networks at once on each process, for batches larger than memory; default all"""
    learning_rate: float = 3e-4
    """learning rate of Adam"""
    decay: float = 1.0
    """factor applied to the learning rate every --decay-every epochs"""
    decay_every: int = 200
    """epochs between two decays of the learning rate"""
    clip_norm: float | None = None
    """maximum total norm of the gradients"""
    clip_value: float | None = None
    """maximum absolute value of each gradient entry, applied after --clip-norm"""
    epochs: int = 300
    """passes over the unlabelled rows"""
    minutes: float | None = None
    """stop, with a checkpoint, after this time if the epochs take longer"""
    seed: int = 0
    """random seed of weights, labels and batches"""
    mixed_precision: Literal["no", "bf16"] = "no"
    """bf16 runs the networks in bfloat16; the distance stays in float32"""
    compile: bool = False
    """torch.compile the step: a minute at the start, and fewer kernels in each step"""
    cuda_graph: bool = True
    """on one GPU, capture the step once in a CUDA graph and replay it: one launch a step"""
    device: str = "auto"
    """auto, which uses a GPU if there is one, or cpu, cuda, cuda:1"""
    checkpoint_every: int = 500
    """steps between checkpoints"""
    log_every: int = 20
    """steps between lines of metrics"""

    def __post_init__(self) -> None:
        check_model(self.model)
        if not isinstance(self.objective, MODELS[self.model].Config):
            wanted = MODELS[self.model].Config.__name__
            raise ValueError(
                f"objective must be a {wanted} for the model {self.model!r}, got {type(self.objective).__name__}"
            )
        check_device(self.device)
        for name in ("batch_size", "epochs", "checkpoint_every", "log_every", "decay_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("labels", "labelled_batch_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        for name in ("components", "micro_batch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        for name in ("learning_rate", "decay", "clip_norm", "clip_value", "minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be finite and > 0, got {value}")
        if self.compile and self.micro_batch is not None:
            raise ValueError(f"compile and micro_batch={self.micro_batch} exclude each other")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0 ... 2**32 - 1, got {self.seed}")

    def with_options(self, **options: Any) -> Self:
        """A copy with some options changed, by the names of the flags of ``segma-fast train``, wherever they belong.

        Raises:
            ValueError: for a name that is not an option of this model, or a value that does not fit.
        """
        parts = {name: getattr(self, name) for name in ("data", "network", "objective")}
        own = {field.name for field in dataclasses.fields(self)} - {"model", *parts}
        changes: dict[str, dict[str, Any]] = {name: {} for name in parts}
        top: dict[str, Any] = {}
        for name, value in options.items():
            part = next((kind for kind, part in parts.items() if name in vars(part)), None)
            if part is None and name not in own:
                raise ValueError(f"unknown option {name!r} of the model {self.model!r}")
            value = Path(value) if name == "run_dir" else tuple(value) if isinstance(value, list) else value
            (top if part is None else changes[part])[name] = value
        try:
            top |= {name: dataclasses.replace(parts[name], **changed) for name, changed in changes.items() if changed}
            return dataclasses.replace(self, **top)
        except TypeError as error:
            raise ValueError(f"a value of {', '.join(options)} is of another type than its flag's: {error}") from error

    @property
    def takes_labels(self) -> bool:
        """Whether training sees labelled rows."""
        use = self.objective.label_use
        return use == "required" or (use == "optional" and self.labels > 0)

    @property
    def used_labels(self) -> int:
        """Labels that training sees."""
        return self.labels if self.takes_labels else 0

    @property
    def labelled_rows(self) -> int:
        """Labelled rows of a step, over all processes."""
        return min(self.used_labels, self.labelled_batch_size)


Preset = Literal["paper", "authors", "tuned"]
# Training settings: the paper's, those of its authors' code where they differ, and the best that were found.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "objective": {
            "alpha": 5.0,
            "beta": 10.0,
            "rows": "all",
            "gamma_rows": "distance",
            "means_init": "coordinates",
            "means_rate": 1.0,
            "classifier": "mixture",
        },
        "label_choice": "random",
        "learning_rate": 3e-4,
        "unlabelled_pool": "rest",
        "clip_norm": None,
        "clip_value": None,
    },
    "authors": {
        "objective": {
            "alpha": 5.0,
            "beta": 10.0,
            "rows": "unlabelled",
            "gamma_rows": "unlabelled",
            "means_init": "coordinates",
            "means_rate": 1.0,
            "classifier": "mixture",
        },
        "label_choice": "first",
        "learning_rate": 3e-4,
        "unlabelled_pool": "all",
        "clip_norm": 5.0,
        "clip_value": 1.0,
    },
}
PRESETS["tuned"] = PRESETS["authors"] | {
    "objective": PRESETS["authors"]["objective"] | {"alpha": 2.0, "means_rate": 5.0, "classifier": "fitted"},
    "label_choice": "stratified",
    "learning_rate": 1e-3,
    "labelled_share": 0.1,
}
PRESET_MEANS_SCALE = {"digits": 0.1, "mnist": 0.1, "svhn": 2.0, "celeba": 1.0}
ExperimentName = Literal["digits", "mnist", "svhn", "celeba"]
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "digits": {"objective": SeGMAConfig(alpha=2.0, means_rate=5.0), "learning_rate": 1e-3},
    "mnist": {
        "data": DataConfig(dataset="ylecun/mnist"),
        "network": NetworkConfig(latent_dim=10, hidden=(1024, 1024)),
        "run_dir": Path("runs/mnist"),
        "epochs": 500,
    },
    "svhn": {
        "data": DataConfig(
            dataset="ufldl-stanford/svhn", subset="cropped_digits", train_splits=("train", "extra"), test_split="test"
        ),
        "network": NetworkConfig(latent_dim=20, hidden=(786,) * 5),
        "run_dir": Path("runs/svhn"),
        "labels": 1000,
        "batch_size": 1000,
        "labelled_batch_size": 1000,
        "epochs": 400,
    },
    "celeba": {
        "data": DataConfig(
            dataset="flwrlabs/celeba",
            image_column="image",
            label_columns=("Male", "Smiling"),
            train_splits=("train",),
            test_split="test",
            crop=140,
            size=64,
        ),
        "network": NetworkConfig(network="conv", latent_dim=32, hidden=(786, 786), channels=(32, 32, 64, 64)),
        "run_dir": Path("runs/celeba"),
        "labels": 1000,
        "batch_size": 256,
        "labelled_batch_size": 256,
        "epochs": 500,
    },
}


def check_model(name: str) -> None:
    """Raise ``ValueError`` for an unknown model."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}, expected one of {', '.join(MODELS)}")


def starting_config(experiment: str = "digits", preset: str | None = None, model: str = "segma") -> TrainConfig:
    """The configuration that ``segma-fast train`` starts from; :meth:`TrainConfig.with_options` changes it.

    Args:
        experiment: data set, networks and batch sizes: ``"digits"``, ``"mnist"``, ``"svhn"`` or ``"celeba"``.
        preset: rules of SeGMA: ``"paper"``, ``"authors"``, ``"tuned"``, or the experiment's own.
        model: a name that ``segma-fast train --model`` takes, with its own networks for the data set.

    Raises:
        ValueError: for an unknown experiment, preset or model, or a preset with a model that has none.
    """
    check_model(model)
    for kind, name, known in (("experiment", experiment, EXPERIMENTS), ("preset", preset, PRESETS)):
        if name is not None and name not in known:
            raise ValueError(f"unknown {kind} {name!r}, expected one of {', '.join(known)}")
    config = dataclasses.replace(TrainConfig(), **EXPERIMENTS[experiment])
    if model != "segma":
        if preset is not None:
            raise ValueError(f"presets are rules of SeGMA: leave {preset!r} out for the model {model!r}")
        own: dict[str, Any] = {"run_dir": config.run_dir.with_name(f"{experiment}-{model}")}
        own["objective"] = MODELS[model].Config()
        return dataclasses.replace(config, model=model, **(own | MODELS[model].defaults(experiment)))
    if preset is None:
        return config
    changes: dict[str, Any] = {"means_scale": PRESET_MEANS_SCALE[experiment]}
    if preset == "tuned" and experiment == "mnist":
        changes["hidden"] = (256, 256)  # layers of 1024 lose a class or two after some 20 epochs
    return with_preset(config, preset).with_options(**changes)


def with_preset(config: TrainConfig, preset: str) -> TrainConfig:
    """The configuration with its settings overridden by those of a preset."""
    if config.model != "segma":
        raise ValueError(f"presets are rules of SeGMA: leave {preset!r} out for the model {config.model!r}")
    rules = dict(PRESETS[preset])
    objective = dataclasses.replace(config.objective, **rules.pop("objective"))
    if share := rules.pop("labelled_share", None):  # as a fraction of the unlabelled rows of a step
        rules["labelled_batch_size"] = max(1, round(share * config.batch_size))
    return dataclasses.replace(config, objective=objective, **rules)


def build_model(
    config: TrainConfig,
    image_shape: tuple[int, int, int],
    classes: int,
    label_counts: Tensor | None = None,
    rows: int | None = None,
) -> ImageModel:
    """A new model with random weights from torch's generator.

    Args:
        config: configuration of the run.
        image_shape: (C, H, W).
        classes: number of classes in the data set.
        label_counts: number of labelled rows per class, (classes,); None without labels or if weights will be loaded.
        rows: training rows, with a label or without; None if weights will be loaded.

    Raises:
        ValueError: for settings that do not fit the data.
    """
    components = classes if config.components is None else config.components
    task = Task(image_shape, classes, components, config.takes_labels, label_counts, rows)
    return MODELS[config.model].build(config.objective, config.network, task)


def check_step(config: TrainConfig, device: torch.device) -> None:
    """Raise ``ValueError`` for settings or steps that the model does not support on this device."""
    step = StepPlan(config.batch_size, config.labelled_rows, config.micro_batch, config.compile, device)
    MODELS[config.model].check(config.objective, config.network, step)
