"""Models to hand on: the folder and its card; test_hub.py has the Hub."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from made_pictures import colour_folder
from PIL import Image

from segma_fast.__main__ import main
from segma_fast.trainer import Run, TrainConfig, load_run, published, save_pictures, starting_config, train
from segma_fast.trainer.explore.explorer import Explorer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    main(["train", "--run-dir", str(folder), "--epochs", "2", "--hidden", "16"])
    return load_run(folder)


def same(one: Run, other: Run) -> bool:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


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


def colours(place: Path) -> TrainConfig:
    data = colour_folder(place / "private" / "colours")
    return starting_config("digits").with_options(
        dataset=str(data), size=16, cache=place / "cache", hidden=(8,), latent_dim=3, labels=6, epochs=1,
        batch_size=8, labelled_batch_size=4, means_init="normal", run_dir=str(place / "private" / "run"),
    )  # fmt: skip


def test_no_path_of_the_machine_is_handed_on(tmp_path: Path) -> None:
    train(colours(tmp_path))
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
    with pytest.raises(ValueError, match=r"mine/model.safetensors cannot be read: it is damaged"):
        load_run(folder)
    weights.write_text("version https://git-lfs.github.com/spec/v1\nsize 3\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        load_run(folder)
    run.save_pretrained(folder)
    assert same(run, load_run(folder))


def test_a_run_trained_over_a_model_stays(run: Run, tmp_path: Path) -> None:
    folder = run.save_pretrained(tmp_path / "mine")
    train(run.config.with_options(run_dir=folder, epochs=1), overwrite=True)
    with pytest.raises(ValueError, match="holds something else"):
        run.save_pretrained(folder)
    assert load_run(folder).step < run.step


def test_a_snapshot_in_the_cache_of_the_hub_stays(run: Run, tmp_path: Path) -> None:
    cached = tmp_path / "models--me--mine" / "snapshots" / "0a1b"
    shutil.copytree(run.save_pretrained(tmp_path / "mine"), cached)
    with pytest.raises(ValueError, match="holds something else"):
        run.save_pretrained(cached)


@pytest.mark.parametrize("replacing", [False, True])
def test_a_killed_save_is_undone(run: Run, replacing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.save_pretrained(tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    draft = folder / ".mine.abcd"
    (draft / "former").mkdir(parents=True)
    if replacing:
        for name in before:
            (folder / name).rename(draft / "former" / name)
        (folder / "README.md").write_text("new")
    else:
        run.save_pretrained(folder)  # the draft may be of another process, at work
        assert draft.exists()
    monkeypatch.setattr(published, "LEFT", -1)
    published._clear(folder, ".mine.")
    assert {path.name for path in folder.iterdir()} == set(before)
    assert not replacing or {path.name: path.read_bytes() for path in folder.iterdir()} == before
    run.save_pretrained(folder)
    assert same(run, load_run(folder))


@pytest.mark.parametrize("text", ['{"steps": STEP}', "[]", '{"steps": STEP, "labels": null}', "{", '{"steps": 1e999}'])
def test_foreign_figures_and_links_are_left_out(run: Run, text: str, tmp_path: Path) -> None:
    folder = run.save_pretrained(tmp_path / "theirs")
    (folder / "report.json").write_text(text.replace("STEP", str(run.step)))
    (folder / "samples.png").unlink()
    (folder / "samples.png").symlink_to(__file__)  # no picture
    mine = load_run(folder).save_pretrained(tmp_path / "mine")
    assert not (mine / "report.json").exists() and not (mine / "samples.png").exists()
    assert same(run, load_run(mine))


def test_names_are_quoted_in_the_card(run: Run, tmp_path: Path) -> None:
    card = (run.save_pretrained(tmp_path / 'my "one"') / "README.md").read_text()
    assert r'load_run("my \"one\"")' in card and """--run-dir 'my "one"'""" in card


def test_publish_wants_one_place(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for flags in ([], ["--out", str(tmp_path / "a"), "--repo", "me/mine"]):
        with pytest.raises(SystemExit):
            main(["publish", "--run-dir", str(run.folder), *flags])
        assert "--out FOLDER or --repo OWNER/NAME" in capsys.readouterr().err


def test_a_clone_of_its_repository_stays_one(run: Run, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    (clone / ".git").mkdir(parents=True)
    (clone / ".git/config").write_text("url")
    (clone / ".gitattributes").write_text("lfs")
    run.save_pretrained(clone)
    (clone / "letter.txt").write_text("dear")
    (clone / "top_layer.png").write_text("of an earlier model")
    other = replace(run, step=run.step + 1)
    other.save_pretrained(clone)
    assert load_run(clone).step == other.step and not (clone / "top_layer.png").exists()
    kept = {".git/config": "url", ".gitattributes": "lfs", "letter.txt": "dear"}
    assert {name: (clone / name).read_text() for name in kept} == kept
    assert {path.suffix for path in clone.iterdir() if path.name[0] != "."} >= {".md", ".json", ".safetensors"}
    assert {path.name for path in clone.iterdir() if path.name[0] == "."} == {".git", ".gitattributes"}


def test_a_card_that_was_edited_stays(run: Run, tmp_path: Path) -> None:
    folder = run.save_pretrained(tmp_path / "mine")
    card = folder / "README.md"
    first = card.read_text()
    replace(run, step=run.step + 1).save_pretrained(folder)
    assert card.read_text() != first
    card.write_text(first.replace("library_name", "license: mit\nlibrary_name"))
    edited = card.read_text()
    with pytest.warns(UserWarning, match="README.md was edited and stays"):
        run.save_pretrained(folder)
    assert card.read_text() == edited and load_run(folder).step == run.step
    card.unlink()
    run.save_pretrained(folder)
    assert card.read_text() == first


def test_whole_or_not_at_all(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.save_pretrained(tmp_path / "mine")
    (folder / "samples.png").unlink()
    (folder / "letter.txt").write_text("dear")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    other, rename, failed = replace(run, step=run.step + 1), os.replace, 0
    for last in range(100):
        calls = iter(range(100))

        def fails(source: Path, target: Path, calls: Iterator[int] = calls, last: int = last) -> None:
            if next(calls) == last:
                raise OSError("the disk is full")
            rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fails)
            try:
                other.save_pretrained(folder)
                break
            except OSError as error:
                assert f"{folder} cannot be written: the disk is full" in str(error)
        assert before == {path: path.read_bytes() for path in folder.iterdir()}
        failed += 1
    assert failed > 15 and load_run(folder).step == other.step


def test_the_card_says_that_a_training_was_not_finished(tmp_path: Path) -> None:
    def stop(line: Mapping[str, float]) -> None:
        if line["step"] == 8:
            raise KeyboardInterrupt

    config = starting_config("digits").with_options(epochs=2, hidden=(8,), checkpoint_every=6, log_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(config.with_options(run_dir=str(tmp_path / "run")), on_metrics=stop)
    folder = load_run(tmp_path / "run").save_pretrained(tmp_path / "mine")
    assert "not finished at this point: 6 of 26 steps." in (folder / "README.md").read_text()
    train(load_run(folder).config.with_options(run_dir=str(tmp_path / "run")), resume=True)
    card = (load_run(tmp_path / "run").save_pretrained(folder) / "README.md").read_text()
    assert "not finished" not in card


@pytest.fixture(scope="module")
def handed_on(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of colours, and where the colours are now."""
    place = tmp_path_factory.mktemp("elsewhere")
    train(colours(place))
    folder = load_run(place / "private" / "run").save_pretrained(place / "given")
    shutil.rmtree(place / "cache")
    return folder, (place / "private" / "colours").rename(place / "moved")


