"""The commands that write a picture of what a trained model shows; each reads a run folder."""

from __future__ import annotations

from pathlib import Path

from segma_fast.trainer.commands.trained_model import DEFAULT_RUN, as_command, chosen_images
from segma_fast.trainer.figures import views
from segma_fast.trainer.run import load_run


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
    pairs, _ = chosen_images(run, images)
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
    chosen, _ = chosen_images(run, images)
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
    chosen, _ = chosen_images(run, images)
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
    chosen, _ = chosen_images(run, images)
    print(views.reconstructions(run, chosen, len(chosen)).save(out))
