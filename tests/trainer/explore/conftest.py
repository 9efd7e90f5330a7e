"""A served page, and browsers for it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explored import SECRET, make_explorer
from PIL import Image
from visitor import Visitor

from segma_fast.trainer import load_run, starting_config, train
from segma_fast.trainer.explore.explorer import Explorer
from segma_fast.trainer.explore.serve import start


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    config = starting_config("digits").with_options(epochs=15, hidden=(64,), device="cpu")
    train(config.with_options(run_dir=str(folder)))
    (folder / "secret.txt").write_text(SECRET)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "own.png")
    return folder


@pytest.fixture(scope="session")
def explorer(run_dir: Path) -> Explorer:
    return Explorer(load_run(run_dir))


@pytest.fixture(scope="session")
def address(explorer: Explorer) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page, address = start(explorer, port=port)
    yield address
    page.close(verbose=False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visitor(browser: Any, address: str) -> Iterator[Visitor]:
    found = Visitor(browser, address)
    yield found
    found.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Explorer]:
    """Explorers by name, each trained once."""
    return cache(lambda name: make_explorer(name, tmp_path_factory.mktemp))
