"""Trainings side by side: the weights of each alone, and what happens to the others when one ends in another way."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segma_fast.trainer import loop
from segma_fast.trainer.config import TrainConfig, starting_config
from segma_fast.trainer.data import load_data
from segma_fast.trainer.experiments import runner
from segma_fast.trainer.experiments.paper import Trial
from segma_fast.trainer.models import NetworkConfig
from segma_fast.trainer.models.segma import SeGMA
from segma_fast.trainer.run import load_run
from segma_fast.trainer.side_by_side import train_side_by_side


def small(name: str, folder: Path, **changes: object) -> TrainConfig:
    config = starting_config("digits", None, name)
    network = NetworkConfig(latent_dim=9, hidden=(16,) * len(config.network.hidden))
    return replace(config, network=network, run_dir=folder / name, device="cpu", log_every=5, epochs=2, **changes)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_each_trains_to_the_weights_that_it_has_alone(tmp_path: Path) -> None:
    """Models that draw random numbers in each step, of different lengths; then each goes on from its folder."""
    names = ("segma", "m2", "adgm")
    configs = [replace(small(name, tmp_path / "both"), epochs=1 + i) for i, name in enumerate(names)]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    together = train_side_by_side(configs)
    assert torch.equal(torch.get_rng_state(), state)
    longer = train_side_by_side([replace(config, epochs=4) for config in configs])
    for config, short, long in zip(configs, together, longer, strict=True):
        alone = replace(config, run_dir=tmp_path / "alone" / config.model)
        first = loop.train(alone)
        assert isinstance(short, loop.Outcome) and isinstance(long, loop.Outcome)
        assert same(first.model, short.model) and first.evaluation.test_error == short.evaluation.test_error
        assert same(loop.train(replace(alone, epochs=4), resume=True).model, long.model)
        assert long.complete and long.epochs == 4


def test_one_whose_loss_is_not_finite_leaves_the_others(tmp_path: Path) -> None:
    good, bad = small("segma", tmp_path), small("m2", tmp_path, learning_rate=1e9)
    outcome, error = train_side_by_side([good, bad])
    assert isinstance(outcome, loop.Outcome) and outcome.complete
    assert isinstance(error, FloatingPointError) and "the loss is not finite" in str(error)


def test_a_training_that_failed_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that has trained for more epochs than are wanted taken for a shorter one."""
    good, bad = small("segma", tmp_path), small("m2", tmp_path, learning_rate=1e9)
    trials = [Trial(config.model, 0, config) for config in (good, bad)]
    conditions = runner.Conditions(load_data(good.data), torch.device("cpu"), math.nan, 0, None, math.nan)
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained alone"))
    first, second = runner.finish_all(trials, conditions, side_by_side=True)
    assert first.scores is not None and first.epochs == 2 and not first.failure
    assert second.scores is None and "the loss is not finite" in second.failure
    runner.check(trials[:1])
    with pytest.raises(ValueError, match="segma holds 2 epochs, more than 1; --out names another folder"):
        runner.check([Trial("segma", 0, replace(good, epochs=1))])


def test_an_interruption_saves_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, forward = [], SeGMA.forward

    def interrupted(self: SeGMA, *inputs: object) -> object:
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return forward(self, *inputs)

    monkeypatch.setattr(SeGMA, "forward", interrupted)
    configs = [small("segma", tmp_path), small("m2", tmp_path)]
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_side_by_side(configs)
    assert signal.getsignal(signal.SIGINT) == before
    steps = [load_run(config.run_dir).step for config in configs]
    assert steps[0] == 7 and 5 <= steps[1] <= 11
    assert all(isinstance(outcome, loop.Outcome) and outcome.complete for outcome in train_side_by_side(configs))


def test_runs_that_cannot_be_trained_together(tmp_path: Path) -> None:
    one = small("segma", tmp_path)
    with pytest.raises(ValueError, match="mixed_precision must be the same for all trainings, got bf16, no"):
        train_side_by_side([one, small("m2", tmp_path, mixed_precision="bf16")])
    with pytest.raises(ValueError, match="each training needs a run_dir of its own"):
        train_side_by_side([one, one])
    loop.train(one)
    with pytest.raises(ValueError, match="cannot resume .* with another configuration: seed: 0 -> 1"):
        train_side_by_side([small("m2", tmp_path), replace(one, seed=1)])
    assert not (tmp_path / "m2").exists()
    assert train_side_by_side([]) == []
