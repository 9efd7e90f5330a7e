"""The distance between two samples."""

from __future__ import annotations

from torch import Tensor

from segma_fast.distance.arguments import check_gamma, check_pair, check_weights, widened
from segma_fast.distance.autograd import Inputs
from segma_fast.distance.evaluate import choose, distance, dtype_of
from segma_fast.distance.formulas import silverman_gamma
from segma_fast.distance.scalars import check_flag


def cw_two_sample(
    x: Tensor,
    y: Tensor,
    gamma: float | Tensor | None = None,
    *,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    log: bool = False,
    phi: str = "approx",
    backend: str = "auto",
    precision: str | None = None,
) -> Tensor:
    """Squared Cramer-Wold distance between two samples, whose sizes may differ.

    Equal to ``Σ_ij k(x_i, x_j) / m² - 2 Σ_ij k(x_i, y_j) / mn + Σ_ij k(y_i, y_j) / n²`` with the kernel of
    :func:`fast_cw_distance` at variance 0. It accepts the same tensors and raises the same errors.

    Args:
        x, y: the samples, (m, D) and (n, D).
        gamma: bandwidth γ > 0; default ``silverman_gamma`` of the mean size ``(m + n) / 2``, rounded down.
        x_weights, y_weights: weights ≥ 0 that sum to 1, (m,) and (n,); default 1/m and 1/n.
        log, phi, backend, precision: as in :func:`fast_cw_distance`.

    Returns:
        A 0-d tensor, float64 if either sample is float64 and else float32.
    """
    x, y = check_pair("x", x, "y", y)
    log, dtype = check_flag("log", log), dtype_of(x)
    if gamma is None:
        gamma = silverman_gamma((x.shape[0] + y.shape[0]) // 2)
    else:
        gamma = check_gamma(gamma, "x", x)
        x, y = widened(gamma, 0.0, x, y)
    x_weights = None if x_weights is None else check_weights("x_weights", x_weights, x)
    y_weights = None if y_weights is None else check_weights("y_weights", y_weights, y)
    chosen = choose(x, phi, backend, precision)
    return distance(Inputs(x, y, x_weights, y_weights, 0.0, gamma), log, phi, chosen, None).to(dtype)
