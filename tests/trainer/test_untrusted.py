"""No file that somebody else may have made runs code when a command reads it."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segma_fast.__main__ import main

TINY = "--latent-dim 2 --hidden 4 --labels 20 --labelled-batch-size 10 --batch-size 20 --means-init normal".split()
DRAWING = ("sample", "interpolate", "transfer", "intensify")
EXPERIMENTS = {
    "reproduce": ["mnist", "--seeds", "1", "--table", "2"],
    "compare": ["--models", "m1m2", "--labels", "10"],
}
EXTRA = (  # what loaders of Accelerate and others look for in a checkpoint
    *("custom_checkpoint_0.pkl", "random_states_0.pkl", "random_states_1.pkl", "pytorch_model.bin", "model.bin"),
    *("optimizer_1.bin", "scheduler.bin", "scaler.pt", "sampler.bin", "dl_state_dict.bin", "clock.json"),
)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def plainly(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(marker)))


def by_torch(path: Path, marker: Path) -> None:
    """Beside the keys that checkpoints and caches have."""
    keys = ("state", "model", "images", "seconds", "torch_manual_seed")
    torch.save(dict.fromkeys(keys, Payload(marker)), path)


def pictures(folder: Path) -> Path:
    """Ten classes of noise."""
    random = np.random.default_rng(0)
    for number in range(150):
        path = folder / f"class{number % 10}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return folder


class Place:
    """A folder that a command leaves, and the commands that read it."""

    def __init__(self, folder: Path, made_by: list[str], read_by: list[list[str]]) -> None:
        self.folder, self.read_by = folder, read_by
        main(made_by)
        self.kept = folder.with_name(folder.name + "-kept")
        shutil.copytree(folder, self.kept)
        names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
        if folder.name != "run":  # one training of the experiment stands for all, and what is only written for itself
            first = min(name.parts[0] for name in names if "-seed" in name.parts[0])
            names = [name for name in names if name.parts[0] in (first, "cache") and name.parts[1] != "tensorboard"]
        checkpoint = next(name.parent for name in names if name.name == "model.safetensors")
        extra = [checkpoint / name for name in EXTRA if checkpoint / name not in names]
        self.plants = [*([name] for name in names), extra]

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    """A run and two experiments, each with its cache."""
    folder = tmp_path_factory.mktemp("places")
    data = ["--dataset", str(pictures(folder / "pictures"))]
    run = ["--run-dir", str(folder / "run")]
    cache = ["--cache", str(folder / "run" / "cache")]
    read = [[name, *run, "--out", str(folder / "out.png")] for name in DRAWING]
    read += [["classify", *run], ["evaluate", *run], ["train", "--resume", *run, "--epochs", "3"]]
    found = {"run": Place(folder / "run", ["train", *run, *TINY, *cache, *data, "--epochs", "2"], read)}
    for name, words in EXPERIMENTS.items():
        out = folder / name
        words = [name, *words, *data, "--images", "20", "--features", "classifier", "--hidden", "4", "--out", str(out)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SEGMA_FAST_CACHE", str(out / "cache"))
            found[name] = Place(out, [*words, "--budget", "0.5s"], [[*words, "--budget", "0.7s"]])
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* is damaged and will be rebuilt")
@pytest.mark.parametrize("name, plant", [("run", plainly), *((name, by_torch) for name in ("run", *EXPERIMENTS))])
def test_no_file_runs_code(
    name: str,
    plant: Callable[[Path, Path], None],
    places: dict[str, Place],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command ends well or with one line, whichever file is not its own, or with files that are none of its."""
    place, marker = places[name], tmp_path / "marker"
    monkeypatch.setenv("SEGMA_FAST_CACHE", str(place.folder / "cache"))
    ran, odd = [], []
    for files in place.plants:
        for command in place.read_by:
            place.restore()
            for file in files:
                plant(place.folder / file, marker)
            capsys.readouterr()
            try:
                main(command)
            except SystemExit:
                lines = capsys.readouterr().err.strip().splitlines()
                odd += [] if lines and lines[-1].startswith("segma-fast: error: ") else [(files, command[0], lines)]
            except Exception as error:  # a traceback
                odd.append((files, command[0], [repr(error)]))
            if marker.exists():
                ran.append((files, command[0]))
                marker.unlink()
    assert not ran and not odd


def test_the_payloads_run_where_they_are_trusted(tmp_path: Path) -> None:
    for number, plant in enumerate((plainly, by_torch)):
        plant(tmp_path / "file", tmp_path / f"{number}")
        if number:
            torch.load(tmp_path / "file", weights_only=False)
        else:
            pickle.loads((tmp_path / "file").read_bytes())
        assert (tmp_path / f"{number}").exists()
