"""cw_normality without the pairs of rows that belong together."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from cases import BACKENDS, DEVICE, relative_error, skip_unless_served
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from segma_fast import cw_normality
from segma_fast.distance import groups
from segma_fast.distance.backends.reference import scalar_product

KINDS = ("views", "uneven", "alone", "two", "negative")


def labels(kind: str, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    found = {
        "views": torch.arange(rows) % -(-rows // 4),
        "uneven": (torch.rand(rows, generator=generator) ** 3 * 9).long(),
        "alone": torch.randperm(rows, generator=generator),
        "two": (torch.arange(rows) > 1).int(),
        "negative": -7 * (torch.arange(rows) // 3),
    }
    return found[kind].to(DEVICE)


def sample(rows: int, dim: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(dim)
    return (1.2 * torch.randn(rows, dim, generator=generator, dtype=torch.float64)).to(DEVICE, dtype)


def with_gradients(z: Tensor, gamma: float, **options: Any) -> list[Tensor]:
    leaves = [z.clone().requires_grad_(), torch.tensor(gamma, dtype=torch.float64, device=DEVICE).requires_grad_()]
    value = cw_normality(*leaves, **options)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def by_hand(z: Tensor, numbers: Tensor, gamma: float, phi: str) -> Tensor:
    """The formula, pair by pair."""
    origin, gamma_, zero = torch.zeros_like(z[:1]), torch.tensor(gamma, dtype=z.dtype), torch.zeros((), dtype=z.dtype)
    kernel = scalar_product(z, z, zero, gamma_, phi)
    kept = [kernel[i, j] for i in range(len(z)) for j in range(len(z)) if numbers[i] != numbers[j]]
    cross = scalar_product(z, origin, zero + 1, gamma_, phi).mean()
    return sum(kept) / len(kept) - 2 * cross + scalar_product(origin, origin, zero + 2, gamma_, phi)[0, 0]


@pytest.mark.parametrize("phi", ["approx", "exact"])
@pytest.mark.parametrize("kind", KINDS)
def test_reference_is_the_formula(kind: str, phi: str) -> None:
    z, numbers = sample(13, 3, torch.float64).cpu(), labels(kind, 13).cpu()
    found = cw_normality(z, 0.3, groups=numbers, phi=phi, backend="reference")
    assert relative_error(found, by_hand(z, numbers, 0.3, phi)) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(40, 1), (41, 2), (150, 33)])
@pytest.mark.parametrize("kind", KINDS)
def test_backends_agree_with_the_reference(
    optimised: str, kind: str, shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_served(optimised, dtype, shape[1])
    z, numbers = sample(*shape, dtype), labels(kind, shape[0])
    for phi, elements in (("approx", 1 << 20), ("exact", 200)):
        monkeypatch.setattr(groups, "BLOCK_ELEMENTS", elements)
        monkeypatch.setattr(groups, "LARGE", 5 if elements == 200 else 64)
        expected = with_gradients(z.double(), 0.3, groups=numbers, phi=phi, backend="reference")
        found = with_gradients(z, 0.3, groups=numbers, phi=phi, backend=optimised, precision="highest")
        tolerance = 1e-9 if dtype == torch.float64 else 1e-4
        size = scalar_product(z[:1].double(), z[:1].double(), z.new_zeros(()), torch.tensor(0.3)).item()
        assert (found[0] - expected[0]).abs() <= tolerance * size
        for ours, exact in zip(found[1:], expected[1:], strict=True):
            assert relative_error(ours, exact) <= 10 * tolerance


@pytest.mark.parametrize("size", [2, 70])
def test_a_group_over_clusters_far_apart(optimised: str, size: int) -> None:
    """The first in one cluster, some rows in another: what float32 squares of centred rows would not resolve."""
    z = sample(200, 10, torch.float32)
    z[1:40] = z[0] + 0.01 * z[1:40]
    z[40:80] += 1000
    numbers = torch.where(torch.arange(200, device=DEVICE) < size, -1, torch.arange(200, device=DEVICE))
    numbers[torch.tensor([1, 60], device=DEVICE)] = numbers[torch.tensor([60, 1], device=DEVICE)]
    expected = with_gradients(z.double(), 1e-3, groups=numbers, backend="reference")
    found = with_gradients(z, 1e-3, groups=numbers, backend=optimised)
    for ours, exact in zip(found, expected, strict=True):
        assert relative_error(ours, exact) <= 1e-3


@pytest.mark.parametrize("large", [1, 64])
def test_derivatives(optimised: str, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_served(optimised, torch.float64, 3)
    monkeypatch.setattr(groups, "LARGE", large)
    z, gamma = sample(7, 3, torch.float64).requires_grad_(), torch.tensor(0.4, dtype=torch.float64, device=DEVICE)
    numbers, leaf = labels("negative", 7), gamma.requires_grad_()

    def function(z: Tensor, gamma: Tensor) -> Tensor:
        return cw_normality(z, gamma, groups=numbers, backend=optimised)

    assert torch.autograd.gradcheck(function, (z, leaf))
    assert torch.autograd.gradgradcheck(function, (z, leaf), fast_mode=True)
    transformed = torch.func.grad(function, (0, 1))(z.detach(), gamma.detach())
    for ours, exact in zip(transformed, torch.autograd.grad(function(z, leaf), (z, leaf)), strict=True):
        assert relative_error(ours, exact) <= 1e-12


@pytest.mark.parametrize("large", [1, 64])
def test_vmap(optimised: str, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_served(optimised, torch.float64, 3)
    monkeypatch.setattr(groups, "LARGE", large)
    z, numbers = torch.stack([sample(9, 3, torch.float64), sample(9, 4, torch.float64)[:, :3]]), labels("views", 9)

    def function(z: Tensor) -> Tensor:
        return cw_normality(z, 0.4, groups=numbers, backend=optimised)

    for transformed, plain in (
        (torch.func.vmap(function), function),
        (torch.func.vmap(torch.func.grad(function)), None),
    ):
        each = plain or torch.func.grad(function)
        assert relative_error(transformed(z), torch.stack([each(part) for part in z])) <= 1e-12


@pytest.mark.parametrize("views", [1, 3, 70])
def test_views_are_groups(backend: str, views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Value, gradients, second derivatives and vmap, in one block or several."""
    skip_unless_served(backend, torch.float64, 3)
    z, images = sample(3 * views, 3, torch.float64), torch.arange(3, device=DEVICE)

    def function(z: Tensor, gamma: float | Tensor, **options: Any) -> Tensor:
        return cw_normality(z, gamma, backend=backend, **options)

    for elements, phi in ((1 << 20, "approx"), (30, "exact")):
        monkeypatch.setattr(groups, "BLOCK_ELEMENTS", elements)
        expected = with_gradients(z, 0.3, groups=images.repeat(views), phi=phi, backend="reference")
        for ours, exact in zip(with_gradients(z, 0.3, views=views, phi=phi, backend=backend), expected, strict=True):
            assert relative_error(ours, exact) <= 1e-11
        grads = torch.func.vmap(torch.func.grad(partial(function, gamma=0.3, views=views, phi=phi)))
        assert relative_error(grads(torch.stack([z, 2 * z]))[0], expected[1]) <= 1e-11
    if views == 3:
        gamma = torch.tensor(0.4, dtype=torch.float64, device=DEVICE).requires_grad_()
        arguments = (z.clone().requires_grad_(), gamma)
        assert torch.autograd.gradgradcheck(partial(function, views=views), arguments, fast_mode=True)


