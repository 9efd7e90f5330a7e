"""Encoder and decoder as programs that run where segma_fast is not installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import segma_fast
from segma_fast.__main__ import main
from segma_fast.trainer import Run, load_run, starting_config, train
from segma_fast.trainer.config import build_model
from segma_fast.trainer.export import export
from segma_fast.trainer.models import MODELS, ImageModel

PROGRAM = """
import sys
sys.modules["segma_fast"] = None
import torch
folder = sys.argv[1]
encoder, decoder = (torch.export.load(f"{folder}/{name}.pt2").module() for name in ("encoder", "decoder"))
images = torch.load(f"{folder}/images.pt")
codes = [encoder(some) for some in images.split([1, 4, 37])]
torch.save([torch.cat(codes), torch.cat([decoder(some) for some in codes])], f"{folder}/found.pt")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(starting_config("digits").with_options(run_dir=folder, epochs=1, hidden=(16,), latent_dim=3, device="cpu",
                                                 means_init="normal"))  # fmt: skip
    return load_run(folder)


def test_programs_do_what_the_run_does(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For one row and for many, in a process without segma_fast, and with no path of the machine that wrote them."""
    out = tmp_path / "exported"
    main(["export", "--run-dir", str(run.folder), "--out", str(out)])
    assert capsys.readouterr().out.split() == [str(out / "encoder.pt2"), str(out / "decoder.pt2")]
    images = run.pictures(run.load_data().test_images[:42])
    torch.save(images, out / "images.pt")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(out)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    codes, decoded = torch.load(out / "found.pt")
    torch.testing.assert_close(codes, run.encode(images))
    torch.testing.assert_close(decoded, run.decode(run.encode(images)))
    here = str(Path(segma_fast.__file__).parent).encode()
    for name in ("encoder.pt2", "decoder.pt2"):
        with zipfile.ZipFile(out / name) as file:
            assert not any(here in file.read(part) for part in file.namelist())


def made(name: str, **options: object) -> ImageModel:
    config = starting_config("digits", model=name).with_options(hidden=(16, 16), **options)
    return build_model(config, (1, 9, 8), 10, torch.full((10,), 10), 1000).eval()


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("adgm", "cagem")])
def test_every_model_with_a_fixed_encoder(name: str, tmp_path: Path) -> None:
    model = made(name)
    encoder, decoder = (torch.export.load(path).module() for path in export(model, (1, 9, 8), tmp_path))
    images = torch.rand(7, 1, 9, 8)
    torch.testing.assert_close(encoder(images), model.encode(images))
    torch.testing.assert_close(decoder(encoder(images[:1])), model.decode(model.encode(images[:1])))


@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
def test_convolutions(upsampling: str, tmp_path: Path) -> None:
    model = made("segma", network="conv", channels=(4, 4), upsampling=upsampling)
    encoder, decoder = (torch.export.load(path).module() for path in export(model, (1, 9, 8), tmp_path))
    images = torch.rand(7, 1, 9, 8)
    torch.testing.assert_close(decoder(encoder(images)), model.decode(model.encode(images)))


@pytest.mark.parametrize("name", ["adgm", "cagem"])
def test_encoders_that_draw_random_numbers(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"the model '{name}' draws random numbers to encode: it cannot be exported"):
        export(made(name), (1, 9, 8), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own writer ends the process."""
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"encoder.pt2 cannot be written: No space left on device$"):
        run.export(tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_a_file_is_no_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"programs are exported to a folder, .*file is a file"):
        run.export(tmp_path / "file")
