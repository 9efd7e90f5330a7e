"""Splits, columns and labels from the library ``datasets`` (Hugging Face)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segma_fast.trainer.data.config import UNLABELLED, DataConfig, DataError, library
from segma_fast.trainer.data.idx import idx_files, open_idx

_LABEL_NAMES = ("label", "labels", "class", "class_label", "target", "targets", "y")
_TEST_SPLITS = ("test", "validation", "valid", "val")
_NOT_THERE = "is not a local folder, and is not on the Hugging Face Hub or is private there"
_PATIENCE = 10  # seconds until the Hub counts as not reachable
_SPLIT_FOLDERS = {"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"}


def open_splits(config: DataConfig, folder: Path | None) -> dict[str, Any]:
    """The splits, by name, of a local folder, or of the data set on the Hub if ``folder`` is None.

    Raises:
        DataError: if there is no such data set, or it cannot be reached or read.
    """
    if folder is None and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", config.dataset):
        raise DataError(f"dataset {config.dataset!r} is neither an existing folder nor a name on the Hub (owner/name)")
    if folder and (files := idx_files(folder)):
        return open_idx(files)
    datasets = library("datasets")
    try:
        if folder and ((folder / "dataset_dict.json").exists() or (folder / "state.json").exists()):
            found = datasets.load_from_disk(str(folder))
        else:
            with _without_bars() if folder else _asked_once(config.dataset):
                found = datasets.load_dataset(str(folder.resolve()) if folder else config.dataset, name=config.subset)
    except DataError:
        raise
    except Exception as error:  # of many types, some of them generic
        raise DataError(f"dataset {config.dataset!r} {_reason(error, config, folder)}") from error
    return dict(found) if isinstance(found, dict) else {"train": found}


@contextmanager
def _without_bars() -> Iterator[None]:
    """Nothing is downloaded from a local folder, though the bars of ``datasets`` say so."""
    datasets = library("datasets")
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def _asked_once(name: str) -> Iterator[None]:
    """Ask the Hub whether it has a data set; if it cannot be reached, keep ``datasets`` from trying again and again.

    Raises:
        DataError: if the Hub has no such data set.
    """
    hub, settings = library("huggingface_hub"), library("datasets").config
    constants, reachable = library("huggingface_hub.constants"), True
    try:
        hub.HfApi().dataset_info(name, timeout=_PATIENCE)
    except hub.errors.GatedRepoError:
        pass  # it is there
    except hub.errors.RepositoryNotFoundError as error:
        raise DataError(f"dataset {name!r} {_NOT_THERE}") from error
    except Exception as error:  # no network, offline, too slow, or an answer that loading explains
        reachable = isinstance(error, hub.errors.HfHubHTTPError)
    kept = settings.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    if not reachable:  # what was loaded before is found without a network
        settings.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        settings.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = kept


def _reason(error: Exception, config: DataConfig, folder: Path | None) -> str:
    text = " ".join(str(error).split())
    if "Config name is missing" in text:
        available = re.search(r"\[.*?\]", text)
        return f"has several subsets, set subset to one of {available.group() if available else text}"
    if "BuilderConfig" in text and "not found" in text:
        return f"has no subset {config.subset!r}: {text}"
    if folder is None and isinstance(error, ConnectionError):
        return f"is not a local folder, and the Hugging Face Hub cannot be reached (no network, or offline): {text}"
    if folder is None and type(error).__name__ == "DatasetNotFoundError":
        return f"{_NOT_THERE}: {text}"
    if isinstance(error, FileNotFoundError):
        return f"has no pictures or tables that could be loaded: {text}"
    cause = f" ({' '.join(str(error.__cause__).split())})" if error.__cause__ else ""
    return f"could not be loaded: {type(error).__name__}: {text}{cause}"


def choose_splits(config: DataConfig, splits: dict[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """The training splits and the test split; the latter is None if there is none.

    Raises:
        DataError: for a split that is not there, is empty or is named twice.
    """
    found = ("train",) if "train" in splits or len(splits) != 1 else tuple(splits)
    train = config.train_splits or found
    test = config.test_split or next((name for name in _TEST_SPLITS if name in splits and name not in train), None)
    for option, names in (("train_splits", train), ("test_split", (test,) if test else ())):
        for name in names:
            _check_known("split", name, splits, f"dataset {config.dataset!r}", option)
            if not len(splits[name]):
                raise DataError(f"split {name!r} of {config.dataset!r} has no rows")
    if len({*train, test}) != len(train) + 1:
        raise DataError(f"a split may be used once, got train_splits={train} and test_split={test!r}")
    return train, test


def choose_columns(config: DataConfig, parts: dict[str, Any], labelled: bool) -> tuple[str, tuple[str, ...]]:
    """The picture column and the label columns, of which there may be none unless the data must be ``labelled``.

    Raises:
        DataError: for a column that is not there, or if none could be found.
    """
    features = next(iter(parts.values())).features
    image = config.image_column or _find_image(features)
    if image is None:
        raise DataError(f"{config.dataset!r} has no column of pictures among {_listed(features)}; set image_column")
    labels = config.label_columns or _find_label(features)
    if not labels and labelled:
        raise no_labels(config, f" to one or several of {_listed(features)}")
    for split, part in parts.items():
        for option, names in (("image_column", (image,)), ("label_columns", labels)):
            for name in names:
                _check_known("column", name, part.features, f"split {split!r} of {config.dataset!r}", option)
    return image, labels


def no_labels(config: DataConfig, choice: str = "") -> DataError:
    """The error for data without labels, and what to do about it."""
    return DataError(
        f"{config.dataset!r} has no column that is plainly the label: set label_columns{choice}, or train without "
        "labels (--labels 0, with --beta 0 --components K or a model that needs none)"
    )


def _find_image(features: Any) -> str | None:
    kind = library("datasets").Image
    for name, feature in features.items():
        if isinstance(feature, kind) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"}):
            return str(name)
    return None


def _find_label(features: Any) -> tuple[str, ...]:
    kind = library("datasets").ClassLabel
    named = [name for known in _LABEL_NAMES for name in features if name.lower() == known]
    classes = [name for name, feature in features.items() if isinstance(feature, kind)]
    for name in classes:  # of a folder whose only folders are its splits
        if {str(value).lower() for value in features[name].names} <= _SPLIT_FOLDERS:
            return ()
    found: list[str] = [*(name for name in named if name in classes), *classes, *named]
    return tuple(found[:1])


def _check_known(kind: str, name: str, known: Any, where: str, option: str) -> None:
    if name not in known:
        raise DataError(f"{where} has no {kind} {name!r} ({option}); there are {_listed(known)}")


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))


def encode_labels(parts: dict[str, Any], columns: tuple[str, ...]) -> tuple[Tensor, list[str]]:
    """The classes of all rows, splits concatenated, (N,), int64, in 0..K-1, and the K class names.

    Without columns all rows are of the one class of data without labels.

    Raises:
        DataError: if a row has no label, or a column holds anything other than integers, strings or booleans.
    """
    if not columns:
        return torch.zeros(sum(map(len, parts.values())), dtype=torch.int64), list(UNLABELLED)
    labels, names = _encode(parts, columns[0])
    if len(columns) > 1:
        names = [f"{columns[0]}={name}" for name in names]
    for column in columns[1:]:
        more, more_names = _encode(parts, column)
        labels = labels * len(more_names) + more
        names = [f"{left}, {column}={right}" for left in names for right in more_names]
    return labels, names


def _encode(parts: dict[str, Any], column: str) -> tuple[Tensor, list[str]]:
    first = next(iter(parts))
    feature = parts[first].features[column]
    labelled = isinstance(feature, library("datasets").ClassLabel)
    values: list[Any] = []
    for split, part in parts.items():
        if labelled and part.features[column] != feature:
            raise DataError(f"column {column!r} has other classes in split {split!r} than in {first!r}")
        own = part.select_columns([column])[:][column]
        nowhere = all(isinstance(value, int) and value == -1 for value in own)  # how unlabelled splits are published
        missing = [row for row, value in enumerate(own) if value is None or nowhere or (labelled and value < 0)]
        if missing:
            raise DataError(
                f"split {split!r} has no label in column {column!r} for {len(missing)} of its {len(own)} rows, the "
                f"first is row {missing[0]}; name splits and columns that have labels"
            )
        values += own
    kinds = {type(value) for value in values}
    if kinds not in ({bool}, {int}, {str}):
        raise DataError(f"the label column {column!r} must hold integers, strings or booleans, got {feature}")
    if labelled:
        return torch.tensor(values), [str(name) for name in feature.names]
    distinct, places = np.unique(np.array(values), return_inverse=True)
    binary = kinds == {bool} or distinct.tolist() == [-1, 1]
    names = [("yes" if value > 0 else "no") if binary else str(value) for value in distinct.tolist()]
    return torch.from_numpy(places.astype(np.int64)), names
