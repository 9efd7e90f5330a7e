"""What the page shows, without a browser."""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explored import MODELS
from PIL import Image

from segma_fast.__main__ import main
from segma_fast.trainer import DataError
from segma_fast.trainer.explore.explorer import Explorer
from segma_fast.trainer.explore.page import choosing, plain
from segma_fast.trainer.explore.recipes import Recipe, Source, recipe


def pixels(file: Path | Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(file) if isinstance(file, Path) else file)


def check_recipe(recipe: Recipe, expected: Image.Image, file: str, folder: Path, monkeypatch: Any) -> None:
    """Both lines write the picture that is shown."""
    monkeypatch.chdir(folder)
    main(shlex.split(recipe.command)[1:])
    assert np.array_equal(pixels(Path(file)), pixels(expected))
    Path(file).unlink()
    exec(recipe.python, {})
    assert np.array_equal(pixels(Path(file)), pixels(expected))


@pytest.mark.parametrize("name", [*MODELS, "colours"])
def test_every_model_and_its_recipes(
    name: str, made: Callable[[str], Explorer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explorer = made(name)
    first, second = explorer.first_two()
    judged = explorer.judged(second)
    assert sum(judged.probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert list(judged.probabilities) == list(explorer.names)
    assert np.array_equal(pixels(judged.picture), second.pixels.permute(1, 2, 0).squeeze(-1).numpy())
    way = explorer.interpolate(first, second, 0.3)
    check_recipe(way.recipe, way.strip, "interpolations.png", tmp_path, monkeypatch)
    samples = explorer.samples(None, 3, 0.5, 4, False)
    check_recipe(samples.recipe, samples.strip, "samples.png", tmp_path, monkeypatch)
    assert bool(explorer.one_way) == (name == "cwae") and explorer.grey == (name != "colours")
    if explorer.one_way:
        return
    to = explorer.run.names[-1]
    moved = explorer.transfer(second, to, 1.5)
    check_recipe(moved.recipe, moved.strip, "transfer.png", tmp_path, monkeypatch)
    stronger = explorer.intensify(second, to, -0.5)
    check_recipe(stronger.recipe, stronger.strip, "intensify.png", tmp_path, monkeypatch)
    same = explorer.samples(to, 2, 1.0, 0, True)
    check_recipe(same.recipe, same.strip, "samples.png", tmp_path, monkeypatch)


def test_pictures_at_the_ends_are_the_equations(made: Callable[[str], Explorer]) -> None:
    explorer = made("segma")
    run, (first, second) = explorer.run, explorer.first_two()
    codes = run.encode(torch.stack([first.pixels, second.pixels]))
    between = pixels(explorer.interpolate(first, second, 0.25).last) / 255
    assert np.abs(between - run.decode(0.75 * codes[:1] + 0.25 * codes[1:])[0, 0].numpy()).max() < 1 / 255
    source = run.classify(first.pixels[None]).argmax(1)
    shift = run.model.direction(codes[:1], source, torch.tensor([7]))
    moved = pixels(explorer.transfer(first, "7", 1.4).last) / 255
    assert np.abs(moved - run.decode(codes[:1] + 1.4 * shift)[0, 0].numpy()).max() < 1 / 255


def test_map(made: Callable[[str], Explorer]) -> None:
    """A click on a point finds its picture, and a picture of the test set is placed on its own point."""
    explorer = made("segma")
    picture = pixels(explorer.map.picture)
    for number in (0, 5, 100):
        column, row = explorer.map.pixels[number]
        assert picture[round(row), round(column)].tolist() != [255, 255, 255]  # something is drawn there
        chosen = explorer.clicked((column + 0.3, row - 0.3))
        own = explorer.map.pixels[chosen.number]
        assert np.hypot(*(own - (column, row))) < 1
        place = explorer.judged(explorer.numbered(number)).place
        assert np.hypot(*(np.array(place) - (column, row))) < 1
    with pytest.raises(ValueError, match="near a point"):
        explorer.clicked((3.0, 3.0))
    marked = pixels(explorer.map.marked((50.0, 60.0), (200.0, 300.0)))
    assert (marked != picture).any() and marked.shape == picture.shape


def test_choices_that_there_are_not(made: Callable[[str], Explorer]) -> None:
    explorer = made("segma")
    first = explorer.numbered(0)
    with pytest.raises(DataError, match="nothing is drawn"):
        explorer.drawn(None)
    with pytest.raises(DataError, match="empty"):
        explorer.drawn(Image.new("RGB", (280, 280), "white"))
    for number in (-1, 359, 1.5, float("nan"), None):
        with pytest.raises(ValueError, match="numbered 0 to 358, got"):
            explorer.numbered(number)
    calls: list[Callable[[], Any]] = [
        lambda: explorer.transfer(first, "7", 1e9),
        lambda: explorer.transfer(first, "seven", 1),
        lambda: explorer.intensify(first, "7", float("nan")),
        lambda: explorer.interpolate(first, first, -0.1),
        lambda: explorer.samples(None, 10**9, 1, 0, False),
        lambda: explorer.samples(None, 1, -1, 0, False),
        lambda: explorer.samples("x", 1, 1, 0, False),
        lambda: explorer.samples(None, 1, 1, -5, False),
        lambda: explorer.samples(None, 1, 1, None, False),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must be"):
            call()


@pytest.mark.parametrize("text", ["<img src=x>", "*a* _b_ $x$", "[a](http://b)", "`c`", "a & b"])
def test_names_are_no_markdown(text: str) -> None:
    found = plain(text)
    assert html.unescape(found) == text and not set("<>*_$[]()`") & set(found)


def test_the_same_picture_again_is_no_new_choice(made: Callable[[str], Explorer]) -> None:
    explorer = made("segma")
    choose = choosing(explorer.numbered)
    first, second = explorer.numbered(0), explorer.numbered(1)
    assert choose(1, second, first) == (second, first)
    assert [one.number for one in choose(2, second, first)] == [2, 1]


def test_a_class_that_looks_like_a_flag() -> None:
    words = shlex.split(recipe(Source(Path("a b")), "transfer", "", [None], to="-x y", until=-0.5).command)
    assert words[2:] == ["--run-dir", "a b", "--images", "picture.png", "--to=-x y", "--until", "-0.5"]
    two = recipe(Source(Path("a")), "interpolate", "", [None, None])
    assert two.command.endswith("--images a.png b.png") and "['a.png', 'b.png']" in two.python
