"""Drawings and files become pictures like those that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from segma_fast.trainer import DataError
from segma_fast.trainer.explore.explorer import Explorer
from segma_fast.trainer.explore.look import Look


def drawing(size: int = 280, ink: str = "black", paper: str = "white") -> Image.Image:
    picture = Image.new("RGB", (size, size), paper)
    ImageDraw.Draw(picture).line([(90, 70), (190, 70), (130, 200)], fill=ink, width=30)
    return picture


def test_drawings_become_pictures_like_the_others(made: Callable[[str], Explorer], tmp_path: Path) -> None:
    explorer = made("segma")
    chosen = explorer.drawn(drawing())
    assert "inverted to light on dark" in chosen.about and "brought to size and place" in chosen.about
    assert chosen.pixels.shape == (1, 8, 8) and chosen.pixels.max() > 200 and chosen.number is None
    rows = (chosen.pixels[0] > 60).any(1).nonzero()[:, 0]
    assert (int(rows[0]), int(rows[-1])) == (0, 7)  # as high as the digits are
    assert torch.equal(chosen.pixels, explorer.drawn(drawing(ink="white", paper="black")).pixels)
    assert torch.equal(chosen.pixels, explorer.drawn(drawing(560).resize((560, 560)).crop((0, 0, 280, 280))).pixels)
    layer = drawing().convert("RGBA")
    layer.putalpha(Image.eval(drawing().convert("L"), lambda x: 255 - x))  # ink on nothing, as the pad has it
    assert torch.equal(chosen.pixels, explorer.drawn(layer).pixels)
    own = explorer.numbered(11)
    Image.fromarray(own.pixels[0].numpy()).save(tmp_path / "own.png")
    again = explorer.uploaded(tmp_path / "own.png")
    assert torch.equal(again.pixels, own.pixels) and "as it is" in again.about


def test_paper_of_any_brightness(made: Callable[[str], Explorer]) -> None:
    """Ink on grey paper, lighter or darker, becomes the same picture as on white, in full contrast."""
    explorer = made("segma")
    expected = explorer.drawn(drawing()).pixels
    for ink, paper in ((60, 170), (0, 120), (250, 130), (40, 128), (200, 20)):
        chosen = explorer.drawn(drawing(ink=f"rgb({ink}, {ink}, {ink})", paper=f"rgb({paper}, {paper}, {paper})"))
        assert (chosen.pixels.int() - expected.int()).abs().max() <= 2
        assert ("inverted" in chosen.about) == (ink < paper) and "full contrast" in chosen.about


def test_pictures_of_the_models_own_size_stay_as_they_are(made: Callable[[str], Explorer], tmp_path: Path) -> None:
    explorer = made("segma")
    for number, own in enumerate((torch.full((8, 8), 220), torch.zeros(8, 8), torch.arange(64).reshape(8, 8))):
        file = tmp_path / f"{number}.png"
        Image.fromarray(own.to(torch.uint8).numpy()).save(file)
        assert torch.equal(explorer.uploaded(file).pixels[0], own.to(torch.uint8))


def test_colour_pictures_are_resized(made: Callable[[str], Explorer], tmp_path: Path) -> None:
    explorer = made("colours")
    Image.new("RGB", (50, 40), (10, 200, 30)).save(tmp_path / "green.png")
    chosen = explorer.uploaded(tmp_path / "green.png")
    assert "resized from 50 × 40 to 16 × 16 pixels" in chosen.about
    assert chosen.pixels[:, 5, 5].tolist() == [10, 200, 30]


def test_a_dot_is_no_drawing(made: Callable[[str], Explorer]) -> None:
    picture = Image.new("L", (280, 280), 255)
    picture.putpixel((100, 100), 0)
    with pytest.raises(DataError, match="empty"):
        made("segma").drawn(picture)


def huge(path: Path) -> Path:
    Image.new("1", (9000, 9000)).save(path)
    return path


def cut(path: Path) -> Path:
    drawing().save(path)
    path.write_bytes(path.read_bytes()[:300])
    return path


def text(path: Path) -> Path:
    path.write_text("not a picture")
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [(text, "not a readable picture"), (huge, "40 million pixels, this one has 9000 × 9000"), (cut, "not")],
)
def test_files_that_are_no_pictures(
    make: Callable[[Path], Path], said: str, made: Callable[[str], Explorer], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        made("segma").uploaded(make(tmp_path / "file.png"))


def test_no_other_program_reads_a_file(made: Callable[[str], Explorer], tmp_path: Path) -> None:
    """PIL gives PostScript to Ghostscript."""
    (tmp_path / "endless.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{} loop")
    explorer = made("segma")
    for read in (explorer.uploaded, explorer.run.pictures):
        with pytest.raises(DataError, match="not a readable picture"):
            read(tmp_path / "endless.eps")


def test_pictures_with_more_than_8_bits(made: Callable[[str], Explorer], tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 30), 60000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="8 bits a channel"):
        made("segma").uploaded(tmp_path / "deep.png")


def test_look_of_pictures_without_a_common_background() -> None:
    assert Look.of(torch.randint(256, (50, 1, 9, 9), dtype=torch.uint8), None).background is None
    assert Look.of(torch.zeros(50, 1, 9, 9, dtype=torch.uint8), None).background is None
    assert Look.of(torch.zeros(50, 3, 9, 9, dtype=torch.uint8), None).background is None
