"""The distance as a module: it is the function, refuses what that refuses, and can be pickled."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from cases import near_optimum

from segma_fast import CWDistanceLoss, fast_cw_distance


@pytest.mark.parametrize("gamma", [0, -1.0, math.nan])
def test_bad_module_options(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma must be between"):
        CWDistanceLoss(gamma)
    with pytest.raises(ValueError, match="precision='low' is unknown"):
        CWDistanceLoss(precision="low")
    with pytest.raises(ValueError, match="phi='low' is unknown"):
        CWDistanceLoss(phi="low")
    for backend in ("zzz", None, np.ones(2)):
        with pytest.raises(ValueError, match="backend=.* is unknown. Backends: auto, .*reference"):
            CWDistanceLoss(backend=backend)
    with pytest.raises(TypeError, match="log must be a bool, got 'no'"):
        CWDistanceLoss(log="no")
    with pytest.raises(TypeError, match="process_group must be .* got str"):
        CWDistanceLoss(process_group="world")


def test_module_is_the_function(backend: str) -> None:
    z, means = near_optimum(6, 3, 4)
    for phi in ("approx", "exact"):
        loss = CWDistanceLoss(0.5, log=True, phi=phi, backend=backend)
        assert torch.equal(loss(z, means), fast_cw_distance(z, means, gamma=0.5, log=True, phi=phi, backend=backend))
    assert repr(loss).startswith("CWDistanceLoss(gamma=0.5, log=True, phi='exact'")
    assert not list(loss.parameters())


def test_pickle_of_a_module() -> None:
    """Also one from before there were ``phi`` and ``process_group``."""
    z, means = near_optimum(6, 3, 4)
    loss = CWDistanceLoss(0.5, log=True)
    assert torch.equal(pickle.loads(pickle.dumps(loss))(z, means), loss(z, means))
    del loss.phi, loss.process_group
    assert torch.equal(pickle.loads(pickle.dumps(loss))(z, means), loss(z, means))
