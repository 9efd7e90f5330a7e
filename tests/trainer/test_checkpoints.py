"""Checkpoints: whole or not at all, read again to the bit, and refused where they are not the run's."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from test_training import SMALL, assert_same, config, weights

from segma_fast.__main__ import main
from segma_fast.trainer import checkpoints, loop
from segma_fast.trainer.checkpoints import latest_checkpoint
from segma_fast.trainer.config import starting_config
from segma_fast.trainer.models.autoencoder import NetworkConfig
from segma_fast.trainer.run import load_run


def test_failed_checkpoint_leaves_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, as safetensors tells it."""
    written: list[Path] = []

    def full(tensors: dict[str, torch.Tensor], path: Path, about: None) -> None:
        save_file(tensors, path)
        written.append(path)
        if len(written) == 2:
            path.write_bytes(b"half")
            raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(
        OSError, match=r"step-20 cannot be written: .*No space left.*; the checkpoint of step 10 stays$"
    ):
        loop.train(config(tmp_path))
    found = latest_checkpoint(tmp_path)
    assert found is not None and found[1] == 10
    assert load_run(tmp_path).step == 10


def test_checkpoints_of_accelerate_resume_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were written before, with the noise of a variational model behind them."""

    class Registered:
        def __init__(self, clock: checkpoints.Clock) -> None:
            self.state_dict = lambda: dataclasses.asdict(clock)
            self.load_state_dict = None

    def save(accelerator: loop.Accelerator, folder: Path, step: int, state: checkpoints.State, error: float) -> None:
        accelerator._custom_objects = [Registered(state.clock)]
        accelerator.save_state(str(folder / "checkpoints" / f"step-{step}"))

    noisy = dataclasses.replace(starting_config("digits", model="m1"), epochs=1, network=SMALL)
    loop.train(dataclasses.replace(noisy, epochs=2, run_dir=tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", save)
        loop.train(dataclasses.replace(noisy, run_dir=tmp_path / "cut"))
    found = latest_checkpoint(tmp_path / "cut")
    assert found is not None and (found[0] / "custom_checkpoint_0.pkl").exists()
    spent = checkpoints.progress(tmp_path / "cut").seconds
    torch.manual_seed(5)
    loop.train(dataclasses.replace(noisy, epochs=2, run_dir=tmp_path / "cut"), resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert checkpoints.progress(tmp_path / "cut").seconds > spent > 0


def other_optimizer(folder: Path, other: Path) -> None:
    loop.train(config(other, epochs=1, network=NetworkConfig(latent_dim=3, hidden=(17,))))
    (other / "checkpoints" / "step-13" / "optimizer.bin").replace(folder / "optimizer.bin")
    (folder / "checksums.json").unlink()


def other_step(folder: Path, other: Path) -> None:
    folder.replace(folder.with_name("step-14"))


def no_random_state(folder: Path, other: Path) -> None:
    (folder / "random_states_0.pkl").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_optimizer, "optimizer.bin: belongs to another model"),
        (other_step, "step-14 cannot be read: clock.json: belongs to step 13"),
        (no_random_state, "random_states_0.pkl: .*No such file"),
    ],
)
def test_what_is_not_of_the_checkpoint_is_refused(tmp_path: Path, change: object, message: str) -> None:
    loop.train(config(tmp_path / "run", epochs=1))
    found = latest_checkpoint(tmp_path / "run")
    assert found is not None and callable(change)
    change(found[0], tmp_path / "other")
    with pytest.raises(ValueError, match=message):
        loop.train(config(tmp_path / "run"), resume=True)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "random_states_0.pkl", "clock.json"])
def test_one_flipped_bit_is_noticed(name: str, tmp_path: Path) -> None:
    """Where a reader of the file may well take it; without their sums files are read as they are."""
    loop.train(config(tmp_path, epochs=1))
    found = latest_checkpoint(tmp_path)
    assert found is not None
    file = found[0] / name
    content = file.read_bytes()
    where = content.index(b'"seconds": ') + len('"seconds": 0.0') if name == "clock.json" else len(content) * 2 // 3
    file.write_bytes(content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :])
    message = (
        rf"step-13 cannot be read: {name}: damaged, .* by checksums.json; once that is deleted, nothing is checked"
    )
    with pytest.raises(ValueError, match=message):
        loop.train(config(tmp_path), resume=True)
    if name == "model.safetensors":
        with pytest.raises(ValueError, match=message):
            load_run(tmp_path)
    (found[0] / "checksums.json").write_text('{"model.safetensorz": 1}')
    with pytest.raises(ValueError, match=r"model.safetensors: damaged, or not the one that was saved"):
        load_run(tmp_path)
    (found[0] / "checksums.json").write_text("{")
    with pytest.raises(ValueError, match=r"checksums.json is damaged; once it is deleted, nothing is checked"):
        load_run(tmp_path)
    (found[0] / "checksums.json").unlink()
    assert loop.train(config(tmp_path), resume=True).steps == 26


def test_the_weights_have_the_usual_mode(tmp_path: Path) -> None:
    """safetensors makes a file for the user alone."""
    mask = os.umask(0o027)
    try:
        loop.train(config(tmp_path, epochs=1))
    finally:
        os.umask(mask)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert {file.stat().st_mode & 0o777 for file in found[0].iterdir()} == {0o640}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_is_called_so() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        checkpoints._save({"tensor": torch.ones(100_000)}, Path("/dev/full"))


def test_each_process_takes_the_state_of_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkpoint of before, of all devices of the machine, from one of now, and from one without."""
    taken: list[str] = []

    class Module:
        set_rng_state = taken.append

    monkeypatch.setattr(torch, "get_device_module", lambda device: Module)
    for kept in ({"torch_cuda_manual_seed": ["zero", "one"]}, {"torch_cuda_manual_seed": ["own"]}, {}):
        checkpoints._set_random_states(torch.device("cuda", 1), {"torch_manual_seed": torch.get_rng_state(), **kept})
    assert taken == ["one", "own"]


