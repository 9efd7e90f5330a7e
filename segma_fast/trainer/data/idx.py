"""MNIST's own file format, idx, in which Fashion-MNIST and others come too; gzipped or not.

A file begins with two zero bytes, the type of its numbers (8 is uint8), the number of dimensions and then each
dimension, as a big-endian integer of 32 bits; see "THE IDX FILE FORMAT" on MNIST's page.
"""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segma_fast.trainer.data.config import DataError, library

_NAME = re.compile(r"(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(?:\.gz)?")
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}


def idx_files(folder: Path) -> dict[str, dict[str, Path]]:
    """The files of a folder by split ("train", "test") and kind ("images", "labels"); empty without any."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # of a file and its gzipped form, the former
        if match := _NAME.fullmatch(path.name):
            found.setdefault(_SPLITS[match["split"]], {})[match["kind"]] = path
    return dict(sorted(found.items(), reverse=True))


def open_idx(files: dict[str, dict[str, Path]]) -> dict[str, Any]:
    """The splits, by name, with the columns "image" and "label".

    Raises:
        DataError: for a file that is missing or damaged, or images and labels of different numbers.
    """
    datasets = library("datasets")
    found = {}
    for split, pair in files.items():
        if len(pair) < 2:
            (kind, path) = next(iter(pair.items()))
            missing = "labels" if kind == "images" else "images"
            raise DataError(f"{path.parent} has {path.name}, but no file of the {missing} for it")
        images, labels = _read(pair["images"], 3), _read(pair["labels"], 1)
        if len(images) != len(labels):
            raise DataError(f"{pair['images']} has {len(images)} images, {pair['labels']} has {len(labels)} labels")
        columns = {"image": [_encoded(image) for image in images], "label": labels.astype(np.int64)}
        kinds = {"image": datasets.Image(), "label": datasets.Value("int64")}
        found[split] = datasets.Dataset.from_dict(columns, datasets.Features(kinds))
    return found


def _read(path: Path, dimensions: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(
            f"{path} is not an idx file of uint8 in {dimensions} dimensions, it begins with {content[:4]!r}"
        )
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start].ljust(4 * dimensions, b"\0"), ">u4").astype(np.int64)
    if len(content) != start + shape.prod():
        raise DataError(f"{path} has {len(content)} bytes, expected {start + shape.prod()} for {tuple(shape.tolist())}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _encoded(image: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "BMP")
    return {"bytes": buffer.getvalue(), "path": None}
