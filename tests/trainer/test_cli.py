"""The commands on a run folder as ``segma-fast train`` leaves it, their examples and their errors."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from segma_fast.__main__ import COMMANDS, main
from segma_fast.distance.backends import extension
from segma_fast.trainer.commands.train import parse
from segma_fast.trainer.config import EXPERIMENTS, PRESETS, ExperimentName, Preset, TrainConfig, starting_config
from segma_fast.trainer.config_file import load_config, save_config
from segma_fast.trainer.models import MODELS
from segma_fast.trainer.models.segma import SeGMAConfig

IMAGE_COMMANDS = ["sample", "interpolate", "transfer", "intensify"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training with ten components in three dimensions."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    flags = "--epochs 3 --latent-dim 3 --hidden 32 --means-init normal --learning-rate 0.003"
    main(["train", "--run-dir", str(folder), *flags.split()])
    return folder


def test_train_leaves_pictures_and_a_report(run_dir: Path) -> None:
    for name in ("samples", "reconstructions", "interpolations", "transfer", "codes", "confusion", "curves"):
        assert np.asarray(Image.open(run_dir / f"{name}.png")).std() > 5, name
    report = json.loads((run_dir / "report.json").read_text())
    assert 0 <= report["test_error"] <= 1
    assert report["seconds_per_step"] > 0 and report["backend"]
    assert load_config(run_dir / "config.json").network.latent_dim == 3


def test_table_at_the_end(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--config", str(run_dir / "config.json"), "--epochs", "1", "--run-dir", str(tmp_path / "again")])
    shown = capsys.readouterr().out
    for word in (
        "test error",
        "reconstruction error",
        "d² of the test codes",
        "time per step",
        "distance by",
    ):
        assert word in shown
    main(["evaluate", "--run-dir", str(tmp_path / "again")])
    again = capsys.readouterr().out
    error = next(line for line in shown.splitlines() if "test error  " in line)
    assert error in again


@pytest.mark.parametrize("name", IMAGE_COMMANDS)
def test_picture_commands(name: str, run_dir: Path, tmp_path: Path) -> None:
    main([name, "--run-dir", str(run_dir), "--out", str(tmp_path / "out.png")])
    pixels = np.asarray(Image.open(tmp_path / "out.png"))
    assert pixels.std() > 5
    assert pixels.shape[0] > 2 * 64


def test_own_pictures_are_taken(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((20, 30, 3), 200, dtype=np.uint8)).save(tmp_path / "mine.png")
    main(["classify", "--run-dir", str(run_dir), "--images", "7", str(tmp_path / "mine.png")])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "by normal distributions of classes:"
    assert "label: " in lines[0] and "class" in lines[0]
    assert "mine.png" in lines[1] and "label" not in lines[1]


def test_images_of_a_likelihood_that_is_not_asked_for(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--run-dir", str(run_dir), "--likelihood-images", "100"])
    assert "likelihood_images needs likelihood_samples" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["transfer", "--to", "10"], ["intensify", "--away-from", "10"]])
def test_component_that_does_not_exist(arguments: list[str], run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*arguments, "--run-dir", str(run_dir)])
    assert f"{arguments[1][2:].replace('-', '_')} must be in 0 ... 9, got 10" in capsys.readouterr().err


def test_info_tells_backends_and_choice(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main(["info"])
    shown = capsys.readouterr().out
    best = "chunked" if extension.REASON else "native"
    assert "chunked      available" in shown and f"auto chooses: {best} on cpu" in shown
    assert f"native code: {extension.REASON or 'built by'}" in shown and "cuda toolkit: " in shown
    monkeypatch.setenv("SEGMA_FAST_BACKEND", "reference")
    main(["info"])
    assert "auto chooses: reference on cpu (SEGMA_FAST_BACKEND=reference)" in capsys.readouterr().out


@pytest.mark.parametrize("model", MODELS)
def test_short_help_of_training(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than 80 lines of at most 100 columns; what it names are flags, with the defaults of the model."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        main(["train", "--model", model, "--help"])
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 80 and max(map(len, shown.splitlines())) <= 100
    config = starting_config(model=model)
    assert (
        f"learning rate of Adam ({config.learning_rate})" in shown and f"codes ({config.network.latent_dim})" in shown
    )
    with pytest.raises(SystemExit):
        main(["train", "--model", model, "--help-all"])
    every = capsys.readouterr().out
    plain = every.replace("cropped_digits", "").replace(".cache/segma_fast", "")
    assert not re.search(r"config\.(?!json)|config options|``|\{None|[a-z]_[a-z]", plain)
    assert "run and training" in every and "settings of the model" in every
    named = re.findall(r"^  (--[a-z-]+)", shown, re.MULTILINE)
    assert len(named) > 25 and all(f" {flag}" in every for flag in named)
    values = {field.name: getattr(config.objective, field.name) for field in dataclasses.fields(config.objective)}
    objective = {("--no-" if on is True else "--") + name.replace("_", "-") for name, on in values.items()}
    assert objective <= set(named)


def test_full_help_in_frames(tmp_path: Path) -> None:
    """They have no dents where a word is longer or shorter than tyro's."""
    command = [sys.executable, "-m", "segma_fast", "train", "--help-all"]
    utf_8 = os.environ | {"PYTHONIOENCODING": "utf-8"}
    shown = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=tmp_path, check=True, env=utf_8).stdout
    framed = [line for line in shown.splitlines() if line[:1] in tuple("╭│╰")]
    assert len({len(line) for line in framed}) == 1 and any("─ settings of the model ─" in line for line in framed)
    assert "│ --micro-batch INT  " in shown and "{paper,authors,tuned}" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_that_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        main([name, "--help"])
    except SystemExit as stop:
        assert not stop.code
    shown = capsys.readouterr().out
    examples = [line.strip() for line in shown.splitlines() if line.strip().startswith(f"segma-fast {name}")]
    assert examples, shown
    if name == "train":
        for example in examples:
            command = shlex.split(example.split("   ")[0])[2:]
            if "--resume" not in command and "--config" not in command:
                parse(command)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--run-dir", "nowhere"], "nowhere holds no trained model"),
        (["train", "--resume", "--run-dir", "nowhere"], "nothing to resume: nowhere holds no run"),
        (["train", "--config", "nothing.json"], "no configuration at nothing.json"),
        (["train", "--alpha", "-1"], "alpha"),
        (["train", "--dataset", "./no-such-folder"], "no-such-folder"),
        (["info", "now"], "info takes no arguments"),
        (["train", "--seed", "-1"], "seed must be in 0 ... 2**32 - 1, got -1"),
        (["train", "--backend", "none"], "backend='none' is unknown"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "segma_fast", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_warnings_are_one_line(tmp_path: Path) -> None:
    flags = "train --run-dir run --labels 12 --label-choice random --epochs 1 --hidden 4".split()
    done = subprocess.run([sys.executable, "-m", "segma_fast", *flags], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr.startswith("segma-fast: warning: none of the 12 labels (random) is of class ")
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_bad_index_and_missing_picture(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for item, message in (
        ("99999", "numbered 0 ... 358, got 99999"),
        ("-1", "numbered 0 ... 358, got -1"),
        ("gone.png", "gone.png is neither"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["classify", "--run-dir", str(run_dir), "--images", item])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_unknown_command_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["trian"])
    assert stop.value.code == 2
    assert "unknown command 'trian', expected one of train, sample" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resume", "--preset", "authors"], "leave --experiment, --model, --preset, --config out"),
        (["--resume", "--experiment", "mnist"], "leave --experiment, --model, --preset, --config out"),
        (["--config", "a.json", "--experiment", "mnist"], "leave --experiment and --model out"),
    ],
)
def test_flags_that_exclude_each_other(flags: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(flags)


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ("", "runs/digits"),
        ("--model m2", "runs/digits-m2"),
        ("--experiment mnist", "runs/mnist"),
        ("--dataset ./pictures", "runs/pictures"),
        ("--dataset pictures/ --labels 4", "runs/pictures"),
        ("--experiment mnist --dataset=./pictures --model m2", "runs/pictures-m2"),
        ("--dataset someone/things", "runs/things"),
        ("--dataset ./pictures --run-dir here", "here"),
        ("--config saved.json", "runs/mine"),
        ("--config saved.json --dataset ./pictures", "runs/pictures"),
    ],
)
def test_a_run_goes_where_its_data_says(
    flags: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    save_config(TrainConfig().with_options(run_dir="runs/mine"), tmp_path / "saved.json")
    assert parse(flags.split()).config.run_dir == Path(folder)


def test_resuming_looks_where_the_run_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    save_config(TrainConfig().with_options(dataset="pictures", seed=7), tmp_path / "runs" / "pictures" / "config.json")
    config = parse(["--resume", "--dataset", "pictures"]).config
    assert (config.run_dir, config.seed) == (Path("runs/pictures"), 7)


def test_minutes_hold_for_one_sitting(tmp_path: Path) -> None:
    save_config(dataclasses.replace(TrainConfig(), minutes=3.0, epochs=7), tmp_path / "config.json")
    config = parse(["--resume", "--run-dir", str(tmp_path)]).config
    assert (config.minutes, config.epochs, config.run_dir) == (None, 7, tmp_path)


def test_preset_on_a_configuration_file_keeps_the_rest(tmp_path: Path) -> None:
    mine = dataclasses.replace(TrainConfig(), epochs=7, objective=SeGMAConfig(gamma=0.3, backend="reference"))
    save_config(mine, tmp_path / "config.json")
    objective = parse(["--config", str(tmp_path / "config.json"), "--preset", "authors"]).config.objective
    assert (objective.rows, objective.gamma, objective.backend) == ("unlabelled", 0.3, "reference")


def test_flags_know_every_experiment_and_preset() -> None:
    assert get_args(ExperimentName) == tuple(EXPERIMENTS) and get_args(Preset) == tuple(PRESETS)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_configuration_file_round_trip(experiment: str, preset: str | None, tmp_path: Path) -> None:
    config = starting_config(experiment, preset)
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config


def test_presets_set_the_rules() -> None:
    authors = parse(["--experiment", "svhn", "--preset", "authors", "--epochs", "7"]).config
    assert (authors.objective.rows, authors.label_choice, authors.unlabelled_pool) == ("unlabelled", "first", "all")
    assert (authors.clip_norm, authors.clip_value, authors.objective.means_scale, authors.epochs) == (5.0, 1.0, 2.0, 7)
    assert (authors.data.subset, authors.data.train_splits) == ("cropped_digits", ("train", "extra"))
    paper = parse(["--preset", "paper", "--alpha", "2"]).config
    assert (paper.objective.rows, paper.objective.alpha, paper.clip_norm) == ("all", 2.0, None)
    assert parse([]).config == starting_config("digits")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"epoch": 3}', "unknown field 'epoch'"),
        ('{"epochs": "3"}', "epochs must be of type int, got '3'"),
        ('{"label_choice": "some"}', "label_choice must be one of 'stratified'"),
        ('{"batch_size": 0}', "batch_size must be >= 1, got 0"),
        ('{"network": 3}', "network must be an object"),
    ],
)
def test_broken_configuration_files(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "config.json")
