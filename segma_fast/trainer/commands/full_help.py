"""tyro's help in the words of a user: no names of fields as titles, no ``{None}|`` before the type of a value."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import TypeVar

Parsed = TypeVar("Parsed")
TITLES = {
    "config": "run and training",
    "config.data": "data set",
    "config.network": "networks",
    "config.objective": "settings of the model",
}


def with_plain_help(parse: Callable[[], Parsed], arguments: Sequence[str]) -> Parsed:
    """What ``parse`` returns; if the arguments ask for help, what it prints is tidied."""
    if not {"-h", "--help"} & set(arguments):
        return parse()
    printed = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding)  # which says whether frames can be drawn
    try:
        with redirect_stdout(printed):
            return parse()
    finally:
        printed.seek(0)
        print(plain(printed.read()), end="")


def plain(text: str) -> str:
    """The text with the same width of every line."""
    text = re.sub(r"\{None\}\|\{?(\[.*?\]\]|[A-Z]+)\}?", lambda found: found[1].ljust(len(found[0])), text)
    text = re.sub(r"\{None,([^}]*\})", lambda found: ("{" + found[1]).ljust(len(found[0])), text)
    return re.sub(r"\b(config(?:\.\w+)?) options[ ─]*", _title, text)


def _title(found: re.Match[str]) -> str:
    return f"{TITLES[found[1]]} ".ljust(len(found[0]), found[0][-1])
