"""The trainer: repeatable, resumable to the bit, in several processes, and never losing more than it may."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from segma_fast.bench.contenders import without_compiler
from segma_fast.trainer import loop
from segma_fast.trainer.checkpoints import latest_checkpoint
from segma_fast.trainer.config import TrainConfig, starting_config
from segma_fast.trainer.config_file import load_config
from segma_fast.trainer.interrupts import Interrupts
from segma_fast.trainer.metrics_log import Records
from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.models.segma import SeGMA, SeGMAConfig
from segma_fast.trainer.run import load_run

SMALL = NetworkConfig(latent_dim=3, hidden=(16,))
NORMAL = SeGMAConfig(means_init="normal")
FLAGS = "--latent-dim 3 --hidden 16 --means-init normal --batch-size 64 --labelled-batch-size 64 --log-every 3".split()
FLAGS += "--learning-rate 3e-4 --alpha 5 --means-rate 1".split()  # as in config(); rounding changes small steps little


def config(folder: Path, **changes: object) -> TrainConfig:
    base = dataclasses.replace(
        starting_config("digits"),
        network=SMALL,
        objective=NORMAL,
        run_dir=folder,
        learning_rate=3e-4,
        batch_size=100,
        epochs=2,
        checkpoint_every=10,
        log_every=3,
    )
    return dataclasses.replace(base, **changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = latest_checkpoint(folder)
    assert found is not None
    return load_file(found[0] / "model.safetensors")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


TRAIN_ONLY = str(Path(__file__).parents[1] / "train_only.py")


def command(folder: Path, *flags: str) -> list[str]:
    return [sys.executable, TRAIN_ONLY, "--run-dir", str(folder), *flags]


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_improves_and_leaves_a_whole_run(tmp_path: Path) -> None:
    outcome = loop.train(config(tmp_path / "run", epochs=15, learning_rate=3e-3))
    lines = metrics(tmp_path / "run")
    assert float(lines[-1]["loss"]) < float(lines[0]["loss"]) - 5  # log d² may be negative, so no ratio
    assert outcome.evaluation.test_error < 0.5
    assert outcome.steps == 195 and outcome.complete and "tensor(" not in repr(outcome.data)
    assert {"config.json", "data.json", "metrics.csv", "checkpoints", "tensorboard"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"best", "step-195"}
    run = load_run(tmp_path / "run")
    assert run.step == 195 and not run.model.training
    assert torch.equal(run.model.prior.means, outcome.model.prior.means)


def test_same_seed_same_bits_and_other_seed_other_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        loop.train(config(tmp_path / name, seed=seed, epochs=1))
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not torch.equal(weights(tmp_path / "a")["prior.means"], weights(tmp_path / "c")["prior.means"])


@pytest.mark.parametrize("stop", [4, 13, 20])
def test_interrupted_run_resumes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    loop.train(config(tmp_path / "whole"))
    seen = 0

    def advance(self: Records) -> None:
        nonlocal seen
        seen += 1
        if seen == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Records, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            loop.train(config(tmp_path / "cut"))
    loop.train(config(tmp_path / "cut"), resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    steps = [line["step"] for line in metrics(tmp_path / "cut")]
    assert steps == [line["step"] for line in metrics(tmp_path / "whole")]
    assert [line["loss"] for line in metrics(tmp_path / "cut")] == [
        line["loss"] for line in metrics(tmp_path / "whole")
    ]


@pytest.mark.slow
def test_killed_process_resumes_to_the_same_bits(tmp_path: Path) -> None:
    flags = [*FLAGS, "--epochs", "10", "--checkpoint-every", "25"]
    subprocess.run(command(tmp_path / "whole", *flags), check=True, capture_output=True)
    process = subprocess.Popen(command(tmp_path / "cut", *flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while latest_checkpoint(tmp_path / "cut") is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert latest_checkpoint(tmp_path / "cut") is not None
    subprocess.run(command(tmp_path / "cut", "--resume"), check=True, capture_output=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_keeps_its_last_step(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes within step 5, before any checkpoint is due; then a second one, which acts at once."""
    loop.train(config(tmp_path / "whole"))
    forward, calls = SeGMA.forward, []

    def interrupted(self: SeGMA, *inputs: object) -> object:
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(number)
        return forward(self, *inputs)

    monkeypatch.setattr(SeGMA, "forward", interrupted)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
        loop.train(config(tmp_path / "cut"))
    assert load_run(str(tmp_path / "cut")).step == 5 and signal.getsignal(number) == before
    loop.train(config(tmp_path / "cut"), resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.asked == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def launch(processes: int, program: list[str], folder: Path, *flags: str) -> None:
    """Train in several processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [*start, *program, "--run-dir", str(folder), *flags]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    # torch's gloo aborts now and then on a busy machine when a process ends, after all is written
    assert done.returncode == 0 or "terminate called without an active exception" in done.stderr, done.stderr[-3000:]


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-4, atol=2e-6)


UNEVEN = [*FLAGS, "--batch-size", "65", "--labelled-batch-size", "37"]  # the last of a flag counts


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of one process after two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run(command(folder, *UNEVEN, "--epochs", "2"), check=True, capture_output=True)
    return weights(folder)


@pytest.mark.slow
def test_processes_and_micro_batches_train_to_the_weights_of_one_process(
    tmp_path: Path, whole: dict[str, torch.Tensor]
) -> None:
    launch(3, ["-m", "segma_fast", "train"], tmp_path / "run", *UNEVEN, "--epochs", "2", "--micro-batch", "10")
    assert_close(whole, weights(tmp_path / "run"))


@pytest.mark.slow
def test_checkpoint_of_two_processes_resumes_with_one_and_the_other_way_round(
    tmp_path: Path, whole: dict[str, torch.Tensor]
) -> None:
    launch(2, [TRAIN_ONLY], tmp_path / "two", *UNEVEN, "--epochs", "1")
    first = config(tmp_path / "one", batch_size=65, labelled_batch_size=37, epochs=1)
    loop.train(first)
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"))
    second = load_config(tmp_path / "two" / "config.json")
    loop.train(dataclasses.replace(second, epochs=2, micro_batch=50), resume=True)
    launch(2, [TRAIN_ONLY], tmp_path / "one", "--resume", "--epochs", "2")
    for name in ("one", "two"):
        assert_close(whole, weights(tmp_path / name))


@pytest.mark.parametrize("micro_batch", [7, 64])
def test_micro_batches_train_to_the_same_weights(tmp_path: Path, micro_batch: int) -> None:
    loop.train(config(tmp_path / "whole", epochs=1))
    loop.train(config(tmp_path / "parts", epochs=1, micro_batch=micro_batch))
    assert_close(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    with pytest.raises(ValueError, match="micro_batch must be >= 1, got 0"):
        config(tmp_path, micro_batch=0)


def test_means_have_a_learning_rate_of_their_own(tmp_path: Path) -> None:
    """Adam's first step is the learning rate in every coordinate."""
    means = []
    for factor in (0.0, 1.0, 5.0):  # the digits have 1,338 rows without a label: one step
        objective = dataclasses.replace(NORMAL, means_rate=factor)
        folder = tmp_path / str(factor)
        assert loop.train(config(folder, objective=objective, batch_size=1300, epochs=1)).steps == 1
        means.append(weights(folder)["prior.means"])
    torch.testing.assert_close(means[2] - means[0], 5 * (means[1] - means[0]))
    assert 1e-4 < (means[1] - means[0]).abs().min()
    with pytest.raises(ValueError, match="means_rate must be finite and >= 0, got -1"):
        SeGMAConfig(means_rate=-1)


@pytest.mark.skipif(without_compiler() is not None, reason=str(without_compiler()))
def test_compiled_steps_train_to_the_same_weights(tmp_path: Path) -> None:
    loop.train(config(tmp_path / "whole", epochs=1))
    loop.train(config(tmp_path / "compiled", epochs=1, compile=True))
    assert_close(weights(tmp_path / "whole"), weights(tmp_path / "compiled"))
    loop.train(config(tmp_path / "compiled", epochs=2), resume=True)  # without
    with pytest.raises(ValueError, match="compile and micro_batch=7 exclude each other"):
        config(tmp_path, compile=True, micro_batch=7)


def test_time_budget_stops_with_a_checkpoint(tmp_path: Path) -> None:
    outcome = loop.train(config(tmp_path, minutes=1e-9, epochs=50))
    assert outcome.steps == 1 and not outcome.complete
    assert load_run(tmp_path).step == 1


def test_resuming_with_another_configuration_names_the_difference(tmp_path: Path) -> None:
    loop.train(config(tmp_path, epochs=1))
    with pytest.raises(ValueError, match=r"objective.alpha: 5.0 -> 7.0; labels: 100 -> 50"):
        loop.train(config(tmp_path, labels=50, objective=dataclasses.replace(NORMAL, alpha=7.0)), resume=True)
    assert loop.train(config(tmp_path, epochs=2), resume=True).steps == 26


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": 5}, "5.*10|10.*5"),
        ({"batch_size": 5000}, "batch_size=5000, but only 1338"),
        ({"labels": 0}, "labels=0.*beta"),
        ({"components": 3}, "components=3 for 10 classes"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loop.train(config(tmp_path / "run", **changes))


def test_diverging_run_stops_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="the loss is not finite at step"):
        loop.train(config(tmp_path, learning_rate=1e30))


def test_exact_form_trains_and_stays_with_the_run(tmp_path: Path) -> None:
    outcome = loop.train(config(tmp_path / "exact", objective=dataclasses.replace(NORMAL, phi="exact")))
    assert load_config(tmp_path / "exact" / "config.json").objective.phi == "exact"
    rows = metrics(tmp_path / "exact")
    assert float(rows[-1]["reconstruction"]) < float(rows[0]["reconstruction"])
    assert all(math.isfinite(float(row["log_distance"])) for row in rows if row["log_distance"])
    assert math.isfinite(outcome.evaluation.test_error)
    with pytest.raises(ValueError, match=r"objective.phi: 'exact' -> 'approx'"):
        loop.train(config(tmp_path / "exact", epochs=3), resume=True)
    with pytest.raises(ValueError, match="objective.phi must be one of 'approx', 'exact', got 'Exact'"):
        loop.train(config(tmp_path / "other", objective=dataclasses.replace(NORMAL, phi="Exact")))  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{}, {"components": 1}, {"components": 4}])
def test_unsupervised_models_train(tmp_path: Path, changes: dict[str, object]) -> None:
    outcome = loop.train(config(tmp_path, objective=dataclasses.replace(NORMAL, beta=0.0), **changes))
    assert outcome.model.prior.components == changes.get("components", 10)
    alone = changes.get("components") == 1  # one component cannot tell classes apart
    assert math.isnan(outcome.evaluation.test_error) if alone else 0 <= outcome.evaluation.test_error <= 0.95
    assert metrics(tmp_path)[0]["cross_entropy"] == ""
    assert (metrics(tmp_path)[-1]["test_error"] == "") == alone
