"""Small data sets made on the spot."""

import io
from pathlib import Path

import datasets
import numpy as np
from PIL import Image


def random_pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels, mode=None, format="PNG", **options):
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, format, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def make(folder: Path, splits: dict, label=None, image=None):
    """A folder of Parquet files; columns is a dictionary a split, ``image`` holds pixels or encoded pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, columns in splits.items():
        columns = dict(columns)
        if "image" in columns:
            columns["image"] = [encoded(x) if isinstance(x, np.ndarray) else x for x in columns["image"]]
        table = datasets.Dataset.from_dict(columns)
        if "image" in columns:
            table = table.cast_column("image", image or datasets.Image())
        if label is not None:
            table = table.cast_column("label", label)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


def gray(count, seed=0, size=4):
    return list(random_pixels(seed, count, size, size))


def cache_files(tmp_path):
    return sorted((tmp_path / "cache").iterdir())
