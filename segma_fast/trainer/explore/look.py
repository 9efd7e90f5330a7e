"""Brings a drawn picture or a file to the size, brightness and place of the pictures that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from segma_fast.trainer.data import DataError, prepare_picture

MOST_PIXELS = 40_000_000  # of a file: decoded it takes 160 MB
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
        if self.background is None:
            done = "as it is" if same_size else f"resized from {_size(picture)} to {width} × {height} pixels"
            if self.crop is not None:
                done = f"the middle {self.crop} × {self.crop} pixels of {_size(picture)}, {done}"
            return prepare_picture(picture, self.crop, self.shape), done
        return self._placed(picture.convert("L"), self.background, same_size)

    def _placed(self, picture: Image.Image, background: float, same_size: bool) -> tuple[Tensor, str]:
        done = []
        pixels = prepare_picture(picture, None, (1, picture.height, picture.width))[0].float() / 255
        own = torch.cat([pixels[[0, -1]].flatten(), pixels[:, [0, -1]].flatten()]).median().item()
        if (own > 0.5) != (background > 0.5):
            pixels, own = 1 - pixels, 1 - own
            done.append(f"inverted to {'light on dark' if background < 0.5 else 'dark on light'}")
        box = _box(pixels, own)
        if box is None:
            raise DataError("the picture is empty: draw something, or choose another")
        if not same_size:
            pixels = self._moved(pixels, box, background)
            done.append(f"its {box[2] - box[0]} × {box[3] - box[1]} pixels of ink brought to size and place")
        return (255 * pixels.clamp(0, 1)).round().to(torch.uint8)[None], ", ".join(done) or "as it is"

    def _moved(self, pixels: Tensor, box: tuple[int, int, int, int], background: float) -> Tensor:
        """The part in the box on the data's background, with the data's typical size and place."""
        _, height, width = self.shape
        top, left, bottom, right = box
        scale = min(self.extent / max(bottom - top, right - left), height / (bottom - top), width / (right - left))
        size = (max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top))))
        part = Image.fromarray((255 * pixels[top:bottom, left:right]).round().to(torch.uint8).numpy())
        paper = Image.new("L", (width, height), round(255 * background))
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
