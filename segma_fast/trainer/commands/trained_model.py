"""The commands that use a trained model; each reads a run folder and writes a picture or prints a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from torch import Tensor

from segma_fast.trainer import metrics, report
from segma_fast.trainer.figures import views
from segma_fast.trainer.run import Run, load_run

DEFAULT_RUN = Path("runs/digits")


def as_command(function: Callable[..., None]) -> Callable[[list[str]], None]:
    """Turn a typed function into a command that takes a list of command-line arguments."""

    def run(arguments: list[str]) -> None:
        prog = f"segma-fast {function.__name__}"
        tyro.cli(function, prog=prog, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))

    return run


@as_command
def sample(
    run_dir: Path = DEFAULT_RUN,
    n: int = 10,
    component: str | None = None,
    seed: int = 0,
    spread: float = 1.0,
    every_class: bool = False,
    out: Path = Path("samples.png"),
) -> None:
    """Draw images from the components of the mixture, one row a component.

    examples:
      segma-fast sample
      segma-fast sample --component 3 --n 20 --seed 1 --out threes.png
      segma-fast sample --component 3 --n 5 --every-class

    Args:
        run_dir: folder of a run
        n: images a component
        component: only this one, by number or by the name of its class
        seed: random seed of the sampled codes
        spread: how far codes are from the centre of their component, as a multiple of what the mixture says
        every_class: move each code of the component, the first by default, to every class: one row a code
        out: PNG to write
    """
    run = load_run(run_dir)
    if every_class:
        view = views.in_every_class(run, n, 0 if component is None else component, seed, spread)
    else:
        view = views.samples(run, n, component, seed, spread)
    print(view.save(out))


@as_command
def interpolate(
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
        steps: images per interpolation, both ends included
        out: PNG to write
    """
    if len(images) % 2 or not images:
        raise ValueError(f"images must come in pairs, got {len(images)}")
    run = load_run(run_dir)
    pairs, _ = _images(run, images)
    print(views.interpolations(run, pairs[0::2], pairs[1::2], steps).save(out))


@as_command
def transfer(
    run_dir: Path = DEFAULT_RUN,
    images: tuple[str, ...] = ("0", "1", "2", "3", "4"),
    to: str | None = None,
    steps: int = 10,
    until: float = 1.0,
    out: Path = Path("transfer.png"),
) -> None:
    """Move images to another class step by step, keeping their style: z + t (μ_target − μ_source), equation (10).

    The first of a row is the real image; its class is what the model takes it for.

    examples:
      segma-fast transfer --to 7
      segma-fast transfer --images 3 17 mine.png --to 0 --out zeros.png

    Args:
        run_dir: folder of a run
        images: test images by number, or picture files, light on dark if the training pictures are
        to: number or name of the class to move to (the component, if trained without labels); default each image's next
        steps: steps from t = 0 to the last
        until: the last t; 1 is the other class, and more is beyond it
        out: PNG to write
    """
    run = load_run(run_dir)
    chosen, _ = _images(run, images)
    print(views.transfers(run, chosen, to, steps, until).save(out))


@as_command
def intensify(
    run_dir: Path = DEFAULT_RUN,
    images: tuple[str, ...] = ("0", "1", "2", "3", "4"),
    away_from: str | None = None,
    alpha: float = 0.5,
    steps: int = 10,
    out: Path = Path("intensify.png"),
) -> None:
    """Strengthen what distinguishes images from a class: z + t α (μ_source − μ_away), equation (11).

    The first of a row is the real image; its class is what the model takes it for.

    examples:
      segma-fast intensify --away-from 1
      segma-fast intensify --images 3 17 --away-from 8 --alpha 1.0

    Args:
        run_dir: folder of a run
        images: test images by number, or picture files, light on dark if the training pictures are
        away_from: the class to move away from, as --to of segma-fast transfer; default each image's next
        alpha: how far
        steps: steps from t = 0 to 1
        out: PNG to write
    """
    run = load_run(run_dir)
    chosen, _ = _images(run, images)
    print(views.intensities(run, chosen, away_from, alpha, steps).save(out))


@as_command
def reconstruct(
    run_dir: Path = DEFAULT_RUN,
    images: tuple[str, ...] = ("0", "1", "2", "3", "4"),
    out: Path = Path("reconstructions.png"),
) -> None:
    """Encode and decode images: the real ones, and below them what is decoded.

    examples:
      segma-fast reconstruct --images 3 17 mine.png

    Args:
        run_dir: folder of a run
        images: test images by number, or picture files, light on dark if the training pictures are
        out: PNG to write
    """
    run = load_run(run_dir)
    chosen, _ = _images(run, images)
    print(views.reconstructions(run, chosen, len(chosen)).save(out))