@pytest.mark.parametrize(
    ("backend", "engine"),
    [*((name, "aot_eager") for name in BACKENDS), pytest.param("chunked", "inductor", marks=pytest.mark.slow)],
)
def test_views_in_one_graph(backend: str, engine: str) -> None:
    """Value and gradient, by autograd and by torch.func, of a graph without a break."""
    z = sample(12, 20, torch.float32).requires_grad_()
    expected = with_gradients(z, 0.3, views=3, phi="exact", backend=backend)

    def distance(points: Tensor) -> Tensor:
        return cw_normality(points, 0.3, views=3, phi="exact", backend=backend)

    torch._dynamo.reset()
    value = torch.compile(distance, fullgraph=True, backend=engine)(z)
    gradient = torch.compile(torch.func.grad(distance), fullgraph=True, backend=engine)(z.detach())
    assert (value - expected[0]).abs() <= 1e-6
    for found in (torch.autograd.grad(value, z)[0], gradient):
        assert relative_error(found, expected[1]) <= 1e-5


@pytest.mark.slow
def test_views_are_compiled_once_for_all_batch_sizes(optimised: str) -> None:
    def distance(points: Tensor) -> Tensor:
        return cw_normality(points, views=2, backend=optimised)

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    fast = torch.compile(distance, fullgraph=True, dynamic=True, backend=counter)
    for rows in (6, 10, 64, 1000):
        z = sample(rows, 4, torch.float64).requires_grad_()
        assert relative_error(*(torch.autograd.grad(call(z), z)[0] for call in (fast, distance))) <= 1e-9
    assert counter.frame_count <= 2


