"""The trainer, on top of the distance: models, data, training loop, run folders and commands.

In a notebook or a program, with the names of the commands::

    from segma_fast.trainer import load_run, picture_grid, starting_config, train

    train(starting_config("digits").with_options(run_dir="runs/notebook", epochs=50))
    run = load_run("runs/notebook")
    picture_grid(run.sample(10))

It needs the packages of ``pip install "segma-fast[train]"``, which are imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segma_fast.trainer.config import TrainConfig, starting_config
    from segma_fast.trainer.data import DataConfig, DataError, ImageData, load_data
    from segma_fast.trainer.figures.grids import picture_grid
    from segma_fast.trainer.figures.run_pictures import save_pictures
    from segma_fast.trainer.loop import Outcome, train
    from segma_fast.trainer.metrics import Evaluation
    from segma_fast.trainer.models import ImageModel, NetworkConfig
    from segma_fast.trainer.run import Run, load_run

_HOME = {
    "DataConfig": "data",
    "DataError": "data",
    "Evaluation": "metrics",
    "ImageData": "data",
    "ImageModel": "models",
    "NetworkConfig": "models",
    "Outcome": "loop",
    "Run": "run",
    "TrainConfig": "config",
    "load_data": "data",
    "load_run": "run",
    "picture_grid": "figures.grids",
    "save_pictures": "figures.run_pictures",
    "starting_config": "config",
    "train": "loop",
}
__all__ = [
    "DataConfig",
    "DataError",
    "Evaluation",
    "ImageData",
    "ImageModel",
    "NetworkConfig",
    "Outcome",
    "Run",
    "TrainConfig",
    "load_data",
    "load_run",
    "picture_grid",
    "save_pictures",
    "starting_config",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("segma_fast"):
            raise
        raise ModuleNotFoundError(
            f'segma_fast.trainer needs the package {error.name}: pip install "segma-fast[train]"', name=error.name
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
