"""The distances as modules, for those who keep losses in attributes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from segma_fast.distance.arguments import check_gamma
from segma_fast.distance.dispatch import check_backend, check_phi
from segma_fast.distance.functional import cw_normality, fast_cw_distance
from segma_fast.distance.precision import choose_precision
from segma_fast.distance.process_group import Group, check_group, rank_and_size
from segma_fast.distance.scalars import check_flag
from segma_fast.distance.sigreg import check_reduction, sigreg
from segma_fast.distance.slices.distance import check_slices

if TYPE_CHECKING:
    from typing import Self

LEFT_BEHIND = "left behind by pickle"  # process_group of a module loaded from a pickle, if the module had one


class _Loss(nn.Module):
    """A function with its options fixed: checks, pickle, copies and repr. It has no parameters."""

    shown: tuple[str, ...] = ("backend", "precision")  # attributes in the repr, after gamma
    process_group: Group | None = None
    slices: int | None = None  # and so on, for modules that were pickled before these options existed
    frequencies: int | None = None
    generator: torch.Generator | None = None

    def __init__(
        self,
        gamma: float | None,
        phi: str,
        slices: tuple[int | None, int | None, torch.Generator | None],
        backend: str,
        precision: str | None,
        process_group: Group | None,
    ) -> None:
        super().__init__()
        if isinstance(gamma, Tensor):
            raise TypeError(
                "gamma must be a number or None here, got a torch.Tensor; give a learnable gamma to the function itself"
            )
        if gamma is not None:
            check_gamma(gamma, "gamma", torch.empty(0))
        check_backend(backend)
        choose_precision(precision)
        check_group(process_group)
        check_phi(phi)
        check_slices(*slices, phi)
        self.slices, self.frequencies, self.generator = slices
        self.gamma = gamma
        self.backend = backend
        self.precision = precision
        self.process_group = process_group

    def __getstate__(self) -> dict[str, Any]:
        """The state for pickle, without the process group, which is a handle of this process."""
        return vars(self) | ({} if self.process_group is None else {"process_group": LEFT_BEHIND})

    def __copy__(self) -> Self:
        """A copy with the same process group."""
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A deep copy that shares the process group, which cannot be copied."""
        copied = type(self).__new__(type(self))
        memo |= {id(self): copied, id(self.process_group): self.process_group}
        vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def _options(self) -> dict[str, Any]:
        if self.process_group == LEFT_BEHIND:
            raise RuntimeError(
                "process_group was left behind when this module was pickled: set its process_group to a group of this "
                "process, such as torch.distributed.group.WORLD, or to None for the codes of one process"
            )
        names = ("slices", "frequencies", "generator", "backend", "precision", "process_group")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        shown = self.shown if self.slices is None else ("slices", "frequencies", *self.shown)
        options = [f"{name}={getattr(self, name)!r}" for name in shown]
        if self.process_group == LEFT_BEHIND:
            options.append(f"process_group {LEFT_BEHIND}")
        elif self.process_group is not None:
            options.append(f"process_group of {rank_and_size(self.process_group)[1]}")
        return ", ".join([f"gamma={self.gamma}", *options])


class _Distance(_Loss):
    """A distance, or its logarithm, by either form of φ."""

    shown = ("log", "phi", "backend", "precision")
    phi = "approx"  # for modules that were pickled before this option existed

    def __init__(
        self,
        gamma: float | None = None,
        *,
        log: bool = False,
        phi: str = "approx",
        slices: int | None = None,
        frequencies: int | None = None,
        generator: torch.Generator | None = None,
        backend: str = "auto",
        precision: str | None = None,
        process_group: Group | None = None,
    ) -> None:
        super().__init__(gamma, phi, (slices, frequencies, generator), backend, precision, process_group)
        self.log = check_flag("log", log)
        self.phi = phi


class CWDistanceLoss(_Distance):
    """:func:`segma_fast.fast_cw_distance` with its options fixed; it has no parameters.

    Args:
        gamma: bandwidth γ > 0; None for the paper's rule, applied to each batch.
        log: return ``log d²``, the form that equation (9) of the paper minimises.
        phi: ``"approx"`` for the paper's φ_D, or ``"exact"``.
        slices, frequencies, generator: as in :func:`segma_fast.fast_cw_distance`.
        backend, precision: as in :func:`segma_fast.fast_cw_distance`; a missing backend is an error at the first call.
        process_group: processes whose codes form one batch, as in :func:`segma_fast.fast_cw_distance`. A copy keeps
            the group. A pickle, such as ``torch.save`` writes, cannot hold it: the loaded module raises a RuntimeError
            when it is called, until its ``process_group`` is set (to None for one process).

    Raises:
        ValueError, TypeError: if ``gamma`` is not a finite number > 0, ``log`` is no bool, ``phi``, ``backend`` or
            ``precision`` is unknown, or ``process_group`` is no group.
    """

    def forward(
        self, z: Tensor, means: Tensor, weights: Tensor | None = None, variances: float | Tensor = 1.0
    ) -> Tensor:
        """The distance of codes (m, D) to the mixture with means (K, D): a 0-d tensor."""
        options = self._options()
        return fast_cw_distance(z, means, weights, variances, self.gamma, log=self.log, phi=self.phi, **options)


class CWNormalityLoss(_Distance):
    """:func:`segma_fast.cw_normality`, the distance to N(0, I), with its options fixed; it has no parameters.

    Args:
        gamma, log, phi, slices, frequencies, generator, backend, precision, process_group: as in
            :class:`CWDistanceLoss`, with the same errors.
    """

    def forward(self, z: Tensor, groups: Tensor | None = None, *, views: int | None = None) -> Tensor:
        """The distance of a sample (m, D) to N(0, I): a 0-d tensor; ``groups`` and ``views`` as in the function."""
        options = self._options()
        return cw_normality(z, self.gamma, groups=groups, views=views, log=self.log, phi=self.phi, **options)


class SIGReg(_Loss):
    """:func:`segma_fast.sigreg`, LeJEPA's regulariser with infinitely many slices, with its options fixed.

    It has no parameters, and draws no random numbers unless ``slices`` is given.

    Args:
        gamma: bandwidth γ > 0; 1/2, the default, is LeJEPA's weight ``exp(-t²/2)``. None for the paper's rule.
        reduction: ``"mean"`` over the samples, or ``"none"``.
        slices, frequencies, generator, backend, precision, process_group: as in :class:`CWDistanceLoss`, with the same
            errors.
    """

    shown = ("reduction", "backend", "precision")

    def __init__(
        self,
        gamma: float | None = 0.5,
        *,
        reduction: Literal["mean", "none"] = "mean",
        slices: int | None = None,
        frequencies: int | None = None,
        generator: torch.Generator | None = None,
        backend: str = "auto",
        precision: str | None = None,
        process_group: Group | None = None,
    ) -> None:
        super().__init__(gamma, "exact", (slices, frequencies, generator), backend, precision, process_group)
        self.reduction = check_reduction(reduction)

    def forward(self, z: Tensor, groups: Tensor | None = None, *, views: int | None = None) -> Tensor:
        """The statistic of samples (…, N, D): 0-d, or (…) without a reduction; other arguments as in the function."""
        options = self._options()
        return sigreg(z, self.gamma, groups=groups, views=views, reduction=self.reduction, **options)
