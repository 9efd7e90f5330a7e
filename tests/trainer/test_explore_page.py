"""The page of ``segma-fast explore`` in a real browser: Chromium, if there is one."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

from segma_fast.trainer import load_run, starting_config, train  # noqa: E402
from segma_fast.trainer.explore.explorer import Explorer  # noqa: E402
from segma_fast.trainer.explore.serve import start  # noqa: E402

SECRET = "nobody may read this"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    config = starting_config("digits").with_options(epochs=15, hidden=(64,), device="cpu")
    train(config.with_options(run_dir=str(folder)))
    (folder / "secret.txt").write_text(SECRET)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "own.png")
    return folder


@pytest.fixture(scope="module")
def address(run_dir: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page, address = start(Explorer(load_run(run_dir)), port=port)
    yield address
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


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

    def message(self) -> str:
        toast = self.page.locator(".toast-body").first
        toast.wait_for(timeout=10_000)
        found = str(toast.inner_text())
        self.page.locator(".toast-close").first.click()
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


@pytest.fixture
def visitor(browser: Any, address: str) -> Iterator[Visitor]:
    found = Visitor(browser, address)
    yield found
    found.close()


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
def test_a_click_on_the_map_chooses_a_picture(visitor: Visitor) -> None:
    before, strip = visitor.source("picture"), visitor.source("between-strip")
    image = visitor.page.locator("#map img")
    box = image.bounding_box()
    visitor.page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    visitor.changed("picture", before)
    first = visitor.about()
    visitor.page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.7 * box["height"])
    visitor.page.wait_for_function("t => document.querySelector('#about').innerText !== t", arg=first)
    assert "test picture" in visitor.about()
    visitor.changed("between-strip", strip)


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
    (tmp_path / "notes.txt").write_text("not a picture")
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    for file, said in (("notes.txt", "not a readable picture"), ("huge.png", "9000 × 9000")):
        visitor.upload(tmp_path / file)
        assert said in visitor.message()
    visitor.choose(3)
    visitor.wait_for("#about", "test picture 3,")


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


@pytest.mark.parametrize("prefix", ["/gradio_api/file=", "/file=", "/gradio_api/proxy=file://", "/static/", "/assets/"])
def test_no_other_file_can_be_read(address: str, run_dir: Path, prefix: str) -> None:
    secret = run_dir / "secret.txt"
    for path in (str(secret), f"../../../../../../..{secret}", "/etc/passwd", str(run_dir / "config.json")):
        for form in (path, path.replace("/", "%2F"), path.replace("..", "%2e%2e")):
            try:
                with urllib.request.urlopen(address.rstrip("/") + prefix + form, timeout=10) as answer:
                    text = answer.read().decode(errors="replace")
            except urllib.error.HTTPError as error:
                text = error.read().decode(errors="replace")
            assert SECRET not in text and "root:" not in text and "latent_dim" not in text


def said_of(address: str, file: str, session: str) -> str:
    """What the page answers to a request of one's own that names a file of the server as the uploaded one."""
    with urllib.request.urlopen(address + "config", timeout=10) as answer:
        config = json.load(answer)
    button = next(c["id"] for c in config["components"] if c["type"] == "uploadbutton")
    entry = next(e for e in config["dependencies"] if button in e["inputs"])
    given = {"path": file, "meta": {"_type": "gradio.FileData"}}
    data = [given if number == button else None for number in entry["inputs"]]
    asked = json.dumps({"data": data, "fn_index": entry["id"], "session_hash": session}).encode()
    request = urllib.request.Request(address + "gradio_api/queue/join", asked, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=10).read()
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")
    said = ""
    with urllib.request.urlopen(address + f"gradio_api/queue/data?session_hash={session}", timeout=10) as answer:
        while "process_completed" not in said:
            said += answer.readline().decode()
    return said


def test_no_other_file_can_be_named_as_input(address: str, run_dir: Path) -> None:
    boundary, own = "xyz", (run_dir / "own.png").read_bytes()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head.encode() + own + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(address + "gradio_api/upload", body, kind)
    with urllib.request.urlopen(request, timeout=10) as answer:
        uploaded = json.load(answer)[0]
    assert '"success":true' in said_of(address, uploaded, "a")
    for number, path in enumerate((run_dir / "own.png", run_dir / "secret.txt", Path("/etc/passwd"))):
        said = said_of(address, str(path), f"b{number}")
        assert '"success":true' not in said and SECRET not in said and "root:" not in said


@pytest.mark.slow
def test_command_starts_and_ends(run_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "segma_fast", "explore", "--run-dir", str(run_dir), "--no-browser", "--port"]
        refused = subprocess.run([*command, str(taken.getsockname()[1])], capture_output=True, text=True, timeout=120)
        assert refused.returncode == 2 and "--port names another" in refused.stderr
        port = str(taken.getsockname()[1])
    running = subprocess.Popen([*command, port], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert running.stdout is not None
    said = ""
    while "Ctrl-C" not in said:
        line = running.stdout.readline()
        assert line, said
        said += line
    assert f"http://127.0.0.1:{port}/" in said
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=30)
    assert running.returncode == 0 and "ended" in rest and "Traceback" not in rest
