"""The configuration of a training run: the command line's flags, the file in the run folder, the presets."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from segma_fast.data import DataConfig
from segma_fast.files import write_text
from segma_fast.labels import LabelChoice
from segma_fast.mixture import MeansInit
from segma_fast.models import MODELS, ModelConfig, NetworkConfig, SeGMAConfig

# Fields that a resumed run may change: they touch the weights of a given step by no more than rounding, but for the
# noise that some models draw, which another device and a compiled step draw otherwise.
FREE_ON_RESUME = frozenset(
    {"epochs", "minutes", "checkpoint_every", "log_every", "run_dir", "device", "compile", "micro_batch", "data.cache"}
)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training run is made of."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    model: str = "segma"
    """what is trained: segma, m1, m2, m1m2, adgm, amm, samm or cagem"""
    objective: ModelConfig = field(default_factory=SeGMAConfig)
    """the model's own settings, of its ``Config``"""
    run_dir: Path = Path("runs/digits")
    """folder that receives the run"""
    components: int | None = None
    """components of the mixture or clusters; default one a class"""
    labels: int = 100
    """labelled rows, in all"""
    label_choice: LabelChoice = "stratified"
    """how they are chosen: as many of each class, at random, or the first of the data set"""
    unlabelled_pool: Literal["rest", "all"] = "rest"
    """rows drawn as unlabelled: those without a label, or the whole training set"""
    batch_size: int = 100
    """unlabelled rows a step, over all processes"""
    labelled_batch_size: int = 100
    """labelled rows a step, over all processes; taken in turn, all of them where there are no more"""
    micro_batch: int | None = None
    """rows that go through the networks at once on each process, for batches larger than memory; default all"""
    means_init: MeansInit = "simplex"
    """where SeGMA's means start"""
    means_scale: float = 5.0
    """how far from the origin they start"""
    learning_rate: float = 3e-4
    """of Adam"""
    decay: float = 1.0
    """factor of the learning rate after every decay_every epochs"""
    decay_every: int = 200
    """epochs"""
    clip_norm: float | None = None
    """greatest norm of all gradients together"""
    clip_value: float | None = None
    """greatest size of each entry of a gradient, after clip_norm"""
    epochs: int = 300
    """passes over the unlabelled rows"""
    minutes: float | None = None
    """stop, with a checkpoint, after this time if the epochs take longer"""
    seed: int = 0
    """of weights, labels and batches"""
    mixed_precision: Literal["no", "bf16"] = "no"
    """bf16 runs the networks in bfloat16; the distance stays in float32"""
    compile: bool = False
    """torch.compile the step, in a CUDA graph on a GPU: a minute at the start, and fewer launches in each step"""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU where there is one"""
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
        at_least_one = ("batch_size", "epochs", "checkpoint_every", "log_every", "decay_every")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("labels", "labelled_batch_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        for name in ("components", "micro_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        for name in ("learning_rate", "decay", "clip_norm", "clip_value", "minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be finite and > 0, got {value}")
        if self.compile and self.micro_batch is not None:
            raise ValueError(f"compile and micro_batch={self.micro_batch} exclude each other")
        if not math.isfinite(self.means_scale):
            raise ValueError(f"means_scale must be finite, got {self.means_scale}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0 ... 2**32 - 1, got {self.seed}")

    @property
    def takes_labels(self) -> bool:
        """Whether training sees labelled rows."""
        use = self.objective.label_use
        return use == "required" or (use == "optional" and self.labels > 0)


PRESETS: dict[str, dict[str, Any]] = {  # the rules in which the paper and its authors' code differ, and the best found
    "paper": {
        "objective": {"alpha": 5.0, "beta": 10.0, "rows": "all", "gamma_rows": "distance"},
        "label_choice": "random",
        "unlabelled_pool": "rest",
        "means_init": "coordinates",
        "clip_norm": None,
        "clip_value": None,
    },
    "authors": {
        "objective": {"alpha": 5.0, "beta": 10.0, "rows": "unlabelled", "gamma_rows": "unlabelled"},
        "label_choice": "first",
        "unlabelled_pool": "all",
        "means_init": "coordinates",
        "clip_norm": 5.0,
        "clip_value": 1.0,
    },
}
PRESETS["tuned"] = PRESETS["authors"] | {"label_choice": "stratified", "learning_rate": 1e-3, "labelled_share": 0.1}
AUTHORS_MEANS_SCALE = {"digits": 0.1, "mnist": 0.1, "svhn": 2.0, "celeba": 1.0}
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "digits": {},
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
    """Raise ``ValueError`` for a model that there is not."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}, expected one of {', '.join(MODELS)}")


