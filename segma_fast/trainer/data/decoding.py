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
_HINT = "; --skip-broken leaves such pictures out"
_ROWS_AT_ONCE = 256  # encoded pictures held in memory at a time


class BrokenPicture(DataError):
    """A picture that is missing or cannot be read."""


def decode_images(
    config: DataConfig, parts: dict[str, Any], column: str, places: list[int]
) -> tuple[Tensor, dict[int, str]]:
    """The pictures of all splits, cropped and resized.

    Args:
        config: for ``crop``, ``size``, ``grayscale`` and ``skip_broken``.
        parts: the ``datasets.Dataset`` of each split, by name.
        column: name of the picture column.
        places: index of each row in the result, a permutation of 0..N-1.

    Returns:
        (N, C, H, W), uint8; C is 1 if grayscale is asked for or all pictures are gray, else 3. And the places of broken
        pictures, with what is wrong with each, if they are to be skipped; nothing is written there.

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
    first = _first(reader, encoded, column, config)
    broken: dict[int, str] = {}
    width, height = (config.size, config.size) if config.size else first.size

    def put(split: str, row: int, raw: Any, mode: str, images: np.ndarray[Any, Any], place: int) -> bool:
        try:
            image = _open(reader, raw, split, row, config.crop)
        except BrokenPicture as error:
            if not config.skip_broken:
                raise BrokenPicture(f"{error}{_HINT}") from error
            broken[place] = str(error)
            return True
        if mode == "L" and image.mode not in ("1", "L") and not config.grayscale:
            return False
        if not config.size and image.size != first.size:
            raise DataError(
                f"{_where(split, row, raw)} is {_pixels(image)}, the first picture is {_pixels(first)}; set size to "
                f"resize all to size x size pixels"
            )
        images[place] = _array(image, mode, width, height)
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
                    own = places[start + row : start + row + len(raws)]
                    same = ([value] * len(raws) for value in (mode, images))
                    if not all(list(pool.map(put, [split] * len(raws), rows, raws, *same, own))):
                        return None
                    bar.update(len(raws))
                start += len(part)
        return images

    gray = config.grayscale or first.mode in ("1", "L")
    images = fill("L") if gray else None
    return torch.from_numpy(fill("RGB") if images is None else images), broken


def _first(reader: Any, encoded: dict[str, Any], column: str, config: DataConfig) -> Any:
    """The first picture, or, if broken ones are skipped, the first that is whole."""
    failure: BrokenPicture | None = None
    for split, part in encoded.items():
        for row in range(len(part)):
            try:
                return _open(reader, part[row][column], split, row, config.crop)
            except BrokenPicture as error:
                failure = failure or error
                if not config.skip_broken:
                    raise BrokenPicture(f"{error}{_HINT}") from error
    raise DataError(f"no picture of {config.dataset!r} can be read: {failure}")


def _open(reader: Any, raw: Any, split: str, row: int, crop: int | None) -> Any:
    """A decoded picture in its own mode, cropped."""
    where = _where(split, row, raw)
    if raw is None or raw == {"bytes": None, "path": None}:
        raise BrokenPicture(f"{where} has no picture")
    try:
        image = reader.decode_example(raw if isinstance(raw, dict) else reader.encode_example(raw))
    except Exception as error:  # of many kinds, depending on the file format
        reason = re.sub(r" <_io\..*?>", "", f"{type(error).__name__}: {error}")
        raise BrokenPicture(f"the picture of {where} cannot be read: {reason}") from error
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
