"""A plugin of pytest for ``make gpu``: a worker whose GPU context is lost ends, so that the other tests are not.

Every later test of such a process would fail for the same reason; with pytest-xdist another worker takes its place.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

LOST = ("illegal memory access", "misaligned address", "unspecified launch failure", "illegal instruction")
LOST += ("device-side assert", "warp illegal", "CUDA error: an illegal")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, None]:
    outcome = yield
    if call.excinfo and any(words in str(call.excinfo.value) for words in LOST) and "PYTEST_XDIST_WORKER" in os.environ:
        with open(os.path.join(os.environ.get("OUT", "."), "lost.log"), "a", encoding="utf-8") as file:
            file.write(f"==== {item.nodeid}\n{outcome.get_result().longreprtext}\n")
        os._exit(70)