def test_groups_in_one_graph_are_refused(backend: str) -> None:
    fast = torch.compile(partial(cw_normality, backend=backend), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="sizes of groups= are not known .* views=V needs no sizes"):
        fast(sample(12, 4, torch.float32), groups=labels("views", 12))


def test_half_precision_is_rounded_once(optimised: str) -> None:
    """The gradients of all pairs and of those inside two large groups nearly cancel."""
    z, numbers = (30 * sample(100, 12, torch.float32)).bfloat16(), torch.arange(100, device=DEVICE) % 2
    expected = with_gradients(z.double(), 50.0, groups=numbers, backend="reference")
    found = with_gradients(z, 50.0, groups=numbers, backend=optimised, precision="highest")
    assert found[1].dtype == torch.bfloat16 and relative_error(found[1], expected[1]) <= 4e-3


def test_autocast_changes_nothing(optimised: str) -> None:
    z, numbers = sample(30, 4, torch.float32), labels("views", 30)
    expected = cw_normality(z, 0.3, groups=numbers, backend=optimised)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        assert torch.equal(cw_normality(z, 0.3, groups=numbers, backend=optimised), expected)


def test_estimate_is_unbiased() -> None:
    views = torch.arange(100).repeat(2)
    found = []
    for _ in range(300):
        images = torch.randn(100, 8, dtype=torch.float64)
        found.append(cw_normality(images.repeat(2, 1), 0.2, groups=views, phi="exact"))
    values = torch.stack(found)
    assert values.mean().abs() < 4 * values.std() / 300**0.5
    assert (values < 0).any() and (values > 0).any()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"groups": [0, 1]}, TypeError, "groups must be a torch.Tensor"),
        ({"groups": torch.ones(5)}, TypeError, "integer dtype, got torch.float32"),
        ({"groups": torch.arange(5).to_sparse()}, TypeError, "groups must be a dense .*sparse_coo"),
        ({"groups": torch.nested.nested_tensor([torch.arange(5)])}, TypeError, "groups must be a dense .*nested"),
        (
            {"groups": torch.quantize_per_tensor(torch.arange(5.0), 1, 0, torch.quint8)},
            TypeError,
            "groups must have an integer dtype, got torch.quint8",
        ),
        ({"groups": torch.arange(4)}, ValueError, r"shape \(5,\), got shape \(4,\)"),
        ({"groups": torch.ones(5, dtype=torch.int64)}, ValueError, "one for all 5 rows"),
        ({"groups": torch.arange(5), "log": True}, ValueError, "groups must be used without log, got log=True"),
        ({"views": 5, "log": True}, ValueError, "views must be used without log, got log=True"),
        ({"views": 5, "groups": torch.arange(5)}, ValueError, "groups and views must not both be given"),
        ({"views": 5}, ValueError, "one for all 5 rows"),
        ({"views": 2}, ValueError, "views must divide the number of rows, got 2 views and 5 rows"),
        ({"views": 0}, ValueError, "views must be >= 1, got 0"),
        ({"views": 1.0}, TypeError, "views must be an int or None, got 1.0"),
    ],
)
def test_wrong_groups(wrong: dict[str, Any], error: type, message: str) -> None:
    for backend in ("chunked", "reference"):
        with pytest.raises(error, match=message):
            cw_normality(torch.randn(5, 3), **wrong, backend=backend)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8])
def test_groups_of_any_integer_dtype(dtype: torch.dtype) -> None:
    z, numbers = sample(12, 3, torch.float64), labels("views", 12)
    assert torch.equal(cw_normality(z, 0.3, groups=numbers.to(dtype)), cw_normality(z, 0.3, groups=numbers))
