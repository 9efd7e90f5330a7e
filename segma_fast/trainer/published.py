"""A trained model to hand on, as a folder, here or on the Hugging Face Hub.

::

    README.md           the model card
    model.safetensors   weights, and the step in the file's metadata
    config.json         configuration of the training, without paths of the machine
    data.json           the data set: name, image shape, class names
    report.json         figures of the finished run, if it was finished at this step
    *.png               its pictures

Nothing in it is unpickled or run when it is opened.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open

from segma_fast.trainer import report
from segma_fast.trainer.checkpoints import WEIGHTS, latest_checkpoint, save_weights
from segma_fast.trainer.config import TrainConfig
from segma_fast.trainer.config_file import save_config
from segma_fast.trainer.files import make_folder, publish_folder, usual_mode, writing
from segma_fast.trainer.models import MODELS, ImageModel
from segma_fast.trainer.run_folder import CONFIG, PICTURES, REPORT, DataInfo, load_figures

HUB = "hf://"  # how the address of a model on the Hub begins
CARD = "README.md"
LIBRARY = "segma_fast"


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


def save(run: Trained, folder: Path, address: str = "") -> Path:
    """Write the folder of a run's model, whole or not at all; ``address`` is what its card calls it.

    Raises:
        ValueError: for a folder that holds something else than a model that was published before.
        WriteError: if it cannot be written.
    """
    folder = folder.expanduser().absolute()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and published_step(folder) is None):
        raise ValueError(f"{folder} holds something else, which stays: choose a folder that is new or empty")
    with writing(folder):
        make_folder(folder.parent)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write(run, draft, address or folder.name)
            usual_mode(draft)
            publish_folder(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def push(
    run: Trained, repo_id: str, private: bool | None = None, token: str | None = None, commit_message: str | None = None
) -> str:
    """Upload a run's model to the Hub, as a new repository or a new commit; its address there.

    Raises:
        ValueError: for a ``repo_id`` that is not ``owner/name``.
    """
    from huggingface_hub import HfApi

    _check_id(repo_id)
    api = HfApi(token=token, library_name=LIBRARY)
    with tempfile.TemporaryDirectory() as place:
        folder = save(run, Path(place) / "model", HUB + repo_id)
        url = str(api.create_repo(repo_id, private=private, exist_ok=True))
        message = commit_message or f"{MODELS[run.config.model].title}, {run.step} steps"
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    return url


def fetch(address: str, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a model on the Hub, ``hf://owner/name``, downloaded unless it is in the cache.

    Raises:
        ValueError: if it is not there, is no model of segma_fast, or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    repo_id = address.removeprefix("hf:").strip("/")
    _check_id(repo_id)
    kept = [WEIGHTS, "*.json", "*.png"]
    try:
        folder = Path(snapshot_download(repo_id, revision=revision, token=token, allow_patterns=kept))
    except Exception as error:  # of many kinds: no such repository or revision, no access, no network
        raise ValueError(f"{HUB}{repo_id} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    if published_step(folder) is None:
        raise ValueError(f"{HUB}{repo_id} is no model of segma_fast: it has no {WEIGHTS} and {CONFIG} of one")
    return folder


def published_step(folder: Path) -> int | None:
    """The step of the model that a folder was published with, or None if it is no such folder."""
    with suppress(Exception), safe_open(folder / WEIGHTS, "pt") as file:
        if (folder / CONFIG).exists():
            return int(file.metadata()["step"])
    return None


def _check_id(repo_id: str) -> None:
    owner, _, name = repo_id.partition("/")
    if not (owner and name and "/" not in name):
        raise ValueError(f"a model on the Hub is named owner/name, got {repo_id!r}")


def _write(run: Trained, folder: Path, address: str) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in run.model.state_dict().items()}
    save_weights(state, folder / WEIGHTS, {"format": "pt", "step": str(run.step), "library": LIBRARY})
    save_config(_without_paths(run.config), folder / CONFIG)
    run.data.save(folder)
    newest = latest_checkpoint(run.folder)
    drawn = newest is None or newest[1] == run.step  # else the pictures are of another step
    kept = [name for name in PICTURES if drawn and (run.folder / name).exists()]
    summary = _summary(run)
    for name in [*kept, *([REPORT] if summary else [])]:
        shutil.copyfile(run.folder / name, folder / name)
    (folder / CARD).write_text(card(run, address, kept, summary), encoding="utf-8")


def _without_paths(config: TrainConfig) -> TrainConfig:
    """The configuration with the last part of each path: the rest says something of the machine alone."""
    data = config.data
    local = Path(data.dataset).expanduser().exists() or data.dataset.startswith((".", "/", "~"))
    data = replace(data, cache=None, dataset=Path(data.dataset).name if local else data.dataset)
    return replace(config, data=data, run_dir=Path(config.run_dir.name))


def _summary(run: Trained) -> dict[str, Any]:
    """The figures of the finished run, if they are of this step; else empty."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = load_figures(run.folder / REPORT)
        if found["steps"] == run.step:
            return found
    return {}


def card(run: Trained, address: str, pictures: list[str], summary: dict[str, Any]) -> str:
    """The model card, in Markdown with the Hub's metadata."""
    from huggingface_hub import EvalResult, ModelCardData

    config, kind = _without_paths(run.config), MODELS[run.config.model]
    hub_data = "/" in config.data.dataset
    results = []
    if summary and summary["labels"] and not math.isnan(summary["test_error"]):
        right = round(100 * (1 - summary["test_error"]), 2)
        results = [EvalResult("image-classification", config.data.dataset, run.data.name, "accuracy", right)]
    facts = ModelCardData(
        library_name=LIBRARY, tags=["auto-encoder", "semi-supervised", config.model], eval_results=results or None,
        datasets=[config.data.dataset] if hub_data else None, model_name=f"{kind.title} on {run.data.name}",
    )  # fmt: skip
    lines = ["---", facts.to_yaml(), "---", "", f"# {kind.title} on {run.data.name}", "", run.about, ""]
    for name in pictures:
        lines += [f"![{PICTURES[name]}]({name})", "", f"{PICTURES[name][0].upper()}{PICTURES[name][1:]}.", ""]
    lines += ["## Use it", "", "```python", "from segma_fast.trainer import load_run, picture_grid", ""]
    lines += [f'run = load_run("{address}")', "picture_grid(run.sample(10))", 'run.classify("picture.png")', "```", ""]
    lines += ["```sh", f"segma-fast explore --run-dir {address}", "```", ""]
    if summary:
        lines += ["## Figures", "", "```", report.table(summary), "```", ""]
    channels, height, width = run.data.image_shape
    pixels = f"{'grey' if channels == 1 else 'colour'} pictures of {width} × {height} pixels"
    lines += ["## Limits", "", f"It takes {pixels} like those of {run.data.name}, and knows nothing else."]
    lines += ["`config.json` has all settings of its training.", ""]
    return "\n".join(lines)
