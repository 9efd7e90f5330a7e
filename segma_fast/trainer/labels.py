"""Chooses the rows of a data set that keep their label in semi-supervised training."""

from __future__ import annotations

import typing
import warnings
from typing import Literal

import torch
from torch import Tensor

LabelChoice = Literal["stratified", "random", "first"]


def choose_labelled(labels: Tensor, count: int, how: LabelChoice, classes: int, *, seed: int = 0) -> Tensor:
    """Choose the rows that keep their label.

    A class can end up without labelled rows: ``"random"`` and ``"first"`` ignore the classes, and a class may have
    no rows at all. A warning names such a class.

    Args:
        labels: the class of each row, (N,), integers in 0..classes-1.
        count: rows to choose, 0 or classes..N.
        how: ``"stratified"`` takes equally many rows per class (±1, with random classes for the remainder; a class with
            too few rows gives all of them and the other classes fill the gap), ``"random"`` draws without
            replacement, ``"first"`` takes rows 0..count-1.
        classes: number of classes.
        seed: seed of the random choice; torch's global generator is not used.

    Returns:
        Row numbers in ascending order, (count,), int64, on the CPU.

    Raises:
        ValueError: for a count or a label out of its range, or an unknown ``how``.
    """
    if how not in typing.get_args(LabelChoice):
        known = ", ".join(map(repr, typing.get_args(LabelChoice)))
        raise ValueError(f"the choice of labels must be one of {known}, got {how!r}")
    if not 0 <= count <= len(labels):
        raise ValueError(f"the number of labels must be between 0 and the {len(labels)} rows for training, got {count}")
    if 0 < count < classes:
        raise ValueError(f"{count} labels are fewer than the {classes} classes: take 0, or at least {classes}")
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    labels = labels.detach().to("cpu", torch.int64)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")
    generator = torch.Generator().manual_seed(seed)
    if how == "first":
        chosen = torch.arange(count)
    elif how == "random":
        chosen = torch.randperm(len(labels), generator=generator)[:count].sort().values
    else:
        chosen = _stratified(labels, count, classes, generator)
    missing = (torch.bincount(labels[chosen], minlength=classes) == 0).nonzero().flatten().tolist()
    if missing:
        names = ", ".join(map(str, missing))
        warnings.warn(f"none of the {count} labels ({how}) is of class {names}", stacklevel=2)
    return chosen


def _stratified(labels: Tensor, count: int, classes: int, generator: torch.Generator) -> Tensor:
    rows = torch.bincount(labels, minlength=classes)
    quota, left = torch.zeros_like(rows), count
    while left:
        able = (quota < rows).nonzero().flatten()
        share = left // len(able)
        if share == 0:
            quota[able[torch.randperm(len(able), generator=generator)[:left]]] += 1
            break
        more = (rows - quota).clamp(max=share)
        quota += more
        left -= int(more.sum())
    chosen = []
    for label, wanted in enumerate(quota.tolist()):
        own = (labels == label).nonzero().flatten()
        chosen.append(own[torch.randperm(len(own), generator=generator)[:wanted]])
    return torch.cat(chosen).sort().values
