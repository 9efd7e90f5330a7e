"""The traps of the Triton kernels: ranges of fp16, divisions of the work, and what decides between arithmetics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from cases import BACKENDS, DEVICE, evaluate, near_optimum, relative_error, truth
from torch import Tensor

from segma_fast import cw_two_sample, fast_cw_distance, silverman_gamma
from segma_fast.distance import dispatch
from segma_fast.distance.autograd import widths_and_weights
from segma_fast.distance.operators import GRADIENT

if "triton" not in BACKENDS:
    pytest.skip("Triton is not installed, or serves nothing here", allow_module_level=True)

from segma_fast.distance.backends import triton as triton_backend  # noqa: E402
from segma_fast.distance.backends.triton import launch as triton_launch  # noqa: E402
from segma_fast.distance.backends.triton import panels as triton_panels  # noqa: E402
from segma_fast.distance.backends.triton import plan as triton_plan  # noqa: E402

PRECISIONS = ("highest", "high", "medium")


@pytest.fixture
def fresh_plans() -> Iterator[None]:
    """Plans made in a test see its settings, and no other test sees them."""
    caches = (triton_plan.make_plan, triton_plan.divide)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def check(
    points: tuple[Tensor, ...], tolerance: float, gradient: float, precision: str = "highest", **options: float
) -> None:
    expected, expected_gradients = truth(points, **options)
    value, gradients = evaluate(fast_cw_distance, points, backend="triton", precision=precision, **options)
    assert relative_error(value, expected) <= tolerance
    for found, exact in zip(gradients, expected_gradients, strict=True):
        assert relative_error(found, exact) <= gradient


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [20, 300])
def test_clusters_that_products_do_not_resolve(dim: int, precision: str) -> None:
    """Two clusters 1e4 apart: every pair within one is lost in float32 products, and differences find it."""
    z, means = near_optimum(60, 4, dim)
    check((torch.cat([z, z + 1e4]), torch.cat([means, means + 1e4])), 1e-5, 1e-5, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [20, 300])
def test_weights_that_fp16_does_not_hold(dim: int, precision: str) -> None:
    """Points in pairs 1e-4 apart and γ = 1e-9: their weights are 1e9 times those of the others."""
    z, means = near_optimum(40, 3, dim)
    check((torch.cat([z, z + 1e-4]), means), 1e-5, 1e-5, precision, gamma=1e-9)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [1e3, 1e8, 1e20])
def test_one_code_that_ran_away_from_products(precision: str, size: float) -> None:
    z, means = near_optimum(200, 4, 24)
    z[7] = size
    points = (z, means)
    expected, expected_gradients = truth(points)
    value, gradients = evaluate(fast_cw_distance, points, backend="triton", precision=precision)
    assert relative_error(value, expected) <= 2e-5
    assert relative_error(gradients[0], expected_gradients[0]) <= 1e-3
    assert relative_error(gradients[1], expected_gradients[1]) <= 1e-3


@pytest.mark.parametrize("dim", [5, 24])
@pytest.mark.parametrize("scale", [1e-17, 1e-6, 1e6, 1e15])
def test_any_unit_of_length(scale: float, dim: int) -> None:
    z, means = (scale * points for points in near_optimum(100, 3, dim))
    check((z, means), 1e-5, 1e-5, gamma=0.3 * scale**2, variances=scale**2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dim, offset", [(5, 20.0), (24, 0.0), (24, 20.0), (300, 20.0)])
def test_half_precision_points_are_exact(dtype: torch.dtype, dim: int, offset: float) -> None:
    """One product each, and as close to float64 as float32 points, also far from the origin."""
    z, means = (tensor.to(dtype) for tensor in near_optimum(300, 4, dim, offset))
    gamma = silverman_gamma(300, 4)
    expected, expected_gradients = truth((z, means), gamma=gamma)
    h, w = widths_and_weights(300, 4, DEVICE, None, None, 1.0, gamma)
    value, dz, dmeans, _, _ = triton_launch.gradient(z, means, h, w, 0, 304, "highest", "approx")
    assert not triton_plan.make_plan(dim, dtype, "highest", "approx", True, DEVICE).low
    assert relative_error(value, expected) <= 2e-5
    for found, exact in zip((dz, dmeans), expected_gradients, strict=True):
        assert found.dtype == torch.float32
        assert relative_error(found, exact) <= 2e-5


@pytest.mark.parametrize("dim", [3, 24, 300])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_gives_nan(dim: int, bad: float) -> None:
    for dtype in (torch.float32, torch.float64) if dim < 100 else (torch.float32,):
        z, means = (points.to(dtype) for points in near_optimum(40, 3, dim))
        z[3, 1] = bad
        assert fast_cw_distance(z, means, backend="triton").isnan()


@pytest.mark.parametrize("dim", [3, 20, 70])
def test_divisions_of_the_work_agree(dim: int, monkeypatch: pytest.MonkeyPatch, fresh_plans: None) -> None:
    """One program a block of rows or several, one span of sources or several, one launch or several."""
    points = near_optimum(600, 10, dim)
    expected, expected_gradients = truth(points)
    seen = set()
    for processors, span, halves in ((1, 4096, 1 << 30), (200, 4096, 1 << 30), (1, 512, 1 << 30), (1, 512, 1)):
        triton_plan.make_plan.cache_clear()
        triton_plan.divide.cache_clear()
        monkeypatch.setattr(triton_plan, "multiprocessors", lambda device, count=processors: count)
        monkeypatch.setattr(triton_plan, "SPAN", span)
        monkeypatch.setattr(triton_plan, "HALVES", halves)
        plan = triton_plan.make_plan(dim, torch.float32, "highest", "approx", True, DEVICE)
        work = triton_plan.divide(plan, 600, 610, 0, 610, DEVICE)
        seen.add((work.splits > 1, work.sources < work.padded))
        first = evaluate(fast_cw_distance, points, backend="triton", precision="highest")
        again = evaluate(fast_cw_distance, points, backend="triton", precision="highest")
        assert torch.equal(first[0], again[0]) and all(map(torch.equal, first[1], again[1]))
        assert relative_error(first[0], expected) <= 2e-5
        for found, exact in zip(first[1], expected_gradients, strict=True):
            assert relative_error(found, exact) <= 2e-5
        plain = fast_cw_distance(*points, backend="triton", precision="highest")
        assert relative_error(plain, expected) <= 2e-5
    assert seen == {(False, False), (True, False)} | ({(False, True)} if dim > 8 else set())


@pytest.mark.parametrize("dim", [3, 20])
@pytest.mark.parametrize("processors, span, halves", [(200, 4096, 1 << 30), (1, 512, 1)])
def test_divisions_of_several_samples(
    dim: int, processors: int, span: int, halves: int, monkeypatch: pytest.MonkeyPatch, fresh_plans: None
) -> None:
    """In one launch of each kernel, with splits and with several launches, each is as exact as alone."""
    monkeypatch.setattr(triton_plan, "multiprocessors", lambda device: processors)
    monkeypatch.setattr(triton_plan, "SPAN", span)
    monkeypatch.setattr(triton_plan, "HALVES", halves)
    pairs = [near_optimum(600, 3, dim, seed=seed) for seed in range(2)]
    z, means = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    h, w = widths_and_weights(600, 3, DEVICE, None, None, 1.0, 0.3)
    cloud = (z, means, h.expand(2, -1).contiguous(), w.expand(2, -1).contiguous())
    expected = GRADIENT["chunked"](*(t.double() for t in cloud), 0, 603, "highest", "approx")
    found = triton_launch.gradient(*cloud, 0, 603, "highest", "approx")
    for part, right in zip(found, expected, strict=True):
        assert all(relative_error(a, b) <= 5e-5 for a, b in zip(part, right, strict=True))
    assert torch.allclose(triton_launch.energy(*cloud, 0, 603, "highest", "approx"), found[0], rtol=1e-5)


def test_panels_are_of_about_the_same_size() -> None:
    pieces = triton_panels.pieces
    assert [pieces(n, 4352, 16) for n in (0, 1, 16, 4352, 4353, 8193)] == [16, 16, 16, 4352, 2192, 4112]


def test_panels_agree(monkeypatch: pytest.MonkeyPatch, fresh_plans: None) -> None:
    points = near_optimum(700, 10, 260)
    monkeypatch.setattr(triton_panels, "MOST", 256)
    check(points, 2e-5, 2e-5)


@pytest.mark.parametrize("dim", [70, 300])
def test_ranges_of_rows(dim: int) -> None:
    z, means = near_optimum(300, 8, dim)
    h, w = (torch.rand(308, dtype=torch.float64, device=DEVICE) + 0.1 for _ in range(2))
    value, *whole = triton_launch.gradient(z, means, h, w, 0, 308, "highest", "approx")
    parts = []
    for start, stop in ((0, 130), (130, 130), (130, 303), (303, 308)):
        part, dz, dmeans, dh, dw = triton_launch.gradient(z, means, h, w, start, stop, "highest", "approx")
        parts.append(part)
        for piece, all_rows in ((torch.cat([dz, dmeans]), torch.cat(whole[:2])), (dh, whole[2]), (dw, whole[3])):
            assert torch.allclose(piece, all_rows[start:stop], rtol=1e-4, atol=1e-6 * all_rows.abs().max().item())
    assert relative_error(sum(parts), value) <= 1e-6


@pytest.mark.parametrize("dim", [20, 300])
@pytest.mark.parametrize("variance", [1e2, 1e3, 1e6])
def test_components_much_wider_than_the_sample(dim: int, variance: float) -> None:
    """The weights in their rows are tiny beside all others, and fp16 has to hold them or not be asked."""
    check(near_optimum(200, 4, dim), 2e-5, 2e-5, variances=variance)


@pytest.mark.parametrize("dim", [20, 150])
def test_two_clusters_that_products_just_resolve(dim: int) -> None:
    z, means = near_optimum(100, 2, dim)
    check((torch.cat([z, z + 20]), torch.cat([means, means + 20])), 1e-4, 5e-5)


def test_two_large_samples_that_coincide() -> None:
    x, _ = near_optimum(300, 3, 24)
    value, gradients = evaluate(cw_two_sample, (x, x.clone()), backend="triton", precision="highest")
    assert abs(value.item()) <= 2e-6
    assert all(gradient.norm() <= 1e-6 for gradient in gradients)


def test_blocks_from_the_environment_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    points = near_optimum(50, 3, 12)
    usual = fast_cw_distance(*points, backend="triton")
    monkeypatch.setenv("SEGMA_FAST_TRITON_BLOCKS", "16,16,4,1")
    assert relative_error(fast_cw_distance(*points, backend="triton"), usual) <= 1e-5
    monkeypatch.setenv("SEGMA_FAST_TRITON_BLOCKS", "3,16,4,1")
    with pytest.raises(ValueError, match="expected rows,columns,warps,stages"):
        fast_cw_distance(*points, backend="triton")


@pytest.mark.parametrize("programs, units, most, at_once", [(1, 1, 9, 132), (5, 40, 0, 132), (500, 64, 9, 132)])
def test_one_program_where_more_do_not_help(programs: int, units: int, most: int, at_once: int) -> None:
    assert triton_plan.choose_splits(programs, units, most, at_once) == 1


def test_few_rows_fill_the_machine() -> None:
    for programs, units in ((1, 64), (3, 32), (33, 64), (65, 128)):
        splits = triton_plan.choose_splits(programs, units, 100, 132)
        assert splits > 1 and programs * splits <= 132


@pytest.mark.skipif(DEVICE.type != "cpu", reason="about CPU tensors")
def test_the_cpu_is_served_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert dispatch.choose_backend("auto", cpu, torch.float32, 10) != "triton"
    assert dispatch.choose_backend("triton", cpu, torch.float32, 10) == "triton"
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(ValueError, match="TRITON_INTERPRET=1"):
        dispatch.choose_backend("triton", cpu, torch.float32, 10)


@pytest.mark.parametrize(
    "capability, dtype, dim, precision, expected",
    [
        ((9, 0), torch.float32, 3, "default", "cuda"),
        ((9, 0), torch.float32, 64, "default", "cuda"),
        ((9, 0), torch.float32, 65, "default", "triton"),
        ((9, 0), torch.bfloat16, 65, "highest", "triton"),
        ((9, 0), torch.float32, 256, "high", "cuda"),
        ((9, 0), torch.float32, 257, "medium", "triton"),
        ((9, 0), torch.float64, 3, "high", "triton"),
        ((8, 0), torch.float32, 64, "high", "triton"),
        ((10, 0), torch.float32, 64, "high", "triton"),
    ],
)
def test_what_a_gpu_is_served_by(
    capability: tuple[int, int], dtype: torch.dtype, dim: int, precision: str, expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The CUDA kernels where they were measured to be faster, asked without a GPU; without Triton, everywhere."""
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    monkeypatch.setattr("segma_fast.distance.backends.cuda.DEVICES", ("cuda",))
    monkeypatch.setattr("segma_fast.distance.backends.triton.WITHOUT_COMPILER", None)
    backends = [entry for entry in dispatch.BACKENDS if entry.name != "cuda"]
    own = next(entry for entry in dispatch.BACKENDS if entry.name == "cuda")
    monkeypatch.setattr(dispatch, "BACKENDS", (replace(own, missing=lambda: None), *backends))
    assert dispatch.choose_backend("auto", gpu, dtype, dim, precision) == expected
    monkeypatch.setattr("segma_fast.distance.backends.triton.WITHOUT_TRITON", "Triton is not installed")
    assert dispatch.choose_backend("auto", gpu, dtype, dim, precision) == "cuda"


def test_what_a_gpu_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which backend "auto" takes for CUDA tensors, and why not this one: asked without a GPU."""
    gpu = torch.device("cuda", 0)
    for variable, value in (("version.cuda", "13.0"), ("cuda.get_device_capability", lambda device: (9, 0))):
        monkeypatch.setattr(f"torch.{variable}", value)
    monkeypatch.setattr("segma_fast.distance.backends.triton.WITHOUT_COMPILER", None)
    assert dispatch.choose_backend("auto", gpu, torch.float32, 10) == "triton"
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))
    assert dispatch.choose_backend("auto", gpu, torch.float32, 10) == "chunked"
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("segma_fast.distance.backends.triton.WITHOUT_COMPILER", triton_backend._find_compiler())
    assert dispatch.choose_backend("auto", gpu, torch.float32, 10) == "chunked"
    with pytest.raises(ValueError, match="C compiler"):
        dispatch.choose_backend("triton", gpu, torch.float32, 10)
