"""Small calls of a backend, of each arithmetic; ``python tests/gpu_calls.py M D,D,... [BACKEND]`` for checkers."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from segma_fast import fast_cw_distance


def gradients(
    z: Tensor, means: Tensor, backend: str = "triton", precision: str | None = "high", **options: object
) -> tuple[Tensor, ...]:
    """Value and gradients in codes and means."""
    leaves = [t if t.requires_grad else t.detach().requires_grad_() for t in (z, means)]
    value = fast_cw_distance(*leaves, backend=backend, precision=precision, **options)
    return value.detach(), *torch.autograd.grad(value, leaves)


def main(rows: int, dims: list[int], backend: str = "triton", device: str = "cuda") -> None:
    for dim in dims:
        generator = torch.Generator().manual_seed(dim)
        z, means = (torch.randn(n, dim, generator=generator).to(device) for n in (rows, 3))
        for precision in ("high", "medium", "highest"):
            value, *_ = gradients(z, means, backend, precision)
            print(rows, dim, precision, value.item(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(dim) for dim in sys.argv[2].split(",")], *sys.argv[3:])