@as_command
def classify(run_dir: Path = DEFAULT_RUN, images: tuple[str, ...] = ("0", "1", "2", "3", "4")) -> None:
    """Say which class images belong to, with its probability by the model's main classifier.

    examples:
      segma-fast classify --images 3 17 40
      segma-fast classify --images mine.png

    Args:
        run_dir: folder of a run
        images: test images by number, or picture files, light on dark if the training pictures are
    """
    run = load_run(run_dir)
    chosen, labels = _images(run, images)
    classifier, posterior = next(iter(run.model.posteriors(run.model.encode(chosen)).items()))
    names = run.data.class_names
    print(f"by {classifier}:")
    for item, row, label in zip(images, posterior, labels, strict=True):
        best = int(row.argmax())
        found = f"class {names[best]}" if run.model.names_classes(len(names)) else f"component {best}"
        truth = "" if label is None else f"   (label: {names[label]})"
        print(f"{item:>12}   {found}   {100 * row[best].item():.1f} %{truth}")


@as_command
def evaluate(run_dir: Path = DEFAULT_RUN, likelihood_samples: int = 0, likelihood_images: int | None = None) -> None:
    """Test error, reconstruction error and d² of a trained model on its test set; log p(x) where it has one.

    examples:
      segma-fast evaluate
      segma-fast evaluate --run-dir runs/mnist
      segma-fast evaluate --run-dir runs/mnist-cagem --likelihood-samples 100

    Args:
        run_dir: folder of a run
        likelihood_samples: importance-weighted samples of log p(x) for each test image; 0 leaves it out
        likelihood_images: test images, at random, of which log p(x) is estimated, all if there are fewer; default 1000
    """
    if likelihood_samples < 0:
        raise ValueError(f"likelihood_samples must be >= 0, got {likelihood_samples}")
    if likelihood_images is not None and likelihood_images < 2:
        raise ValueError(f"likelihood_images must be >= 2, got {likelihood_images}")
    if likelihood_images is not None and not likelihood_samples:
        raise ValueError("likelihood_images needs likelihood_samples, the samples for each image, which are 0")
    run = load_run(run_dir)
    data = run.load_data()
    result = run.evaluate(data)
    print(report.quality_table(run.config.model, data.name, run.config.used_labels, result, len(data.test_labels)))
    if likelihood_samples:
        by = metrics.ImportanceSampling(likelihood_samples, likelihood_images or metrics.ImportanceSampling.images)
        print(report.likelihood(metrics.mean_log_likelihood(run.model, data.test_images, by), likelihood_samples))


@as_command
def publish(
    run_dir: Path = DEFAULT_RUN, out: Path | None = None, repo: str | None = None, private: bool = False
) -> None:  # fmt: skip
    """Write a model to a folder that can be handed on, or upload it to the Hugging Face Hub, with a model card.

    Commands take such a folder, or hf://owner/name, as --run-dir. To upload, log in first: hf auth login.

    examples:
      segma-fast publish --run-dir runs/mnist --out segma-mnist
      segma-fast publish --run-dir runs/mnist --repo owner/segma-mnist --private

    Args:
        run_dir: folder of a run
        out: folder to write
        repo: owner/name on the Hub
        private: for you alone, if the Hub has no such repository yet
    """
    if (out is None) == (repo is None):
        raise ValueError("give --out FOLDER or --repo OWNER/NAME")
    run = load_run(run_dir)
    print(run.save_pretrained(out) if out is not None else run.push_to_hub(str(repo), private=private or None))


def _images(run: Run, items: tuple[str, ...]) -> tuple[Tensor, list[int | None]]:
    """Test images by number and picture files as (n, C, H, W) in [0, 1], with the labels that are known."""
    if not items:
        raise ValueError("images must name at least one test image or picture file")
    numbers = [int(item) if item.removeprefix("-").isdecimal() else None for item in items]
    data = run.load_data() if any(number is not None for number in numbers) else None
    found: list[Tensor] = []
    labels: list[int | None] = []
    for item, number in zip(items, numbers, strict=True):
        if number is None or data is None:
            if not Path(item).exists():
                raise ValueError(f"{item} is neither the number of a test image nor a picture file")
            found.append(run.pictures(item)[0])
            labels.append(None)
            continue
        if not 0 <= number < len(data.test_images):
            raise ValueError(f"test images are numbered 0 ... {len(data.test_images) - 1}, got {item}")
        found.append(run.pictures(data.test_images[number])[0])
        labels.append(int(data.test_labels[number]) if data.labelled else None)
    return torch.stack(found), labels
