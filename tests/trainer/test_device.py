"""Where a training runs: names of devices, checked when they are given, and the GPU that reaches Accelerate."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from segma_fast.__main__ import main
from segma_fast.trainer import loop
from segma_fast.trainer.config import TrainConfig, starting_config
from segma_fast.trainer.config_file import load_config, save_config


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """A machine with two GPUs; the list holds those that become torch's current one."""
    found: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    return found


def made(monkeypatch: pytest.MonkeyPatch, folder: Path, device: str, processes: int = 1) -> dict[str, Any]:
    """What Accelerate is called with."""
    called: dict[str, Any] = {}

    def accelerator(**options: Any) -> SimpleNamespace:
        called.update(options)
        return SimpleNamespace(num_processes=processes, device=torch.device("cpu"))

    monkeypatch.setattr(loop, "Accelerator", accelerator)
    loop.make_accelerator(starting_config("digits").with_options(device=device, run_dir=folder))
    return called


@pytest.mark.parametrize(
    ("name", "cpu", "index"), [("auto", False, None), ("cpu", True, None), ("cuda", False, None), ("cuda:1", False, 1)]
)
def test_device_reaches_accelerate(
    name: str,
    cpu: bool,
    index: int | None,
    current: list[torch.device],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """It takes torch's current GPU, or the CPU if it is told so."""
    assert made(monkeypatch, tmp_path, name)["cpu"] is cpu
    assert current == ([] if index is None else [torch.device("cuda", index)])


def test_gpu_that_is_not_here(current: list[torch.device], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"device must be in cuda:0 \.\.\. cuda:1 on this machine, got 'cuda:2'"):
        made(monkeypatch, tmp_path, "cuda:2")
    with pytest.raises(ValueError, match="each of 2 processes takes a GPU of its own, got 'cuda:1'"):
        made(monkeypatch, tmp_path, "cuda:1", processes=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device must be auto or cpu where torch finds no GPU, got 'cuda'"):
        made(monkeypatch, tmp_path, "cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:one", "CPU", "", "mps"])
def test_names_of_no_device(name: str) -> None:
    with pytest.raises(ValueError, match=f"device must be auto, cpu, cuda or cuda:N, got {name!r}"):
        TrainConfig(device=name)


def test_device_stays_in_the_configuration(tmp_path: Path) -> None:
    save_config(TrainConfig(device="cuda:1"), tmp_path / "config.json")
    assert load_config(tmp_path / "config.json").device == "cuda:1"


@pytest.mark.parametrize("command", ["train", "compare", "reproduce"])
def test_commands_say_that_there_is_no_gpu(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = ["--run-dir" if command == "train" else "--out", str(tmp_path / "run")]
    experiment = ["mnist", "--dataset", "digits"] if command == "reproduce" else []
    for device, message in (("cuda:1", "where torch finds no GPU, got 'cuda:1'"), ("gpu", "cuda or cuda:N, got 'gpu'")):
        with pytest.raises(SystemExit):
            main([command, *experiment, *folder, "--device", device])
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.rglob("config.json"))
