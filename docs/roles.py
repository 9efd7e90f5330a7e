"""For mkdocstrings: docstrings are Markdown there; a role such as :func:`name` becomes code, and :: a colon."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|meth|class|mod|attr):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Changes the docstrings as they are loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = obj.docstring.value
            text = ROLE.sub(lambda match: f"`{match[1].removeprefix('segma_fast.')}`", text)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
