"""What the page of ``segma-fast explore`` shows, without a browser; ``test_explore_page.py`` has one."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

pytest.importorskip("gradio")

from segma_fast.__main__ import main
from segma_fast.trainer import DataError, load_run, starting_config, train
from segma_fast.trainer.explore import serve
from segma_fast.trainer.explore.explorer import Explorer
from segma_fast.trainer.explore.look import Look
from segma_fast.trainer.explore.recipes import Recipe

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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Explorer]:
    """Explorers by name, each trained once."""
    kept: dict[str, Explorer] = {}

    def make(name: str) -> Explorer:
        if name not in kept:
            folder = tmp_path_factory.mktemp("runs") / name.replace(" ", "-")
            if name == "colours":
                data = colour_folder(tmp_path_factory.mktemp("data") / "colours")
                config = starting_config("digits").with_options(
                    dataset=str(data), size=16, network="conv", channels=(8, 8, 8, 8), latent_dim=3, epochs=1,
                    labels=6, batch_size=8, labelled_batch_size=4, means_init="normal",
                )  # fmt: skip
            else:
                model, options = MODELS[name]
                config = starting_config("digits", None, model).with_options(**SMALL, **options)
            train(config.with_options(run_dir=str(folder), device="cpu"))
            kept[name] = Explorer(load_run(folder))
        return kept[name]

    return make


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
    assert list(judged.probabilities) == list(explorer.run.names)
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
        chosen = explorer.clicked(column + 0.3, row - 0.3)
        own = explorer.map.pixels[chosen.number]
        assert np.hypot(*(own - (column, row))) < 1
        place = explorer.judged(explorer.numbered(number)).place
        assert np.hypot(*(np.array(place) - (column, row))) < 1
    marked = pixels(explorer.map.marked((50.0, 60.0), (200.0, 300.0)))
    assert (marked != picture).any() and marked.shape == picture.shape


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


def test_colour_pictures_are_resized(made: Callable[[str], Explorer], tmp_path: Path) -> None:
    explorer = made("colours")
    Image.new("RGB", (50, 40), (10, 200, 30)).save(tmp_path / "green.png")
    chosen = explorer.uploaded(tmp_path / "green.png")
    assert "resized from 50 × 40 to 16 × 16 pixels" in chosen.about
    assert chosen.pixels[:, 5, 5].tolist() == [10, 200, 30]


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
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must be"):
            call()


def test_look_of_pictures_without_a_common_background() -> None:
    assert Look.of(torch.randint(256, (50, 1, 9, 9), dtype=torch.uint8), None).background is None
    assert Look.of(torch.zeros(50, 1, 9, 9, dtype=torch.uint8), None).background is None
    assert Look.of(torch.zeros(50, 3, 9, 9, dtype=torch.uint8), None).background is None


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("me", False)]
)
def test_hosts(host: str, local: bool) -> None:
    assert serve.is_local(host) == local
