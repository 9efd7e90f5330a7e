"""``segma-fast reproduce`` on small data sets in the layout of the Hub's, and the parts that it is made of."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from segma_fast.__main__ import main
from segma_fast.trainer.checkpoints import checkpoint_steps, progress
from segma_fast.trainer.config import NetworkConfig
from segma_fast.trainer.config_file import save_config
from segma_fast.trainer.data import DataConfig, load_data
from segma_fast.trainer.experiments import frechet, paper, runner, tables
from segma_fast.trainer.experiments.reproduce import networks
from segma_fast.trainer.experiments.scores import Scores, load_scores
from segma_fast.trainer.lock import only_one

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
PICTURES = ["samples.png", "interpolations.png", "transfer.png", "intensity.png", "means.png", "codes.png"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMA_FAST_CACHE", str(tmp_path / "cache"))


def write_split(path: Path, columns: dict[str, list], label: datasets.ClassLabel | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    (table if label is None else table.cast_column("label", label)).to_parquet(path)


def mnist(folder: Path) -> Path:
    """scikit-learn's digits, enlarged to 28×28, in the layout of ylecun/mnist."""
    digits = load_digits()
    pixels = np.kron(digits.images * (255 / 16), np.ones((3, 3))).astype(np.uint8)
    images = [Image.fromarray(image) for image in np.pad(pixels, ((0, 0), (2, 2), (2, 2)))]
    label = datasets.ClassLabel(names=[str(k) for k in range(10)])
    for split, rows in (("train", slice(0, 1500)), ("test", slice(1500, None))):
        path = folder / "mnist" / f"{split}-00000-of-00001.parquet"
        write_split(path, {"image": images[rows], "label": digits.target[rows].tolist()}, label)
    return folder / "mnist"


def svhn(folder: Path) -> Path:
    """Noise in ten colours in the layout of ufldl-stanford/svhn: two configurations, an extra split."""
    label = datasets.ClassLabel(names=[str(k) for k in range(10)])
    configs = ["---", "configs:"]
    for config, splits in (
        ("full_numbers", {"train": 1}),
        ("cropped_digits", {"train": 700, "test": 120, "extra": 500}),
    ):
        configs += [f"- config_name: {config}", "  data_files:"]
        for split, count in splits.items():
            labels = RNG.integers(0, 10, count)
            pixels = (RNG.integers(0, 60, (count, 32, 32, 3)) + 19 * labels[:, None, None, None]).astype(np.uint8)
            columns = {"image": [Image.fromarray(image) for image in pixels], "label": labels.tolist()}
            write_split(folder / "svhn" / config / f"{split}-00000-of-00001.parquet", columns, label)
            configs += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "svhn" / "README.md").write_text("\n".join([*configs, "---", ""]))
    return folder / "svhn"


def celeba(folder: Path) -> Path:
    """Noise of 178×218 in the layout of flwrlabs/celeba: an identity and boolean attributes."""
    for split, count in (("train", 1050), ("valid", 10), ("test", 60)):
        male, smiling = RNG.integers(0, 2, (2, count)).astype(bool)
        pixels = RNG.integers(0, 40, (count, 218, 178, 3)) + (90 * male + 100 * smiling)[:, None, None, None]
        columns = {
            "image": [Image.fromarray(image) for image in pixels.astype(np.uint8)],
            "celeb_id": list(range(count)),
            "Bald": [False] * count,
            "Male": male.tolist(),
            "Smiling": smiling.tolist(),
        }
        write_split(folder / "celeba" / "data" / f"{split}-00000-of-00001.parquet", columns)
    return folder / "celeba"


