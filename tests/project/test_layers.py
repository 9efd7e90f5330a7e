"""Which module imports which: two storeys, no arrow from the distance up, and no circle."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "segma_fast"
# By the beginning of a module's name, the longest that fits: what it may import. docs/architecture.md draws it.
ALLOWED = {
    "distance": {"distance"},
    "large_batch": {"distance"},
    "": {"distance", "large_batch", "before_torch"},  # the public names
    "compat": {"distance", "compat"},
    "bench": {"distance", "large_batch", "bench", "trainer.files", ""},  # files that are written whole or not at all
    "trainer.models": {"distance", "large_batch", "trainer.models"},
    "trainer": {"distance", "large_batch", "trainer", ""},
    "__main__": {"before_torch", "bench", "trainer", ""},
}


def module_name(path: Path) -> str:
    """As ``segma_fast`` says it, without ``segma_fast`` itself, which is ""."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(source: str) -> set[str]:
    """The modules of the package that a source imports: anywhere, also inside of functions and for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        own = [
            name.removeprefix("segma_fast").removeprefix(".") for name in names if name.split(".")[0] == PACKAGE.name
        ]
        if len(own) > 1 and MODULES.keys() >= set(own[1:]):  # modules alone, nothing that their package defines
            own = own[1:]
        found |= set(own) & MODULES.keys()
    return found


def room_of(module: str, rooms: set[str]) -> str | None:
    fitting = [room for room in rooms if module == room or (room and module.startswith(f"{room}."))]
    return max(fitting, key=len, default=None)


GRAPH = {name: imports(path.read_text()) for name, path in MODULES.items()}


def test_every_way_to_import_is_seen() -> None:
    source = """
from typing import TYPE_CHECKING
import segma_fast.trainer.config
from segma_fast import large_batch
from segma_fast.trainer import loop
if TYPE_CHECKING:
    from segma_fast.trainer.batches import Rows
def late():
    from segma_fast.trainer.models import SeGMA, segma
"""
    assert imports(source) == {
        "large_batch",
        *(f"trainer.{name}" for name in ("config", "loop", "batches", "models", "models.segma")),
    }
    assert imports("from segma_fast import large_batch, fast_cw_distance") == {"", "large_batch"}


@pytest.mark.parametrize("name", MODULES)
def test_arrows_go_down(name: str) -> None:
    allowed = ALLOWED[room_of(name, set(ALLOWED)) or ""]
    wrong = sorted(other for other in GRAPH[name] if room_of(other, allowed) is None)
    assert not wrong, f"{PACKAGE.name}.{name} must not import {', '.join(wrong)}"


def circle_in(graph: dict[str, set[str]]) -> list[str] | None:
    """Modules that import each other in a circle, if there are any."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_there_is_no_circle() -> None:
    assert circle_in({name: others - {name} for name, others in GRAPH.items()}) is None


def test_a_circle_is_seen() -> None:
    assert set(circle_in({"a": {"b"}, "b": {"a"}}) or ()) == {"a", "b"}


@pytest.mark.parametrize("folder", ["common", "cpu", "cuda"])
def test_arrows_of_the_kernels_go_down(folder: str) -> None:
    files = [path for path in (PACKAGE.parent / "csrc" / folder).rglob("*") if path.suffix in (".h", ".cpp", ".cu")]
    included = {name for path in files for name in re.findall(r'^#include "(\w+)/', path.read_text(), flags=re.M)}
    assert files and included <= {"common", folder}
