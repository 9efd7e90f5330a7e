"""One step of training: images of some rows, the loss, its gradient, the optimisers; on a GPU as one CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from segma_fast.trainer.batches import gather
from segma_fast.trainer.config import TrainConfig
from segma_fast.trainer.models import ImageModel

Terms = dict[str, Tensor]


def make_optimizers(model: ImageModel, config: TrainConfig) -> list[Optimizer]:
    """Adam for each of a model's games; parameters with a learning rate of their own are a group of their own."""
    factors = model.rate_factors()
    found: list[Optimizer] = []
    for own in model.optimizer_groups():
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in own:
            groups.setdefault(factors.get(parameter, 1.0), []).append(parameter)
        described = [{"params": some, "lr": config.learning_rate * x, "rate_factor": x} for x, some in groups.items()]
        found.append(torch.optim.Adam(described, betas=config.objective.betas, fused=True))
    return found


@dataclass(eq=False)
class Step:
    """Updates a model with the images of some rows; a call returns the loss and its terms, 0-d and detached.

    Args:
        config: of the run.
        accelerator: the one that prepared model and optimisers.
        model: called with a batch and the index of a game.
        games: the parameters of each optimiser.
        optimizers: one a game.
        images: all images of the data set, (N, C, H, W), uint8, on the accelerator's device.
        labels: their classes, (N,), int64, on the same device.
    """

    config: TrainConfig
    accelerator: Accelerator
    model: nn.Module
    games: Sequence[Sequence[nn.Parameter]]
    optimizers: Sequence[Optimizer]
    images: Tensor
    labels: Tensor

    def __call__(self, unlabelled: Tensor, labelled: Tensor, rate: float) -> Terms:
        """Rows of the whole batch, (n,) and (l,), int64, and the learning rate."""
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate * group["rate_factor"]
        return self._update(unlabelled, labelled)

    def _update(self, unlabelled: Tensor, labelled: Tensor) -> Terms:
        config, accelerator = self.config, self.accelerator
        batch = gather(
            self.images,
            self.labels,
            unlabelled,
            labelled,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            micro_batch=config.micro_batch,
        )
        found: Terms = {}
        for game, (own, optimizer) in enumerate(zip(self.games, self.optimizers, strict=True)):
            loss, terms = self.model(batch, game)
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            if config.clip_norm is not None:
                accelerator.clip_grad_norm_(own, config.clip_norm)
            if config.clip_value is not None:
                accelerator.clip_grad_value_(own, config.clip_value)
            optimizer.step()
            found |= ({"loss": loss.detach()} if game == 0 else {}) | terms
        return found


@dataclass(eq=False)
class CapturedStep(Step):
    """The same step as one CUDA graph: the first steps run as they are, then one is captured and only replayed.

    A replay is one launch for the host, which launches hundreds of kernels otherwise. Rows and learning rate are
    copied to where the graph reads them; the terms that a call returns are overwritten by the next one.
    """

    EAGER: ClassVar[int] = 3  # steps in which optimisers, libraries and kernels allocate and compile what they keep

    def __post_init__(self) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream, self._eager, self._rate = torch.cuda.Stream(self.images.device), 0, float("nan")
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=self.images.device)

    @staticmethod
    def serves(config: TrainConfig, accelerator: Accelerator) -> bool:
        """Whether steps can be captured: on one GPU, without micro-batches."""
        alone = accelerator.device.type == "cuda" and accelerator.num_processes == 1
        return alone and config.cuda_graph and config.micro_batch is None

    def __call__(self, unlabelled: Tensor, labelled: Tensor, rate: float) -> Terms:
        if rate != self._rate:
            self._rate = rate
            for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
                group["lr"].fill_(rate * group["rate_factor"])
        if self._eager < self.EAGER:  # on the stream of the capture, to which autograd binds what it keeps
            self._eager += 1
            current = torch.cuda.current_stream(self.images.device)
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                found = self._update(unlabelled, labelled)
            current.wait_stream(self._stream)
            return found
        if self._graph is None:
            self._capture(unlabelled, labelled)
        self._unlabelled.copy_(unlabelled, non_blocking=True)
        self._labelled.copy_(labelled, non_blocking=True)
        assert self._graph is not None
        self._graph.replay()
        return self._terms

    def _capture(self, unlabelled: Tensor, labelled: Tensor) -> None:
        device = self.images.device
        self._unlabelled, self._labelled = (torch.empty_like(rows, device=device) for rows in (unlabelled, labelled))
        self._unlabelled.copy_(unlabelled)
        self._labelled.copy_(labelled)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["capturable"] = True
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._terms = self._update(self._unlabelled, self._labelled)
        except RuntimeError as error:
            raise RuntimeError(
                f"the step of the model {self.config.model!r} cannot be captured in a CUDA graph ({error}); "
                "cuda_graph=False (--no-cuda-graph) trains without"
            ) from error
        self._graph = graph
