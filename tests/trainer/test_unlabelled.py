"""Pictures without labels, from a folder to the commands."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from made_pictures import plain_folder
from PIL import Image

from segma_fast.__main__ import main
from segma_fast.trainer import DataConfig, DataError, Run, load_data, load_run, starting_config, train
from segma_fast.trainer.explore.explorer import Explorer
from segma_fast.trainer.models import MODELS

FLAGS = "--hidden 8 --latent-dim 2 --epochs 2 --batch-size 8 --means-init normal --labels 0".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, and a run on them with three components."""
    place = tmp_path_factory.mktemp("unlabelled")
    folder = plain_folder(place / "pictures", "", 40)
    flags = ["--dataset", str(folder), "--cache", str(place / "cache"), "--run-dir", str(place / "run"), *FLAGS]
    main(["train", *flags, "--beta", "0", "--components", "3"])
    return place


@pytest.fixture
def run(place: Path) -> Run:
    return load_run(place / "run")


def test_a_part_is_held_out_at_random(place: Path, run: Run) -> None:
    data = run.load_data()
    assert (data.labelled, data.classes, len(data.train_images), len(data.test_images)) == (False, 1, 32, 8)
    paths = sorted((place / "pictures").iterdir())
    rows = {np.asarray(Image.open(path)).tobytes(): row for row, path in enumerate(paths)}
    held = [rows[image.numpy().tobytes()] for image in data.test_images[:, 0]]
    assert held != sorted(held) and sorted(held) != list(range(32, 40))


def test_no_error_and_no_classes_are_shown(
    place: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {path.name for path in run.folder.glob("*.png")}
    assert {"samples.png", "codes.png", "reconstructions.png", "transfer.png", "curves.png"} <= names
    assert "confusion.png" not in names
    assert json.loads((run.folder / "report.json").read_text())["test_error"] is None
    assert all(line.endswith(",") for line in (run.folder / "metrics.csv").read_text().splitlines()[1:])
    assert math.isnan(run.evaluate().test_error) and run.evaluate().reconstruction > 0
    assert "no labels" in run.about and "error" not in run.about
    main(["evaluate", "--run-dir", str(run.folder)])
    shown = capsys.readouterr().out
    assert "reconstruction error" in shown and "test error" not in shown
    flags = ["--config", str(run.folder / "config.json"), "--run-dir", str(tmp_path / "again")]
    main(["train", *flags])
    shown = capsys.readouterr().out
    assert "reconstruction" in shown and "test error" not in shown


def test_commands(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("sample", "interpolate", "reconstruct", "transfer", "intensify"):
        main([name, "--run-dir", str(run.folder), "--out", str(tmp_path / f"{name}.png")])
        assert np.asarray(Image.open(tmp_path / f"{name}.png")).std() > 5
    capsys.readouterr()
    main(["classify", "--run-dir", str(run.folder)])
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all("component" in line and "label" not in line for line in lines)
    explorer = Explorer(run)
    assert explorer.numbered(3).about == "test picture 3" and explorer.names == ("c0", "c1", "c2")
    assert set(explorer.judged(explorer.numbered(3)).probabilities) == {"c0", "c1", "c2"}
    folder = run.save_pretrained(tmp_path / "given")
    assert load_run(folder).names == ("0", "1", "2") and "test error" not in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("model", "options"),
    [("segma", {"beta": 0.0}), ("cagem", {"components": 3}), ("amm", {"components": 3})],
)
def test_models_that_need_no_labels(model: str, options: dict[str, object], place: Path, tmp_path: Path) -> None:
    config = starting_config("digits", model=model).with_options(
        dataset=str(place / "pictures"), cache=place / "cache", run_dir=tmp_path, hidden=(8,), latent_dim=2, labels=0,
        epochs=1, batch_size=8, **options,
    )  # fmt: skip
    assert math.isnan(train(config).evaluation.test_error)
    run = load_run(tmp_path)
    assert run.names == tuple(map(str, range(run.model.components)))
    assert (run.model.components == 1) == (model == "segma")


def test_every_other_model_says_what_it_needs(place: Path, tmp_path: Path) -> None:
    for model in set(MODELS) - {"cagem", "amm"}:
        config = starting_config("digits", model=model).with_options(
            dataset=str(place / "pictures"), cache=place / "cache", run_dir=tmp_path, labels=0
        )
        with pytest.raises(ValueError, match="labels=0 .* with the model"):
            train(config)


def test_labels_that_are_asked_for_must_be_there(place: Path, tmp_path: Path) -> None:
    """With the pictures in the cache, where nothing is known of columns, and without."""
    for cache, columns in ((place / "cache", ""), (tmp_path / "cache", " to one or several of 'image'")):
        data = DataConfig(dataset=str(place / "pictures"), cache=cache)
        said = f"no column that is plainly the label: set label_columns{columns}, or train without.*--labels 0"
        with pytest.raises(DataError, match=said):
            load_data(data)
        config = starting_config("digits").with_options(dataset=data.dataset, cache=cache, run_dir=tmp_path / "run")
        with pytest.raises(DataError, match=said):
            train(config.with_options(beta=0.0))
    assert not (tmp_path / "run" / "config.json").exists()


def test_folders_of_splits_are_no_classes(tmp_path: Path) -> None:
    plain_folder(tmp_path / "pictures", "train", 6)
    plain_folder(tmp_path / "pictures", "test", 3, seed=1)
    config = DataConfig(dataset=str(tmp_path / "pictures"), cache=tmp_path / "cache")
    with pytest.raises(DataError, match="no column that is plainly the label"):
        load_data(config)
    data = load_data(config, labelled=False)
    assert (data.labelled, len(data.train_images), len(data.test_images)) == (False, 6, 3)
