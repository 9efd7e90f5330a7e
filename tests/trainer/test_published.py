"""Models to hand on: the folder, its card, and the Hub, for which a folder of this machine stands in."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from made_pictures import colour_folder
from PIL import Image

from segma_fast.__main__ import main
from segma_fast.trainer import Run, load_run, save_pictures, starting_config, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    main(["train", "--run-dir", str(folder), "--epochs", "2", "--hidden", "16"])
    return load_run(folder)


def same(one: Run, other: Run) -> bool:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Hub:
    """A stand-in: repositories are folders."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.calls = place, []  # type: ignore[var-annotated]
        monkeypatch.setattr(huggingface_hub, "HfApi", self.api)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)

    def api(self, token: str | None = None, library_name: str | None = None) -> Hub:
        self.calls.append(("token", token))
        return self

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> str:
        assert exist_ok
        self.calls.append(("private", private))
        (self.place / repo_id).mkdir(parents=True, exist_ok=True)
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.calls.append(("message", commit_message))
        shutil.copytree(folder_path, self.place / repo_id, dirs_exist_ok=True)

    def snapshot_download(self, repo_id: str, **options: Any) -> str:
        self.calls.append(("options", options))
        if not (self.place / repo_id).exists():
            raise huggingface_hub.errors.RepositoryNotFoundError(f"no {repo_id}\nmore", response=_Answer())  # type: ignore[arg-type]
        return str(self.place / repo_id)


class _Answer:
    headers: dict[str, str] = {}
    request = None
    status_code = 404


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(tmp_path / "hub", monkeypatch)


def test_a_folder_is_the_same_model(run: Run, tmp_path: Path) -> None:
    folder = run.save_pretrained(tmp_path / "new" / "mine")
    for again in (load_run(folder), Run.from_pretrained(str(folder))):
        assert same(run, again) and again.step == run.step and again.data == run.data
        assert again.about == run.about and again.evaluate() == run.evaluate()
    assert {path.suffix for path in folder.iterdir()} == {".md", ".json", ".png", ".safetensors"}
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert len(modes) == 1 and modes.pop() & stat.S_IRGRP
    run.save_pretrained(folder)  # once more
    assert same(run, load_run(folder))


def test_no_path_of_the_machine_is_handed_on(tmp_path: Path) -> None:
    data = colour_folder(tmp_path / "private" / "colours")
    config = starting_config("digits").with_options(
        dataset=str(data), size=16, cache=tmp_path / "cache", hidden=(8,), latent_dim=3, labels=6, epochs=1,
        batch_size=8, labelled_batch_size=4, means_init="normal", run_dir=str(tmp_path / "private" / "run"),
    )  # fmt: skip
    train(config)
    run = load_run(tmp_path / "private" / "run")
    save_pictures(run)
    folder = run.save_pretrained(tmp_path / "given")
    for file in folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file
    again = load_run(folder)
    assert again.config.data.dataset == "colours" and again.config.run_dir == Path("run")
    assert "colour pictures of 16 × 16 pixels" in (folder / "README.md").read_text()


def test_card(run: Run, tmp_path: Path) -> None:
    folder = run.save_pretrained(tmp_path / "mine")
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert card.data.library_name == "segma_fast" and "segma" in card.data.tags
    error = json.loads((run.folder / "report.json").read_text())["test_error"]
    assert card.data.eval_results[0].metric_value == pytest.approx(100 * (1 - error), abs=0.01)
    for name in ("samples.png", "transfer.png"):
        assert f"]({name})" in card.text and Image.open(folder / name).width > 100
    assert 'load_run("mine")' in card.text and "test error" in card.text


def test_what_is_in_the_way_stays(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for place in (tmp_path / "mine", tmp_path / "mine" / "letter.txt", run.folder):
        with pytest.raises(ValueError, match="holds something else"):
            run.save_pretrained(place)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_there_is_nothing_to_train_on(run: Run, tmp_path: Path) -> None:
    folder = run.save_pretrained(tmp_path / "mine")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="nothing to go on training"):
        train(run.config.with_options(run_dir=str(folder)), resume=True)
    with pytest.raises(ValueError, match="holds a run already"):
        train(run.config.with_options(run_dir=str(folder)))
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_damaged_weights(run: Run, tmp_path: Path) -> None:
    folder = run.save_pretrained(tmp_path / "mine")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="mine"):
        load_run(folder)


def test_the_hub(run: Run, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.push_to_hub("me/mine", private=True, token="secret") == "https://hub/me/mine"
    assert ("token", "secret") in hub.calls and ("private", True) in hub.calls
    for again in (Run.from_pretrained("me/mine"), load_run("hf://me/mine"), load_run(Path("hf://me/mine"))):
        assert same(run, again) and again.address == "hf://me/mine"
    load_run("hf://me/mine", revision="v1", token="t")
    options = hub.calls[-1][1]
    assert (options["revision"], options["token"]) == ("v1", "t")
    assert not any("bin" in pattern or "*.py" in pattern for pattern in options["allow_patterns"])
    assert 'load_run("hf://me/mine")' in (hub.place / "me/mine/README.md").read_text()
    main(["classify", "--run-dir", "hf://me/mine", "--images", "3"])
    assert "class" in capsys.readouterr().out
    main(["publish", "--run-dir", str(run.folder), "--repo", "me/other"])
    assert "https://hub/me/other" in capsys.readouterr().out and same(run, load_run("hf://me/other"))


def test_what_the_hub_has_not(run: Run, hub: Hub) -> None:
    with pytest.raises(ValueError, match="hf://me/none cannot be loaded: no me/none"):
        Run.from_pretrained("me/none")
    (hub.place / "me/poem").mkdir(parents=True)
    with pytest.raises(ValueError, match="hf://me/poem is no model of segma_fast"):
        load_run("hf://me/poem")
    for wrong in ("mine", "a/b/c", "/mine", "me/"):
        with pytest.raises(ValueError, match="owner/name, got"):
            run.push_to_hub(wrong)


def test_publish_wants_one_place(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for flags in ([], ["--out", str(tmp_path / "a"), "--repo", "me/mine"]):
        with pytest.raises(SystemExit):
            main(["publish", "--run-dir", str(run.folder), *flags])
        assert "--out FOLDER or --repo OWNER/NAME" in capsys.readouterr().err
