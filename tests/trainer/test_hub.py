"""Models on the Hugging Face Hub, for whose client folders of this machine stand in."""

from __future__ import annotations

import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi, ModelHubMixin, RepoUrl, hub_mixin, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from segma_fast.__main__ import main
from segma_fast.trainer import Run, load_run, published
from segma_fast.trainer.run_folder import PICTURES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("there") / "digits"
    main(["train", "--run-dir", str(folder), "--epochs", "2", "--hidden", "16"])
    return load_run(folder)


class NoNetwork(Exception):
    """As the errors of the client's own library, of no class that segma_fast knows."""


class Hub:
    """A stand-in for the client: repositories are folders, and arguments must be those of the client."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.down, self.told = place, False, {}  # type: ignore[var-annotated]
        for module in (published, hub_mixin):
            monkeypatch.setattr(module, "HfApi", self.api)
        monkeypatch.setattr(published, "snapshot_download", self.snapshot_download)

    def api(self, token: str | None = None) -> Hub:
        self.told["token"] = token
        return self

    def model_info(self, repo_id: str, *, revision: str | None, timeout: float) -> None:
        if self.down:
            raise NoNetwork("no route to host")
        assert timeout <= 10
        self.check(repo_id)

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> RepoUrl:
        assert exist_ok
        self.told["private"] = private
        (self.place / repo_id).mkdir(parents=True, exist_ok=True)
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, **options: Any) -> str:
        signature(HfApi.upload_folder).bind(self, **options)
        self.told |= options
        source, target = options["folder_path"], self.place / options["repo_id"]
        for name in filter_repo_objects(self.files(target), allow_patterns=options["delete_patterns"]):
            (target / name).unlink()
        patterns = {key: options[key] for key in ("allow_patterns", "ignore_patterns")}
        for name in filter_repo_objects(self.files(source), **patterns):
            shutil.copyfile(source / name, target / name)
        return f"https://huggingface.co/{options['repo_id']}/commit/1"

    def snapshot_download(self, repo_id: str, **options: Any) -> str:
        signature(snapshot_download).bind(repo_id, **options)
        self.told = options
        assert not self.down or options["local_files_only"]
        self.check(repo_id)
        return str(self.place / repo_id)

    def check(self, repo_id: str) -> None:
        if not (self.place / repo_id).exists():
            raise RepositoryNotFoundError(f"no {repo_id}\nmore", response=_Answer())  # type: ignore[arg-type]

    @staticmethod
    def files(folder: Path) -> list[str]:
        return [path.name for path in folder.iterdir()]


class _Answer:
    headers: dict[str, str] = {}
    request = None
    status_code = 404


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Hub(tmp_path / "hub", monkeypatch)


def same(one: Run, other: Run) -> bool:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_there_and_back(run: Run, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert issubclass(Run, ModelHubMixin)
    address = run.push_to_hub("me/mine", private=True, token="secret")
    assert address == "https://huggingface.co/me/mine/commit/1"
    assert hub.told["token"] == "secret" and hub.told["private"] is True
    assert hub.told["commit_message"] == "SeGMA, 26 steps"
    for again in (Run.from_pretrained("me/mine"), load_run("hf://me/mine"), load_run(Path("hf://me/mine"))):
        assert same(run, again) and again.address == "hf://me/mine"
    load_run("hf://me/mine", revision="v1", token="t")
    assert (hub.told["revision"], hub.told["token"]) == ("v1", "t")
    assert not any("bin" in pattern or "*.py" in pattern for pattern in hub.told["allow_patterns"])
    assert 'load_run("hf://me/mine")' in (hub.place / "me/mine/README.md").read_text()
    main(["publish", "--run-dir", str(run.folder), "--repo", "me/other"])
    assert "https://huggingface.co/me/other" in capsys.readouterr().out and same(run, load_run("hf://me/other"))


def test_upload_without_a_network(
    run: Run, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **options: object) -> None:
        raise RuntimeError("Name or service not known\nmore")  # httpx's errors are of no kind that Python has

    monkeypatch.setattr(Run, "push_to_hub", fail)
    with pytest.raises(SystemExit):
        main(["publish", "--run-dir", str(run.folder), "--repo", "me/mine"])
    said = capsys.readouterr().err
    assert said == (
        "segma-fast: error: me/mine cannot be uploaded to the Hugging Face Hub: Name or service not known\n"
    )


def test_arguments_of_a_download(run: Run, hub: Hub, tmp_path: Path) -> None:
    run.push_to_hub("me/mine")
    options: dict[str, Any] = {"cache_dir": tmp_path, "force_download": True, "revision": "v1", "token": False}
    again = Run.from_pretrained("me/mine", local_files_only=True, **options)
    assert same(run, again) and again.address == "hf://me/mine@v1"
    assert options | {"local_files_only": True} == {k: v for k, v in hub.told.items() if k != "allow_patterns"}
    local = Run.from_pretrained(pretrained_model_name_or_path=run.folder, local_files_only=True, **options)
    assert same(run, local) and local.address == ""


def test_arguments_of_an_upload(run: Run, hub: Hub) -> None:
    given: dict[str, Any] = {"create_pr": True, "allow_patterns": ["*.md", "*.json"], "ignore_patterns": "data.json"}
    run.push_to_hub("me/mine", branch="try", config={"a": 1}, commit_message="words", delete_patterns="*.txt", **given)
    assert hub.told["revision"] == "try" and hub.told["commit_message"] == "words"
    assert given.items() <= hub.told.items() and hub.told["delete_patterns"] == ["*.txt"]
    assert sorted(hub.files(hub.place / "me/mine")) == ["README.md", "config.json", "report.json"]


def test_saved_and_uploaded_in_one(run: Run, hub: Hub, tmp_path: Path) -> None:
    for repo_id in (None, "a/b/c"):
        with pytest.raises(ValueError, match="owner/name, got"):
            run.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id=repo_id)
    assert not (tmp_path / "saved").exists()
    address = run.save_pretrained(
        tmp_path / "saved", push_to_hub=True, repo_id="me/mine", config={"a": 1}, private=True
    )
    assert address == "https://huggingface.co/me/mine/commit/1" and hub.told["private"] is True
    assert sorted(hub.files(tmp_path / "saved")) == sorted(hub.files(hub.place / "me/mine"))
    assert 'load_run("saved")' in (tmp_path / "saved/README.md").read_text()
    assert same(load_run(tmp_path / "saved"), load_run("me/mine"))


def test_old_files_of_a_model_leave_the_hub_and_others_stay(run: Run, hub: Hub, tmp_path: Path) -> None:
    run.push_to_hub("me/mine")
    (hub.place / "me/mine/notes.png").write_text("mine")
    bare = tmp_path / "bare"
    shutil.copytree(run.folder, bare)
    for name in (*PICTURES, "report.json"):
        (bare / name).unlink(missing_ok=True)
    load_run(bare).push_to_hub("me/mine", ignore_patterns="README.md", allow_patterns="*.safetensors")
    assert "samples.png" in hub.files(hub.place / "me/mine")  # nothing but the weights was to change
    load_run(bare).push_to_hub("me/mine")
    own = ["README.md", "config.json", "data.json", "model.safetensors"]
    assert sorted(hub.files(hub.place / "me/mine")) == [*own, "notes.png"]


def test_commands_take_names_on_the_hub(
    run: Run, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    run.push_to_hub("me/mine")
    for name, revision in (("me/mine", None), ("me/mine@refs/pr/1", "refs/pr/1"), ("hf://me/mine@v1", "v1")):
        main(["classify", "--run-dir", name, "--images", "3"])
        assert "class" in capsys.readouterr().out and hub.told["revision"] == revision
        assert load_run(name).address == f"hf://{name.removeprefix('hf://')}"
    run.save_pretrained("me/mine")
    hub.down = True
    assert load_run("me/mine").folder == Path("me/mine") and load_run("me/mine").address == ""  # a folder wins


def test_an_absolute_path_is_never_on_the_hub(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    run.push_to_hub("data/mine")
    with pytest.raises(ValueError, match="/data/mine holds no trained model"):
        load_run("/data/mine")


def test_of_an_answer_the_meaning_is_told() -> None:
    answer = Exception("404 Client Error. (Request ID: 1)\n\nRevision Not Found for url: x\nInvalid rev id")
    assert published.first_line(answer) == "Revision Not Found for url: x"


def test_what_the_hub_has_not(run: Run, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no folder me/none here, and hf://me/none cannot be loaded: no me/none"):
        Run.from_pretrained("me/none")
    with pytest.raises(ValueError, match="^hf://me/none@v2 cannot be loaded: no me/none"):
        load_run("hf://me/none@v2")
    with pytest.raises(SystemExit):
        main(["sample", "--run-dir", "me/none"])
    assert "no folder me/none here, and hf://me/none cannot be loaded: no me/none" in capsys.readouterr().err
    (hub.place / "me/poem").mkdir(parents=True)
    with pytest.raises(ValueError, match="hf://me/poem is no model of segma_fast"):
        load_run("hf://me/poem")
    for wrong in ("mine", "a/b/c", "/mine", "me/", "me/mine@v1"):
        with pytest.raises(ValueError, match="owner/name, got"):
            run.push_to_hub(wrong)
    with pytest.raises(ValueError, match="owner/name, got 'hf:mine'"):
        load_run("hf:mine")
    for folder in ("runs/none", "./me/none", "none", "a/b/c"):  # not asked for on the Hub
        with pytest.raises(ValueError, match="holds no trained model"):
            load_run(folder)


def test_without_a_network(run: Run, hub: Hub) -> None:
    run.push_to_hub("me/mine")
    hub.down = True
    assert same(run, load_run("me/mine"))  # the stand-in has it in its cache
    why = r"the Hugging Face Hub cannot be reached \(no route to host\), and the cache has no copy"
    with pytest.raises(ValueError, match=f"there is no folder me/none here, and hf://me/none cannot be loaded: {why}"):
        load_run("me/none")


def test_the_hub_is_asked_once_when_it_is_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the client itself."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="no folder me/none here, and .* Hub cannot be reached"):
        Run.from_pretrained("me/none", cache_dir=tmp_path)
