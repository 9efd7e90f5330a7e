"""SAMM, the Adversarially Learned Mixture Model with labels: a second game, whose inferred triples have their own y.

Algorithm 2 has one D for both games. It can be fooled by a mixture of right and wrong classes, p = (q of labelled + q
of unlabelled rows) / 2, and first learns that an image with its right class is "inferred", which the encoder of the
unlabelled rows flees: in short runs on the digits they got any class but the right one. Equations (13) and (14) have
each their own best D, so here the games share the layers that see x, y and z apart and have their own behind them;
``--discriminator shared`` is algorithm 2.
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
    """layers behind where x, y and z are joined: own ones for the games without and with labels, or shared ones, as in
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
    """AMM with labels: a second game, equation (14), has rows whose y is given. One component a class."""

    Config = SAMMConfig
    title = "SAMM"
    mapping = "one-to-one"

    @classmethod
    def build(cls, settings: AMMConfig, network: NetworkConfig, task: Task) -> SAMM:
        """A new model; the classes of the prior are as frequent as the labels. See :meth:`ImageModel.build`.

        Raises:
            ValueError: if there is not one component a class.
        """
        cls.check_one_a_class(task, ", or take the model amm")
        counts = torch.ones(task.classes) if task.label_counts is None else task.label_counts.float()
        return cls(task.image_shape, network, settings, counts / counts.sum())

    def names_classes(self, classes: int) -> bool:
        return self.components == classes
