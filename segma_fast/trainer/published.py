"""A trained model to hand on, as a folder, here or on the Hugging Face Hub.

::

    README.md           the model card (model_card.py)
    model.safetensors   weights, and the step in the file's metadata
    config.json         configuration of the training, without paths of the machine
    data.json           the data set: name, image shape, class names
    report.json         figures of the finished run, if it was finished at this step
    *.png               its pictures

Nothing in it is unpickled or run when it is opened.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import safe_open

from segma_fast.trainer import report
from segma_fast.trainer.checkpoints import CHECKPOINTS, WEIGHTS, latest_checkpoint, save_weights
from segma_fast.trainer.config import TrainConfig
from segma_fast.trainer.config_file import save_config
from segma_fast.trainer.files import FORMER, make_folder, publish_folder, replace_files, usual_mode, writing
from segma_fast.trainer.models import ImageModel
from segma_fast.trainer.run_folder import CONFIG, DATA, PICTURES, REPORT, DataInfo, load_figures

HUB = "hf://"  # how the address of a model on the Hub begins
CARD = "README.md"
LIBRARY = "segma_fast"
PATIENCE = 10  # seconds until the Hub counts as not reachable
LEFT = 60  # seconds after which a draft counts as one of a process that was killed
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""what reading figures raises that somebody else has written"""
PNG = b"\x89PNG\r\n"
_ID = r"\w[\w.-]*/\w[\w.-]*"


class OnHub(NamedTuple):
    """A model on the Hub."""

    repo_id: str
    revision: str | None
    """branch, tag or commit; None for the newest"""
    told: bool
    """whether its address says that it is there: ``owner/name`` could be a folder"""

    @property
    def address(self) -> str:
        return f"{HUB}{self.repo_id}" + (f"@{self.revision}" if self.revision else "")


class Trained(Protocol):
    """What is handed on of a run."""

    @property
    def folder(self) -> Path: ...
    @property
    def config(self) -> TrainConfig: ...
    @property
    def data(self) -> DataInfo: ...
    @property
    def model(self) -> ImageModel: ...
    @property
    def step(self) -> int: ...
    @property
    def about(self) -> str: ...


