"""Brings a drawn picture or a file to the size, brightness and place of the pictures that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from segma_fast.trainer.data import DataError, prepare_picture

MOST_PIXELS = 40_000_000  # of a file
LARGEST = 1200  # pixels of a side that are looked at
LEAST = 0.03  # of the larger side that is ink, if the picture is not empty
INK = 0.1  # least difference of a pixel from the background
PLAIN = 0.6  # share of border pixels that are background where pictures have one


@dataclass(frozen=True)
class Look:
    """What the pictures of a data set have in common."""

    shape: tuple[int, int, int]
    """(C, H, W)"""
    crop: int | None
    """central pixels that are cut out of a file first"""
    background: float | None
    """brightness of the background of grey pictures; None if they have no common one, or colours"""
    extent: float = 0.0
    """typical height or width, whichever is more, of what is not background, in pixels"""
    middle: tuple[float, float] = (0.0, 0.0)
    """typical row and column of its middle"""

    @classmethod
    def of(cls, images: Tensor, crop: int | None) -> Look:
        """The look of some images (n, C, H, W), uint8."""
        shape: Any = tuple(images.shape[1:])
        pixels = images[:, 0].float() / 255
        border = torch.cat([pixels[:, [0, -1]].flatten(1), pixels[:, :, [0, -1]].flatten(1)], 1)
        background = border.median().item()
        if shape[0] != 1 or ((border - background).abs() <= INK).float().mean() < PLAIN:
            return cls(shape, crop, None)
        boxes = [box for image in pixels if (box := _box(image, background)) is not None]
        if not boxes:
            return cls(shape, crop, None)
        corners = torch.tensor(boxes, dtype=torch.float32)
        first, last = corners[:, :2], corners[:, 2:]
        extent = (last - first).amax(1).median().item()
        row, column = ((first + last) / 2).median(0).values.tolist()
        return cls(shape, crop, background, extent, (row, column))

    def fit(self, picture: Image.Image) -> tuple[Tensor, str]:
        """A picture as the model takes it, (C, H, W), uint8, and what was done to it.

        Raises:
            DataError: for one that is too large, incomplete, or empty.
        """
        if picture.width * picture.height > MOST_PIXELS:
            most = f"{MOST_PIXELS // 1_000_000} million"
            raise DataError(f"a picture may have {most} pixels, this one has {picture.width} × {picture.height}")
        try:
            picture = ImageOps.exif_transpose(picture)
            if "A" in picture.getbands() or "transparency" in picture.info:
                paper = Image.new("RGBA", picture.size, (255, 255, 255, 255))
                picture = Image.alpha_composite(paper, picture.convert("RGBA"))
        except OSError as error:
            raise DataError(f"the picture is not complete: {error}") from error
        _, height, width = self.shape
        same_size = picture.size == (width, height)
        if picture.mode.startswith(("I", "F")):
            raise DataError(f"the picture must have 8 bits a channel, it has mode {picture.mode}")
        if self.background is None or same_size:
            done = "as it is" if same_size else f"resized from {_size(picture)} to {width} × {height} pixels"
            if self.crop is not None and not same_size:
                done = f"the middle {self.crop} × {self.crop} pixels of {_size(picture)}, {done}"
            return prepare_picture(picture, self.crop, self.shape), done
        return self._placed(picture.convert("L"), self.background)

    def _placed(self, picture: Image.Image, background: float) -> tuple[Tensor, str]:
        """What is not the paper, in the contrast, size and place of the data."""
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
        pixels = torch.from_numpy(np.array(picture)).float() / 255
        paper = torch.cat([pixels[[0, -1]].flatten(), pixels[:, [0, -1]].flatten()]).median().item()
        away = pixels - paper
        sign = 1.0 if away[away.abs() > INK].sum() > 0 else -1.0  # ink is lighter or darker
        ink = (sign * away).clamp(min=0)
        box = _box(ink, 0.0)
        if box is None or max(box[2] - box[0], box[3] - box[1]) < LEAST * max(ink.shape):
            raise DataError("the picture is empty: draw something, or choose another")
        done = []
        if (sign < 0) == (background < 0.5):
            done.append(f"inverted to {'light on dark' if background < 0.5 else 'dark on light'}")
        if ink.max() < 0.9:
            done.append("with full contrast")
        ink = self._moved(ink / ink.max(), box)
        done.append(f"its {box[3] - box[1]} × {box[2] - box[0]} pixels of ink brought to size and place")
        found = background + ink * ((1 if background < 0.5 else 0) - background)
        return (255 * found).round().to(torch.uint8)[None], ", ".join(done)

    def _moved(self, ink: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        """The part in the box, with the data's typical size and place."""
        _, height, width = self.shape
        top, left, bottom, right = box
        scale = min(self.extent / max(bottom - top, right - left), height / (bottom - top), width / (right - left))
        size = (max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top))))
        part = Image.fromarray((255 * ink[top:bottom, left:right]).round().to(torch.uint8).numpy())
        paper = Image.new("L", (width, height), 0)
        row, column = round(self.middle[0] - size[1] / 2), round(self.middle[1] - size[0] / 2)
        place = (min(max(column, 0), width - size[0]), min(max(row, 0), height - size[1]))
        paper.paste(part.resize(size, Image.Resampling.BOX), place)
        return prepare_picture(paper, None, self.shape)[0].float() / 255


def _box(image: Tensor, background: float) -> tuple[int, int, int, int] | None:
    """Top, left, bottom and right of what is not background in (H, W), or None if there is nothing."""
    ink = (image - background).abs() > INK
    rows, columns = ink.any(1).nonzero()[:, 0], ink.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _size(picture: Image.Image) -> str:
    return f"{picture.width} × {picture.height}"
