"""The interfaces of other implementations of the distance: code written for them only needs a changed import.

``segma_fast.compat.cw_torch`` has the names of the package cw-torch 0.4.2, ``segma_fast.compat.cwae`` those of
``metrics/cw.py`` of gmum/cwae-pytorch. ``docs/compat.md`` says what differs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segma_fast.distance.arguments import check_gamma


def width_of(called: str, gamma: Any, name: str, sample: Tensor) -> Any:
    """A bandwidth as the original packages accept it: an integer tensor is converted to floating point."""
    if isinstance(gamma, Tensor) and not (gamma.is_floating_point() or gamma.is_complex() or gamma.is_quantized):
        gamma = gamma.to(torch.get_default_dtype())
    return check_gamma(gamma, name, sample, called)
