"""What ``backend="auto"`` says of what it chose."""

from __future__ import annotations

import pytest
import torch

from segma_fast.distance import dispatch
from segma_fast.distance.backends import extension


def test_info_knows_what_serves_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    reasons = {name: reason for name, reason, _ in dispatch.describe_backends()}
    assert reasons["reference"] is reasons["chunked"] is None and reasons["triton"]
    assert (reasons["cuda"] is None) == hasattr(extension.OPERATORS, "cuda_kernels")  # of a model
    assert "reference (available)" in dispatch._overview() and "triton (not available: " in dispatch._overview()
