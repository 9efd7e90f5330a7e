"""segma_fast: the Cramer-Wold distance between codes and a Gaussian mixture, value and gradient in one pass."""

from segma_fast import large_batch
from segma_fast.formulas import silverman_gamma
from segma_fast.functional import cw_distance_reference, cw_normality, cw_two_sample, fast_cw_distance
from segma_fast.mixture import GaussianMixture
from segma_fast.modules import CWDistanceLoss
from segma_fast.version import __version__

__all__ = [
    "CWDistanceLoss",
    "__version__",
    "GaussianMixture",
    "cw_distance_reference",
    "cw_normality",
    "cw_two_sample",
    "fast_cw_distance",
    "large_batch",
    "silverman_gamma",
]
