"""What the studies and the papers' trainings would train, and how they print it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu import papers
from benchmarks.studies import cagem, cures, long_runs, tuning
from benchmarks.studies.trained import EXPERIMENTS, FIRST_SEED, OTHER_MODELS
from segma_fast.trainer.config import build_model
from segma_fast.trainer.config_file import differences
from segma_fast.trainer.experiments.scores import Scores
from segma_fast.trainer.experiments.tables import Result


def test_study_of_settings(tmp_path: Path) -> None:
    """Each setting is one change of the preset, with every seed, in a folder of its own."""
    planned = tuning.study("./mnist", 40, 2, tmp_path)
    assert len(planned) == 2 * len(tuning.VARIANTS) == len({trial.config.run_dir for _, trial in planned})
    base = replace(planned[0][1].config, run_dir=tmp_path)
    for (name, changes), (same, trial) in zip(tuning.VARIANTS.items(), planned, strict=False):
        different = differences(base, trial.config)
        assert name == same and len(different) == sum(len(v) if isinstance(v, dict) else 1 for v in changes.values())
    assert all(mark in EXPERIMENTS.read_text() for mark in tuning.MARKS)
    results = []
    for error in (0.09, 0.10):
        scores = Scores(step=1, test_error=error, reconstruction=1.0, other_errors={"equation (7)": 0.2})
        results.append(Result(planned[0][1], scores, 40, 60.0))
    text = tuning.rendered({"the preset": results, "γ = 1": []}, 40)
    assert "| the preset | 9.50 ± 0.71 | 20.00 ± 0.00 | 2 |" in text and "γ = 1" not in text


def test_study_of_cures(tmp_path: Path) -> None:
    """The rows of a model differ in what their names say alone; they train for the same epochs."""
    planned = cures.study("./mnist", 2, tmp_path)
    assert len(planned) == 2 * len(cures.ROWS) == len({trial.config.run_dir for _, trial in planned})
    for model in ("m2", "m1m2", "adgm", "cagem"):
        own = [trial.config for _, trial in planned if trial.model == model and trial.seed == FIRST_SEED]
        assert len(own) > 1 and len({(c.epochs, c.network, c.batch_size) for c in own}) == 1
        fields = {line.split(":")[0] for config in own for line in differences(own[0], config)}
        allowed = {"labelled_weight", "first_steps", "warm_up", "batch_norm"}
        assert fields <= {f"objective.{name}" for name in allowed} | {"labels", "learning_rate"}
    assert all(mark in OTHER_MODELS.read_text() for mark in cures.MARKS)
    scores = Scores(step=1, test_error=0.25, reconstruction=1.0, other_errors={"p(y|x)": 0.5}, log_likelihood=-100.0)
    found = {name: [Result(trial, scores, 6, 60.0)] for name, trial in planned[-1:]}
    assert "| 25.00 | 50.00 | -100.00 | 7.00 | 1 |" in cures.rendered(found, {planned[-1][1].config.run_dir: 7.0})


def test_study_of_clusters_and_labels(tmp_path: Path) -> None:
    """The paper's six rows, all of which can be built, and their likelihoods beside the paper's."""
    planned = cagem.study("./mnist", 2, 6, 1800, tmp_path)
    assert len(planned) == 12 == len({trial.config.run_dir for _, trial in planned})
    for name, trial in planned:
        config = trial.config
        counts = torch.full((10,), config.labels // 10) if config.labels else None
        model = build_model(config, (1, 28, 28), 10, counts, 60_000)
        assert f"CaGeM-{config.labels}" == name.split(",")[0] and model.components == (config.components or 10)
        assert "K =" not in name or name.endswith(f"K = {model.components}")
    assert all(mark in OTHER_MODELS.read_text() for mark in cagem.MARKS)
    scores = Scores(step=1, test_error=0.25, reconstruction=1.0, log_likelihood=-100.0)
    text = cagem.rendered((name, Result(trial, scores, 6, 60.0)) for name, trial in planned)
    assert "| CaGeM-20 | -100.00 ± 0.00 | -81.47 | 25.00 ± 0.00 | 6 | 1.00 ± 0.00 | 2 |" in text


def test_long_runs(tmp_path: Path) -> None:
    """The models of the study can be built; the table has the errors that a run wrote on its way."""
    planned = long_runs.study("./mnist", 1, tmp_path)
    assert [name for name, _ in planned] == list(long_runs.ROWS)
    for _, trial in planned:
        build_model(trial.config, (1, 28, 28), 10, torch.full((10,), 10), 60_000)
    assert all(mark in OTHER_MODELS.read_text() for mark in long_runs.MARKS)
    name, trial = planned[0]
    trial.config.run_dir.mkdir()
    (trial.config.run_dir / "metrics.csv").write_text("epoch,test_error\n5,0.2\n7,\n10,0.1\n20,0.05\n")
    scores = Scores(step=1, test_error=0.05, reconstruction=1.0, log_likelihood=-100.0)
    text = long_runs.rendered({name: [Result(trial, scores, 20, 600.0)]})
    assert "| M2 | 20.00 | 10.00 | 5.00 |" + " – |" * 7 + " -100.00 | 10.00 | 1 |" in text


def test_plan_of_the_papers_trainings(tmp_path: Path) -> None:
    """Eight trainings with folders of their own, which can be built, with the papers' networks."""
    trials = papers.plan("./mnist", tmp_path, "cpu")
    assert [trial.model for trial in trials] == ["segma"] * 5 + ["adgm", "cagem", "amm"]
    assert len({trial.config.run_dir for trial in trials}) == 8 and [t.config.seed for t in trials[:5]] == list(
        range(5)
    )
    assert trials[0].config.network.hidden == (256, 256) and trials[0].config.epochs == 500
    amm = trials[-1].config
    assert (amm.network.network, amm.network.latent_dim, amm.learning_rate) == ("conv", 64, 1e-3)
    assert (amm.decay, amm.decay_every) == (0.3, 20)
    for trial in trials:
        build_model(trial.config, (1, 28, 28), 10, torch.full((10,), 10), 60_000)
