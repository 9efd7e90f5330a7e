"""A run folder is never overwritten by accident, and never continued with what does not belong to it."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segma_fast.__main__ import main
from segma_fast.trainer import loop
from segma_fast.trainer.checkpoints import latest_checkpoint
from segma_fast.trainer.config import TrainConfig, starting_config
from segma_fast.trainer.config_file import load_config
from segma_fast.trainer.data import DataConfig, DataError
from segma_fast.trainer.experiments.scores import load_scores
from segma_fast.trainer.lock import only_one
from segma_fast.trainer.models import MODELS
from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.segma import SeGMAConfig
from segma_fast.trainer.run import load_run
from segma_fast.trainer.run_folder import DataInfo

SMALL: dict[str, Any] = {"batch_size": 4, "labels": 4, "labelled_batch_size": 4}


def config(folder: Path, **changes: object) -> TrainConfig:
    base = starting_config("digits")
    network = NetworkConfig(latent_dim=3, hidden=(16,))
    objective = SeGMAConfig(means_init="normal")
    base = dataclasses.replace(base, network=network, objective=objective, run_dir=folder, epochs=1)
    return dataclasses.replace(base, **changes)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def picture_folder(folder: Path, classes: tuple[str, ...], seed: int = 0) -> DataConfig:
    random = np.random.default_rng(seed)
    for name in classes:
        for index in range(8):
            path = folder / "train" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (6, 6), dtype=np.uint8)).save(path)
    return DataConfig(dataset=str(folder), cache=folder.parent / "cache")


def test_a_second_run_needs_to_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to resume"):
        loop.train(config(tmp_path), resume=True)
    loop.train(config(tmp_path))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds a run already"):
        loop.train(config(tmp_path))
    with pytest.raises(ValueError, match="exclude each other"):
        loop.train(config(tmp_path), resume=True, overwrite=True)
    loop.train(config(tmp_path, seed=1), overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert load_config(tmp_path / "config.json").seed == 1


def test_two_trainings_in_a_folder(tmp_path: Path) -> None:
    loop.train(config(tmp_path))
    before = files(tmp_path)
    with only_one(tmp_path):
        for resume in (True, False):
            with pytest.raises(ValueError, match="another command is at work in"):
                loop.train(config(tmp_path, epochs=2), resume=resume, overwrite=not resume)
        with pytest.raises(ValueError, match="another command is at work in"):  # not: resume it, or overwrite it
            loop.train(config(tmp_path))
    assert files(tmp_path) == before
    with only_one(tmp_path / "new"), pytest.raises(ValueError, match="another command is at work in"):
        loop.train(config(tmp_path / "new"))
    assert not files(tmp_path / "new")


def test_the_lock_says_who_holds_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from segma_fast.trainer.lock import only_one\n"
        "with only_one(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(tmp_path), "two words\n\x1b[1m"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match="at work") as found:
            loop.train(config(tmp_path))
        other.communicate("")
    host, words = re.escape(socket.gethostname()), re.escape(str(tmp_path))
    expected = rf"{words}: process {other.pid} on {host} since 20[-0-9]+ [:0-9]+: .*{words} 'two words  \[1m'"
    assert re.fullmatch(f"another command is at work in {expected}", str(found.value))
    assert not files(tmp_path)
    loop.train(config(tmp_path))


def test_the_folder_is_locked_until_its_pictures_are_written(tmp_path: Path) -> None:
    ended: list[loop.Outcome] = []

    def at_end(outcome: loop.Outcome) -> None:
        ended.append(outcome)
        with pytest.raises(ValueError, match="another command is at work"):
            loop.train(config(tmp_path, epochs=2), resume=True)

    outcome = loop.train(config(tmp_path), at_end=at_end)
    assert ended == [outcome] and outcome.steps == 13
    assert loop.train(config(tmp_path, epochs=2), resume=True).steps == 26


def test_what_is_advised_before_the_first_checkpoint_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a run"
    with pytest.raises(ValueError, match="holds no trained model: train one with segma-fast train --run-dir '"):
        load_run(folder)
    with pytest.raises(FloatingPointError):
        loop.train(config(folder, learning_rate=1e30))
    with pytest.raises(ValueError, match="without a checkpoint so far: .* --learning-rate") as found:
        load_run(folder)
    advised = re.search(r"segma-fast (train .*? --overwrite)", str(found.value))
    assert advised is not None
    main([*shlex.split(advised[1]), "--epochs", "1", "--hidden", "8", "--learning-rate", "1e-3"])
    assert load_run(folder).step == 13


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": 5},
        {"components": 3},
        {"batch_size": 9999},
        {"objective": SeGMAConfig(means_init="normal", backend="none")},
        {"objective": SeGMAConfig(means_init="normal", precision="lowest")},
        {"data": DataConfig(dataset="./gone")},
        {"network": NetworkConfig(network="conv")},
    ],
)
def test_a_mistake_costs_no_run_and_leaves_none(tmp_path: Path, changes: dict[str, object]) -> None:
    loop.train(config(tmp_path / "old"))
    before = files(tmp_path / "old")
    for folder, overwrite in (("old", True), ("new", False)):
        with pytest.raises(ValueError):
            loop.train(config(tmp_path / folder, **changes), overwrite=overwrite)
    assert files(tmp_path / "old") == before
    assert not (tmp_path / "new" / "config.json").exists()


def test_files_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-old").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-old" / "weights").write_text("theirs")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "other"}))
    before = files(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds a run already|not a run's, which stay"):
            loop.train(config(tmp_path), overwrite=overwrite)
    assert files(tmp_path) == before


def test_resuming_with_more_epochs_is_remembered(tmp_path: Path) -> None:
    loop.train(config(tmp_path))
    assert loop.train(config(tmp_path, epochs=3), resume=True).epochs == 3
    assert load_config(tmp_path / "config.json").epochs == 3


def test_an_older_file_has_the_means_at_the_top_level(tmp_path: Path) -> None:
    loop.train(config(tmp_path))
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    for name in ("means_init", "means_scale"):
        values[name] = values["objective"].pop(name)
    file.write_text(json.dumps(values))
    assert load_config(file) == config(tmp_path)
    assert loop.train(config(tmp_path, epochs=2), resume=True).epochs == 2
    file.write_text(json.dumps({"model": "m2", "means_init": "simplex", "means_scale": 5.0}))
    assert load_config(file).objective == MODELS["m2"].Config()
    file.write_text(json.dumps({"objective": 3, "means_scale": 5.0}))
    with pytest.raises(ValueError, match="objective must be an object, got 3"):
        load_config(file)


def test_other_data_is_noticed(tmp_path: Path) -> None:
    data = picture_folder(tmp_path / "pictures", ("cat", "dog"))
    loop.train(config(tmp_path / "run", data=data, **SMALL))
    assert load_run(tmp_path / "run").data.class_names == ("cat", "dog")
    picture_folder(tmp_path / "pictures", ("cat", "dog"), seed=1)
    with pytest.raises(ValueError, match="not the one of the run: its checksum was"):
        loop.train(config(tmp_path / "run", data=data, epochs=2, **SMALL), resume=True)
    picture_folder(tmp_path / "pictures", ("ant",))
    with pytest.raises(ValueError, match="its class_names was"):
        loop.train(config(tmp_path / "run", data=data, epochs=2, **SMALL), resume=True)


def test_overwriting_replaces_no_run_on_other_data(tmp_path: Path) -> None:
    """A folder named digits is other data than scikit-learn's; the same folder may have got other pictures."""
    loop.train(config(tmp_path / "run"))
    before = files(tmp_path / "run")
    data = picture_folder(tmp_path / "digits", ("cat", "dog"))
    with pytest.raises(ValueError, match=r"holds a run on other data \(digits\).*another --run-dir for .*/digits"):
        loop.train(config(tmp_path / "run", data=data, **SMALL), overwrite=True)
    assert files(tmp_path / "run") == before
    loop.train(config(tmp_path / "own", data=data, **SMALL))
    picture_folder(tmp_path / "digits", ("cat", "dog"), seed=1)
    loop.train(config(tmp_path / "own", data=data, **SMALL), overwrite=True)
    assert load_run(tmp_path / "own").load_data().class_names == ("cat", "dog")


