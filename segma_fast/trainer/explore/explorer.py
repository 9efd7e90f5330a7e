"""What the page shows of a run: pictures, probabilities and recipes, for the choices of a visitor.

An :class:`Explorer` is made once and never changes, so that visitors share it; what one of them has chosen is in the
:class:`Chosen` that the page keeps for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import randrange
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from segma_fast.trainer.data import DataError
from segma_fast.trainer.data.decoding import FORMATS
from segma_fast.trainer.explore.code_map import Pixel, make_map
from segma_fast.trainer.explore.look import Look
from segma_fast.trainer.explore.recipes import DRAWN, Recipe, Source, recipe
from segma_fast.trainer.explore.words import ONE_WAY
from segma_fast.trainer.figures import views
from segma_fast.trainer.figures.run_pictures import CODES
from segma_fast.trainer.run import Run

FURTHEST = 2.0  # t of a style transfer
STRONGEST = 3.0  # α of an intensity, either way
MOST = 50  # samples of each component
SAVE = f". To run the lines below, save the picture as {DRAWN}, by its arrow"


@dataclass(frozen=True)
class Chosen:
    """A picture that a visitor has chosen."""

    pixels: Tensor
    """(C, H, W), uint8"""
    number: int | None
    """of a test picture; None for one that was drawn or uploaded"""
    about: str
    """what it is, or what was done to it"""


class Judged(NamedTuple):
    """What the model makes of a picture."""

    picture: Image.Image
    reconstruction: Image.Image
    probabilities: dict[str, float]
    place: Pixel
    recipe: Recipe


class Way(NamedTuple):
    """A picture on its way through the latent space."""

    last: Image.Image | None
    """the picture at its end; None for samples"""
    strip: Image.Image
    recipe: Recipe
    about: str
    """what the model takes the picture at its end for"""


class Explorer:
    """A run, its test pictures and the map of their codes.

    Args:
        run: a trained model.

    Raises:
        ValueError: if its data set has changed.
    """

    def __init__(self, run: Run) -> None:
        data = run.load_data()
        self.run, self.images, self.labels = run, data.test_images, data.test_labels
        self.look = Look.of(self.images[:1000], run.config.data.crop)
        self.map = make_map(run, run.encode(self.images[:CODES]), self.labels[:CODES])  # as codes.png has them
        self.kind, self.names = views.kind(run), views.shown_names(run)
        self.source = Source(run.address or run.folder, run.dataset)

    @property
    def grey(self) -> bool:
        """Whether pictures can be drawn: grey ones on a plain background."""
        return self.look.background is not None

    @property
    def one_way(self) -> str:
        """Why there is no other class to move to; empty if there is."""
        only = self.run.model.components == 1
        return ONE_WAY if only else ""

    def first_two(self) -> tuple[Chosen, Chosen]:
        """The first test picture, and the first that the model takes for another class, if there is one."""
        taken = self.run.classify(self.images[:CODES]).argmax(1)
        others = (taken != taken[0]).nonzero()[:, 0].tolist()
        return self.numbered(0), self.numbered(others[0] if others else 0)

    def random(self) -> Chosen:
        """Any test picture."""
        return self.numbered(randrange(len(self.images)))

    def numbered(self, number: float | None) -> Chosen:
        """A test picture.

        Raises:
            ValueError: for a number that there is not.
        """
        last = len(self.images) - 1
        if number is None or not math.isfinite(number) or number not in range(last + 1):
            raise ValueError(f"test pictures are numbered 0 to {last}, got {'nothing' if number is None else number}")
        index = int(number)
        name = self.run.data.class_names[int(self.labels[index])]
        return Chosen(self.images[index], index, f"test picture {index}" + (f", of class {name}" if name else ""))

    def clicked(self, place: Sequence[float]) -> Chosen:
        """The test picture whose point on the map is nearest to a pixel.

        Raises:
            ValueError: if there is no point near.
        """
        column, row = map(float, place)
        number = self.map.nearest(column, row)
        if number is None:
            raise ValueError("the click must be on the map, near a point")
        return self.numbered(number)

    def uploaded(self, file: Path | str) -> Chosen:
        """A picture from a file.

        Raises:
            DataError: if it is none, is too large or is empty.
        """
        try:
            with Image.open(file, formats=FORMATS) as opened:
                pixels, done = self.look.fit(opened)
        except DataError:
            raise
        except Exception as error:  # of many kinds, depending on the file format
            raise DataError(f"this file is not a readable picture ({type(error).__name__})") from error
        return Chosen(pixels, None, f"your file, {done}{SAVE}")

    def drawn(self, picture: Image.Image | None) -> Chosen:
        """A picture from the sketch pad.

        Raises:
            DataError: if nothing is drawn.
        """
        if picture is None:
            raise DataError("nothing is drawn yet")
        pixels, done = self.look.fit(picture)
        return Chosen(pixels, None, f"your drawing, {done}{SAVE}")

    def judged(self, chosen: Chosen) -> Judged:
        """The reconstruction, the probabilities by name, and the place on the map."""
        run, picture = self.run, chosen.pixels[None]
        code = run.encode(picture)
        found = next(iter(run.model.posteriors(code).values()))[0].tolist()
        line = "print(dict(zip(run.names, run.classify(images)[0].tolist())))\n"
        line += "views.reconstructions(run, images).save(Path('reconstructions.png'))"
        both = [recipe(self.source, command, line, [chosen.number]) for command in ("reconstruct", "classify")]
        how = Recipe(both[0].python, "\n".join(one.command for one in both))
        probabilities = dict(zip(self.names, found, strict=True))
        return Judged(as_image(picture[0]), as_image(run.decode(code)[0]), probabilities, self.map.place(code[0]), how)

    def transfer(self, chosen: Chosen, to: str, until: float) -> Way:
        """The way to another class, up to t."""
        _within("t", until, 0, FURTHEST)
        view = views.transfers(self.run, chosen.pixels[None], to, until=until)
        line = f"views.transfers(run, images, {to!r}, until={until:g}).save(Path('transfer.png'))"
        return self._way(view, recipe(self.source, "transfer", line, [chosen.number], to=to, until=float(until)))

    def intensify(self, chosen: Chosen, away_from: str, alpha: float) -> Way:
        """More of what sets a picture apart from a class, up to α."""
        _within("α", alpha, -STRONGEST, STRONGEST)
        view = views.intensities(self.run, chosen.pixels[None], away_from, alpha)
        line = f"views.intensities(run, images, {away_from!r}, {alpha:g}).save(Path('intensify.png'))"
        numbers = [chosen.number]
        how = recipe(self.source, "intensify", line, numbers, away_from=away_from, alpha=float(alpha))
        return self._way(view, how)

    def interpolate(self, first: Chosen, second: Chosen, t: float) -> Way:
        """The way from one picture to another, and the picture at t."""
        _within("t", t, 0, 1)
        run, ends = self.run, torch.stack([first.pixels, second.pixels])
        view = views.interpolations(run, ends[:1], ends[1:])
        line = "views.interpolations(run, images[:1], images[1:]).save(Path('interpolations.png'))\n"
        line += f"between = run.decode(run.encode(images[:1]).lerp(run.encode(images[1:]), {t:g}))  # at t"
        codes = run.encode(ends)
        here = run.decode(codes[:1].lerp(codes[1:], t))[0]
        how = recipe(self.source, "interpolate", line, [first.number, second.number])
        return Way(as_image(here), view.picture(), how, self._taken_for(here))

    def samples(self, component: str | None, n: float, spread: float, seed: float | None, everywhere: bool) -> Way:
        """Samples of all components or of one, or of one moved to every class."""
        run = self.run
        _within("the number of samples", n, 1, MOST)
        _within("the seed", seed, 0, 999_999)
        count, start = int(n), int(seed or 0)
        if everywhere:
            source = component or run.names[0]
            view = views.in_every_class(run, count, source, start, spread)
            line = f"views.in_every_class(run, {count}, {source!r}, {start}, {spread:g}).save(Path('samples.png'))"
        else:
            view = views.samples(run, count, component, start, spread)
            line = f"views.samples(run, {count}, {component!r}, {start}, {spread:g}).save(Path('samples.png'))"
        options: dict[str, str | float | bool] = {} if component is None else {"component": component}
        options |= {"n": count, "seed": start, "spread": float(spread), "every_class": everywhere}
        how = recipe(self.source, "sample", line, [], **options)
        return Way(None, view.picture(), how, "")

    def _way(self, view: views.View, how: Recipe) -> Way:
        last = view.images[0, -1]
        return Way(as_image(last), view.picture(), how, self._taken_for(last))

    def _taken_for(self, picture: Tensor) -> str:
        """What the model makes of a picture that it made."""
        if self.one_way:
            return ""
        share, best = self.run.classify(picture[None])[0].max(0)
        return f"The model takes this for {self.kind} {self.names[int(best)]} ({share.item():.0%})."


def as_image(picture: Tensor) -> Image.Image:
    """A picture (C, H, W), uint8 or in [0, 1], pixel by pixel, so that its file is what the model took or made."""
    pixels = (255 * picture.clamp(0, 1)).round().to(torch.uint8) if picture.is_floating_point() else picture
    return Image.fromarray(pixels[0].cpu().numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).cpu().numpy())


def _within(name: str, value: float | None, least: float, most: float) -> None:
    if value is None or not least <= value <= most:  # also for NaN
        raise ValueError(f"{name} must be from {least} to {most}, got {'nothing' if value is None else value}")
