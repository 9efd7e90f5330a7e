"""What a trained model shows, as grids of pictures with names: samples, reconstructions and ways between pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor

from segma_fast.trainer import latent
from segma_fast.trainer.figures import grids, plots
from segma_fast.trainer.run import Run

if TYPE_CHECKING:
    from segma_fast.trainer.data import ImageData
    from segma_fast.trainer.picture_input import Pictures
    from segma_fast.trainer.run import Classes

LONG = 3  # letters of a class name beyond which the name of a row takes two lines


class View(NamedTuple):
    """A grid of images with names."""

    images: Tensor
    """(rows, columns, C, H, W) in [0, 1]"""
    title: str
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    captions: Sequence[Sequence[str]] = ()

    def save(self, path: Path, scale: int | None = None) -> Path:
        """Write it to a PNG; see :func:`grids.save_grid`."""
        return grids.save_grid(self.images, path, *self[1:], scale=scale)

    def picture(self) -> Image:
        """It as a PIL picture."""
        return grids.picture_grid(*self)


def samples(
    run: Run, n: int = 10, component: int | str | None = None, seed: int = 0, spread: float = 1.0
) -> View:  # fmt: skip
    """Samples of each component, one row each, or of one component, ten a row."""
    images, about = run.sample(n, component, seed=seed, spread=spread), _spread(spread) + run.about
    if component is None:
        return View(images, f"Samples of each component\n{about}", shown_names(run))
    name = run.names[run.component(component)]
    if n % 10 == 0:
        images = images.unflatten(1, (-1, 10))[0]
    return View(images, f"Samples of {kind(run)} {name}\n{about}")


def in_every_class(
    run: Run, n: int = 10, component: int | str = 0, seed: int = 0, spread: float = 1.0
) -> View:  # fmt: skip
    """Samples of a component, one row each, moved to every component, one column each."""
    images = run.sample_in_every_class(n, component, seed=seed, spread=spread)
    name = run.names[run.component(component)]
    title = f"Codes of {kind(run)} {name} moved to each {kind(run)}\n{_spread(spread)}{run.about}"
    return View(images, title, (), shown_names(run))


def contact_sheet(run: Run, data: ImageData, numbers: Sequence[int], columns: int = 10) -> View:
    """Some test images with their numbers and classes."""
    rows = [list(numbers[start : start + columns]) for start in range(0, len(numbers), columns)]
    images = torch.full((len(rows), min(columns, len(numbers)), *run.data.image_shape), 255, dtype=torch.uint8)
    for row, chosen in zip(images, rows, strict=True):
        row[: len(chosen)] = data.test_images[chosen]
    captions = [captions_of(run, row, known_labels(data, row)) for row in rows]
    captions[-1] += [""] * (images.shape[1] - len(rows[-1]))
    return View(images, f"Test images of {run.data.name}, number · class", captions=captions)


def mixed(labels: Tensor, count: int) -> Tensor:
    """The first rows if they show as many of the classes (n,) as they can, else rows of each class in turn."""
    counts = torch.bincount(labels)
    if len(labels[:count].unique()) == min(count, int((counts > 0).sum())):
        return torch.arange(min(count, len(labels)), device=labels.device)
    order = labels.argsort(stable=True)
    turn = torch.empty_like(order)
    turn[order] = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[labels[order]]
    return turn.argsort(stable=True)[:count]


def known_labels(data: ImageData, numbers: list[int]) -> list[int | None]:
    """The labels of some test images; None for each of a data set without labels."""
    return [int(k) if data.labelled else None for k in data.test_labels[numbers]]


def captions_of(run: Run, names: Sequence[int | str], labels: Sequence[int | None]) -> list[str]:
    """Numbers or files of images, and their classes as far as they are known."""
    classes = run.data.class_names
    between = "\n" if max(map(len, classes)) > LONG else " · "
    return [str(n) if k is None else f"{n}{between}{classes[k]}" for n, k in zip(names, labels, strict=True)]


def reconstructions(run: Run, images: Pictures, columns: int = 10, captions: Sequence[str] = ()) -> View:
    """Pictures, and below each row its reconstruction; pictures that do not fill a row are left out."""
    chosen = run.pictures(images)
    rows = [row for row in chosen.split(columns) if len(row) == min(columns, len(chosen))]
    pairs = torch.stack([shown for row in rows for shown in (row, run.decode(run.encode(row)))])
    names = [row for i in range(len(rows)) for row in (captions[i * columns : (i + 1) * columns], ())]
    title = f"Test images{', number · class,' * bool(captions)} and their reconstructions\n{run.about}"
    return View(pairs, title, ["real", "decoded"] * len(rows), (), names if captions else ())


def interpolations(run: Run, first: Pictures, second: Pictures, steps: int = 10) -> View:
    """From one picture to another; both are shown as they are at the ends of a row."""
    start, end = run.pictures(first), run.pictures(second)
    names = _arrows(run, latent.classify(run.model, start), "→", latent.classify(run.model, end))
    images = torch.cat([start[:, None], run.interpolate(start, end, steps), end[:, None]], 1)
    columns = ["real", *grids.step_names(steps), "real"]
    return View(images, f"Interpolations between pictures, t = 0 … 1\n{run.about}", names, columns)


def transfers(
    run: Run, images: Pictures, to: Classes | None = None, steps: int = 10, until: float = 1.0
) -> View:  # fmt: skip
    """Pictures moved to another class, equation (10)."""
    chosen = run.pictures(images)
    source, target = run.source_and_other(chosen, to, "to")
    moved = torch.cat([chosen[:, None], latent.transfer(run.model, chosen, source, target, steps, until)], 1)
    title = f"Style transfer, {run.model.ways[0]}, t = 0 … {until:g}\n{run.about}"
    return View(moved, title, _arrows(run, source, "→", target), ["real", *grids.step_names(steps, until)])


def intensities(
    run: Run, images: Pictures, away_from: Classes | None = None, alpha: float = 0.5, steps: int = 10
) -> View:
    """Pictures with more of what sets them apart from a class, equation (11)."""
    chosen = run.pictures(images)
    source, other = run.source_and_other(chosen, away_from, "away_from")
    moved = torch.cat([chosen[:, None], latent.intensify(run.model, chosen, source, other, alpha, steps)], 1)
    title = f"Intensity, {run.model.ways[1]}, α = 0 … {alpha:g}\n{run.about}"
    return View(moved, title, _arrows(run, source, "away from", other), ["real", *grids.step_names(steps, alpha)])


def _spread(spread: float) -> str:
    return "" if spread == 1 else f"spread {spread:g} · "


def map_of_codes(run: Run, codes: Tensor, labels: Tensor) -> tuple[Any, Any, Tensor]:
    """Codes (n, D) of pictures of some classes (n,), and the means: see :func:`plots.draw_codes`."""
    return plots.draw_codes(codes, labels, run.model.centres(), run.data.class_names, shown_names(run), run.about)


def kind(run: Run) -> str:
    """What a component is called: a class, or a component if the model was trained without labels."""
    return "class" if run.model.names_classes(len(run.data.class_names)) else "component"


def shown_names(run: Run) -> tuple[str, ...]:
    """The names of the components in pictures: the classes', or c0, c1, … that nobody takes for classes."""
    return run.names if kind(run) == "class" else tuple(f"c{name}" for name in run.names)


def _arrows(run: Run, source: Tensor, between: str, target: Tensor) -> list[str]:
    """Names of rows: the class that the model takes a picture for, and the one that it goes to."""
    names = shown_names(run)
    space = "\n" if max(map(len, names)) > LONG else " "
    pairs = zip(source.tolist(), target.tolist(), strict=True)
    return [f"{names[a]}{space}{between} {names[b]}" for a, b in pairs]
