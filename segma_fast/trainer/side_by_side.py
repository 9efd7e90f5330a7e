"""Several trainings at the same time in one process: while a GPU works for one, the host starts steps of the others.

Small models leave most of a GPU idle, and separate processes take turns on it. Here each training has a CUDA stream of
its own, so that kernels of several run at once. A few steps of each are started at a time, and never more than two such
turns are under way: a driver with too much to launch holds the host up, and with it all others. Each has its own random
numbers too, so it trains to the same weights as alone. On a CPU the trainings just take turns.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch

from segma_fast.trainer.config import TrainConfig
from segma_fast.trainer.data import ImageData, load_data
from segma_fast.trainer.device import use_device
from segma_fast.trainer.interrupts import Interrupts
from segma_fast.trainer.loop import Outcome, flushed_denormals, training
from segma_fast.trainer.run_folder import check_folder, holds_run

POLL = 2e-5  # seconds after which a busy GPU is asked again
AHEAD = 1  # turns that may still be under way when the next one is started, so that a stream does not run dry


@flushed_denormals()
def train_side_by_side(configs: Sequence[TrainConfig]) -> list[Outcome | FloatingPointError]:
    """Train several models at once; runs that their folders hold already go on.

    Args:
        configs: the runs, each with a folder of its own and all with the same ``mixed_precision`` and ``device``.

    Returns:
        For each run its outcome, or the error if its loss stopped being finite; the others go on.

    Raises:
        ValueError: as :func:`segma_fast.trainer.loop.train`, or for runs that cannot be trained together.
        KeyboardInterrupt: after Ctrl-C, when all have saved a checkpoint.
    """
    for name in ("mixed_precision", "device"):
        values = {str(getattr(config, name)) for config in configs}
        if len(values) > 1:
            raise ValueError(f"{name} must be the same for all trainings, got {', '.join(sorted(values))}")
    folders = [config.run_dir.resolve() for config in configs]
    if len(set(folders)) < len(folders):
        raise ValueError(f"each training needs a run_dir of its own, got {', '.join(map(str, folders))}")
    for config in configs:
        use_device(config.device)
        check_folder(config, resume=holds_run(config.run_dir), overwrite=False)
    interrupts = Interrupts()
    shared = {config.data: _loaded(config) for config in {config.data: config for config in configs}.values()}
    waiting = {n: _Turns(config, interrupts, shared[config.data]) for n, config in enumerate(configs)}
    ended: dict[int, Outcome | FloatingPointError] = {}
    before = _RandomNumbers.current()
    try:
        while waiting:
            ready = [(number, turns) for number, turns in waiting.items() if turns.is_ready()]
            if not ready:
                time.sleep(POLL)
            for number, turns in ready:
                found = turns.take()
                if found is not None:
                    ended[number] = found
                    del waiting[number]
    finally:
        before.use()
        for turns in waiting.values():
            turns.close()
    interrupts.act()
    return [ended[number] for number in range(len(configs))]


def _on_gpu(config: TrainConfig) -> bool:
    return config.device != "cpu" and torch.cuda.is_available()


def _loaded(config: TrainConfig) -> ImageData:
    """The data set, with its images where they are trained on, so that all trainings share them."""
    data = load_data(config.data)
    if not _on_gpu(config):
        return data
    return replace(data, train_images=data.train_images.cuda(), test_images=data.test_images.cuda())


class _Turns:
    """One of the trainings, with its stream and its random numbers."""

    def __init__(self, config: TrainConfig, interrupts: Interrupts, data: ImageData) -> None:
        resume, label = holds_run(config.run_dir), config.run_dir.name
        self._turns = training(config, interrupts, resume=resume, data=data, label=label)
        self._stream = torch.cuda.Stream() if _on_gpu(config) else None
        self._under_way: deque[torch.cuda.Event] = deque()
        self._needs_results = True
        self._numbers = _RandomNumbers.new()

    def is_ready(self) -> bool:
        """Whether the GPU has done what the next steps wait for."""
        while self._under_way and self._under_way[0].query():
            self._under_way.popleft()
        return len(self._under_way) <= (0 if self._needs_results else AHEAD)

    def take(self) -> Outcome | FloatingPointError | None:
        """Start the next steps; what the training ended with, if it did."""
        self._numbers.use()
        try:
            with torch.cuda.stream(self._stream) if self._stream else nullcontext():
                self._needs_results = next(self._turns)
            if self._stream is not None:
                self._under_way.append(self._stream.record_event())
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        except FloatingPointError as error:
            return error
        finally:
            self._numbers = _RandomNumbers.current()
        return None

    def close(self) -> None:
        """Leave the training where it is."""
        self._turns.close()


class _RandomNumbers:
    """The state of torch's generator of the CPU, and the generator of the GPU, on which captured graphs depend."""

    def __init__(self, cpu: torch.Tensor, gpu: torch.Generator | None) -> None:
        self._cpu, self._gpu = cpu, gpu

    @classmethod
    def current(cls) -> _RandomNumbers:
        return cls(torch.get_rng_state(), _gpu_generator().graphsafe_get_state() if torch.cuda.is_available() else None)

    @classmethod
    def new(cls) -> _RandomNumbers:
        """Numbers that no other training draws from; a training seeds them."""
        return cls(torch.get_rng_state(), torch.Generator("cuda") if torch.cuda.is_available() else None)

    def use(self) -> None:
        """Let torch draw from here."""
        torch.set_rng_state(self._cpu)
        if self._gpu is not None:
            _gpu_generator().graphsafe_set_state(self._gpu)


def _gpu_generator() -> torch.Generator:
    device = torch.cuda.current_device()  # fills default_generators
    found: torch.Generator = torch.cuda.default_generators[device]
    return found
