"""Pictures of any kind as a model takes them: tensors, PIL pictures and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from segma_fast.trainer.data import prepare_picture, read_picture
from segma_fast.trainer.models.base import as_pixels

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = Tensor | Image | Path | str
    """(C, H, W), uint8 or floating point in [0, 1]; a PIL picture of any size; or a file"""
    Pictures = Picture | Sequence[Picture]
    """one picture, several, or a tensor (n, C, H, W)"""


def as_images(given: Pictures, shape: tuple[int, int, int], crop: int | None, device: torch.device) -> Tensor:
    """Pictures as one tensor (n, C, H, W) in [0, 1]; see :meth:`segma_fast.trainer.run.Run.pictures`.

    Args:
        given: one or several pictures.
        shape: (C, H, W) of the data set.
        crop: what files and PIL pictures are cropped to before they are resized.
        device: where the tensor goes.
    """
    if isinstance(given, Tensor) and given.ndim == 4:
        found = _checked(given, shape, device)
    else:
        each = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        found = torch.stack([_picture(one, shape, crop, device) for one in each]) if len(each) else torch.empty(0)
    if not len(found):
        raise ValueError("there must be at least one picture, got none")
    return found


def _picture(given: Picture | Any, shape: tuple[int, int, int], crop: int | None, device: torch.device) -> Tensor:
    if isinstance(given, Tensor):
        return _checked(given[None], shape, device)[0]
    if isinstance(given, Path | str):
        return as_pixels(read_picture(Path(given), crop, shape)).to(device)
    if hasattr(given, "getbands"):
        return as_pixels(prepare_picture(given, crop, shape)).to(device)
    hint = " (torch.from_numpy makes a tensor of it)" if isinstance(given, np.ndarray) else ""
    raise ValueError(f"a picture must be a tensor, a PIL picture or a file, got {type(given).__name__}{hint}")


def _checked(given: Tensor, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    if tuple(given.shape[1:]) != shape:
        raise ValueError(f"pictures must be of shape {shape}, got {tuple(given.shape[1:])}")
    if not given.is_floating_point() and given.dtype != torch.uint8:
        raise ValueError(f"pictures must be uint8 or floating point in [0, 1], got {given.dtype}")
    pixels = as_pixels(given).to(device, torch.float32)
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 1):
        low, high = pixels.min().item(), pixels.max().item()
        raise ValueError(f"pictures must be uint8 or in [0, 1], got numbers from {low:.3g} to {high:.3g}")
    return pixels
