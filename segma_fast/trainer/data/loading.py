"""Labelled pictures as uint8 tensors: scikit-learn's digits, data sets of the Hugging Face Hub, local folders."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segma_fast.distance.backends import extension
from segma_fast.trainer.data.config import UNLABELLED, DataConfig, DataError, library
from segma_fast.trainer.data.decoding import decode_images
from segma_fast.trainer.data.sources import choose_columns, choose_splits, encode_labels, no_labels, open_splits
from segma_fast.trainer.files import replacing

_FORMAT = 2  # version of the cached files: change it when the same configuration produces different content

_VALIDATION = " (validation)"  # ends the name of data whose test rows are rows for validation


@dataclass(frozen=True)
class ImageData:
    """Training and test pictures (uint8, (N, C, H, W)) and their classes (int64, (N,), 0..K-1)."""

    name: str
    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def labelled(self) -> bool:
        """Whether the classes are known; otherwise all pictures are of one class, whose name is empty."""
        return self.class_names != UNLABELLED

    def with_validation(self, count: int, seed: int) -> ImageData:
        """The training pictures alone, of which ``count`` at random take the place of the test pictures."""
        rows = len(self.train_labels)
        if count >= rows:
            raise DataError(f"validation must be less than the {rows} training rows, got {count}")
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
        held, kept = order[:count].sort().values, order[count:].sort().values
        images, labels = self.train_images, self.train_labels
        parts = (images[kept], labels[kept], images[held], labels[held])
        return ImageData(self.name + _VALIDATION, *parts, self.class_names)


@dataclass(frozen=True)
class _Rows:
    """All rows, training rows first, as stored in the cache."""

    images: Tensor
    labels: Tensor
    train: int
    names: list[str]

    def checksum(self) -> int:
        total = zlib.crc32(json.dumps([list(self.images.shape), self.train, self.names]).encode())
        return zlib.crc32(self.images.numpy().data, zlib.crc32(self.labels.numpy().data, total))

    def public(self, name: str) -> ImageData:
        images, labels, train = self.images, self.labels, self.train
        return ImageData(name, images[:train], labels[:train], images[train:], labels[train:], tuple(self.names))


def load_data(config: DataConfig, *, labelled: bool = True) -> ImageData:
    """Load a data set; the decoded pictures are kept in a cache folder, except for the digits.

    A local folder has a layout that ``datasets.load_dataset`` reads (``train-00000-of-00001.parquet``,
    ``train/cat/1.png``; for splits with other names ``data/extra-00000-of-00001.parquet``), was written by
    ``save_to_disk``, or holds MNIST's idx files (``train-images-idx3-ubyte.gz``). A folder named ``digits`` must be
    given as ``./digits``. The cache key contains the names, sizes and modification times of a folder's files, or the
    version of a data set on the Hub; old entries are never removed.

    Args:
        config: the data set.
        labelled: whether it must have labels; if not, and there is no column of labels, it has one class.

    Raises:
        DataError: if the data set cannot be found or used; the message names the value and what was expected.
    """
    data = _load_all(config, labelled)
    return data.with_validation(config.validation, config.split_seed) if config.validation else data


def _load_all(config: DataConfig, labelled: bool) -> ImageData:
    if config.dataset == "digits":
        return _digits(config)
    folder, cache = config.folder, cache_folder(config)
    splits = None if folder else open_splits(config, None)
    version = _listing(folder, cache) if folder else _fingerprints(config.dataset, splits or {})
    file = cache / f"{_readable(config.name)}-{_key(config, version)}.pt"
    rows = _read(file)
    if rows is None:
        rows = _build(config, splits or open_splits(config, folder), labelled)
        _write(file, rows)
    if labelled and rows.names == list(UNLABELLED):
        raise no_labels(config)
    return rows.public(config.name)


def _digits(config: DataConfig) -> ImageData:
    used = ("dataset", "test_fraction", "split_seed", "validation", "grayscale", "cache")
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.name not in used and value != item.default:
            raise DataError(f"the digits do not take {item.name}, got {value!r}; leave it out or name another dataset")
    digits = library("sklearn.datasets").load_digits()
    images = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))[:, None]
    labels, names = torch.from_numpy(digits.target.astype(np.int64)), [str(name) for name in digits.target_names]
    train, test = _hold_out(labels, names, config)
    order = torch.cat([train, test])
    return _Rows(images[order], labels[order], len(train), names).public("digits")


# The cache ------------------------------------------------------------------------------------------------------


def cache_folder(config: DataConfig) -> Path:
    """The folder that caches decoded data sets and what is computed from them."""
    return config.cache.expanduser() if config.cache else extension.cache_folder()


def cached_data(config: DataConfig, name: str) -> Iterator[ImageData]:
    """The data sets in the cache that :func:`load_data` gave this name, however they were read."""
    readable = _readable(name.removesuffix(_VALIDATION))
    for file in sorted(cache_folder(config).glob("*.pt")):
        if not re.fullmatch(re.escape(readable) + r"-[0-9a-f]{16}\.pt", file.name):
            continue
        rows = _read(file)
        if rows is not None and config.validation < rows.train:
            data = rows.public(name.removesuffix(_VALIDATION))
            yield data.with_validation(config.validation, config.split_seed) if config.validation else data


def _readable(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def _listing(folder: Path, cache: Path) -> list[tuple[str, int, int]]:
    """Name, size and modification time of each file that ``datasets`` may read, and the path of the folder."""
    files = [(str(folder.resolve()), 0, 0)]
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        folders[:] = [d for d in folders if not d.startswith(".") and (here / d).resolve() != cache.resolve()]
        for path in (here / name for name in names if not name.startswith(".")):
            if path.exists():
                files.append((str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns))
    return sorted(files)


def _fingerprints(name: str, splits: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, ""), *((split, rows._fingerprint) for split, rows in splits.items())]


def _key(config: DataConfig, version: Any) -> str:
    fields = dataclasses.asdict(config)
    unused = ["cache", "dataset", "validation"] + (["test_fraction", "split_seed"] if config.test_split else [])
    content = [_FORMAT, {name: value for name, value in fields.items() if name not in unused}, version]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _read(file: Path) -> _Rows | None:
    if not file.exists():
        return None
    try:
        content = torch.load(file, weights_only=True)
        checksum = content.pop("checksum")
        rows = _Rows(**content)
        if rows.checksum() == checksum:
            return rows
    except Exception:  # a damaged file can raise anything
        pass
    warnings.warn(f"{file} is damaged and will be rebuilt", stacklevel=3)
    return None


def _write(file: Path, rows: _Rows) -> None:
    try:
        with replacing(file) as draft:
            torch.save({**vars(rows), "checksum": rows.checksum()}, draft)
    except (OSError, RuntimeError) as error:
        warnings.warn(f"the decoded pictures could not be kept in {file}: {error}", stacklevel=3)


# From the source to rows ----------------------------------------------------------------------------------------


def _build(config: DataConfig, splits: dict[str, Any], labelled: bool) -> _Rows:
    train, test = choose_splits(config, splits)
    parts = {name: splits[name].with_format(None) for name in (*train, test) if name is not None}
    image_column, label_columns = choose_columns(config, parts, labelled)
    labels, names = encode_labels(parts, label_columns)
    order, training = torch.arange(len(labels)), sum(len(parts[name]) for name in train)
    if test is None:
        kept, held = _hold_out(labels, names, config)
        held = held[torch.randperm(len(held), generator=torch.Generator().manual_seed(config.split_seed))]
        order, training = torch.cat([kept, held]), len(kept)
    images, broken = decode_images(config, parts, image_column, order.argsort().tolist())
    rows = _Rows(images, labels[order], training, names)
    return _without(rows, broken, config) if broken else rows


def _without(rows: _Rows, broken: dict[int, str], config: DataConfig) -> _Rows:
    """The rows whose pictures could be read; a warning counts the others."""
    whole = torch.ones(len(rows.labels), dtype=torch.bool)
    whole[list(broken)] = False
    left, count = int(whole[: rows.train].sum()), int(whole.sum())
    told = f"{len(broken)} of the {len(whole)} pictures of {config.dataset!r} are left out, the first because "
    told += broken[min(broken)]
    if left in (0, count):
        raise DataError(f"{told}; no picture is left to {'test' if left else 'train'} on")
    warnings.warn(told, stacklevel=2)
    return _Rows(rows.images[whole], rows.labels[whole], left, rows.names)


def _hold_out(labels: Tensor, names: list[str], config: DataConfig) -> tuple[Tensor, Tensor]:
    """Training rows and test rows, both ascending; the same fraction of each class is held out."""
    generator = torch.Generator().manual_seed(config.split_seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label, name in enumerate(names):
        rows = (labels == label).nonzero().flatten()
        if len(rows) == 1:
            raise DataError(f"class {name!r} has 1 row, and at least 2 are needed to hold out a part of each class")
        count = min(max(1, round(config.test_fraction * len(rows))), len(rows) - 1)
        held[rows[torch.randperm(len(rows), generator=generator)[: max(0, count)]]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()
