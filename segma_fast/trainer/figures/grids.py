"""Grids of images with the names of their rows and columns, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from segma_fast.trainer.files import replacing

SMALLEST_SIDE = 64  # images are enlarged by an integer factor to at least this height, so that their pixels stay sharp
GAP = 4
INK, FAINT = (0, 0, 0), (90, 90, 90)


def picture_grid(images: Tensor, title: str = "", rows: Sequence[str] = (), columns: Sequence[str] = ()) -> Image.Image:
    """Images as one picture, which notebooks show.

    Args:
        images: (rows, columns, C, H, W), or (n, C, H, W) as one row, C = 1 or 3; uint8 or in [0, 1].
        title: lines above the grid; the first is larger.
        rows: a name for each row, or none.
        columns: a name for each column, or none.

    Raises:
        ValueError: for other shapes, or names that are not as many as the rows or columns.
    """
    images = images[None] if images.ndim == 4 else images
    if images.ndim != 5 or images.shape[2] not in (1, 3) or 0 in images.shape:
        shape = tuple(images.shape)
        raise ValueError(f"images must be of shape (rows, columns, 1 or 3, H, W) or (n, 1 or 3, H, W), got {shape}")
    if not images.is_floating_point() and images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 or floating point in [0, 1], got {images.dtype}")
    rows, columns = [str(name) for name in rows], [" ".join(str(name).split()) for name in columns]
    for kind, names, count in (("rows", rows, images.shape[0]), ("columns", columns, images.shape[1])):
        if names and len(names) != count:
            raise ValueError(f"{kind} must be {count} names, got {len(names)}")
    return _labelled(compose(images), title, rows, columns, images.shape[:2])


def save_grid(
    images: Tensor, path: Path, title: str = "", rows: Sequence[str] = (), columns: Sequence[str] = ()
) -> Path:
    """Write :func:`picture_grid` to a PNG, whole or not at all.

    Raises:
        ValueError: if the path is a folder or does not end in .png.
    """
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ValueError(f"pictures are written to files that end in .png, got {path}")
    picture = picture_grid(images, title, rows, columns)
    with replacing(path) as draft:
        picture.save(draft)
    return path


def compose(images: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images (rows, columns, C, H, W), C = 1 or 3, on white, without names: uint8, (height, width[, 3])."""
    scale = max(1, -(-SMALLEST_SIDE // images.shape[-2]))
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8) if images.is_floating_point() else images
    pixels = pixels.cpu().repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    rows, columns, channels, height, width = pixels.shape
    canvas = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), 255, dtype=torch.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
            canvas[:, top : top + height, left : left + width] = pixels[row, column]
    array = canvas[0].numpy() if channels == 1 else canvas.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array)


def step_names(steps: int, last: float = 1.0) -> list[str]:
    """The values of t of ``steps`` images from 0 to ``last``, as names of columns."""
    return [f"{t:.2f}" for t in torch.linspace(0, last, steps).tolist()]


def _labelled(
    grid: np.ndarray[Any, Any], title: str, rows: Sequence[str], columns: Sequence[str], shape: Sequence[int]
) -> Image.Image:
    """A grid on a larger white picture, with names at its left and above it."""
    plain = Image.fromarray(grid)
    if not (title or any(rows) or any(columns)):
        return plain
    height, width = grid.shape[:2]
    large, small = _font(15), _font(12)
    lines = [(text, small if i else large, FAINT if i else INK) for i, text in enumerate(title.splitlines())]
    wide = max((small.getlength(line) for name in rows for line in name.splitlines()), default=0)
    left = int(wide) + 2 * GAP if wide else 0
    above = sum(6 + int(font.size) for _, font, _ in lines) + (3 * GAP if lines else 0)
    names_above = above + (GAP + int(small.size) if columns else 0)
    right = max([left + width, *(GAP + int(font.getlength(text)) + GAP for text, font, _ in lines)])
    picture = Image.new("RGB", (right, names_above + height), (255, 255, 255))
    picture.paste(plain.convert("RGB"), (left, names_above))
    draw = ImageDraw.Draw(picture)
    top = GAP
    for text, font, colour in lines:
        draw.text((GAP, top), text, fill=colour, font=font)
        top += 6 + int(font.size)
    cell = ((height - GAP) / shape[0], (width - GAP) / shape[1])
    for i, name in enumerate(rows):
        middle = names_above + GAP / 2 + (i + 0.5) * cell[0]
        draw.multiline_text((left - GAP, middle), name, fill=INK, font=small, anchor="rm", align="right")
    for i, name in enumerate(columns):
        draw.text((left + GAP / 2 + (i + 0.5) * cell[1], names_above - 1), name, fill=FAINT, font=small, anchor="mb")
    return picture


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own font, which has Greek letters and arrows."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
