"""``segma-fast compare``: one table and one picture of several models, from one command that goes on where it was."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segma_fast.__main__ import main
from segma_fast.trainer.config import ExperimentName, starting_config
from segma_fast.trainer.data import load_data
from segma_fast.trainer.device import processor
from segma_fast.trainer.experiments import compare as compare_module
from segma_fast.trainer.experiments import runner
from segma_fast.trainer.experiments.compare import Comparison
from segma_fast.trainer.experiments.scores import load_scores
from segma_fast.trainer.metrics import ImportanceSampling, mean_log_likelihood
from segma_fast.trainer.models import MODELS
from segma_fast.trainer.run import load_run


def rows(folder: Path) -> dict[str, list[str]]:
    lines = (folder / "tables.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {line[0]: line[1:] for line in cells[2:]}


def compare(folder: Path, *flags: str) -> dict[str, list[str]]:
    common = ["--out", str(folder), "--hidden", "32", "--images", "300", "--likelihood-samples", "3", "--device", "cpu"]
    main(["compare", *common, *flags])
    return rows(folder)


@pytest.mark.slow
def test_table_and_picture_of_models_that_are_added_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGMA_FAST_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "compared"
    first = compare(folder, "--models", "segma", "cagem", "--budget", "6s")
    assert set(first) == {"SeGMA", "CaGeM", "real training images"}
    labels, error, fid, between, likelihood, parameters, step, steps_done, epochs, time = first["CaGeM"]
    run = load_run(folder / "cagem-seed0")
    assert labels == "100 stratified" and 0 < float(error) < 90 and min(float(fid), float(between)) > 0
    assert int(parameters.replace(",", "")) == sum(p.numel() for p in run.model.parameters())
    assert int(steps_done.replace(",", "")) == run.step
    assert float(step) > 0 and time.endswith(" s") and epochs.startswith("**") and epochs.endswith("of 300**")
    by = mean_log_likelihood(run.model, load_data(run.config.data).test_images, ImportanceSampling(3))
    mean, standard_error = map(float, likelihood.split(" ± "))
    assert mean == pytest.approx(by.mean, abs=0.006) and by.images == 359
    assert f" {processor()}, {torch.get_num_threads()} threads, torch " in (folder / "tables.md").read_text()
    assert standard_error == pytest.approx(by.standard_error, abs=0.006)
    assert first["SeGMA"][4] == "–" and first["real training images"][0] == "–"
    page = (folder / "tables.md").read_text()
    assert "% by p(y|x)" in page and "3 importance-weighted samples for each of 359 test images" in page

    capsys.readouterr()
    steps = run.step
    second = compare(folder, "--models", "segma", "cagem", "m1", "cwae", "--budget", "12s")
    assert {name: second[name] for name in first if name != "real training images"} == {
        name: first[name] for name in first if name != "real training images"
    }
    assert load_run(folder / "cagem-seed0").step == steps
    assert second["CWAE (β = 0, K = 1)"][:2] == ["–", "–"]
    assert np.asarray(Image.open(folder / "samples.png")).std() > 5
    third = compare(folder, "--models", "cagem", "--budget", "3s", "--likelihood-samples", "0")
    fewer = compare(folder, "--models", "cagem", "--budget", "3s", "--likelihood-images", "100")
    assert fewer["CaGeM"][4] != first["CaGeM"][4] and fewer["CaGeM"][:4] == first["CaGeM"][:4]
    assert third["CaGeM"][4] == "–" and third["CaGeM"][:4] == first["CaGeM"][:4]

    both = compare(folder, "--models", "m1", "cwae", "--seeds", "2", "--budget", "4s", "--side-by-side")
    errors = [100 * score.test_error for seed in range(2) if (score := load_scores(folder / f"m1-seed{seed}"))]
    assert both["M1"][1] == f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f}"
    page = (folder / "tables.md").read_text()
    assert (
        "2 seeds, mean ± sd; a budget of 4.0 s each, side by side" in page
        and "of interpolations between classes" in page
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--models", "segma", "vae"], "unknown model 'vae', expected one of segma"),
        (["--models", "m2", "m2"], "models must be different and at least one, got m2 m2"),
        (["--seeds", "0"], "seeds must be >= 1, got 0"),
        (["--validation", "-1"], "validation must be >= 0, got -1"),
        (["--validation", "1438"], "validation must be less than the 1438 training rows, got 1438"),
        (["--images", "1"], "images must be >= 2, got 1"),
        (["--budget", "soon"], "the budget must be a time > 0 such as 90s"),
    ],
)
def test_bad_input(flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", *flags, "--out", str(tmp_path / "out")])
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.glob("out/*-seed*"))


def test_settings_are_checked_before_the_first_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--models", "amm", "samm", "--labels", "5", "--budget", "4s", "--out", str(tmp_path / "out")])
    assert "5 labels are fewer than the 10 classes" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*-seed*"))


def test_all_models_diverge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMA_FAST_CACHE", str(tmp_path / "cache"))
    diverging = starting_config("digits", None, "m2")
    monkeypatch.setattr(compare_module, "starting_config", lambda *_: replace(diverging, learning_rate=1e9))
    assert set(compare(tmp_path / "out", "--models", "m2", "--budget", "5s")) == {"real training images"}
    assert "the loss is not finite" in (tmp_path / "out" / "tables.md").read_text()


def test_judging_beside_the_budget_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before it begins, and how long it took."""
    (trial,) = Comparison(models=("segma",), hidden=(8,), epochs=1, device="cpu", out=tmp_path).trials()
    data = load_data(trial.config.data)
    for budget in (60.0, np.nan):
        conditions = runner.Conditions(data, torch.device("cpu"), budget, 10, None, np.nan)
        assert [result.epochs for result in runner.finish_all([trial], conditions)] == [1.0]
        shown = capsys.readouterr().out
        assert re.search(r"^judged in [\d.]+ s$", shown, re.MULTILINE)
        told = "the budget is for training: judging each of 1 models comes on top" in shown
        assert told == (budget == 60)
    for command in (["compare"], ["reproduce", "mnist"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "judging each model comes on top, and once a classifier" in shown


def test_experiment_by_the_flag_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--data``, its former name, still does."""
    found: list[Comparison] = []
    monkeypatch.setattr(Comparison, "run", lambda comparison: found.append(comparison))
    for flag in ("--experiment", "--data"):
        main(["compare", flag, "svhn", "--models", "m2"])
    assert found == [Comparison(experiment="svhn", models=("m2",))] * 2


def test_every_model_keeps_its_own_settings(tmp_path: Path) -> None:
    models = ("segma", "unsupervised", "cwae", "adgm")
    comparison = Comparison(experiment="mnist", models=models, labels=50, out=tmp_path)
    segma, unsupervised, cwae, adgm = (trial.config for trial in comparison.trials())
    assert segma.learning_rate == 1e-3 and segma.labelled_batch_size == 10
    assert not unsupervised.takes_labels and unsupervised.components is None and cwae.components == 1
    assert adgm.network.latent_dim == 100 and adgm.decay == 0.75
    assert {config.labels for config in (segma, adgm)} == {50}
    assert {config.label_choice for config in (segma, adgm)} == {"stratified"}


def test_settings_are_chosen_on_training_rows(tmp_path: Path) -> None:
    page = tmp_path / "tables.md"
    flags = "--models m1 --epochs 1 --labels 30 --label-choice random --features classifier".split()
    found = compare(tmp_path, *flags, "--validation", "400")
    assert found["M1"][0] == "30 random" and "digits (validation), " in page.read_text()
    run = load_run(tmp_path / "m1-seed0")
    assert (run.config.data.validation, len(run.load_data().test_images)) == (400, 400)
    with pytest.raises(SystemExit):  # the folder's runs were judged by other rows
        compare(tmp_path, *flags)


@pytest.mark.parametrize("experiment", ["digits", "mnist"])
def test_all_models_take_the_same_steps(experiment: ExperimentName) -> None:
    plan = Comparison(experiment=experiment, models=tuple(MODELS)).trials()
    assert len({(trial.config.epochs, trial.config.batch_size) for trial in plan}) == 1


def test_likelihood_of_models_without_one() -> None:
    class Without(torch.nn.Module):
        device = torch.device("cpu")

        def log_likelihood(self, *_: object) -> None:
            return None

    found = mean_log_likelihood(Without(), torch.zeros(2, 1, 4, 4), ImportanceSampling(3))  # type: ignore[arg-type]
    assert np.isnan(found.mean) and found.images == 0


def test_likelihood_of_images_at_random() -> None:
    """The mean and its standard error over a random thousand, not over the first ones."""

    class Brightness(torch.nn.Module):
        device = torch.device("cpu")

        def log_likelihood(self, images: torch.Tensor, *_: object) -> torch.Tensor:
            return images.flatten(1).mean(1)

    images = torch.arange(4000.0)[:, None, None, None].expand(-1, 1, 2, 2)
    found = mean_log_likelihood(Brightness(), images, ImportanceSampling(3))  # type: ignore[arg-type]
    expected_error = 4000 / 12**0.5 / 1000**0.5
    assert found.images == 1000 and found.standard_error == pytest.approx(expected_error, rel=0.1)
    assert abs(found.mean - 1999.5) < 4 * expected_error
    every = mean_log_likelihood(Brightness(), images, ImportanceSampling(3, 10_000))  # type: ignore[arg-type]
    assert every.images == 4000 and every.mean == pytest.approx(1999.5)


def test_widths_keep_the_depth_of_each_model() -> None:
    plan = Comparison(experiment="mnist", models=("segma", "m2", "m1m2"), hidden=(64, 32)).trials()
    segma, m2, m1m2 = (trial.config for trial in plan)
    assert segma.network.hidden == (64, 32) and m2.network.hidden == m1m2.network.hidden == (64,)
    assert m1m2.objective.first_hidden == (64, 32)


def test_networks_and_steps_of_all_models() -> None:
    comparison = Comparison(experiment="mnist", models=("segma", "m2", "amm"), network="conv", epochs=7, seeds=2)
    segma, m2, amm, *others = (trial.config for trial in comparison.trials())
    assert [config.seed for config in (segma, m2, amm, *others)] == [0] * 3 + [1] * 3
    assert len({config.run_dir for config in (segma, m2, amm, *others)}) == 6
    assert {trial.config.epochs for trial in Comparison(experiment="mnist", models=("segma", "adgm")).trials()} == {500}
    assert {config.network.network for config in (segma, m2, amm)} == {"conv"}
    assert {config.epochs for config in (segma, m2, amm)} == {7}
    assert (amm.learning_rate, amm.network.latent_dim, amm.objective.generator_rate) == (1e-3, 64, 0.3)
    assert amm.components is None and m2.network.latent_dim == 50
    with pytest.raises(ValueError, match="epochs must be >= 1, got 0"):
        Comparison(epochs=0)