def starting_config(experiment: str = "digits", preset: str | None = None, model: str = "segma") -> TrainConfig:
    """The configuration of a model in an experiment, with the rules of a preset (a key of ``PRESETS``) on top.

    Raises:
        ValueError: for an unknown experiment, preset or model, or a preset of a model without them.
    """
    check_model(model)
    for kind, name, known in (("experiment", experiment, EXPERIMENTS), ("preset", preset, PRESETS)):
        if name is not None and name not in known:
            raise ValueError(f"unknown {kind} {name!r}, expected one of {', '.join(known)}")
    config = dataclasses.replace(TrainConfig(), **EXPERIMENTS[experiment])
    if model != "segma":
        if preset is not None:
            raise ValueError(f"presets are rules of SeGMA: leave {preset!r} out for the model {model!r}")
        own: dict[str, Any] = {
            "run_dir": config.run_dir.with_name(f"{experiment}-{model}"),
            "objective": MODELS[model].Config(),
        }
        return dataclasses.replace(config, model=model, **(own | MODELS[model].defaults(experiment)))
    if preset is None:
        return config
    return dataclasses.replace(with_preset(config, preset), means_scale=AUTHORS_MEANS_SCALE[experiment])


def with_preset(config: TrainConfig, preset: str) -> TrainConfig:
    """A configuration with the rules of a preset in place of its own."""
    if config.model != "segma":
        raise ValueError(f"presets are rules of SeGMA: leave {preset!r} out for the model {config.model!r}")
    rules = dict(PRESETS[preset])
    objective = dataclasses.replace(config.objective, **rules.pop("objective"))
    if share := rules.pop("labelled_share", None):  # of the unlabelled rows of a step
        rules["labelled_batch_size"] = max(1, round(share * config.batch_size))
    return dataclasses.replace(config, objective=objective, **rules)


def save_config(config: TrainConfig, path: Path) -> None:
    """Write a configuration as JSON, whole or not at all."""
    write_text(path, json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n")


def load_config(path: Path) -> TrainConfig:
    """Read what :func:`save_config` wrote; fields that are left out keep their defaults.

    Raises:
        ValueError: if the file is missing, is not JSON, or has a field or value that the configuration does not take.
    """
    try:
        values = json.loads(path.read_text())
        return typing.cast(TrainConfig, _from_json(TrainConfig, values, ""))
    except FileNotFoundError:
        raise ValueError(f"no configuration at {path}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def differences(saved: TrainConfig, given: TrainConfig) -> list[str]:
    """``"name: saved value -> given value"`` for each field that a resumed run may not change."""
    before, after = _flat(saved), _flat(given)
    return [
        f"{name}: {before[name]!r} -> {after[name]!r}"
        for name in before
        if name not in FREE_ON_RESUME and name in after and before[name] != after[name]  # each model has its own
    ]


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        name = prefix + item.name
        flat |= _flat(value, name + ".") if dataclasses.is_dataclass(value) else {name: value}
    return flat


def _settings_of(model: Any) -> type[ModelConfig]:
    check_model(str(model))
    return MODELS[str(model)].Config


def _from_json(kind: Any, value: Any, name: str) -> Any:
    """A JSON value as the annotated type of a field."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _from_json(arguments[0], value, name)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{name or 'the file'} must be an object, got {value!r}")
        hints = typing.get_type_hints(kind)
        if kind is TrainConfig:
            hints["objective"] = _settings_of(value.get("model", "segma"))
            value = {"objective": {}} | value
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r} in {name or 'the configuration'}")
        inner = {key: _from_json(hints[key], item, f"{name}.{key}".lstrip(".")) for key, item in value.items()}
        return typing.cast(Any, kind)(**inner)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _from_json(next(a for a in arguments if a is not type(None)), value, name)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_from_json(arguments[0], item, name) for item in value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise ValueError(f"{name} must be of type {getattr(kind, '__name__', kind)}, got {value!r}")
