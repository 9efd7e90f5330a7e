"""What commands write into pictures: numbers and classes above images, sizes, and what they say beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segma_fast.__main__ import main
from segma_fast.trainer import Run, load_run, picture_grid, starting_config, train
from segma_fast.trainer.commands.trained_model import some_images
from segma_fast.trainer.config import build_model
from segma_fast.trainer.figures import grids, progress, run_pictures, views
from segma_fast.trainer.models import MODELS

OPTIONS = {"epochs": 1, "hidden": (16,), "latent_dim": 3, "means_init": "normal", "device": "cpu"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(starting_config("digits").with_options(run_dir=folder, **OPTIONS))
    return load_run(folder)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[views.View]:
    """The views that are written."""
    found: list[views.View] = []
    kept = views.View.save

    def save(view: views.View, path: Path, scale: int | None = None) -> Path:
        found.append(view)
        return kept(view, path, scale)

    monkeypatch.setattr(views.View, "save", save)
    return found


def test_contact_sheet(run: Run, tmp_path: Path, shown: list[views.View], capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers and classes are those of the test images that are shown; the last row is filled with white."""
    data = run.load_data()
    command = ["show", "--run-dir", str(run.folder), "--out", str(tmp_path / "out.png")]
    main([*command, "--first", "5", "--n", "13"])
    assert [name for row in shown[0].captions for name in row][:13] == [
        f"{i} · {data.test_labels[i]}" for i in range(5, 18)
    ]
    assert torch.equal(shown[0].images[1, 2], data.test_images[17]) and (shown[0].images[1, 3:] == 255).all()
    main([*command, "--only", "7"])
    names = [name for row in shown[1].captions for name in row if name]
    assert [int(name.split(" · ")[0]) for name in names] == (data.test_labels == 7).nonzero()[:, 0].tolist()
    assert Image.open(tmp_path / "out.png").width == 4 + 10 * 68
    for flags, message in (
        (["--first", "359"], "first must be in 0 ... 358, got 359"),
        (["--n", "0"], "n must be >= 1, got 0"),
        (["--only", "ten"], "only must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got ten"),
        (["--only", "0", "--first", "358"], "no test image of class 0 has a number of 358 or more"),
    ):
        with pytest.raises(SystemExit):
            main([*command, *flags])
        assert message in capsys.readouterr().err


def test_reconstructions_have_numbers_and_classes(run: Run, tmp_path: Path, shown: list[views.View]) -> None:
    data = run.load_data()
    Image.fromarray(data.test_images[3, 0].numpy()).save(tmp_path / "mine.png")
    items = ["17", str(tmp_path / "mine.png")]
    main(["reconstruct", "--run-dir", str(run.folder), "--out", str(tmp_path / "o.png"), "--images", *items])
    assert shown[0].captions == [[f"17 · {data.test_labels[17]}", "mine.png"], ()]
    run_pictures.save_pictures(replace(run, folder=tmp_path), data)
    (whole,) = [view for view in shown[1:] if "reconstructions" in view.title]
    assert whole.captions[2][3] == f"13 · {data.test_labels[13]}" and whole.captions[3] == ()
    apples = replace(run, data=replace(run.data, class_names=("apple",) * 10))
    assert views.captions_of(apples, [4], [2]) == ["4\napple"]


def test_captions_are_above_their_images() -> None:
    images = torch.zeros(2, 3, 1, 8, 8)
    plain, named = picture_grid(images), picture_grid(images, captions=[["1\na", "2", "3"], []])
    assert named.height == plain.height + 2 * grids.LINE
    pixels = np.asarray(named.convert("L")).astype(int)
    assert pixels[: 2 * grids.LINE].min() < 200  # writing
    assert np.array_equal(pixels[2 * grids.LINE + 4 :], np.asarray(plain)[4:])
    long = picture_grid(images, captions=[["a very long name of a class"] * 3] * 2)
    gaps = np.asarray(long.convert("L"))[: grids.LINE, [70, 71, 138, 139]]
    assert long.width == plain.width and (gaps > 200).all(), "names run into each other"
    for captions, message in (([["1"]] * 2, "captions of a row must be 3 names, got 1"), ([[]], "of 2 rows, got 1")):
        with pytest.raises(ValueError, match=message):
            picture_grid(images, captions=captions)


