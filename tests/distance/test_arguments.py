"""What the functions refuse, how they say so, and what they give for strange but allowed numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cases import DEVICE, evaluate, near_optimum, relative_error, skip_unless_served, truth
from torch import Tensor

from segma_fast import CWDistanceLoss, cw_distance_reference, cw_normality, cw_two_sample, fast_cw_distance
from segma_fast.distance import dispatch
from segma_fast.distance.backends.registry import Backend

META = torch.device("meta")
NAN, INF = math.nan, math.inf


def points(rows: int, dim: int = 3, **options: Any) -> Tensor:
    return torch.zeros(rows, dim, **options)


BAD_POINTS: list[tuple[Any, type[Exception], str]] = [
    (points(6)[0], ValueError, r"{name} must have shape \(n, D\), got shape \(3,\)"),
    (points(6)[None], ValueError, r"{name} must have shape \(n, D\), got shape \(1, 6, 3\)"),
    (points(0), ValueError, r"{name} must have at least one row .* got shape \(0, 3\)"),
    (points(6, 0), ValueError, r"{name} must have at least one .* column, got shape \(6, 0\)"),
    (points(6, dtype=torch.int64), TypeError, r"{name} must have a real floating-point dtype, got torch.int64"),
    (points(6, dtype=torch.bool), TypeError, r"{name} must .*torch.bool"),
    (points(6, dtype=torch.complex64), TypeError, r"{name} must .*torch.complex64"),
    *(
        (points(6).to(dtype), TypeError, rf"{{name}} must .*{dtype}; expected float16, bfloat16, float32 or float64")
        for dtype in (torch.float8_e4m3fn, torch.float8_e5m2)
    ),
    (
        torch.quantize_per_tensor(points(6), 0.1, 0, torch.quint8),
        TypeError,
        "{name} must have a real .* got torch.quint8",
    ),
    (points(6).to_sparse(), TypeError, "{name} must be a dense torch.Tensor, got layout torch.sparse_coo"),
    (
        torch.nested.nested_tensor([points(2), points(4)], layout=torch.jagged),
        TypeError,
        "{name} must be a dense torch.Tensor, got a nested tensor",
    ),
    (np.zeros((6, 3)), TypeError, r"{name} must be a torch.Tensor of shape \(n, D\), got ndarray"),
    ([[0.0, 0.0, 0.0]], TypeError, r"{name} must be a torch.Tensor .* got list"),
    (None, TypeError, r"{name} must be a torch.Tensor .* got NoneType"),
]
BAD_PAIRS: list[tuple[Any, str]] = [
    (points(6, 2), r"same number of columns D, got shapes \(6, 2\) and \(4, 3\)"),
    (points(6, device=META), "one device, got meta and cpu"),
]
BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    *(
        ({"gamma": g}, ValueError, rf"gamma must be between 1e-100 and 1e\+300, got {g}")
        for g in (0, -1, 0.0, -0.5, NAN, INF, -INF)
    ),
    *(
        ({"gamma": torch.tensor(g)}, ValueError, rf"gamma must be between 1e-100 and 1e\+300, got {g}")
        for g in (0.0, -1.0, NAN, INF)
    ),
    ({"gamma": torch.ones(2)}, ValueError, r"gamma must be .* one element, got shape \(2,\)"),
    ({"gamma": torch.ones(0)}, ValueError, r"gamma must be .* one element, got shape \(0,\)"),
    ({"gamma": torch.tensor(1)}, TypeError, "gamma must have a real floating-point dtype, got torch.int64"),
    ({"gamma": torch.ones((), device=META)}, ValueError, "gamma and z must be on one device, got meta and cpu"),
    *(
        ({"gamma": g}, TypeError, "gamma must be a number or a torch.Tensor, got")
        for g in ("1", [1.0], 1j, {}, True, np.True_, np.complex64(1j))
    ),
    ({"gamma": torch.ones(()).to(torch.float8_e5m2)}, TypeError, "gamma must have .* got torch.float8_e5m2"),
    ({"variances": torch.ones(()).to_sparse()}, TypeError, "variances must be a dense .* got layout torch.sparse_coo"),
    ({"weights": torch.ones(4).to(torch.float8_e5m2)}, TypeError, "weights must have .* got torch.float8_e5m2"),
    *(
        ({"log": wrong}, TypeError, "log must be a bool, got ")
        for wrong in ("no", None, 0, 1.0, np.ones(3), torch.tensor(True), torch.ones(2))
    ),
    ({"gamma": np.ones(2)}, TypeError, "gamma must be a number or a torch.Tensor, got"),
    *(
        ({"variances": v}, ValueError, re.escape(f"variances must be between 0 and 1e+300, got {v}"))
        for v in (-1, -0.5, NAN, INF, 1e301)
    ),
    *(
        ({"variances": torch.tensor([1, 1, v, 1])}, ValueError, f"variances must be .* got {v} at index 2")
        for v in (-1.0, NAN, INF)
    ),
    ({"variances": torch.tensor(-1.0)}, ValueError, r"variances must be between 0 and 1e\+300, got -1.0"),
    ({"variances": torch.ones(5)}, ValueError, r"variances must have shape \(4,\), got shape \(5,\)"),
    ({"variances": torch.ones(4, 1)}, ValueError, r"variances must have shape \(4,\), got shape \(4, 1\)"),
    ({"variances": torch.ones(4, dtype=torch.int64)}, TypeError, "variances must have .* got torch.int64"),
    ({"variances": torch.ones(4, device=META)}, ValueError, "variances and the points .* got meta and cpu"),
    *(
        ({"variances": v}, TypeError, "variances must be a number or a torch.Tensor, got")
        for v in ("1", None, [1.0] * 4)
    ),
    ({"variances": np.ones(4)}, TypeError, "variances must be a number or a torch.Tensor, got"),
    ({"weights": torch.ones(4)}, ValueError, "weights must be non-negative and sum to 1 .* sum 4"),
    ({"weights": torch.zeros(4)}, ValueError, "weights must .* sum to 1 .* sum 0"),
    ({"weights": torch.tensor([-0.5, 0.5, 0.5, 0.5])}, ValueError, "weights must be non-negative .* smallest -0.5"),
    ({"weights": torch.tensor([NAN, 0.5, 0.5, 0.0])}, ValueError, "weights must .* sum nan"),
    ({"weights": torch.ones(3) / 3}, ValueError, r"weights must have shape \(4,\), got shape \(3,\)"),
    ({"weights": torch.ones(4, 1) / 4}, ValueError, r"weights must have shape \(4,\), got shape \(4, 1\)"),
    ({"weights": torch.tensor([1, 0, 0, 0])}, TypeError, "weights must have .* got torch.int64"),
    ({"weights": torch.ones(4, device=META)}, ValueError, "weights and the points .* got meta and cpu"),
    ({"weights": [0.25] * 4}, TypeError, r"weights must be a torch.Tensor of shape \(4,\), got list"),
    ({"weights": np.full(4, 0.25)}, TypeError, r"weights must be a torch.Tensor of shape \(4,\), got ndarray"),
    ({"backend": "tpu"}, ValueError, "backend='tpu' is unknown. Backends: auto, .*reference"),
    *(({"backend": b}, ValueError, f"backend={b!r} is unknown") for b in (None, 3, b"native")),
    ({"backend": np.ones(2)}, ValueError, "backend=array.* is unknown"),
    ({"precision": np.ones(2)}, ValueError, "precision=array.* is unknown"),
    ({"precision": 3}, ValueError, "precision=3 is unknown"),
    *(
        ({"process_group": wrong}, TypeError, f"process_group must be .* got {type(wrong).__name__}")
        for wrong in (torch.ones(2), np.ones(2), -100.0, "world")
    ),
    *(({"phi": p}, ValueError, rf"phi={p!r} is unknown, expected one of \('approx'") for p in ("EXACT", None, 1, "")),
    ({"precision": "low"}, ValueError, "precision='low' is unknown, expected .*'highest', 'high', 'medium'"),
]


@pytest.mark.parametrize("bad, error, message", BAD_POINTS)
def test_bad_points(bad: Any, error: type[Exception], message: str) -> None:
    good = points(4)
    calls: list[tuple[str, Callable[[], Tensor]]] = [
        ("z", lambda: fast_cw_distance(bad, good)),
        ("means", lambda: fast_cw_distance(good, bad)),
        ("means", lambda: cw_distance_reference(good, bad)),
        ("z", lambda: CWDistanceLoss()(bad, good)),
        ("z", lambda: cw_normality(bad)),
        ("x", lambda: cw_two_sample(bad, good)),
        ("y", lambda: cw_two_sample(good, bad)),
    ]
    for name, call in calls:
        with pytest.raises(error, match=message.format(name=name)):
            call()


@pytest.mark.parametrize("other, message", BAD_PAIRS)
def test_points_that_do_not_fit(other: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"z and means must .*{message}"):
        fast_cw_distance(other, points(4))
    with pytest.raises(ValueError, match=f"x and y must .*{message}"):
        cw_two_sample(other, points(4))


@pytest.mark.parametrize("options, error, message", BAD_OPTIONS)
def test_bad_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    for function in (fast_cw_distance, cw_distance_reference):
        with pytest.raises(error, match=message):
            function(points(6), points(4), **options)


@pytest.mark.parametrize("name", ["x_weights", "y_weights"])
def test_bad_sample_weights(name: str) -> None:
    for bad, message in ((torch.ones(6), "sum to 1"), (torch.ones(5) / 5, r"shape \(6,\), got shape \(5,\)")):
        with pytest.raises(ValueError, match=f"{name} must .*{message}"):
            cw_two_sample(points(6), points(6), **{name: bad})


def test_numpy_bool_is_a_bool() -> None:
    z, means = near_optimum(6, 3, 4)
    assert torch.equal(fast_cw_distance(z, means, log=np.True_), fast_cw_distance(z, means, log=True))
    assert CWDistanceLoss(log=np.False_).log is False


@pytest.mark.parametrize("log", ["no", 1])
def test_log_is_a_bool_in_all_functions(log: Any) -> None:
    z = points(6)
    for call in (
        lambda: cw_normality(z, log=log),
        lambda: cw_normality(z, log=log, groups=torch.arange(6)),
        lambda: cw_two_sample(z, z, log=log),
    ):
        with pytest.raises(TypeError, match=f"log must be a bool, got {log!r}"):
            call()


def test_numbers_of_other_kinds(backend: str) -> None:
    z, means = near_optimum(6, 3, 4)
    expected = fast_cw_distance(z, means, None, 2.0, 0.5, backend=backend)
    for gamma in (
        np.float64(0.5),
        np.float32(0.5),
        torch.tensor(0.5),
        torch.tensor([[0.5]]),
        torch.tensor(0.5).double(),
    ):
        assert torch.equal(fast_cw_distance(z, means, None, 2, gamma, backend=backend), expected)
    for variances in (np.int64(2), torch.tensor(2.0, device=DEVICE), torch.full((3,), 2.0, device=DEVICE)):
        assert torch.equal(fast_cw_distance(z, means, None, variances, 0.5, backend=backend), expected)


def test_unavailable_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Backend("broken", "for this test", -2, missing=lambda: "no such chip")
    narrow = Backend("narrow", "for this test", -1, unsuitable=lambda device, dtype, dim: f"takes no {dtype}")
    monkeypatch.setattr(dispatch, "BACKENDS", (broken, narrow, *dispatch.BACKENDS))
    missing = CWDistanceLoss(backend="broken")  # on the machine where it was made
    with pytest.raises(ValueError, match=r"backend='broken' is not available: no such chip"):
        missing(points(6), points(4))
    with pytest.raises(ValueError, match=r"backend='broken' is not available: no such chip.*reference \(available\)"):
        fast_cw_distance(points(6), points(4), backend="broken")
    with pytest.raises(
        ValueError, match=r"backend='narrow' is not available: takes no torch.float32.*broken \(not ava"
    ):
        fast_cw_distance(points(6), points(4), backend="narrow")
    with pytest.raises(ValueError, match=r"unknown.*broken \(not available: no such chip\).*reference \(available\)"):
        fast_cw_distance(points(6), points(4), backend="typo")
    assert fast_cw_distance(points(6), points(4)).isfinite()
    assert ("broken", "no such chip", "for this test") in dispatch.describe_backends()
    monkeypatch.setattr(dispatch, "BACKENDS", (broken, narrow))
    with pytest.raises(ValueError, match=r"no backend serves torch.float32 points of dimension 3 on cpu"):
        fast_cw_distance(points(6), points(4))


def test_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = (DEVICE, torch.float32, 10)
    default = dispatch.choose_backend("auto", *chosen)
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "reference")
    assert dispatch.ENVIRONMENT_VARIABLE == "SEGMA_FAST_BACKEND"
    assert dispatch.choose_backend("auto", *chosen) == "reference" != default
    assert dispatch.choose_backend(default, *chosen) == default
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "typo")
    with pytest.raises(ValueError, match="SEGMA_FAST_BACKEND='typo' is unknown"):
        fast_cw_distance(points(6), points(4))
    assert fast_cw_distance(points(6), points(4), backend="reference").isfinite()
    assert cw_distance_reference(points(6), points(4), backend="auto").isfinite()
    for empty in ("", "auto"):
        monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, empty)
        assert dispatch.choose_backend("auto", *chosen) == default


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("where", [0, 1])
def test_nan_and_infinity_give_nan(backend: str, where: int, bad: float, dim: int) -> None:
    pair = near_optimum(600, 3, dim)
    pair[where][1, -1] = bad
    assert fast_cw_distance(*pair, backend=backend, log=True).isnan()
    assert cw_two_sample(*pair, backend=backend).isnan()
    assert evaluate(fast_cw_distance, pair, backend=backend)[0].isnan()


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize(
    "dtype, scale",
    [(torch.float32, 1e10), (torch.float32, 1e20), (torch.float32, 1e30), (torch.float64, 1e150)],
)
def test_huge_codes(optimised: str, dtype: torch.dtype, scale: float, dim: int) -> None:
    """The reference squares them as they are, and overflows to NaN in float32 from 1e19 on."""
    skip_unless_served(optimised, dtype, dim)
    pair = [scale * t.to(dtype) for t in near_optimum(50, 4, dim)]
    expected, _ = truth(pair)
    value, gradients = evaluate(fast_cw_distance, pair, backend=optimised)
    assert expected.isfinite()
    assert relative_error(value, expected) <= 2e-5
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dim", [1, 2, 10])
@pytest.mark.parametrize("gamma", [1e-6, 1e-2, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logarithm_is_finite_where_distributions_coincide(
    backend: str, dtype: torch.dtype, gamma: float, dim: int
) -> None:
    skip_unless_served(backend, dtype, dim)
    z, means = (t.to(dtype) for t in near_optimum(20, 3, dim))
    same = z[:1]
    cases: list[tuple[tuple[Tensor, Tensor], dict[str, Any]]] = [
        ((z, z.clone()), {"variances": 0.0}),
        ((same.repeat(9, 1), same.clone()), {"variances": 0.0}),
        ((same.repeat(9, 1), same.repeat(4, 1)), {}),
        ((z, means), {}),
        ((z, means), {"variances": 1e6}),
    ]
    for pair, options in cases:
        value, gradients = evaluate(fast_cw_distance, pair, gamma=gamma, log=True, backend=backend, **options)
        assert value.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)
    x = z.clone().requires_grad_()
    value = cw_two_sample(x, x, gamma, log=True, backend=backend)
    (gradient,) = torch.autograd.grad(value, x)
    assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("dim", [1, 3])
def test_logarithm_is_the_logarithm(backend: str, dim: int) -> None:
    pair = near_optimum(20, 3, dim)
    value, gradients = evaluate(fast_cw_distance, pair, backend=backend)
    log, log_gradients = evaluate(fast_cw_distance, pair, backend=backend, log=True)
    assert torch.allclose(log, value.log(), rtol=1e-5)
    for gradient, log_gradient in zip(gradients, log_gradients, strict=True):
        assert torch.allclose(log_gradient, gradient / value, rtol=1e-3, atol=1e-6)
