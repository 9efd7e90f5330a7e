"""Every model beside SeGMA from the command line: trains, resumes to the same bits, evaluates, and draws."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segma_fast.__main__ import main
from segma_fast.trainer.config import TrainConfig, starting_config
from segma_fast.trainer.config_file import load_config, save_config
from segma_fast.trainer.figures.run_pictures import save_pictures
from segma_fast.trainer.loop import Outcome, train
from segma_fast.trainer.metrics import mapped_error
from segma_fast.trainer.models import MODELS, NetworkConfig
from segma_fast.trainer.run import Run, load_run
from segma_fast.trainer.run_folder import PICTURES

RIVALS = [name for name in MODELS if name != "segma"]
EPOCHS = {"amm": 30, "samm": 30, "m1": 60, "m1m2": 40}
MOST_ERROR = {"amm": 0.65, "samm": 0.5, "m1": 0.55, "m1m2": 0.5}  # in a few seconds; by chance 0.9


def small(name: str, folder: Path, epochs: int) -> TrainConfig:
    config = starting_config("digits", None, name)
    network = NetworkConfig(latent_dim=min(config.network.latent_dim, 16), hidden=(64,) * len(config.network.hidden))
    return replace(config, network=network, epochs=epochs, run_dir=folder, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
def test_trains_evaluates_and_draws_from_the_command_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / name
    hidden = [str(width) for width in small(name, run_dir, 1).network.hidden]
    flags = ["--model", name, "--run-dir", str(run_dir), "--epochs", str(EPOCHS.get(name, 20)), "--device", "cpu"]
    main(["train", *flags, "--hidden", *hidden])
    printed = capsys.readouterr().out
    assert MODELS[name].title in printed and "time per step" in printed
    assert load_config(run_dir / "config.json").model == name
    with (run_dir / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    losses = [float(line["loss"]) for line in lines]
    assert np.isfinite(losses).all()
    if len(load_run(run_dir).model.optimizer_groups()) == 1:  # two games have no loss that falls
        assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert all(np.isfinite(float(line[term])) for line in lines for term in MODELS[name].terms if line[term])
    assert float(lines[-1]["test_error"]) < MOST_ERROR.get(name, 0.25)

    main(["evaluate", "--run-dir", str(run_dir), "--likelihood-samples", "2"])
    shown = capsys.readouterr().out
    assert ("log p(x)               not defined" in shown) == name.endswith("amm")
    error = next(line for line in shown.splitlines() if "test error" in line)
    assert f"{100 * float(lines[-1]['test_error']):.2f} %" in error
    for command in ("sample", "interpolate", "transfer", "intensify"):
        main([command, "--run-dir", str(run_dir), "--out", str(tmp_path / "out.png")])
        assert np.asarray(Image.open(tmp_path / "out.png")).std() > 5
    main(["classify", "--run-dir", str(run_dir), "--images", "0", "1"])
    assert capsys.readouterr().out.count("%") == 2
    model = load_run(run_dir).model
    drawn = model.sample(50, generator=torch.Generator().manual_seed(0))
    assert drawn.isfinite().all() and model.decode(drawn).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
def test_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = train(small(name, tmp_path / "whole", 4)).model.state_dict()
    train(small(name, tmp_path / "parts", 2))
    resumed = train(small(name, tmp_path / "parts", 4), resume=True).model.state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    loaded = load_run(tmp_path / "parts").model.state_dict()
    assert all(torch.equal(whole[key], loaded[key]) for key in whole)


@pytest.mark.parametrize("name", RIVALS)
def test_configuration_keeps_the_model_and_its_settings(name: str, tmp_path: Path) -> None:
    for experiment in ("digits", "mnist", "svhn", "celeba"):
        config = starting_config(experiment, None, name)
        save_config(config, tmp_path / "config.json")
        assert load_config(tmp_path / "config.json") == config
        assert type(load_config(tmp_path / "config.json").objective) is MODELS[name].Config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "adgm", "--preset", "authors"], "presets are rules of SeGMA"),
        (["--model", "m2", "--micro-batch", "10"], "the model 'm2' takes no micro-batches"),
        (
            ["--model", "m2", "--components", "12"],
            "components=12 for 10 classes: with labels the model 'm2' has one a class",
        ),
        (["--model", "m2", "--labels", "0"], "the model 'm2': without labels train amm or cagem"),
        (["--model", "adgm", "--auxiliary-dim", "0"], "auxiliary_dim must be >= 1, got 0"),
        (["--model", "amm", "--batch-size", "1"], "batch_size=1: batch norm needs at least 2 rows a step"),
        (["--model", "m2", "--hidden"], "hidden and decoder_hidden must name at least one width"),
        (["--model", "cagem", "--top-dim", "0"], "top_dim must be >= 1, got 0"),
        (["--model", "m2", "--classifier-weight", "-1"], "classifier_weight must be"),
    ],
)
def test_settings_that_do_not_fit(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", *arguments, "--run-dir", str(tmp_path / "run")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", MODELS)
def test_a_finished_model_is_in_evaluation_mode(name: str, tmp_path: Path) -> None:
    model = train(small(name, tmp_path / "run", 1)).model if name != "segma" else train_segma(tmp_path).model
    assert not model.training
    images = torch.rand(6, 1, 8, 8)
    alone = torch.cat([model.encode(image[None]) for image in images])
    torch.testing.assert_close(model.encode(images), alone, rtol=1e-4, atol=1e-5)


def train_segma(folder: Path) -> Outcome:
    return train(replace(TrainConfig(), epochs=1, run_dir=folder / "run", device="cpu"))


def test_settings_that_a_file_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model": "cagem"}')
    assert load_config(tmp_path / "config.json").objective == MODELS["cagem"].Config()
    saved = '{"objective": {"alpha": 5.0, "gamma_rows": "distance"}}'  # by a version without a fitted classifier
    for text, classifier in ((saved, "mixture"), ('{"objective": {"alpha": 5.0}}', "fitted")):
        (tmp_path / "config.json").write_text(text)
        assert load_config(tmp_path / "config.json").objective.classifier == classifier
    (tmp_path / "config.json").write_text('{"model": "none"}')
    with pytest.raises(ValueError, match="unknown model 'none'"):
        load_config(tmp_path / "config.json")


def test_classes_that_have_no_label(tmp_path: Path) -> None:
    config = replace(small("m1", tmp_path / "run", 1), labels=10, label_choice="first")
    with pytest.warns(UserWarning, match="none of the 10 labels"):
        model = train(config).model
    missing = (model.classes.proportions == 0).nonzero()[0].item()
    drawn = model.sample(2000, missing, generator=torch.Generator().manual_seed(0))
    assert abs(drawn.std() - 1) < 0.05  # of the prior: nothing is known of them
    assert (next(iter(model.posteriors(drawn).values()))[:, missing] == 0).all()


def test_a_model_and_another_ones_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"objective must be a ADGMConfig for the model 'adgm', got SeGMAConfig"):
        replace(TrainConfig(), model="adgm")
    with pytest.raises(ValueError, match=r"unknown model 'none'"):
        starting_config("digits", None, "none")


@pytest.mark.slow
def test_clusters_of_cagem_without_labels(tmp_path: Path) -> None:
    config = replace(small("cagem", tmp_path / "run", 20), labels=0, components=12)
    outcome = train(config)
    assert 0 < outcome.evaluation.test_error < 0.9 and outcome.model.components == 12
    assert not load_run(tmp_path / "run").model.names_classes(12)


@pytest.mark.slow
def test_a_new_run_replaces_the_pictures_that_only_its_model_has(tmp_path: Path) -> None:
    config = small("cagem", tmp_path, 1)
    assert all(path.name != "top_layer.png" for path in save_pictures(trained(config)))
    config = replace(config, objective=replace(config.objective, top_dim=2), run_dir=tmp_path / "plane")
    paths = save_pictures(trained(config))
    assert {path.name for path in paths} == set(PICTURES)
    assert np.asarray(Image.open(config.run_dir / "top_layer.png")).std() > 5
    train(config, overwrite=True)
    assert not any(path.exists() for path in paths)


def trained(config: TrainConfig) -> Run:
    train(config)
    return load_run(config.run_dir)


def test_learning_rate_decays_by_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *args: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    train(replace(small("m2", tmp_path / "run", 4), decay=0.5, decay_every=2, learning_rate=1e-3))
    quarter = len(rates) // 4
    assert rates == [1e-3] * 2 * quarter + [5e-4] * 2 * quarter


def test_mappings_of_clusters_to_classes() -> None:
    predicted, labels = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 0, 1, 0])
    assert mapped_error(predicted, labels, 3, 2) == pytest.approx(3 / 6)
    assert mapped_error(predicted, labels, 3, 2, "many-to-one") == pytest.approx(1 / 6)
