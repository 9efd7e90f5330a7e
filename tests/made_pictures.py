"""Pictures that tests make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def colour_folder(folder: Path) -> Path:
    """Red and blue pictures of 20 × 16 pixels in two classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for channel, name in ((0, "red ones"), (2, "blue ones")):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 90, (16, 20, 3), dtype=np.uint8)
                pixels[:, :, channel] += 150
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def plain_folder(folder: Path, split: str, count: int, seed: int = 0) -> Path:
    """Grey pictures of 6 × 6 pixels without labels."""
    rng = np.random.default_rng(seed)
    (folder / split).mkdir(parents=True)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(folder / split / f"{number:03}.png")
    return folder