def test_the_best_weights_stay_beside_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of several that are best, over a resumption too; load_run and commands open it."""
    errors, judged = iter([0.5, 0.3, 0.3, 0.4, 0.35]), loop.evaluate
    monkeypatch.setattr(loop, "evaluate", lambda *given: dataclasses.replace(judged(*given), test_error=next(errors)))
    options = config(tmp_path / "run", checkpoint_every=5, epochs=3)
    steps: dict[int, dict[str, torch.Tensor]] = {}

    def stop(line: Mapping[str, float]) -> None:
        if "test_error" in line:
            steps[int(line["step"])] = weights(tmp_path / "run")
            if line["step"] == 20:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(options, on_metrics=stop)
    best = tmp_path / "run" / "checkpoints" / "best"
    loop.train(dataclasses.replace(options, minutes=1e-9), resume=True)
    run = load_run(best)
    assert list(steps) == [5, 10, 15, 20] and (run.folder, run.step, run.address) == (tmp_path / "run", 15, str(best))
    assert_same(run.model.state_dict(), steps[15])
    assert load_run(tmp_path / "run").step == 21
    assert load_run(best.parent / "step-21").step == 21
    (tmp_path / "run" / "samples.png").write_bytes(b"of step 21")
    assert not (run.save_pretrained(tmp_path / "best") / "samples.png").exists()
    main(["sample", "--run-dir", str(best), "--n", "1", "--out", str(tmp_path / "samples.png")])
    damaged = best / "clock.json"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"best cannot be read: clock.json: damaged"):
        load_run(best)


def test_no_weights_are_the_best_where_nothing_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As without labels, where the test error is NaN."""
    judged = loop.evaluate
    monkeypatch.setattr(loop, "evaluate", lambda *given: dataclasses.replace(judged(*given), test_error=math.nan))
    loop.train(config(tmp_path, epochs=1))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-13"]