def test_a_run_finds_its_data_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture_folder(tmp_path / "pictures", ("cat", "dog"))
    monkeypatch.chdir(tmp_path)
    relative = DataConfig(dataset="./pictures", cache=Path("cache"))
    loop.train(config(Path("run"), data=relative, **SMALL))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = load_run(tmp_path / "run")
    assert run.config.data == DataConfig(dataset=str(tmp_path / "pictures"), cache=tmp_path / "cache")
    assert len(run.load_data().test_labels) == run.data.rows[1]
    again = dataclasses.replace(run.config, epochs=2, run_dir=tmp_path / "run")
    assert loop.train(again, resume=True).epochs == 2
    same = DataConfig(dataset="../pictures", cache=Path("../cache"))
    assert loop.train(dataclasses.replace(again, epochs=3, data=same), resume=True).epochs == 3


def test_a_folder_that_has_gone_is_in_the_cache(tmp_path: Path) -> None:
    """Its pictures are known by their checksum: another folder's of the same name are not taken for them."""
    data = picture_folder(tmp_path / "pictures", ("cat", "dog"))
    loop.train(config(tmp_path / "run", data=data, **SMALL))
    other = picture_folder(tmp_path / "other" / "pictures", ("cat", "dog"), seed=1)
    loop.train(config(tmp_path / "theirs", data=dataclasses.replace(other, cache=data.cache), **SMALL))
    before = load_run(tmp_path / "run").load_data()
    (tmp_path / "pictures").rename(tmp_path / "moved")
    again = load_run(tmp_path / "run").load_data()
    assert again.test_images.equal(before.test_images) and again.train_labels.equal(before.train_labels)
    more = config(tmp_path / "run", data=data, epochs=2, **SMALL)
    assert loop.train(more, resume=True).epochs == 2
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DataError, match="pictures' is neither an existing folder nor a name on the Hub"):
        load_run(tmp_path / "run").load_data()
    (tmp_path / "new").mkdir()
    (tmp_path / "moved").rename(tmp_path / "new" / "pictures")
    moved = dataclasses.replace(data, dataset=str(tmp_path / "new" / "pictures"))
    assert loop.train(dataclasses.replace(more, data=moved, epochs=3), resume=True).epochs == 3
    with pytest.raises(ValueError, match=r"cannot resume .* data.dataset: .*new/pictures' -> .*other/pictures'"):
        loop.train(dataclasses.replace(more, data=other, epochs=4), resume=True)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "random_states_0.pkl", "clock.json"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    loop.train(config(tmp_path))
    found = latest_checkpoint(tmp_path)
    assert found is not None
    (found[0] / name).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"the checkpoint .*step-13 cannot be read"):
        loop.train(config(tmp_path, epochs=2), resume=True)
    if name == "model.safetensors":
        with pytest.raises(ValueError, match=r"the checkpoint .*step-13 cannot be read"):
            load_run(tmp_path)


def test_a_run_of_another_model_is_told(tmp_path: Path) -> None:
    loop.train(config(tmp_path))
    with pytest.raises(ValueError, match="cannot resume .* model: 'segma' -> 'm1'"):
        loop.train(dataclasses.replace(starting_config("digits", model="m1"), run_dir=tmp_path), resume=True)


@pytest.mark.parametrize("text", ["", "null", "{}", '{"image_shape": [1e999, 1, 1]}', "[" * 100_000])
def test_a_damaged_description_of_the_data_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(ValueError, match=r"data.json cannot be read"):
        DataInfo.load(tmp_path)
    (tmp_path / "scores.json").write_text(text)
    assert load_scores(tmp_path) is None


def test_precision_may_change_from_run_to_run_in_a_process(tmp_path: Path) -> None:
    half = loop.train(config(tmp_path / "half", mixed_precision="bf16"))
    full = loop.train(config(tmp_path / "full"))
    for a, b in zip(half.model.parameters(), full.model.parameters(), strict=True):
        assert a.dtype == b.dtype
        assert (a - b).abs().max() < 0.02
    assert any(not a.equal(b) for a, b in zip(half.model.parameters(), full.model.parameters(), strict=True))
