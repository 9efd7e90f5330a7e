"""The configuration of a data set, and the error for data that cannot be used."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

UNLABELLED = ("",)  # the class names of data without labels: one class, without a name


class DataError(ValueError):
    """A data set that cannot be used as configured."""


def library(name: str) -> Any:
    """Import a module of an optional dependency.

    Raises:
        DataError: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = {"sklearn": "scikit-learn", "PIL": "pillow"}.get(name.split(".")[0], name)
        raise DataError(f'{package} is needed for this data set: pip install "segma-fast[train]"') from error


@dataclass(frozen=True)
class DataConfig:
    """Which data set to load, and how to preprocess it."""

    dataset: str = "digits"
    """"digits" (scikit-learn's 1,797 pictures of 8x8), a name on the Hugging Face Hub, or a local folder"""
    subset: str | None = None
    """configuration of a data set on the Hub, such as "cropped_digits" of SVHN"""
    image_column: str | None = None
    """column of the pictures; found if not given"""
    label_columns: tuple[str, ...] = ()
    """label columns; with several, each combination of values is a class; detected if not given"""
    train_splits: tuple[str, ...] = ()
    """splits to train on, concatenated; default "train", or the only split"""
    test_split: str | None = None
    """split to test on; detected if not given; if there is none, part of the training rows is held out"""
    test_fraction: float = 0.2
    """part of each class that is held out where there is no test split"""
    split_seed: int = 0
    """seed for choosing the held-out rows"""
    validation: int = 0
    """training rows, drawn at random, that take the place of the test rows: settings are chosen on them, and the test
    rows are not looked at; --split-seed draws others"""
    crop: int | None = None
    """cut the middle crop x crop pixels out, before resizing"""
    size: int | None = None
    """resize to size x size pixels"""
    grayscale: bool = False
    """convert to one channel; otherwise three channels, or one if all pictures are grey"""
    skip_broken: bool = False
    """leave out pictures that are missing or cannot be read; otherwise the first one is an error"""
    cache: Path | None = None
    """folder of decoded data sets; default $SEGMA_FAST_CACHE or ~/.cache/segma_fast"""

    def __post_init__(self) -> None:
        if not 0 < self.test_fraction < 1:
            raise DataError(f"test_fraction must be between 0 and 1, both excluded, got {self.test_fraction}")
        if self.validation < 0:
            raise DataError(f"validation must be >= 0, got {self.validation}")
        for name, value in (("crop", self.crop), ("size", self.size)):
            if value is not None and value < 1:
                raise DataError(f"{name} must be >= 1, got {value}")

    @property
    def folder(self) -> Path | None:
        """The existing local folder of the data set, absolute; None for the digits and for a name on the Hub."""
        folder = Path(self.dataset).expanduser()
        return Path(os.path.abspath(folder)) if self.dataset != "digits" and folder.is_dir() else None

    @property
    def name(self) -> str:
        """The name of the folder, or that of the data set on the Hub."""
        return self.folder.resolve().name if self.folder else self.dataset

    def located(self) -> Self:
        """The same with absolute paths, which mean the same in every working directory."""
        cache = self.cache and Path(os.path.abspath(self.cache.expanduser()))
        return replace(self, dataset=str(self.folder or self.dataset), cache=cache)
