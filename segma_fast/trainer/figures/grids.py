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
LINE = 15  # pixels of a line above an image
LARGEST_SCALE = 100
INK, FAINT = (0, 0, 0), (90, 90, 90)


def picture_grid(
    images: Tensor,
    title: str = "",
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    scale: int | None = None,
) -> Image.Image:
    """Images as one picture, which notebooks show.

    Args:
        images: (rows, columns, C, H, W), or (n, C, H, W) as one row, C = 1 or 3; uint8 or in [0, 1].
        title: lines above the grid; the first is larger.
        rows: a name for each row, or none.
        columns: a name for each column, or none; what does not fit above an image is cut.
        captions: for each row the names of its images, which are written above them, or none.
        scale: pixels a side of each pixel of an image; default as many as make images 64 pixels high.

    Raises:
        ValueError: for other shapes, names that are not as many as the rows or columns, or a scale outside 1 ... 100.
    """
    images = images[None] if images.ndim == 4 else images
    if images.ndim != 5 or images.shape[2] not in (1, 3) or 0 in images.shape:
        shape = tuple(images.shape)
        raise ValueError(f"images must be of shape (rows, columns, 1 or 3, H, W) or (n, 1 or 3, H, W), got {shape}")
    if not images.is_floating_point() and images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 or floating point in [0, 1], got {images.dtype}")
    if scale is not None and not 1 <= scale <= LARGEST_SCALE:
        raise ValueError(f"scale must be in 1 ... {LARGEST_SCALE}, got {scale}")
    rows, columns = [str(name) for name in rows], [" ".join(str(name).split()) for name in columns]
    own = [("captions of a row", names, images.shape[1]) for names in captions]
    for kind, names, count in (("rows", rows, images.shape[0]), ("columns", columns, images.shape[1]), *own):
        if names and len(names) != count:
            raise ValueError(f"{kind} must be {count} names, got {len(names)}")
    if captions and len(captions) != len(images):
        raise ValueError(f"captions must be of {len(images)} rows, got {len(captions)}")
    space = [max((LINE * len(name.splitlines()) for name in names), default=0) for names in captions]
    space = space or [0] * len(images)
    return _labelled(compose(images, scale, space), title, rows, columns, captions, space, images.shape[1])


def save_grid(
    images: Tensor,
    path: Path,
    title: str = "",
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    scale: int | None = None,
) -> Path:
    """Write :func:`picture_grid` to a PNG, whole or not at all.

    Raises:
        ValueError: if the path is a folder or does not end in .png.
    """
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ValueError(f"pictures are written to files that end in .png, got {path}")
    picture = picture_grid(images, title, rows, columns, captions, scale)
    with replacing(path) as draft:
        picture.save(draft)
    return path


def compose(images: Tensor, scale: int | None = None, space: Sequence[int] = ()) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images (rows, columns, C, H, W), C = 1 or 3, on white, without names: uint8, (height, width[, 3]).

    ``space`` is how many pixels stay free above each row, besides the gap.
    """
    scale = scale or max(1, -(-SMALLEST_SIDE // images.shape[-2]))
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8) if images.is_floating_point() else images
    pixels = pixels.cpu().repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    rows, columns, channels, height, width = pixels.shape
    whole = rows * (height + GAP) + GAP + sum(space)
    canvas = torch.full((channels, whole, columns * (width + GAP) + GAP), 255, dtype=torch.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = GAP + row * (height + GAP) + sum(space[: row + 1]), GAP + column * (width + GAP)
            canvas[:, top : top + height, left : left + width] = pixels[row, column]
    array = canvas[0].numpy() if channels == 1 else canvas.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array)


def step_names(steps: int, last: float = 1.0) -> list[str]:
    """The values of t of ``steps`` images from 0 to ``last``, as names of columns."""
    return [f"{t:.2f}" for t in torch.linspace(0, last, steps).tolist()]


def _labelled(
    grid: np.ndarray[Any, Any],
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    captions: Sequence[Sequence[str]],
    space: Sequence[int],
    count: int,
) -> Image.Image:
    """A grid of ``count`` columns on a larger white picture, with names at its left, above it and above its images."""
    plain = Image.fromarray(grid)
    if not (title or any(rows) or any(columns) or any(space)):
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
    cell = ((height - GAP - sum(space)) / len(space), (width - GAP) / count)
    middles = [left + GAP / 2 + (i + 0.5) * cell[1] for i in range(count)]
    tops = [names_above + GAP / 2 + i * cell[0] + sum(space[: i + 1]) for i in range(len(space))]
    for y, name in zip(tops, rows, strict=False):
        draw.multiline_text((left - GAP, y + cell[0] / 2), name, fill=INK, font=small, anchor="rm", align="right")
    for y, names in [(names_above - 1, columns), *zip(tops, captions, strict=False)]:
        for x, name in zip(middles, names, strict=False):
            shown = "\n".join(_cut(line, small, cell[1]) for line in name.splitlines())
            draw.multiline_text((x, y), shown, fill=FAINT, font=small, anchor="md", align="center", spacing=2)
    return picture


def _cut(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """A line, with … in place of the end that does not fit."""
    if font.getlength(text) <= width:
        return text
    return next((text[:n] + "…" for n in range(len(text) - 1, 0, -1) if font.getlength(text[:n] + "…") <= width), "…")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own font, which has Greek letters and arrows."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