def test_data_that_are_elsewhere(
    handed_on: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = handed_on
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGMA_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    flags = ["--run-dir", str(folder)]
    for command in ("show", "interpolate", "transfer", "intensify", "reconstruct", "classify", "evaluate", "explore"):
        with pytest.raises(SystemExit):
            main([command, *flags])
        assert "--dataset FOLDER" in capsys.readouterr().err
        if command != "explore":  # which would not end
            main([command, *flags, "--dataset", str(data)])
    assert len(list(tmp_path.glob("*.png"))) == 5
    explorer = Explorer(load_run(folder, dataset=data))
    found = explorer.transfer(explorer.numbered(0), "red ones", 1.0).recipe
    assert f"--dataset {data}" in found.command and f"dataset={str(data)!r}" in found.python
    pink, grey = (shutil.copytree(data, tmp_path / name) for name in ("pink", "grey"))
    for split in ("train", "test"):
        (pink / split / "red ones").rename(pink / split / "pink ones")
    for file in grey.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    for other, what in ((pink, "class_names"), (grey, "image_shape")):
        with pytest.raises(ValueError, match=f"not the one of the run: its {what} was"):
            load_run(folder, dataset=other).load_data()
    shutil.copytree(pink, "colours")
    with pytest.raises(ValueError, match="its class_names was .*--dataset FOLDER"):  # another one of the same name
        load_run(folder).load_data()


def test_the_card_asks_for_no_data(handed_on: tuple[Path, Path], run: Run, tmp_path: Path) -> None:
    card = (handed_on[0] / "README.md").read_text()
    assert "segma-fast sample --run-dir given\nsegma-fast classify --run-dir given --images picture.png" in card
    assert "explore --run-dir given\n" not in card and "explore --run-dir given --dataset FOLDER" in card
    assert "explore --run-dir mine\n" in (run.save_pretrained(tmp_path / "mine") / "README.md").read_text()
