"""SAMM, the Adversarially Learned Mixture Model with labels: a second game on rows whose y is given.

Algorithm 2 has one D for both games. A mixture of right and wrong classes can fool it: p = (q of labelled + q of
unlabelled rows) / 2. D first learns that an image with its right class is "inferred", and the encoder then avoids the
right class on unlabelled rows: in short runs on the digits these rows got any class but the right one. Equations (13)
and (14) each have their own optimal D. So here the two games share the layers that process x, y and z separately, and
each has its own layers after the concatenation; ``--discriminator shared`` is algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from segma_fast.trainer.models.amm import AMM, AMMConfig
from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.base import Task, register


@dataclass(frozen=True)
class SAMMConfig(AMMConfig):
    """Settings of SAMM."""

    discriminator: Literal["own", "shared"] = "own"
    """layers after x, y and z are concatenated: separate for the games without and with labels (own), or shared, as in
    algorithm 2"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discriminator not in ("own", "shared"):
            raise ValueError(f"discriminator must be own or shared, got {self.discriminator!r}")

    @property
    def label_use(self) -> Literal["required", "optional", "none"]:
        return "required"

    @property
    def heads(self) -> int:
        return 2 if self.discriminator == "own" else 1


@register("samm")
class SAMM(AMM):
    """AMM with labels: a second game, equation (14), uses rows whose y is given. One component per class."""

    Config = SAMMConfig
    title = "SAMM"
    mapping = "one-to-one"

    @classmethod
    def build(cls, settings: AMMConfig, network: NetworkConfig, task: Task) -> SAMM:
        """A new model; the prior's class probabilities are the label frequencies. See :meth:`ImageModel.build`.

        Raises:
            ValueError: if there is not one component per class.
        """
        cls.check_one_a_class(task, ", or take the model amm")
        counts = torch.ones(task.classes) if task.label_counts is None else task.label_counts.float()
        return cls(task.image_shape, network, settings, counts / counts.sum())

    def names_classes(self, classes: int) -> bool:
        return self.components == classes
