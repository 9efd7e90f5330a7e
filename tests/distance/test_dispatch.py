"""What ``backend="auto"`` says of what it chose."""

from __future__ import annotations

import warnings

import pytest
import torch

from segma_fast import fast_cw_distance
from segma_fast.distance import dispatch
from segma_fast.distance.backends import extension


def test_info_knows_what_serves_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    reasons = {name: reason for name, reason, _ in dispatch.describe_backends()}
    assert reasons["reference"] is reasons["chunked"] is None and reasons["triton"] and reasons["cuda"]
    assert "reference (available)" in dispatch._overview() and "triton (not available: " in dispatch._overview()


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
