"""The lines of Python and of the command line that make a picture of the page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

DRAWN = "picture.png"  # what a picture is called that is no test picture
ENDS = ["a.png", "b.png"]  # the same of two


class Recipe(NamedTuple):
    """How to make a picture without the page."""

    python: str
    command: str


class Source(NamedTuple):
    """Where a model and its data set are."""

    run_dir: Path | str
    """folder of the run, or its address on the Hub"""
    dataset: str | None = None
    """folder of the data set, if it is not where the training found it"""


def recipe(
    source: Source, command: str, view: str, numbers: list[int | None], **options: str | float | bool
) -> Recipe:  # fmt: skip
    """The recipe of a view.

    Args:
        source: where the model is.
        command: of segma-fast.
        view: the arguments of ``views`` in Python, with ``images`` for the pictures.
        numbers: of the test pictures; None for one that was drawn or uploaded.
        options: flags of the command, without those that are False.
    """
    run_dir, dataset = str(source.run_dir), source.dataset
    words, opening = ["segma-fast", command, "--run-dir", run_dir], f"run = load_run({run_dir!r})"
    if dataset is not None and any(number is not None for number in numbers):
        words += ["--dataset", dataset]
        opening = f"run = load_run({run_dir!r}, dataset={dataset!r})"
    files = [DRAWN] if len(numbers) < 2 else ENDS
    if numbers:
        words += ["--images", *(f if n is None else str(n) for f, n in zip(files, numbers, strict=True))]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not False:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            words += [f"{flag}={text}"] if isinstance(value, str) and text.startswith("-") else [flag, text]
    lines = ["from pathlib import Path", "from segma_fast.trainer import load_run"]
    lines += ["from segma_fast.trainer.figures import views", "", opening]
    if numbers:
        tests = "run.load_data().test_images"
        given = [repr(f) if n is None else f"{tests}[{n}]" for f, n in zip(files, numbers, strict=True)]
        lines.append(f"images = [{', '.join(given)}]")
    return Recipe("\n".join([*lines, view]), shlex.join(words))
