"""Decodes the pictures of a ``datasets`` data set (Hugging Face) into one uint8 tensor, in a thread pool."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segma_fast.trainer.data.config import DataConfig, DataError, library

# formats of picture files that a user names; PIL would run other programs for some
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO")
_ROWS_AT_ONCE = 256  # encoded pictures held in memory at a time


def decode_images(config: DataConfig, parts: dict[str, Any], column: str, places: list[int]) -> Tensor:
    """The pictures of all splits, cropped and resized.

    Args:
        config: for ``crop``, ``size`` and ``grayscale``.
        parts: the ``datasets.Dataset`` of each split, by name.
        column: name of the picture column.
        places: index of each row in the result, a permutation of 0..N-1.

    Returns:
        (N, C, H, W), uint8; C is 1 if grayscale is asked for or all pictures are gray, else 3.

    Raises:
        DataError: for a picture that is missing, cannot be read or does not have the size of the others.
    """
    datasets = library("datasets")
    library("PIL.Image")  # if missing, fail before anything is read
    feature = next(iter(parts.values())).features[column]
    reader = datasets.Image(mode=getattr(feature, "mode", None))
    encoded = {}
    for split, part in parts.items():
        part = part.select_columns([column])
        if isinstance(part.features[column], datasets.Image):
            part = part.cast_column(column, datasets.Image(decode=False))
        encoded[split] = part
    split = next(iter(parts))
    first = _open(reader, encoded[split][0][column], split, 0, config.crop)
    width, height = (config.size, config.size) if config.size else first.size

    def put(split: str, row: int, raw: Any, mode: str, target: np.ndarray[Any, Any]) -> bool:
        image = _open(reader, raw, split, row, config.crop)
        if mode == "L" and image.mode not in ("1", "L") and not config.grayscale:
            return False
        if not config.size and image.size != first.size:
            raise DataError(
                f"{_where(split, row, raw)} is {_pixels(image)}, the first picture is {_pixels(first)}; set size to "
                f"resize all to size x size pixels"
            )
        target[:] = _array(image, mode, width, height)
        return True

    def fill(mode: str) -> np.ndarray[Any, Any] | None:
        images = np.empty((len(places), len(mode), height, width), dtype=np.uint8)
        start = 0
        with (
            ThreadPoolExecutor() as pool,
            library("tqdm").tqdm(total=len(places), desc="pictures", delay=2, disable=None) as bar,
        ):
            for split, part in encoded.items():
                for row in range(0, len(part), _ROWS_AT_ONCE):
                    raws = part[row : row + _ROWS_AT_ONCE][column]
                    rows = range(row, row + len(raws))
                    targets = (images[places[start + i]] for i in rows)
                    if not all(list(pool.map(put, [split] * len(raws), rows, raws, [mode] * len(raws), targets))):
                        return None
                    bar.update(len(raws))
                start += len(part)
        return images

    gray = config.grayscale or first.mode in ("1", "L")
    images = fill("L") if gray else None
    return torch.from_numpy(fill("RGB") if images is None else images)


def _open(reader: Any, raw: Any, split: str, row: int, crop: int | None) -> Any:
    """A decoded picture in its own mode, cropped."""
    where = _where(split, row, raw)
    if raw is None or raw == {"bytes": None, "path": None}:
        raise DataError(f"{where} has no picture")
    try:
        image = reader.decode_example(raw if isinstance(raw, dict) else reader.encode_example(raw))
    except Exception as error:  # of many kinds, depending on the file format
        reason = re.sub(r" <_io\..*?>", "", f"{type(error).__name__}: {error}")
        raise DataError(f"the picture of {where} cannot be read: {reason}") from error
    return _cropped(image, crop, where)


def _cropped(image: Any, crop: int | None, where: str) -> Any:
    if image.mode.startswith(("I", "F")):
        raise DataError(f"the picture of {where} must have 8 bits a channel, got mode {image.mode}")
    if crop is None:
        return image
    if crop > min(image.size):
        raise DataError(f"crop must not be larger than the pictures, got {crop} and {where} is {_pixels(image)}")
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    return image.crop((left, top, left + crop, top + crop))


def _array(image: Any, mode: str, width: int, height: int) -> np.ndarray[Any, Any]:
    """A picture converted to the given mode and size, (C, H, W), uint8."""
    image = image if image.mode == mode else image.convert(mode)
    if image.size != (width, height):
        image = image.resize((width, height), library("PIL.Image").Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, -1).transpose(2, 0, 1)


def read_picture(path: Path, crop: int | None, shape: tuple[int, int, int]) -> Tensor:
    """Read a picture file and preprocess it like the data sets; see :func:`prepare_picture`.

    Raises:
        DataError: if it cannot be read, or is smaller than ``crop``.
    """
    try:
        with library("PIL.Image").open(path, formats=FORMATS) as opened:
            opened.load()
            return prepare_picture(opened, crop, shape, str(path))
    except DataError:
        raise
    except Exception as error:  # of many kinds, depending on the file format
        raise DataError(f"{path} is not a readable picture: {error}") from error


def prepare_picture(image: Any, crop: int | None, shape: tuple[int, int, int], where: str = "memory") -> Tensor:
    """Preprocess a PIL picture like the data sets: rotate by its EXIF orientation, crop, resize.

    Args:
        image: the picture, with 8 bits a channel.
        crop: take the central crop × crop pixels first, unless the picture has the size of the result.
        shape: (C, H, W) of the result.
        where: what error messages call it.

    Returns:
        (C, H, W), uint8.

    Raises:
        DataError: if it is smaller than ``crop``, or does not have 8 bits a channel.
    """
    channels, height, width = shape
    try:
        upright = library("PIL.ImageOps").exif_transpose(image)
    except OSError as error:
        raise DataError(f"the picture of {where} is not complete: {error}") from error
    crop = None if upright.size == (width, height) else crop
    array = _array(_cropped(upright, crop, where), "L" if channels == 1 else "RGB", width, height)
    return torch.from_numpy(array.copy())


def _where(split: str, row: int, raw: Any) -> str:
    path = raw.get("path") if isinstance(raw, dict) else None
    return f"row {row} of split {split!r}" + (f" ({path})" if path else "")


def _pixels(image: Any) -> str:
    return f"{image.width}x{image.height} pixels"
