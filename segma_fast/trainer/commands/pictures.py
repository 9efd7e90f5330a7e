"""The commands that write a picture of what a trained model shows; each reads a run folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro
from torch import Tensor

from segma_fast.trainer.commands.trained_model import DEFAULT_RUN, as_command, chosen_images, some_images
from segma_fast.trainer.figures import views
from segma_fast.trainer.run import Run, load_run


@as_command
def sample(
    run_dir: Path = DEFAULT_RUN,
    n: int = 10,
    component: str | None = None,
    seed: int = 0,
    spread: Annotated[float, tyro.conf.arg(aliases=["--temperature"])] = 1.0,
    every_class: bool = False,
    out: Path = Path("samples.png"),
    scale: int | None = None,
) -> None:
    """Draw images from the components of the mixture, one row a component.

    examples:
      segma-fast sample
      segma-fast sample --component 3 --n 20 --seed 1 --out threes.png
      segma-fast sample --component 3 --n 5 --every-class

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        n: images a component
        component: only this one, by number or by the name of its class
        seed: random seed of the sampled codes
        spread: how far codes are from the centre of their component, as a multiple of what the mixture says
        every_class: move each code of the component, the first by default, to every class: one row a code
        out: PNG to write
        scale: pixels a side of each pixel of an image; default as many as make images 64 pixels high
    """
    run = load_run(run_dir)
    if every_class:
        view = views.in_every_class(run, n, 0 if component is None else component, seed, spread)
    else:
        view = views.samples(run, n, component, seed, spread)
    print(view.save(out, scale))


@as_command
def interpolate(
    run_dir: Path = DEFAULT_RUN,
    dataset: str | None = None,
    images: tuple[str, ...] = (),
    steps: int = 10,
    out: Path = Path("interpolations.png"),
    scale: int | None = None,
) -> None:
    """Go from one image to another through the latent space; the first and last of a row are the real ones.

    examples:
      segma-fast interpolate
      segma-fast interpolate --images 3 17 40 5 --steps 12
      segma-fast interpolate --images mine.png other.png

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        dataset: folder of the pictures that the model was trained on, if it is not where the training found it
        images: pairs of test images by number, or picture files; default two pairs
        steps: images per interpolation, both ends included
        out: PNG to write
        scale: pixels a side of each pixel of an image; default as many as make images 64 pixels high
    """
    run = load_run(run_dir, dataset=dataset)
    images = images or some_images(run, 4, pairs=True)
    if len(images) % 2:
        raise ValueError(f"images must come in pairs, got {len(images)}")
    pairs, _ = chosen_images(run, images)
    print(views.interpolations(run, pairs[0::2], pairs[1::2], steps).save(out, scale))


@as_command
def transfer(
    run_dir: Path = DEFAULT_RUN,
    dataset: str | None = None,
    images: tuple[str, ...] = (),
    to: str | None = None,
    steps: int = 10,
    until: float = 1.0,
    out: Path = Path("transfer.png"),
    scale: int | None = None,
) -> None:
    """Move images to another class step by step, keeping their style: z + t (μ_target − μ_source), equation (10).

    The first of a row is the real image; its class is what the model takes it for.

    examples:
      segma-fast transfer --to 7
      segma-fast transfer --images 3 17 mine.png --to 0 --out zeros.png

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        dataset: folder of the pictures that the model was trained on, if it is not where the training found it
        images: test images by number, or picture files, light on dark if the training pictures are;
            default five of different classes
        to: number or name of the class to move to (the component, if trained without labels); default each image's next
        steps: steps from t = 0 to the last
        until: the last t; 1 is the other class, and more is beyond it
        out: PNG to write
        scale: pixels a side of each pixel of an image; default as many as make images 64 pixels high
    """
    run = load_run(run_dir, dataset=dataset)
    images = images or some_images(run)
    chosen, _ = chosen_images(run, images)
    _tell_unmoved(run, images, chosen, to, "to")
    print(views.transfers(run, chosen, to, steps, until).save(out, scale))


@as_command
def intensify(
    run_dir: Path = DEFAULT_RUN,
    dataset: str | None = None,
    images: tuple[str, ...] = (),
    away_from: str | None = None,
    alpha: float = 0.5,
    steps: int = 10,
    out: Path = Path("intensify.png"),
    scale: int | None = None,
) -> None:
    """Strengthen what distinguishes images from a class: z + t α (μ_source − μ_away), equation (11).

    The first of a row is the real image; its class is what the model takes it for.

    examples:
      segma-fast intensify --away-from 1
      segma-fast intensify --images 3 17 --away-from 8 --alpha 1.0

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        dataset: folder of the pictures that the model was trained on, if it is not where the training found it
        images: test images by number, or picture files, light on dark if the training pictures are;
            default five of different classes
        away_from: the class to move away from, as --to of segma-fast transfer; default each image's next
        alpha: how far
        steps: steps from t = 0 to 1
        out: PNG to write
        scale: pixels a side of each pixel of an image; default as many as make images 64 pixels high
    """
    run = load_run(run_dir, dataset=dataset)
    images = images or some_images(run)
    chosen, _ = chosen_images(run, images)
    _tell_unmoved(run, images, chosen, away_from, "away_from")
    print(views.intensities(run, chosen, away_from, alpha, steps).save(out, scale))


@as_command
def reconstruct(
    run_dir: Path = DEFAULT_RUN,
    dataset: str | None = None,
    images: tuple[str, ...] = (),
    out: Path = Path("reconstructions.png"),
    scale: int | None = None,
) -> None:
    """Encode and decode images: the real ones, and below them what is decoded.

    examples:
      segma-fast reconstruct --images 3 17 mine.png

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        dataset: folder of the pictures that the model was trained on, if it is not where the training found it
        images: test images by number, or picture files, light on dark if the training pictures are;
            default five of different classes
        out: PNG to write
        scale: pixels a side of each pixel of an image; default as many as make images 64 pixels high
    """
    run = load_run(run_dir, dataset=dataset)
    images = images or some_images(run)
    chosen, labels = chosen_images(run, images)
    captions = views.captions_of(run, [Path(item).name for item in images], labels)
    print(views.reconstructions(run, chosen, len(chosen), captions).save(out, scale))


@as_command
def show(
    run_dir: Path = DEFAULT_RUN,
    dataset: str | None = None,
    first: int = 0,
    n: int = 100,
    only: str | None = None,
    out: Path = Path("test-images.png"),
    scale: int | None = None,
) -> None:
    """Show test images with their numbers, which --images of other commands takes, and their classes.

    examples:
      segma-fast show
      segma-fast show --first 100 --n 50
      segma-fast show --only 7 --out sevens.png

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        dataset: folder of the pictures that the model was trained on, if it is not where the training found it
        first: number of the first one
        n: how many
        only: of this class, by its name
        out: PNG to write
        scale: pixels a side of each pixel of an image; default as many as make images 64 pixels high
    """
    run = load_run(run_dir, dataset=dataset)
    data, names = run.load_data(), run.data.class_names
    last = len(data.test_labels) - 1
    if only is not None and not data.labelled:
        raise ValueError(f"only={only} asks for a class, and the images of {run.data.name} have no labels")
    if only is not None and only not in names:
        raise ValueError(f"only must be one of {', '.join(names)}, got {only}")
    if not 0 <= first <= last:
        raise ValueError(f"first must be in 0 ... {last}, got {first}")
    if n < 1:
        raise ValueError(f"n must be >= 1, got {n}")
    labels = enumerate(data.test_labels.tolist())
    found = [number for number, k in labels if number >= first and only in (None, names[k])][:n]
    if not found:
        raise ValueError(f"no test image of class {only} has a number of {first} or more")
    print(views.contact_sheet(run, data, found).save(out, scale))


def _tell_unmoved(run: Run, items: tuple[str, ...], images: Tensor, given: str | None, argument: str) -> None:
    """Say which images are of the class that they are to move to or away from: their rows do not change."""
    source, other = run.source_and_other(images, given, argument)
    same = [item for item, a, b in zip(items, source.tolist(), other.tolist(), strict=True) if a == b]
    if same:
        flag, kind = "--" + argument.replace("_", "-"), views.kind(run)
        print(f"{flag} {given} is the {kind} of {', '.join(same)}: these rows do not change", file=sys.stderr)