def save(folder: Path, write: Callable[[Path], object], keep_card: Callable[[str], bool]) -> None:
    """Have the files of a model written to a folder, whole or not at all; files that are not a model's stay.

    Args:
        folder: absolute; new, empty but for git's own files, or with a model that was published before.
        write: writes them to an empty folder.
        keep_card: whether the card that is there, given its text, stays.

    Raises:
        ValueError: for a folder that holds something else.
        WriteError: if it cannot be written.
    """
    there, prefix = folder.is_dir(), f".{folder.name}."
    _clear(folder if there else folder.parent, prefix)
    taken = there and any(not path.name.startswith((".git", prefix)) for path in folder.iterdir())
    cached = folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--")  # by huggingface_hub
    if folder.is_file() or cached or (taken and not _holds_model(folder)):
        raise ValueError(f"{folder} holds something else, which stays: choose a folder that is new or empty")
    with writing(folder):
        make_folder(folder.parent)
        draft = Path(tempfile.mkdtemp(prefix=prefix, dir=folder if there else folder.parent))
        try:
            write(draft)
            usual_mode(draft)
            if there:
                kept = (folder / CARD).exists() and keep_card((folder / CARD).read_text("utf-8", errors="replace"))
                if kept:
                    warnings.warn(f"{folder / CARD} was edited and stays: it may show an earlier model", stacklevel=3)
                replace_files(draft, folder, [WEIGHTS, CONFIG, DATA, REPORT, *PICTURES, *([] if kept else [CARD])])
            else:
                publish_folder(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def write_files(run: Trained, folder: Path) -> None:
    """Write all but the card."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in run.model.state_dict().items()}
    save_weights(state, folder / WEIGHTS, {"format": "pt", "step": str(run.step), "library": LIBRARY})
    save_config(without_paths(run.config), folder / CONFIG)
    run.data.save(folder)
    for name in _extras(run):
        shutil.copyfile(run.folder / name, folder / name)


def missing(run: Trained) -> list[str]:
    """The files that other models have and this one has not: an older version of it on the Hub may."""
    return [name for name in (*PICTURES, REPORT) if name not in _extras(run)]


def find_on_hub(given: str, revision: str | None = None) -> OnHub | None:
    """Which model on the Hub is meant by ``hf://owner/name``, or ``owner/name`` where there is no such folder.

    ``@revision`` may follow. None is returned for a folder, and for anything in ``runs/``, where trainings are.

    Raises:
        ValueError: for an address on the Hub that has not this form.
    """
    told = given.startswith("hf:")
    name = given.removeprefix("hf:").strip("/") if told else given
    found = re.fullmatch(rf"({_ID})(?:@(.+))?", name, re.ASCII)
    if told and not found:
        raise ValueError(f"a model on the Hub is named owner/name, got {given!r}")
    if found is None or (not told and (Path(given).expanduser().exists() or given.startswith("runs/"))):
        return None
    return OnHub(found[1], revision or found[2], told)


def fetch(model: OnHub, token: str | bool | None = None, local_files_only: bool = False, **options: Any) -> Path:
    """The folder of a model on the Hub, downloaded unless it is in the cache; ``options`` are the Hub's own.

    Raises:
        ValueError: if it is not there, is no model of segma_fast, or cannot be reached.
    """
    repo_id, revision, problem = model.repo_id, model.revision, None
    if not local_files_only:
        try:  # snapshot_download itself would wait for ever
            HfApi(token=token).model_info(repo_id, revision=revision, timeout=PATIENCE)
        except (HfHubHTTPError, ValueError):
            pass  # an answer, or a name that cannot be: the download explains it
        except Exception as error:  # no network, offline, too slow; what was loaded before is found
            problem = f"the Hugging Face Hub cannot be reached ({first_line(error)}), and the cache has no copy"
    options |= {"token": token, "local_files_only": local_files_only or problem is not None}
    try:
        kept = [WEIGHTS, "*.json", "*.png"]
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=kept, **options))
    except Exception as error:  # of many kinds: no such repository or revision, no access
        here = "" if model.told else f"there is no folder {repo_id} here, and "
        raise ValueError(f"{here}{model.address} cannot be loaded: {problem or first_line(error)}") from error
    if published_step(folder) is None:
        raise ValueError(f"{model.address} is no model of segma_fast: it has no {WEIGHTS} and {CONFIG} of one")
    return folder


def published_step(folder: Path) -> int | None:
    """The step of the model that a folder was published with, or None if it is no such folder."""
    with suppress(Exception), safe_open(folder / WEIGHTS, "pt") as file:
        if (folder / CONFIG).exists() and not (folder / CHECKPOINTS).exists():
            return int(file.metadata()["step"])
    return None


def why_unreadable(folder: Path) -> str | None:
    """What is wrong with the weights of a folder that nobody trained in, if there are any."""
    if not (folder / WEIGHTS).exists() or (folder / CHECKPOINTS).exists():
        return None
    if _is_pointer(folder / WEIGHTS):
        return f"{folder / WEIGHTS} is a pointer of git-lfs: run git lfs pull in {folder}"
    return f"{folder / WEIGHTS} cannot be read: it is damaged, or has no {CONFIG} beside it"


def check_id(repo_id: str) -> None:
    """Raise ``ValueError`` for a name on the Hub that is not ``owner/name``."""
    if not re.fullmatch(_ID, repo_id, re.ASCII):
        raise ValueError(f"a model on the Hub is named owner/name, got {repo_id!r}")


def without_paths(config: TrainConfig) -> TrainConfig:
    """The configuration with the last part of each path: the rest says something of the machine alone."""
    data = config.data
    local = Path(data.dataset).expanduser().exists() or data.dataset.startswith((".", "/", "~"))
    data = replace(data, cache=None, dataset=Path(data.dataset).name if local else data.dataset)
    return replace(config, data=data, run_dir=Path(config.run_dir.name))


def pictures_of(run: Trained) -> list[str]:
    """The names of the pictures of the run, if they are of this step."""
    newest = latest_checkpoint(run.folder)
    drawn = newest is None or newest[1] == run.step
    return [name for name in PICTURES if drawn and _begins(run.folder / name, PNG)]


def figures_of(run: Trained) -> dict[str, Any]:
    """The figures of the finished run, if they are of this step; else empty."""
    with suppress(*DAMAGED):
        found = load_figures(run.folder / REPORT)
        if found["steps"] == run.step and found["labels"] >= 0 and report.table(found):
            float(found["test_error"])
            return found
    return {}


def _extras(run: Trained) -> list[str]:
    return [*pictures_of(run), *([REPORT] if figures_of(run) else [])]


def _holds_model(folder: Path) -> bool:
    whole = (folder / CONFIG).exists() and (folder / DATA).exists()
    return published_step(folder) is not None or (whole and _is_pointer(folder / WEIGHTS))


def _is_pointer(file: Path) -> bool:
    """Whether it stands for a file that git-lfs has not fetched."""
    return _begins(file, b"version https://git-lfs")


def _begins(file: Path, with_bytes: bytes) -> bool:
    with suppress(OSError), file.open("rb") as opened:
        return opened.read(len(with_bytes)) == with_bytes
    return False


def _clear(place: Path, prefix: str) -> None:
    """Delete drafts of processes that were killed; where one had moved a model's files away, put them back."""
    for draft in place.iterdir() if place.is_dir() else ():
        if draft.name.startswith(prefix) and draft.is_dir() and time.time() - draft.stat().st_mtime > LEFT:
            former = draft / FORMER
            for file in former.iterdir() if former.is_dir() and not (place / WEIGHTS).exists() else ():
                file.replace(place / file.name)
            shutil.rmtree(draft, ignore_errors=True)


def first_line(error: Exception) -> str:
    """What an error says; those of the Hub have the status in the first line, and what it means in the next."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[1 if re.match(r"\d{3} \w+ Error", lines[0]) and len(lines) > 1 else 0]
