"""The step of the trainer's loop beside bare steps: of the same loss, and of an auto-encoder without a distance."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from benchmarks.suites.segma_step import COMPONENTS, LABELLED, NETWORK, SHAPE, Step
from segma_fast.bench.records import Record
from segma_fast.bench.timing import Times, by_wall
from segma_fast.trainer.config import TrainConfig, build_model, starting_config
from segma_fast.trainer.data import DataConfig, load_data
from segma_fast.trainer.models import AutoEncoder
from segma_fast.trainer.models.base import as_pixels, squared_error

LOOP = 60  # steps of a run
ROWS = 2000  # images of noise for the step of the paper


def overhead(batch: int, turns: int = 5) -> list[Record]:
    """Seconds a step on the digits in the training loop, and of networks, loss and optimiser one after the other."""
    config = TrainConfig(batch_size=batch - LABELLED, epochs=LOOP)
    data = load_data(config.data)
    model = build_model(config, data.image_shape, data.classes)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    step = Step(model, optimizer, data.train_images[:batch], data.train_labels[batch - LABELLED : batch])
    times = in_turns({"trainer": config}, {"bare step": step.bare}, turns)
    return [replace(Record("overhead", n, batch, model.prior.dim, COMPONENTS), **t.summary()) for n, t in times.items()]


def reproduction(turns: int = 5) -> list[Record]:
    """Seconds a step of the paper's MNIST experiment, 100 + 100 rows, and of its auto-encoder with MSE alone."""
    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(dataset=str(_noise(Path(folder) / "noise")), cache=Path(folder))
        trainings = {}
        for preset in ("authors", "paper"):
            config = starting_config("mnist", preset)
            epochs = LOOP * config.batch_size // ROWS
            trainings[f"trainer, {preset}"] = replace(config, data=data, epochs=epochs)
        rows = config.batch_size + config.labelled_batch_size
        times = in_turns(trainings, {"auto-encoder": _auto_encoder(rows, config.learning_rate)}, turns)
    dim = NETWORK.latent_dim
    return [replace(Record("reproduction", n, rows, dim, COMPONENTS), **t.summary()) for n, t in times.items()]


def in_turns(
    trainings: Mapping[str, TrainConfig], bare: Mapping[str, Callable[[], None]], turns: int
) -> dict[str, Times]:
    """Each turn counts with the median of its steps."""
    from segma_fast.trainer.loop import train

    times = {name: Times() for name in (*trainings, *bare)}
    for _ in range(turns):
        for name, config in trainings.items():
            with tempfile.TemporaryDirectory() as folder:
                outcome = train(replace(config, run_dir=Path(folder), device="cpu"))
            times[name].samples.append(outcome.seconds_per_step)
        for name, step in bare.items():
            step()
            times[name].samples.append(median(by_wall(step, torch.device("cpu")) for _ in range(LOOP)))
    return times


def _auto_encoder(rows: int, learning_rate: float) -> Callable[[], None]:
    model = AutoEncoder(SHAPE, NETWORK)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    images = torch.randint(256, (rows, *SHAPE), dtype=torch.uint8)

    def step() -> None:
        pixels = as_pixels(images)
        loss = squared_error(pixels, model(pixels)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def _noise(folder: Path) -> Path:
    """Images of noise in the layout of a data set of the Hub."""
    import datasets

    folder.mkdir()
    pixels = torch.randint(256, (ROWS, *SHAPE[1:]), dtype=torch.uint8).numpy()
    columns = {"image": list(pixels), "label": [row % COMPONENTS for row in range(ROWS)]}
    table = datasets.Dataset.from_dict(
        columns, features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    )
    for split in ("train", "test"):
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder
