"""MNIST's own files, as they are or gzipped."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from made import random_pixels

from segma_fast.trainer.data import DataConfig, DataError, load_data


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder: Path, name: str, array: np.ndarray, zipped: bool) -> None:
    content = idx(array)
    if zipped:
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    else:
        (folder / name).write_bytes(content)


def mnist(folder: Path, zipped: bool = False) -> tuple[np.ndarray, ...]:
    folder.mkdir()
    images, labels = random_pixels(0, 40, 6, 5), np.arange(40, dtype=np.uint8) % 3
    test_images, test_labels = random_pixels(1, 9, 6, 5), np.arange(9, dtype=np.uint8) % 3
    names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    arrays = (images, labels, test_images, test_labels)
    for name, array in zip(names, arrays, strict=True):
        write(folder, name, array, zipped)
    return arrays


@pytest.mark.parametrize("zipped", [False, True])
def test_pictures_and_labels(tmp_path: Path, zipped: bool) -> None:
    images, labels, test_images, test_labels = mnist(tmp_path / "fashion", zipped)
    for _ in range(2):  # decoded, then from the cache
        data = load_data(DataConfig(dataset=str(tmp_path / "fashion")))
        assert np.array_equal(data.train_images[:, 0], images) and np.array_equal(data.test_images[:, 0], test_images)
        assert np.array_equal(data.train_labels, labels) and np.array_equal(data.test_labels, test_labels)
        assert data.class_names == ("0", "1", "2") and data.name == "fashion"
    assert load_data(DataConfig(dataset=str(tmp_path / "fashion"), size=8)).image_shape == (1, 8, 8)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    mnist(folder)
    labels = folder / "t10k-labels-idx1-ubyte"

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            load_data(DataConfig(dataset=str(folder)))

    whole = labels.read_bytes()
    labels.write_bytes(whole[:-1])
    refused(re.escape(f"{labels} has 16 bytes, expected 17 for (9,)"))
    labels.write_bytes(b"\x00\x00\x08")
    refused("is not an idx file of uint8 in 1 dimensions, it begins with")
    labels.write_bytes(whole[:4])
    refused("has 4 bytes")
    labels.write_bytes(idx(np.zeros(8, np.uint8)))
    refused("has 9 images, .* has 8 labels")
    labels.unlink()
    refused("has t10k-images-idx3-ubyte, but no file of the labels for it")
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(whole)[:-9])
    refused("t10k-labels-idx1-ubyte.gz cannot be read")
