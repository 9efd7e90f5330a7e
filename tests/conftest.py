"""Fixtures: the backends that run here, and a process-wide state that every test leaves as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from cases import BACKENDS, OPTIMISED

from segma_fast.dispatch import ENVIRONMENT_VARIABLE

torch.set_num_threads(1)  # the inputs are small, and beside other work two threads take five times as long as one


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend in turn, the reference among them."""
    return request.param


@pytest.fixture(params=OPTIMISED)
def optimised(request: pytest.FixtureRequest) -> str:
    """Every backend but the reference in turn."""
    return request.param


@pytest.fixture(autouse=True)
def usual_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same random numbers, full float32 products and no chosen backend, whatever ran before."""
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision("highest")
