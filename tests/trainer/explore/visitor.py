"""Somebody who uses the page, in a window of Chromium."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


class Visitor:
    """A window of its own on the page."""

    def __init__(self, browser: Any, address: str, width: int = 1280) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 1000})
        self.page = self.context.new_page()
        self.outside: list[str] = []
        self.page.on("request", lambda request: self.outside.append(request.url))
        self.page.goto(address)
        self.page.wait_for_function("document.querySelector('#between-strip img')")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def about(self) -> str:
        return str(self.page.locator("#about").inner_text())

    def wait_for(self, selector: str, text: str) -> None:
        self.page.wait_for_function(
            "([s, t]) => document.querySelector(s)?.innerText.includes(t)", arg=[selector, text], timeout=10_000
        )

    def source(self, name: str) -> str:
        image = self.page.locator(f"#{name} img")
        image.wait_for(timeout=10_000)
        return str(image.get_attribute("src"))

    def changed(self, name: str, before: str) -> np.ndarray[Any, Any]:
        """The pixels of a picture once it is another than before."""
        self.page.wait_for_function(
            "([n, s]) => { const i = document.querySelector('#' + n + ' img'); return i && i.src !== s; }",
            arg=[name, before], timeout=10_000,
        )  # fmt: skip
        return np.asarray(Image.open(io.BytesIO(self.context.request.get(self.source(name)).body())))

    def click(self, name: str, across: float, down: float) -> None:
        """Click on a picture, at these parts of its width and height, once it is loaded and so has its size."""
        self.page.wait_for_function(
            "n => { const i = document.querySelector(`#${n} img`); return i?.complete && i.naturalWidth > 0; }",
            arg=name, timeout=10_000,
        )  # fmt: skip
        box = self.page.locator(f"#{name} img").bounding_box()
        self.page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])

    def message(self) -> str:
        toast = self.page.locator(".toast-body").first
        toast.wait_for(timeout=10_000)
        found = str(toast.inner_text())
        self.page.locator(".toast-close").first.click()
        toast.wait_for(state="detached", timeout=10_000)
        return found

    def choose(self, number: int) -> None:
        self.tab("Test picture")
        field = self.page.locator("#number input")
        field.fill(str(number))
        field.press("Enter")

    def draw(self) -> None:
        """A seven."""
        self.tab("Draw")
        self.page.locator('#pad button[aria-label="Brush"].highlight').wait_for()
        box = self.page.locator("#pad canvas").first.bounding_box()
        ends = [(0.35, 0.3), (0.65, 0.3), (0.45, 0.75)]
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ends]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point, steps=10)
        self.page.mouse.up()

    def upload(self, file: Path) -> None:
        self.tab("Upload")
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_role("button", name="Choose a file").click()
        chooser.value.set_files(file)

    def close(self) -> None:
        self.context.close()
