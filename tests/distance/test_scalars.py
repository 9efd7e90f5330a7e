"""Numbers and switches as the functions take them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from segma_fast import silverman_gamma
from segma_fast.distance.scalars import as_float, check_whole


@pytest.mark.parametrize("name", ["rows", "components"])
def test_numbers_of_the_bandwidth(name: str) -> None:
    numbers: dict[str, Any] = {"rows": 10, "components": 2}
    for wrong in ("5", None, math.nan, math.inf, True, np.True_, 2.5, 2.0, [2], np.ones(2), int, torch.tensor(2)):
        with pytest.raises(TypeError, match=f"{name} must be an int, got"):
            silverman_gamma(**numbers | {name: wrong})
    for wrong in (0, -1, np.int64(0)):
        with pytest.raises(ValueError, match=f"{name} must be >= 1, got {wrong}"):
            silverman_gamma(**numbers | {name: wrong})
    assert silverman_gamma(**numbers | {name: np.int64(numbers[name])}) == silverman_gamma(10, 2)


def test_symbolic_number_sets_no_guard() -> None:
    found = []

    def function(x: Tensor) -> Tensor:
        found.append(check_whole("rows", x.shape[0], 100))
        return x * as_float("rows", x.shape[0])

    graph = make_fx(function, tracing_mode="symbolic")(torch.ones(7, 2))
    assert isinstance(found[0], torch.SymInt)
    assert not graph.shape_env.guards
    assert torch.equal(graph(torch.ones(3, 2)), torch.full((3, 2), 3.0))


def test_bandwidth_in_one_graph_for_all_sizes() -> None:
    counter = torch._dynamo.testing.CompileCounter()
    function = torch.compile(fullgraph=True, dynamic=True, backend=counter)(
        lambda x: x * silverman_gamma(x.shape[0], 3)
    )
    for rows in (5, 9, 14):
        assert torch.allclose(function(torch.ones(rows)), torch.full((rows,), silverman_gamma(rows, 3)))
    assert counter.frame_count == 1
