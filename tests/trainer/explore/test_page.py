"""The page in a real browser: Chromium, if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from visitor import Visitor

from segma_fast.trainer import load_run
from segma_fast.trainer.explore.explorer import Explorer


def test_nothing_is_loaded_from_elsewhere(visitor: Visitor, address: str) -> None:
    for tab in ("Style transfer", "Intensity", "Samples", "Draw"):
        visitor.tab(tab)
    visitor.page.locator("#pad canvas").first.wait_for()
    assert len(visitor.outside) > 5
    assert not [url for url in visitor.outside if not url.startswith((address, "data:", "blob:"))]


def test_draw_and_classify(visitor: Visitor) -> None:
    visitor.draw()
    before = visitor.source("picture")
    visitor.page.get_by_role("button", name="Use the drawing").click()
    visitor.wait_for("#about", "your drawing, inverted to light on dark")
    picture = visitor.changed("picture", before)
    assert picture.shape[:2] == (8, 8) and picture.max() > 200
    visitor.wait_for("#classes", "7")
    assert "picture.png" in visitor.page.locator(".cm-content").first.inner_text()


@pytest.mark.slow
def test_a_click_on_the_map_chooses_a_picture(visitor: Visitor, explorer: Explorer) -> None:
    """Two clicks on points are A and B of the interpolation; one beside all points is a message."""
    size = explorer.map.picture.size
    for number in (30, 40):
        strip = visitor.source("between-strip")
        found = explorer.clicked(explorer.map.pixels[number]).number
        visitor.click("map", *explorer.map.pixels[number] / size)
        visitor.wait_for("#about", f"test picture {found},")
        visitor.changed("between-strip", strip)
        assert visitor.page.locator("#number input").input_value() == str(found)
    first = explorer.clicked(explorer.map.pixels[30]).number
    visitor.wait_for("#between-command", f"--images {first} {found}")
    visitor.click("map", 0.98, 0.98)
    assert "near a point" in visitor.message()


def test_sliders(visitor: Visitor) -> None:
    visitor.choose(11)
    visitor.wait_for("#about", "test picture 11,")
    for tab, name in (("Map", "t"), ("Style transfer", "transfer-far"), ("Intensity", "intensify-far")):
        visitor.tab(tab)
        which = "between" if name == "t" else name.split("-")[0]
        before = visitor.source(f"{which}-last")
        slider = visitor.page.locator(f'#{name} input[type="range"]')
        slider.fill("0.8")
        assert visitor.changed(f"{which}-last", before).shape[:2] == (8, 8)
        command = visitor.page.locator(f"#{which}-command .cm-content").inner_text()
        assert "segma-fast" in command and "11" in command
    visitor.tab("Style transfer")
    visitor.wait_for("#transfer-command", "--until 0.8")
    visitor.page.locator("#transfer-far button").click()  # back to where it was
    visitor.wait_for("#transfer-command", "--until 1")
    visitor.wait_for("#transfer-taken", "The model takes this for class")


@pytest.mark.slow
def test_another_class(visitor: Visitor) -> None:
    visitor.tab("Style transfer")
    before = visitor.source("transfer-last")
    visitor.page.locator("#transfer-class input").click()
    visitor.page.get_by_role("option", name="3").click()
    visitor.changed("transfer-last", before)
    visitor.wait_for("#transfer-command", "--to 3")


@pytest.mark.slow
def test_samples(visitor: Visitor) -> None:
    visitor.tab("Samples")
    before = visitor.source("samples-strip")
    seed = visitor.page.locator("#seed input")
    seed.fill("5")
    seed.press("Enter")
    visitor.changed("samples-strip", before)
    visitor.wait_for("#samples-command", "--seed 5")
    before = visitor.source("samples-strip")
    visitor.page.locator("#everywhere input").check()
    visitor.changed("samples-strip", before)
    visitor.wait_for("#samples-command", "--every-class")


def test_bad_input_is_a_message(visitor: Visitor, tmp_path: Path) -> None:
    visitor.choose(100_000)
    assert "numbered 0 to 358" in visitor.message()
    visitor.tab("Draw")
    visitor.page.get_by_role("button", name="Use the drawing").click()
    assert "nothing is drawn" in visitor.message()
    visitor.tab("Samples")
    seed = visitor.page.locator("#seed input")
    seed.fill("")
    assert "the seed must be from 0 to 999999, got nothing" in visitor.message()
    (tmp_path / "notes.txt").write_text("not a picture")
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    for file, said in (("notes.txt", "not a readable picture"), ("huge.png", "9000 × 9000")):
        visitor.upload(tmp_path / file)
        assert said in visitor.message()
    visitor.choose(3)
    visitor.wait_for("#about", "test picture 3,")


@pytest.mark.slow
def test_a_cleared_pad_draws_again(visitor: Visitor) -> None:
    visitor.draw()
    visitor.page.locator('#pad button[aria-label="Clear canvas"]').click()
    visitor.page.wait_for_timeout(600)
    visitor.draw()
    visitor.page.get_by_role("button", name="Use the drawing").click()
    visitor.wait_for("#about", "your drawing")


@pytest.mark.slow
def test_a_number_that_is_typed_is_one_choice(visitor: Visitor) -> None:
    visitor.choose(50)
    visitor.wait_for("#about", "test picture 50,")
    field = visitor.page.locator("#number input")
    field.fill("")
    field.press_sequentially("123", delay=300)
    field.press("Enter")
    visitor.wait_for("#about", "test picture 123,")
    visitor.wait_for("#between-command", "--images 50 123")
    visitor.page.get_by_role("button", name="Another one").click()
    visitor.page.wait_for_function("!document.querySelector('#about').innerText.includes('picture 123,')")


@pytest.mark.slow
def test_upload(visitor: Visitor, run_dir: Path, tmp_path: Path) -> None:
    own = load_run(run_dir).load_data().test_images[23, 0].numpy()
    Image.fromarray(own).save(tmp_path / "own.png")
    before = visitor.source("picture")
    visitor.upload(tmp_path / "own.png")
    visitor.wait_for("#about", "your file, as it is")
    assert np.array_equal(visitor.changed("picture", before).reshape(8, 8, -1)[..., 0], own)


@pytest.mark.slow
def test_visitors_do_not_see_each_other(browser: Any, address: str) -> None:
    one, other = Visitor(browser, address), Visitor(browser, address)
    one.choose(7)
    one.wait_for("#about", "test picture 7,")
    other.choose(9)
    other.wait_for("#about", "test picture 9,")
    assert "test picture 7," in one.about()
    one.tab("Style transfer")
    before = one.source("transfer-strip")
    one.page.locator('#transfer-far input[type="range"]').fill("0.5")
    one.changed("transfer-strip", before)
    one.wait_for("#transfer-command", "--images 7")
    one.close()
    other.close()


@pytest.mark.slow
def test_narrow_screen(browser: Any, address: str) -> None:
    visitor = Visitor(browser, address, width=400)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 400
    visitor.draw()
    visitor.page.get_by_role("button", name="Use the drawing").click()
    visitor.wait_for("#about", "your drawing")
    visitor.close()
