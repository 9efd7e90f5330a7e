"""``segma-fast train --help``: the flags that most runs need, in groups, a line or two each."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from segma_fast.trainer.config import TrainConfig

GROUPS: dict[str, tuple[str, ...]] = {
    "run": ("model", "run_dir", "labels", "label_choice", "epochs", "minutes", "seed", "device"),
    "data": ("dataset", "size", "crop", "grayscale", "label_columns"),
    "networks": ("network", "latent_dim", "hidden", "channels"),
    "training": ("components", "batch_size", "micro_batch", "learning_rate", "mixed_precision", "compile"),
}
WIDEST, COLUMN = 100, 32


def short_help(command: Any) -> str:
    """The text for ``segma-fast train``; the values of the command and its configuration are the defaults shown."""
    config: TrainConfig = command.config
    width = max(min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST), COLUMN + 28)
    about, _, examples = inspect.cleandoc(command.__doc__).partition("\n\n")
    lines = [
        "usage: segma-fast train [options]",
        "",
        *textwrap.wrap(about, width, break_on_hyphens=False),
        "",
        examples,
        "",
        "start from",
    ]
    lines += _flags(command, [field.name for field in dataclasses.fields(command) if field.name != "config"], width)
    parts: tuple[Any, ...] = (config, config.data)
    owners = {field.name: part for part in parts for field in dataclasses.fields(part)}
    owners |= {field.name: config.network for field in dataclasses.fields(config.network)}
    for title, names in GROUPS.items():
        lines += ["", title, *(line for name in names for line in _flags(owners[name], [name], width))]
    own = [field.name for field in dataclasses.fields(config.objective)]
    lines += ["", f"settings of the model {config.model}", *_flags(config.objective, own, width)]
    return "\n".join([*lines, "", "--help-all has the other options, and these in full."])


def _flags(owner: Any, names: Iterable[str], width: int) -> list[str]:
    """The lines of some fields of a dataclass instance."""
    kinds, texts = get_type_hints(type(owner)), _texts(type(owner))
    lines = []
    for name in names:
        flag = "--" + ("config" if name == "config_file" else name.replace("_", "-"))
        flag = flag.replace("--", "--no-", 1) if getattr(owner, name) is True else flag
        text = texts.get(name, "")
        text = text if name == "model" else text.partition(";")[0].partition(": ")[0]  # what it is, not the details
        if (value := _value(getattr(owner, name))) and "default" not in text:
            text += f" ({value})"
        wrapped = textwrap.wrap(text, width - COLUMN, break_on_hyphens=False) or [""]
        head = f"  {flag} {_kind(kinds[name])}".rstrip()
        if len(head) > COLUMN - 2:
            lines.append(head)
            head = ""
        lines += [f"{head:<{COLUMN}}{wrapped[0]}", *(" " * COLUMN + line for line in wrapped[1:])]
    return lines


def _texts(owner: type) -> dict[str, str]:
    """The docstrings below the fields of a dataclass and its bases."""
    found: dict[str, str] = {}
    for kind in reversed([kind for kind in owner.__mro__ if dataclasses.is_dataclass(kind)]):
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def _kind(hint: Any) -> str:
    """What follows a flag: choices, or the type of a value; nothing for a switch."""
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    parts = [part for part in get_args(hint) if part not in (type(None), Ellipsis)]
    if parts:
        kind = _kind(parts[0])
        return f"{kind} …" if get_origin(hint) is tuple else kind
    return {int: "N", float: "X", str: "NAME", Path: "PATH", bool: ""}.get(hint, "VALUE")


def _value(value: Any) -> str:
    """A default as text; nothing for one that says nothing."""
    if value is None or isinstance(value, bool) or value == ():
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
