"""Where a run may go, and what is said of a folder that is not the one of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_run_folder import SMALL, config, files, picture_folder

from segma_fast.__main__ import main
from segma_fast.trainer import loop
from segma_fast.trainer.run import load_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    loop.train(config(folder))
    return folder


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/best", "checkpoints/step-13"])
def test_a_run_is_no_place_for_another(place: str, run_dir: Path) -> None:
    before = files(run_dir)
    for options in ({}, {"overwrite": True}):
        with pytest.raises(ValueError, match=r"best|step-13|checkpoints belongs to the run .*digits: name that folder"):
            loop.train(config(run_dir / place), **options)
    with pytest.raises(ValueError, match=r"nothing to resume: .* holds no run; it belongs to .*digits$"):
        loop.train(config(run_dir / place), resume=True)
    assert files(run_dir) == before


def test_a_folder_of_runs_is_no_run(run_dir: Path) -> None:
    for options in ({}, {"overwrite": True}):
        with pytest.raises(ValueError, match="holds other runs, as digits: name a new folder in it"):
            loop.train(config(run_dir.parent), **options)
    assert [path.name for path in run_dir.parent.iterdir()] == ["digits"]


def test_a_run_is_not_put_among_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = picture_folder(tmp_path / "pictures", ("a", "b"))
    before = files(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path / "pictures")
    small = SMALL | {"components": None}
    with pytest.raises(ValueError, match=r"^runs/p is in the folder of the data set, .*: name another --run-dir"):
        loop.train(config(Path("runs/p"), data=data, **small))
    assert files(tmp_path / "pictures") == before
    loop.train(config(Path("../p"), data=data, **small))


def test_a_checkpoint_that_is_not_there(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    (copy / "data.json").rename(copy / "kept")
    with pytest.raises(ValueError, match=r"copy/data.json cannot be read: No such file or directory$"):
        load_run(copy)
    (copy / "kept").rename(copy / "data.json")
    shutil.rmtree(copy / "checkpoints" / "best")
    for place in ("checkpoints", "checkpoints/best", "checkpoints/step-7"):
        with pytest.raises(ValueError, match=r"is no checkpoint of the run .*copy, .* name .*copy$"):
            load_run(copy / place)


def test_what_to_resume_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--resume", "--run-dir", str(tmp_path / "none")])
    assert capsys.readouterr().err == f"segma-fast: error: nothing to resume: {tmp_path / 'none'} holds no run\n"
