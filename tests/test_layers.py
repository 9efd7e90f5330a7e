"""Which module imports which: the models know nothing of the trainer, and no module is imported in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "segma_fast"
TRAINER = {f"segma_fast.{name}" for name in ("batches", "checkpoints", "config", "run_folder", "training")}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(source: str) -> set[str]:
    """The modules of the package that a source imports: anywhere, also inside of functions and for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {member if member in MODULES else str(node.module) for member in members}
    return found & MODULES.keys()


GRAPH = {name: imports(path.read_text()) for name, path in MODULES.items()}


def test_every_way_to_import_is_seen() -> None:
    source = """
from typing import TYPE_CHECKING
import segma_fast.trainer.config
from segma_fast import fast_cw_distance
from segma_fast.trainer import loop
if TYPE_CHECKING:
    from segma_fast.trainer.batches import Rows
def late():
    from segma_fast.trainer.models import segma, SeGMA
"""
    assert imports(source) == {
        f"segma_fast{rest}" for rest in ("", ".config", ".training", ".batches", ".models", ".models.segma")
    }


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("segma_fast.trainer.models")])
def test_models_know_nothing_of_the_trainer(name: str) -> None:
    """Neither does what they import."""
    assert MODULES.keys() >= TRAINER
    reached: set[str] = set()
    left = {name}
    while left:
        reached |= left
        left = set().union(*(GRAPH[module] for module in left)) - reached
    assert not reached & TRAINER


def test_no_module_is_imported_in_a_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(reversed(error.args[1]))}")
