"""How fast the page of ``segma-fast explore`` answers, and its picture for the README.

``python -m benchmarks.suites.explore --run-dir runs/mnist`` times what a slider calls, and in Chromium the time from a
slider's movement to the new picture; ``--picture docs/images/explore.png`` writes the page with a drawing.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from segma_fast.trainer import load_run
from segma_fast.trainer.explore.explorer import Explorer
from segma_fast.trainer.explore.serve import start

TIMES = 20
SEVEN = [(0.3, 0.25), (0.68, 0.25), (0.45, 0.8)]  # a stroke, in shares of the pad


def handlers(explorer: Explorer) -> dict[str, float]:
    """Milliseconds of what the sliders call, medians."""
    first, second = explorer.first_two()
    to = explorer.run.names[-1]
    calls: dict[str, Callable[[float], Any]] = {
        "picture": lambda t: explorer.judged(first),
        "interpolation": lambda t: explorer.interpolate(first, second, t),
        "style transfer": lambda t: explorer.transfer(first, to, t),
        "intensity": lambda t: explorer.intensify(first, to, t),
        "samples": lambda t: explorer.samples(None, 10, t, 0, False),
    }
    return {name: median(_ms(call, n / TIMES) for n in range(TIMES)) for name, call in calls.items()}


def _ms(call: Callable[[float], Any], t: float) -> float:
    begin = perf_counter()
    call(t)
    return 1e3 * (perf_counter() - begin)


def in_browser(address: str, picture: Path | None) -> float:
    """Milliseconds from a slider's movement to the new picture, the median; the page is drawn to a PNG before."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(address)
        page.wait_for_selector("#between-strip img")
        page.get_by_role("tab", name="Draw").click()
        page.wait_for_selector('#pad button[aria-label="Brush"].highlight')
        box = page.locator("#pad canvas").first.bounding_box()
        assert box is not None
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=10)
        page.mouse.up()
        page.get_by_role("button", name="Use the drawing").click()
        page.wait_for_function("document.querySelector('#about').innerText.includes('your drawing')")
        page.get_by_role("tab", name="Style transfer").click()
        page.wait_for_selector("#transfer-last img")
        page.wait_for_timeout(1500)
        if picture is not None:
            page.screenshot(path=picture)
        times = []
        for number in range(TIMES):
            script = """([t]) => new Promise(resolve => {
              const slider = document.querySelector('#transfer-far input[type="range"]');
              const before = document.querySelector('#transfer-last img').src, begin = performance.now();
              const watch = () => document.querySelector('#transfer-last img')?.src !== before
                ? resolve(performance.now() - begin) : requestAnimationFrame(watch);
              slider.value = t; slider.dispatchEvent(new Event('input', {bubbles: true})); watch();
            })"""
            times.append(float(page.evaluate(script, [0.2 + 0.05 * number])))
        browser.close()
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run-dir", type=Path, default=Path("runs/digits"))
    parser.add_argument("--picture", type=Path, help="PNG of the page")
    options = parser.parse_args()
    begin = perf_counter()
    explorer = Explorer(load_run(options.run_dir))
    print(f"start: {perf_counter() - begin:.1f} s")
    for name, ms in handlers(explorer).items():
        print(f"{name}: {ms:.1f} ms")
    page, address = start(explorer, port=7899)
    print(f"from a slider to its picture, in Chromium: {in_browser(address, options.picture):.0f} ms")
    page.close(verbose=False)


if __name__ == "__main__":
    main()
