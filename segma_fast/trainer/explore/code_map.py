"""The codes of test pictures in two dimensions, as a picture whose pixels are known: for clicks and for new codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from segma_fast.trainer.figures.views import map_of_codes

if TYPE_CHECKING:
    from segma_fast.trainer.run import Run

REACH = 40  # pixels from a click to a point
NEIGHBOURS = 5  # of a new code, between which it is placed
Pixel = tuple[float, float]


@dataclass(frozen=True, eq=False)
class CodeMap:
    """A drawn map; see :func:`make_map`."""

    picture: Image.Image
    codes: Tensor
    """codes of the first n test pictures, (n, D)"""
    pixels: np.ndarray[Any, Any]
    """column and row of each in the picture, (n, 2)"""

    def nearest(self, column: float, row: float) -> int | None:
        """The number of the test picture whose point is nearest to a pixel; None if all are far from it."""
        distances = np.hypot(*(self.pixels - (column, row)).T)
        return int(distances.argmin()) if distances.min() <= REACH else None

    def place(self, code: Tensor) -> Pixel:
        """Where a code (D,) belongs: its own point, or between those of the nearest codes."""
        distances = (self.codes - code.cpu()).norm(dim=1)
        near, rows = distances.topk(min(NEIGHBOURS, len(distances)), largest=False)
        weights = 1 / near.clamp(min=1e-6 * float(distances.max()) + 1e-12)
        column, row = np.average(self.pixels[rows.numpy()], axis=0, weights=weights.numpy())
        return float(column), float(row)

    def marked(self, first: Pixel, second: Pixel) -> Image.Image:
        """The map with the places of A and B."""
        found = self.picture.copy()
        draw = ImageDraw.Draw(found)
        for name, (column, row) in (("A", first), ("B", second)):
            for radius, colour in ((9, "white"), (8, "black")):
                draw.ellipse([column - radius, row - radius, column + radius, row + radius], outline=colour, width=3)
            place = (column - 24, row - 12)
            draw.text(place, name, fill="black", font_size=22, stroke_width=4, stroke_fill="white")
        return found


def make_map(run: Run, codes: Tensor, labels: Tensor) -> CodeMap:
    """The map of codes of test pictures (n, D) with their classes (n,)."""
    figure, axes, points = map_of_codes(run, codes, labels)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels = axes.transData.transform(points.numpy())
    pixels[:, 1] = drawn.height - pixels[:, 1]
    return CodeMap(drawn, codes.cpu(), pixels)
