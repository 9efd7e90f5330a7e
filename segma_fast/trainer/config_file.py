"""Writes, reads, checks and compares the configuration files of runs."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from segma_fast.trainer.config import TrainConfig, check_model
from segma_fast.trainer.files import write_text
from segma_fast.trainer.models import MODELS, ModelConfig

# Fields that a resumed run may change: they change the weights at a given step only by rounding. Exception: models that
# draw noise get different noise on another device or in a compiled step.
FREE_ON_RESUME = frozenset(
    {"epochs", "minutes", "checkpoint_every", "log_every", "run_dir", "device", "compile", "cuda_graph"}
    | {"micro_batch", "data.cache"}
)
FORMERLY_AT_THE_TOP = ("means_init", "means_scale")  # SeGMA settings that older files have at the top level


def save_config(config: TrainConfig, path: Path) -> None:
    """Write a configuration as JSON, atomically."""
    write_text(path, _as_json(config) + "\n")


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
    except OSError as error:
        if path.is_dir():
            raise ValueError(f"a configuration is a file, got the folder {path}") from None
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def check_storable(config: TrainConfig) -> None:
    """Raise ``ValueError`` for a configuration that its file would not bring back, such as a number as text."""
    read = typing.cast(TrainConfig, _from_json(TrainConfig, json.loads(_as_json(config)), ""))
    before, after = _flat(config), _flat(read)
    changed = [f"{name} must not be {before[name]!r}" for name in before if before[name] != after[name]]
    if changed:
        raise ValueError(f"the configuration holds values of another type than its flags have: {'; '.join(changed)}")


def _as_json(config: TrainConfig) -> str:
    return json.dumps(dataclasses.asdict(config), indent=2, default=str)


def differences(saved: TrainConfig, given: TrainConfig) -> list[str]:
    """``"name: saved value -> given value"`` for each field that a resumed run may not change.

    Paths to the same folder are no difference, and neither is one to a folder of the same name where the saved one has
    gone: whether it has the same pictures is for :class:`segma_fast.trainer.run_folder.DataInfo` to say.
    """
    before, after = (_flat(dataclasses.replace(config, data=config.data.located())) for config in (saved, given))
    old = Path(before["data.dataset"])
    if old.is_absolute() and not old.exists() and given.data.folder and given.data.name == old.name:
        del before["data.dataset"]
    return [
        f"{name}: {before[name]!r} -> {after[name]!r}"
        for name in before
        if name not in FREE_ON_RESUME and name in after and before[name] != after[name]  # fields differ between models
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


def _as_of_today(values: dict[str, Any]) -> dict[str, Any]:
    """Convert an older file, with SeGMA's means settings at the top level for every model, or without a classifier."""
    means = {name: values[name] for name in FORMERLY_AT_THE_TOP if name in values}
    kept = {name: value for name, value in values.items() if name not in means}
    if kept.get("model", "segma") == "segma" and isinstance(kept["objective"], dict):
        kept["objective"] = means | kept["objective"]
        if "gamma_rows" in kept["objective"]:  # a file that was saved, not written by hand: then all fields are there
            kept["objective"] = {"classifier": "mixture"} | kept["objective"]
    return kept


def _from_json(kind: Any, value: Any, name: str) -> Any:
    """Convert a JSON value to the annotated type of a field."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _from_json(arguments[0], value, name)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{name or 'the file'} must be an object, got {value!r}")
        hints = typing.get_type_hints(kind)
        if kind is TrainConfig:
            hints["objective"] = _settings_of(value.get("model", "segma"))
            value = _as_of_today({"objective": {}} | value)
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
