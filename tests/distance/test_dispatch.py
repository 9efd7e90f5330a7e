"""What ``backend="auto"`` says of what it chose."""

from __future__ import annotations

import warnings

import pytest
import torch

from segma_fast import fast_cw_distance
from segma_fast.distance import dispatch
from segma_fast.distance.backends import extension


def test_missing_kernels_are_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "REASON", "not built: no compiler")
    monkeypatch.setattr(dispatch, "_TOLD", set())
    z, means = torch.randn(20, 3), torch.randn(4, 3)
    with pytest.warns(RuntimeWarning, match="plain torch computes the distance, more slowly: not built: no compiler"):
        fast_cw_distance(z, means)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast_cw_distance(z, means)
        fast_cw_distance(z, means, backend="chunked")
    monkeypatch.setattr(dispatch, "_TOLD", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast_cw_distance(z, means, backend="chunked")  # who asks for a backend knows
