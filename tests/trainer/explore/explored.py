"""Small models to explore, and a folder of pictures in colour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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


def colour_folder(folder: Path) -> Path:
    """Red and blue pictures of 20 × 16 pixels in two classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for channel, name in ((0, "red ones"), (2, "blue ones")):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 90, (16, 20, 3), dtype=np.uint8)
                pixels[:, :, channel] += 150
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


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
