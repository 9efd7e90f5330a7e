"""Tensors that hold no values of their own: of several processes, without memory, of a tracer."""

from __future__ import annotations

import pytest
import torch
from cases import near_optimum
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from segma_fast import cw_normality, fast_cw_distance

META = torch.device("meta")


def points(n: int, device: torch.device | str = "cpu") -> Tensor:
    return torch.randn(n, 3, device=device)


def test_distributed_tensors_are_refused() -> None:
    from torch import distributed
    from torch.distributed.tensor import distribute_tensor, init_device_mesh

    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        z = distribute_tensor(points(6), init_device_mesh("cpu", (1,)))
        with pytest.raises(TypeError, match=r"z must be .* one process, got a DTensor: give its to_local\(\)"):
            fast_cw_distance(z, points(4))
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["chunked", "reference"])
def test_meta_tensors(name: str) -> None:
    """Shapes without values, of what plain torch can compute."""
    z = points(6, device=META).requires_grad_()
    value = cw_normality(z, backend=name)
    assert value.shape == () and value.device == META
    assert torch.autograd.grad(value, z)[0].shape == z.shape
    with pytest.raises(ValueError, match="groups must have values that can be read, got a tensor on the device meta"):
        cw_normality(z, groups=torch.zeros(6, dtype=torch.int64, device=META), backend=name)


def test_fake_tensors_do_not_stay(backend: str) -> None:
    """What is kept from call to call is not what a tracer made."""
    z, means = near_optimum(43, 3, 5)
    expected = fast_cw_distance(z, means, backend=backend, gamma=0.77)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fast_cw_distance(z, means, backend=backend, gamma=0.78)
    value = fast_cw_distance(z, means, backend=backend, gamma=0.78)
    assert type(value) is Tensor and value.item() != expected.item()
