"""Pictures that a caller gives, of whichever kind, as a model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segma_fast.trainer.data import prepare_picture, read_picture
from segma_fast.trainer.models.base import as_pixels


def as_taken(given: Any, shape: tuple[int, int, int], crop: int | None, device: torch.device) -> Tensor:
    """Pictures (n, C, H, W) in [0, 1] on a device.

    Args:
        given: a tensor (n, C, H, W) or (C, H, W), uint8 or floating point in [0, 1]; a PIL picture; a file; or a list
            of these, each (C, H, W) where it is a tensor.
        shape: the (C, H, W) that the model takes; tensors must have it, others are resized to it.
        crop: side of the square that is cut out of PIL pictures and files, as out of the data set's, or None.
        device: where the pictures go.

    Raises:
        ValueError: for none, another shape, or numbers outside [0, 1].
        DataError: for a file that is no picture, or one that is smaller than the crop.
    """
    if isinstance(given, Tensor) and given.ndim == 4:
        found = _checked(given, shape, device)
    else:
        each = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        found = torch.stack([_one(one, shape, crop, device) for one in each]) if len(each) else torch.empty(0)
    if not len(found):
        raise ValueError("there must be at least one picture, got none")
    return found


def _one(given: Any, shape: tuple[int, int, int], crop: int | None, device: torch.device) -> Tensor:
    if isinstance(given, Tensor):
        return _checked(given[None], shape, device)[0]
    if isinstance(given, Path | str):
        pixels = read_picture(Path(given), crop, shape)
    elif hasattr(given, "getbands"):
        pixels = prepare_picture(given, crop, shape)
    else:
        hint = " (torch.from_numpy makes a tensor of it)" if isinstance(given, np.ndarray) else ""
        raise ValueError(f"a picture must be a tensor, a PIL picture or a file, got {type(given).__name__}{hint}")
    return as_pixels(pixels).to(device)


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
