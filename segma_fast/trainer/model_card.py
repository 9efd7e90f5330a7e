"""The card of a trained model that is handed on."""

from __future__ import annotations

import json
import math
import shlex
import zlib

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from segma_fast.trainer import report
from segma_fast.trainer.batches import Rows
from segma_fast.trainer.models import MODELS
from segma_fast.trainer.published import LIBRARY, Trained, figures_of, pictures_of, without_paths
from segma_fast.trainer.run_folder import PICTURES


def model_card(run: Trained, address: str) -> ModelCard:
    """The card, with the Hub's metadata; ``address`` is what it calls the model."""
    config, kind, summary = without_paths(run.config), MODELS[run.config.model], figures_of(run)
    dataset, results = config.data.dataset, []
    if summary and summary["labels"] and not math.isnan(summary["test_error"]):
        right = round(100 * (1 - summary["test_error"]), 2)
        results = [EvalResult("image-classification", dataset, run.data.name, "accuracy", right)]
    facts = ModelCardData(
        library_name=LIBRARY, tags=["auto-encoder", "semi-supervised", config.model], eval_results=results or None,
        datasets=[dataset] if "/" in dataset else None, model_name=f"{kind.title} on {run.data.name}",
    )  # fmt: skip
    lines = ["---", facts.to_yaml(), "---", "", f"# {kind.title} on {run.data.name}", "", run.about, ""]
    for name in pictures_of(run):
        lines += [f"![{PICTURES[name]}]({name})", "", f"{PICTURES[name][0].upper()}{PICTURES[name][1:]}.", ""]
    lines += ["## Use it", "", "```python", "from segma_fast.trainer import load_run, picture_grid", ""]
    lines += [f"run = load_run({json.dumps(address, ensure_ascii=False)})", "picture_grid(run.sample(10))"]
    lines += ['run.classify("picture.png")', "```", ""]
    lines += ["```sh", *_commands(address, dataset), "```", ""]
    if summary:
        lines += ["## Figures", "", "```", report.table(summary), "```", ""]
    elif run.step < (steps := _all_steps(run)):
        lines += ["## Figures", "", f"The training was not finished at this point: {run.step} of {steps} steps.", ""]
    channels, height, width = run.data.image_shape
    pixels = f"{'grey' if channels == 1 else 'colour'} pictures of {width} × {height} pixels"
    lines += ["## Limits", "", f"It takes {pixels} like those of {run.data.name}, and knows nothing else."]
    lines += ["`config.json` has all settings of its training.", ""]
    return ModelCard(_signed("\n".join(lines)))


def is_as_written(card: str) -> bool:
    """Whether a card is one of :func:`model_card` that nobody has changed."""
    return card == _signed(card[: -len(_signed(""))])


def _signed(text: str) -> str:
    told = "Saving the model again replaces this card unless it was edited"
    return f"{text}\n<!-- {told}: {zlib.crc32(text.encode()):08x} -->\n"


def _commands(address: str, dataset: str) -> list[str]:
    """Commands that a reader can run: of the data set of a local folder he may have nothing."""
    address = shlex.quote(address)
    explore = f"segma-fast explore --run-dir {address}"
    if dataset == "digits" or "/" in dataset:
        return [explore]
    own = [f"segma-fast sample --run-dir {address}", f"segma-fast classify --run-dir {address} --images picture.png"]
    return [*own, f"{explore} --dataset FOLDER  # where the pictures of {dataset} are"]


def _all_steps(run: Trained) -> int:
    """The steps of a training to its end."""
    config = run.config
    rows = run.data.rows[0] - (config.used_labels if config.unlabelled_pool == "rest" else 0)
    return config.epochs * Rows(torch.arange(rows), config.batch_size, config.seed).steps
