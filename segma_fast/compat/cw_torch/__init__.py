"""The public names of cw-torch 0.4.2, in its modules ``metric`` and ``gamma`` and here."""

from segma_fast.compat.cw_torch.gamma import silverman_rule_of_thumb, silverman_rule_of_thumb_sample
from segma_fast.compat.cw_torch.metric import cw, cw_normality, cw_normality_no_scale

__all__ = [
    "cw",
    "cw_normality",
    "cw_normality_no_scale",
    "silverman_rule_of_thumb",
    "silverman_rule_of_thumb_sample",
]
