"""segma_fast: the Cramer-Wold distance between codes and a Gaussian mixture, value and gradient in one pass."""

__version__ = "0.1.0"

import segma_fast.before_torch  # noqa: F401  # as its name says

# isort: split
from segma_fast import large_batch
from segma_fast.distance.backends.extension import tell_once as _tell_once
from segma_fast.distance.formulas import silverman_gamma
from segma_fast.distance.functional import cw_distance_reference, cw_normality, fast_cw_distance
from segma_fast.distance.mixture import GaussianMixture
from segma_fast.distance.modules import CWDistanceLoss, CWNormalityLoss, SIGReg
from segma_fast.distance.sigreg import sigreg
from segma_fast.distance.two_sample import cw_two_sample

__all__ = [
    "CWDistanceLoss",
    "CWNormalityLoss",
    "SIGReg",
    "__version__",
    "GaussianMixture",
    "cw_distance_reference",
    "cw_normality",
    "cw_two_sample",
    "fast_cw_distance",
    "large_batch",
    "sigreg",
    "silverman_gamma",
]

_tell_once()