def reproduce(name: str, dataset: Path, out: Path, *flags: str) -> str:
    main(["reproduce", name, "--dataset", str(dataset), "--out", str(out), "--images", "200", *flags])
    return (out / "tables.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("make", [svhn, celeba])
def test_colour_experiments_end_to_end(make, tmp_path: Path) -> None:
    page = reproduce(make.__name__, make(tmp_path), tmp_path / "out", "--seeds", "1", "--budget", "3s")
    for title in ("the paper's networks", *paper.TABLES.values()):
        assert title in page
    assert "classifier of" in page and "cannot be compared" in page and "real training images" in page
    assert page.count("of 400**" if make is svhn else "of 500**") == 6
    for name in PICTURES:
        assert np.asarray(Image.open(tmp_path / "out" / name)).std() > 5, name


@pytest.mark.slow
def test_mnist_grows_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = mnist(tmp_path), tmp_path / "out"
    small = ["--hidden", "300", "100"]
    page = reproduce("mnist", data, out, "--seeds", "1", "--budget", "4s", *small)
    assert "networks of 300-100" in page
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert folders == ["cwae-seed0", "segma-first-seed0", "segma-stratified-seed0", "unsupervised-seed0"]
    assert "100 first" in page and "100 stratified" in page and "| 12.51 |" in page and "12.7" in page
    steps = {name: checkpoint_steps(out / name) for name in folders}
    scores = {name: load_scores(out / name) for name in folders}
    assert all(score.fid > 0 and score.fid_interpolations > 0 for score in scores.values())
    assert math.isnan(scores["cwae-seed0"].test_error) and 0 <= scores["unsupervised-seed0"].test_error < 1

    assert reproduce("mnist", data, out, "--seeds", "1", "--budget", "4s", *small) == page
    assert {name: checkpoint_steps(out / name) for name in folders} == steps

    capsys.readouterr()
    reproduce("mnist", data, out, "--seeds", "2", "--budget", "12s", "--table", "2", *small)
    assert (out / "tables.md").read_text() == page  # the other page stays
    second = (out / "table-2.md").read_text()
    assert "Table I:" not in second and "± " in second and "cwae" not in capsys.readouterr().out
    assert "6 of 6 trainings are in the tables" in second
    assert checkpoint_steps(out / "segma-first-seed0")[0] > steps["segma-first-seed0"][0]
    assert checkpoint_steps(out / "cwae-seed0") == steps["cwae-seed0"]


def test_stopped_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = small_trial(tmp_path, epochs=4)
    digits = load_data(trial.config.data)
    original = runner.train

    def stopped(config, resume):
        original(replace(config, epochs=2), resume=resume)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        runner.finish(trial, digits, None, 10, math.nan, CPU)
    assert progress(trial.config.run_dir).epochs == 2
    monkeypatch.setattr(runner, "train", original)
    result = runner.finish(trial, digits, None, 10, math.nan, CPU)
    assert result.epochs == 4 and not result.cut and result.scores.step == 4 * 14
    (trial.config.run_dir / "scores.json").write_text("[]")
    assert runner.kept_result(trial, None, 10) is None
    again = runner.finish(trial, digits, None, 10, math.nan, CPU)
    assert repr(again) == repr(runner.kept_result(trial, None, 10)) == repr(result)  # NaN is no equal of itself
    shutil.rmtree(trial.config.run_dir / "checkpoints")  # nothing is left of the training: it is done again
    assert repr(runner.finish(trial, digits, None, 10, math.nan, CPU).scores) == repr(result.scores)


def test_scores_are_of_one_extractor(tmp_path: Path) -> None:
    trial = small_trial(tmp_path, epochs=1)
    digits, config = load_data(trial.config.data), DataConfig(cache=tmp_path)
    first = runner.finish(trial, digits, frechet.FrechetDistance(digits, config, CPU, "classifier"), 20, math.nan, CPU)
    file = next(tmp_path.glob("classifier-*.pt"))
    content = torch.load(file)
    content["model"]["body.13.weight"] *= 2  # of the last layer but one
    torch.save(content, file)
    again = runner.finish(trial, digits, frechet.FrechetDistance(digits, config, CPU, "classifier"), 20, math.nan, CPU)
    assert again.scores.features == first.scores.features and again.scores.fid > 1.5 * first.scores.fid


def test_time_that_is_used_up_is_not_given_again(tmp_path: Path) -> None:
    trial = small_trial(tmp_path, epochs=500)
    digits = load_data(trial.config.data)
    first = runner.finish(trial, digits, None, 10, 0.4, CPU)
    (trial.config.run_dir / "scores.json").unlink()
    assert repr(runner.finish(trial, digits, None, 10, 0.4, CPU)) == repr(first)
    assert runner.finish(trial, digits, None, 10, 1.2, CPU).epochs > first.epochs


def test_one_command_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with only_one(tmp_path / "out"), pytest.raises(SystemExit):
        main(["reproduce", "mnist", "--out", str(tmp_path / "out")])
    assert f"another command is at work in {tmp_path / 'out'}" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        main(["reproduce", "mnist", "--out", str(tmp_path / "file")])
    assert "out must be a folder" in capsys.readouterr().err
    other = paper.trials("mnist", "paper", 1, 2, tmp_path / "out")[-1].config
    other.run_dir.mkdir()
    save_config(other, other.run_dir / "config.json")
    with pytest.raises(SystemExit):
        main(["reproduce", "mnist", "--table", "2", "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().err
    assert "cannot resume" in shown and "clip_norm: None -> 5.0" in shown and "--out names another folder" in shown


def test_training_that_diverges_is_a_line_in_the_table(tmp_path: Path) -> None:
    trial = small_trial(tmp_path, epochs=2)
    diverging = replace(trial, config=replace(trial.config, learning_rate=1e30, clip_norm=None, clip_value=None))
    result = runner.finish(diverging, load_data(trial.config.data), None, 10, math.nan, CPU)
    assert result.scores is None and "not finite" in result.failure
    assert "not finite" in tables.render("mnist", 2, [result])


def small_trial(folder: Path, epochs: int) -> paper.Trial:
    trial = paper.trials("mnist", "authors", 1, 2, folder / "out")[-1]
    network = NetworkConfig(latent_dim=4, hidden=(8,))
    data = DataConfig()  # the digits; unlabelled rows of the whole training set
    return replace(trial, config=replace(trial.config, epochs=epochs, network=network, data=data, log_every=5))


@pytest.mark.parametrize(
    ("preset", "expected"), [("authors", "the paper's networks"), ("tuned", "networks of 256-256")]
)
def test_networks_are_named(preset: str, expected: str, tmp_path: Path) -> None:
    assert networks("mnist", paper.trials("mnist", preset, 1, None, tmp_path)) == expected


def test_means_and_deviations() -> None:
    trial = paper.trials("mnist", "authors", 3, 2, Path("out"))[0]
    results = [tables.Result(trial, Scores(1, error, 1.0), 500.0, 7200.0) for error in (0.11, 0.12, 0.16)]
    line = next(row for row in tables.render("mnist", 2, results).splitlines() if "100 first" in row)
    assert line == "| SeGMA | 100 first | 13.00 ± 2.65 | 3 | 500 | 2.0 h | 12.7 |"
    assert "the same labels with every seed" in tables.render("mnist", 2, results)
    cut = tables.render("mnist", 2, [replace(results[0], epochs=9.4)])
    assert "**9.4 of 500**" in cut and "| 11.00 | 1 |" in cut
    uneven = [replace(results[0], epochs=9.4, seconds=60.0), replace(results[1], epochs=20.0, seconds=120.0)]
    shown = tables.render("mnist", 2, uneven)
    assert "**9.4 to 20 of 500** | 60.0 s to 2.0 min" in shown and "took different times" in shown
    assert "paper (other features)" in tables.render("mnist", 1, results, inception=False)


def test_trials_follow_the_presets() -> None:
    authors, by_paper = (paper.trials("svhn", preset, 1, None, Path("out")) for preset in ("authors", "paper"))
    assert [t.model for t in authors] == ["segma", "unsupervised", "cwae"]
    assert authors[0].config.label_choice == "first" and by_paper[0].config.label_choice == "random"
    assert authors[1].config.objective.beta == 0 and authors[2].config.components == 1
    assert {t.config.seed for t in paper.trials("mnist", "tuned", 3, 1, Path("out"))} == {0, 1, 2}
    tuned = {name: paper.trials(name, "tuned", 1, 2, Path("out"))[-1].config for name in paper.TITLES}
    assert [config.labelled_batch_size for config in tuned.values()] == [10, 100, 26]
    assert tuned["svhn"].label_choice == "stratified" and tuned["svhn"].learning_rate == 1e-3
    assert tuned["mnist"].network.hidden == (256, 256) and tuned["svhn"].network.hidden == (786,) * 5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--budget", "20"], "such as 90s, 20m or 1.5h, got '20'"),
        (["--budget", "0s"], "must be a time > 0"),
        (["--seeds", "0"], "seeds must be >= 1, got 0"),
        (["--images", "1"], "images must be >= 2, got 1"),
        (["--dataset", "/nowhere"], "neither an existing folder nor a name on the Hub"),
    ],
)
def test_bad_input(flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "mnist", "--out", str(tmp_path / "out"), *flags])
    assert stop.value.code == 2 and message in capsys.readouterr().err
