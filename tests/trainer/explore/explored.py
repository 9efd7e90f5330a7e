"""Small models to explore, and a folder of pictures in colour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from made_pictures import colour_folder

from segma_fast.trainer import load_run, starting_config, train
from segma_fast.trainer.explore.explorer import Explorer

SECRET = "nobody may read this"
SMALL: dict[str, Any] = {"epochs": 1, "hidden": (16,), "latent_dim": 3}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "segma": ("segma", {"means_init": "normal"}),
    "segma without labels": ("segma", {"beta": 0.0, "means_init": "normal"}),
    "cwae": ("segma", {"beta": 0.0, "components": 1}),
    "m2": ("m2", {}),
    "cagem": ("cagem", {"top_dim": 2}),
    "amm": ("amm", {}),
}


def make_explorer(name: str, new_folder: Callable[[str], Path]) -> Explorer:
    """The explorer of one of MODELS, or of a model of colours, after one epoch."""
    folder = new_folder("runs") / name.replace(" ", "-")
    if name == "colours":
        config = starting_config("digits").with_options(
            dataset=str(colour_folder(new_folder("data") / "colours")), size=16, network="conv", channels=(8, 8, 8, 8),
            latent_dim=3, epochs=1, labels=6, batch_size=8, labelled_batch_size=4, means_init="normal",
        )  # fmt: skip
    else:
        model, options = MODELS[name]
        config = starting_config("digits", None, model).with_options(**SMALL, **options)
    train(config.with_options(run_dir=str(folder), device="cpu"))
    return Explorer(load_run(folder))
