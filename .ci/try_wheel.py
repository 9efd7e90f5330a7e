"""An installed wheel, where torch is and NumPy need not be: the kernels are there and right."""

import importlib.util

import torch

from segma_fast import cw_distance_reference, fast_cw_distance
from segma_fast.distance.backends import extension

assert extension.REASON is None, extension.REASON
z, means = torch.randn(200, 16, requires_grad=True), torch.randn(10, 16)
value, expected = fast_cw_distance(z, means, backend="native"), cw_distance_reference(z.double(), means.double())
(gradient,), (right,) = (torch.autograd.grad(one, z, retain_graph=True) for one in (value, expected))
assert abs(value.item() / expected.item() - 1) < 1e-4 and (gradient - right).norm() < 1e-4 * right.norm()
assert torch.equal(value, fast_cw_distance(z, means)), "auto does not take the compiled kernels"
numpy = "with" if importlib.util.find_spec("numpy") else "without"
print(f"works with torch {torch.__version__}, {numpy} NumPy: {extension.build_info()}")
