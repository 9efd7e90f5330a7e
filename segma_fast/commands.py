"""The commands that use a trained model; each reads a run folder and writes a picture or prints a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from segma_fast import explore, metrics, pictures, report
from segma_fast.data import ImageData, load_data
from segma_fast.models.segma import as_pixels
from segma_fast.run import Run, load_run

DEFAULT_RUN = Path("runs/digits")


def sample(arguments: list[str]) -> None:
    """Run ``segma-fast sample``."""

    def command(
        run_dir: Path = DEFAULT_RUN,
        n: int = 10,
        component: int | None = None,
        seed: int = 0,
        out: Path = Path("samples.png"),
    ) -> None:
        """Draw images from the components of the mixture, one row a component.

        examples:
          segma-fast sample
          segma-fast sample --component 3 --n 20 --seed 1 --out threes.png

        Args:
            run_dir: folder of a run
            n: images a component
            component: only this one
            seed: of the codes
            out: PNG to write
        """
        model = load_run(run_dir).model
        generator = torch.Generator().manual_seed(seed)
        print(pictures.save_grid(explore.sample_components(model, n, component, generator=generator), out))

    _run(command, "sample", arguments)


def interpolate(arguments: list[str]) -> None:
    """Run ``segma-fast interpolate``."""

    def command(
        run_dir: Path = DEFAULT_RUN,
        images: tuple[str, ...] = ("0", "1", "2", "3"),
        steps: int = 10,
        out: Path = Path("interpolations.png"),
    ) -> None:
        """Go from one image to another through the latent space; the first and last of a row are the real ones.

        examples:
          segma-fast interpolate
          segma-fast interpolate --images 3 17 40 5 --steps 12
          segma-fast interpolate --images mine.png other.png

        Args:
            run_dir: folder of a run
            images: pairs of test images by number, or picture files
            steps: images between, both ends included
            out: PNG to write
        """
        if len(images) % 2 or not images:
            raise ValueError(f"images must come in pairs, got {len(images)}")
        run = load_run(run_dir)
        pairs, _ = _images(run, images)
        first, second = pairs[0::2], pairs[1::2]
        lines = explore.interpolate(run.model, first, second, steps)
        print(pictures.save_grid(torch.cat([first[:, None], lines, second[:, None]], 1), out))

    _run(command, "interpolate", arguments)


def transfer(arguments: list[str]) -> None:
    """Run ``segma-fast transfer``."""

    def command(
        run_dir: Path = DEFAULT_RUN,
        images: tuple[str, ...] = ("0", "1", "2", "3", "4"),
        to: int | None = None,
        steps: int = 10,
        out: Path = Path("transfer.png"),
    ) -> None:
        """Move images to another class step by step, keeping their style: z + t (μ_target − μ_source), equation (10).

        The first of a row is the real image; its class is what the model takes it for.

        examples:
          segma-fast transfer --to 7
          segma-fast transfer --images 3 17 mine.png --to 0 --out zeros.png

        Args:
            run_dir: folder of a run
            images: test images by number, or picture files
            to: the class to move to; default each image's next
            steps: steps from t = 0 to 1
            out: PNG to write
        """
        run = load_run(run_dir)
        chosen, _ = _images(run, images)
        source = explore.classify(run.model, chosen)
        target = (source + 1) % run.model.prior.components if to is None else torch.full_like(source, to)
        moved = explore.transfer(run.model, chosen, source, target, steps)
        print(pictures.save_grid(torch.cat([chosen[:, None], moved], 1), out))

    _run(command, "transfer", arguments)


def intensify(arguments: list[str]) -> None:
    """Run ``segma-fast intensify``."""

    def command(
        run_dir: Path = DEFAULT_RUN,
        images: tuple[str, ...] = ("0", "1", "2", "3", "4"),
        away_from: int | None = None,
        alpha: float = 0.5,
        steps: int = 10,
        out: Path = Path("intensify.png"),
    ) -> None:
        """Strengthen what sets images apart from a class: z + t α (μ_source − μ_away), equation (11).

        The first of a row is the real image; its class is what the model takes it for.

        examples:
          segma-fast intensify --away-from 1
          segma-fast intensify --images 3 17 --away-from 8 --alpha 1.0

        Args:
            run_dir: folder of a run
            images: test images by number, or picture files
            away_from: the class to move away from; default each image's next
            alpha: how far
            steps: steps from t = 0 to 1
            out: PNG to write
        """
        run = load_run(run_dir)
        chosen, _ = _images(run, images)
        source = explore.classify(run.model, chosen)
        away = (source + 1) % run.model.prior.components if away_from is None else torch.full_like(source, away_from)
        moved = explore.intensify(run.model, chosen, source, away, alpha, steps)
        print(pictures.save_grid(torch.cat([chosen[:, None], moved], 1), out))

    _run(command, "intensify", arguments)


def classify(arguments: list[str]) -> None:
    """Run ``segma-fast classify``."""

    def command(run_dir: Path = DEFAULT_RUN, images: tuple[str, ...] = ("0", "1", "2", "3", "4")) -> None:
        """Say which class images belong to, with its probability by equation (7).

        examples:
          segma-fast classify --images 3 17 40
          segma-fast classify --images mine.png

        Args:
            run_dir: folder of a run
            images: test images by number, or picture files
        """
        run = load_run(run_dir)
        chosen, labels = _images(run, images)
        posterior = run.model.prior.posterior(run.model.encode(chosen))
        names = run.data.class_names
        named = run.model.prior.components == len(names) and run.config.objective.beta > 0
        for item, row, label in zip(images, posterior, labels, strict=True):
            best = int(row.argmax())
            found = f"class {names[best]}" if named else f"component {best}"
            truth = "" if label is None else f"   (label: {names[label]})"
            print(f"{item:>12}   {found}   {100 * row[best].item():.1f} %{truth}")

    _run(command, "classify", arguments)


def evaluate(arguments: list[str]) -> None:
    """Run ``segma-fast evaluate``."""

    def command(run_dir: Path = DEFAULT_RUN) -> None:
        """Test error, reconstruction error and d² of a trained model on its test set.

        examples:
          segma-fast evaluate
          segma-fast evaluate --run-dir runs/mnist

        Args:
            run_dir: folder of a run
        """
        run = load_run(run_dir)
        data = load_data(run.config.data)
        result = metrics.evaluate(run.model, data.test_images, data.test_labels, data.classes)
        labels = run.config.labels if run.config.objective.beta > 0 else 0
        print(report.quality_table(data.name, labels, result, len(data.test_labels)))

    _run(command, "evaluate", arguments)


def _run(command: Callable[..., None], name: str, arguments: list[str]) -> None:
    tyro.cli(command, prog=f"segma-fast {name}", args=arguments, config=(tyro.conf.FlagCreatePairsOff,))


def _images(run: Run, items: tuple[str, ...]) -> tuple[Tensor, list[int | None]]:
    """Test images by number and picture files as (n, C, H, W) in [0, 1], with the labels that are known."""
    data: ImageData | None = load_data(run.config.data) if any(item.isdigit() for item in items) else None
    found: list[Tensor] = []
    labels: list[int | None] = []
    for item in items:
        if not item.isdigit():
            found.append(_picture(Path(item), run.data.image_shape))
            labels.append(None)
            continue
        assert data is not None
        if int(item) >= len(data.test_images):
            raise ValueError(f"test images are numbered 0 ... {len(data.test_images) - 1}, got {item}")
        found.append(as_pixels(data.test_images[int(item)]))
        labels.append(int(data.test_labels[int(item)]))
    return torch.stack(found), labels


def _picture(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """A picture file in the shape (C, H, W) that a model takes, in [0, 1]."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            fitted: Any = image.convert("L" if shape[0] == 1 else "RGB").resize((shape[2], shape[1]))
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{path} is neither the number of a test image nor a readable picture: {error}") from error
    pixels = torch.from_numpy(np.array(fitted, dtype=np.float32) / 255)
    return pixels[None] if shape[0] == 1 else pixels.permute(2, 0, 1)