def test_tensorboard_has_a_few_pictures(tmp_path: Path) -> None:
    """At the end, and at the first checkpoint of each fifth of the run; training does not change by them."""
    config = starting_config("digits").with_options(run_dir=tmp_path / "whole", checkpoint_every=1, **OPTIONS)
    train(config.with_options(epochs=4))
    reader = EventAccumulator(str(next((tmp_path / "whole").rglob("events.*"))), size_guidance={"images": 0}).Reload()
    assert sorted(reader.Tags()["images"]) == ["reconstructions", "samples"]
    for name, rows in (("samples", 10), ("reconstructions", 2)):
        events = reader.Images(name)
        assert [event.step for event in events] == [11, 21, 32, 42, 52]
        assert (events[0].height, events[0].width) == (4 + 68 * rows, 4 + 68 * 10)
    train(config.with_options(epochs=4, run_dir=tmp_path / "few", checkpoint_every=500))
    first, second = (load_run(tmp_path / name).model.state_dict() for name in ("whole", "few"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", MODELS)
def test_pictures_on_the_way_leave_the_model_as_it_is(name: str) -> None:
    model = build_model(starting_config("digits", model=name), (1, 8, 8), 10, torch.full((10,), 10), 1000)
    state = torch.get_rng_state()
    found = progress.pictures(model, torch.zeros(3, 1, 8, 8, dtype=torch.uint8))
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert found["samples"].size == (684, 684) and found["reconstructions"].size == (208, 140)


@pytest.mark.parametrize("command", ["sample", "interpolate", "transfer", "intensify", "reconstruct", "show"])
def test_scale_enlarges_pixels(command: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heights = []
    for scale in ("8", "24"):
        main([command, "--run-dir", str(run.folder), "--out", str(tmp_path / "out.png"), "--scale", scale])
        heights.append(Image.open(tmp_path / "out.png").height)
    assert (heights[1] - heights[0]) % (16 * 8) == 0 and heights[1] > heights[0]
    with pytest.raises(SystemExit):
        main([command, "--run-dir", str(run.folder), "--out", str(tmp_path / "out.png"), "--scale", "0"])
    assert "scale must be in 1 ... 100, got 0" in capsys.readouterr().err


def test_temperature_is_the_spread(run: Run, tmp_path: Path) -> None:
    for flag in ("--spread", "--temperature"):
        main(["sample", "--run-dir", str(run.folder), flag, "0.25", "--out", str(tmp_path / f"{flag}.png")])
    assert (tmp_path / "--spread.png").read_bytes() == (tmp_path / "--temperature.png").read_bytes()


@pytest.mark.parametrize(("command", "flag"), [("intensify", "--away-from"), ("transfer", "--to")])
def test_rows_that_do_not_change_are_told(
    command: str, flag: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of images that the model takes for the class that they are to move to or away from."""
    found = run.classify(run.load_data().test_images[:30]).argmax(1)
    own = int(found[3])
    other = next(i for i in range(30) if found[i] != own)
    items = ["3", str(other)]
    common = [command, "--run-dir", str(run.folder), "--out", str(tmp_path / "out.png"), "--images", *items]
    main([*common, flag, str(own)])
    assert capsys.readouterr().err == f"{flag} {own} is the class of 3: these rows do not change\n"
    main(common)
    assert not capsys.readouterr().err


def test_pictures_show_every_class(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first test images, as they are, unless these are of a class or two: then each class in turn."""
    labels = (data := run.load_data()).test_labels
    assert views.mixed(labels, 50).tolist() == list(range(50))
    turns = views.mixed(labels.sort().values, 25)
    assert (
        labels.sort().values[turns].tolist() == [*range(10), *range(10), *range(5)] and len(set(turns.tolist())) == 25
    )
    assert views.mixed(torch.tensor([0, 0, 0, 0, 2, 0]), 4).tolist() == [0, 4, 1, 2]
    assert some_images(run) == ("0", "1", "2", "3", "4")
    monkeypatch.setattr(Run, "load_data", lambda _: replace(data, test_labels=labels.sort().values))
    assert labels.sort().values[[int(item) for item in some_images(run)]].tolist() == [0, 1, 2, 3, 4]
    two = replace(data, test_labels=torch.tensor([0, 0, 1, 1] * 3), test_images=data.test_images[:12])
    monkeypatch.setattr(Run, "load_data", lambda _: two)
    assert some_images(run, 4, pairs=True) == ("0", "2", "1", "3")  # from class to class
