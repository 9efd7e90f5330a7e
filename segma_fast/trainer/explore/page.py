"""The page: what a visitor sees and touches, and which of the explorer's answers go where."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from segma_fast.trainer.explore import words
from segma_fast.trainer.explore.explorer import FURTHEST, MOST, STRONGEST, Chosen, Explorer, Way

CANVAS = 280  # pixels of a side of the sketch pad
SINGLE = 200  # points of height of a single picture
LIKELY = 5  # classes whose probabilities are shown
CSS = """
.gradio-container { max-width: 1280px !important; margin: auto; }
.pixels img { width: 100%; height: 100%; padding-top: 28px; object-fit: contain; image-rendering: pixelated; }
#pad button[aria-label="Color"], #pad button[aria-label="Pan"], #pad button[aria-label^="Zoom"] { display: none; }
"""
# the pad lets the brush go at first and when it is cleared: it is taken again
TAKE_BRUSH = """() => {
  window.takingBrush ||= setInterval(() => {
    const tool = (name) => document.querySelector(`#pad button[aria-label="${name}"]`);
    const brush = tool("Brush"), held = [brush, tool("Erase")].some((one) => one?.classList.contains("highlight"));
    if (brush && !held) brush.click();
  }, 200);
}"""
EACH = "each, a row"
LIVE: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
AT_ONCE = LIVE | {"queue": False}  # faster, but nothing that goes wrong is shown


class Panel(NamedTuple):
    """Where a :class:`Way` is shown."""

    last: gr.Image
    strip: gr.Image
    python: gr.Code
    command: gr.Code
    about: gr.Markdown


Update = tuple[Callable[..., Any], list[Any], Panel]


def build_page(explorer: Explorer) -> gr.Blocks:
    """The page of an explorer. What a visitor has chosen is in states that each visitor has for themselves."""
    title, run = f"segma_fast · {explorer.run.config.run_dir.name}", explorer.run
    count = run.model.components
    names = words.WITHOUT_LABELS.format(count=count) if explorer.kind == "component" and count > 1 else ""
    page: gr.Blocks
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"## {plain(title)}\n" + words.INTRODUCTION.format(about=plain(run.about), names=names))
        before, chosen = (gr.State(picture) for picture in explorer.first_two())
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                number, pickers = _pickers(explorer)
                shown = _shown(explorer)
            with gr.Column(scale=2, min_width=300):
                with gr.Tab("Map"):
                    code_map, ends, between = _map_tab(explorer, chosen, before)
                ways = [between]
                with gr.Tab("Style transfer"):
                    about = words.TRANSFER.format(kind=explorer.kind, way=run.model.ways[0])
                    ways += _direction_tab(explorer, chosen, explorer.transfer, about, "To", (0, FURTHEST, 1.0))
                with gr.Tab("Intensity"):
                    about = words.INTENSITY.format(kind=explorer.kind, way=run.model.ways[1])
                    limits = (-STRONGEST, STRONGEST, 1.0)
                    ways += _direction_tab(explorer, chosen, explorer.intensify, about, "Away from", limits)
                with gr.Tab("Samples"):
                    _samples_tab(explorer, page)

        def show(here: Chosen, earlier: Chosen) -> list[Any]:
            first, second = explorer.judged(earlier), explorer.judged(here)
            found = [second.picture, plain(here.about), second.reconstruction, second.probabilities, *second.recipe]
            found += [explorer.map.marked(first.place, second.place), first.picture, second.picture]
            return [*found, here.number]

        def follow(event: Any) -> None:
            event = event.success(show, [chosen, before], [*shown, code_map, *ends, number], **AT_ONCE)
            for function, inputs, outputs in ways:
                event = event.success(function, inputs, list(outputs), **AT_ONCE)

        both = [chosen, before]
        for listener, source, function in pickers:
            follow(listener(choosing(function), [source, *both], both, **LIVE))
        follow(code_map.select(choosing_on_map(explorer), both, both, **LIVE))
        follow(page.load(lambda: None, api_visibility="private"))
    return page


def choosing(function: Callable[..., Chosen]) -> Callable[..., Any]:
    """From a choice to the last two pictures; the same picture once more changes nothing."""

    def chosen(value: Any, here: Chosen, earlier: Chosen) -> tuple[Chosen, Chosen]:
        new = function(value)
        if new.number is not None and new.number == here.number:
            return here, earlier
        return new, here

    return answered(chosen)


def choosing_on_map(explorer: Explorer) -> Callable[..., Any]:
    """The same for a click, which gradio gives to an argument of this type."""
    choose = choosing(explorer.clicked)

    def clicked(here: Chosen, earlier: Chosen, event: gr.SelectData) -> Any:
        return choose(event.index, here, earlier)

    return clicked


def plain(text: str) -> str:
    """A text in which Markdown and HTML find nothing of their own."""
    return re.sub(r"[!-/:-@\[-`{-~]", lambda sign: f"&#{ord(sign[0])};", text)


def answered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show what is wrong with a visitor's input as a message on the page."""

    @wraps(function)
    def run(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ValueError as error:  # DataError is one
            raise gr.Error(str(error), duration=10, print_exception=False) from error

    return run


def _pickers(
    explorer: Explorer,
) -> tuple[gr.Number, list[tuple[Callable[..., Any], Any, Callable[..., Chosen]]]]:
    """The ways to choose a picture: the event, the component that has the choice, and what makes a picture of it."""
    found: list[tuple[Callable[..., Any], Any, Callable[..., Chosen]]] = []
    with gr.Tab("Test picture"):
        label = f"Number, 0 to {len(explorer.images) - 1}, and Enter"
        number = gr.Number(0, precision=0, label=label, elem_id="number")
        found.append((number.submit, number, explorer.numbered))
        another = gr.Button("Another one")
        found.append((another.click, number, lambda value: explorer.random()))
    if explorer.grey:
        with gr.Tab("Draw") as tab:
            width = max(CANVAS // 14, round(0.9 * CANVAS / explorer.look.shape[1]))  # of strokes, as in small pictures
            pad = gr.Sketchpad(
                label="Draw here", show_label=False, type="pil", canvas_size=(CANVAS, CANVAS), fixed_canvas=True,
                brush=gr.Brush(default_size=width, colors=["#000000"], color_mode="fixed"), layers=False,
                transforms=(), elem_id="pad", height=CANVAS + 120, placeholder="Draw here",
            )  # fmt: skip
            tab.select(None, js=TAKE_BRUSH)
            use = gr.Button("Use the drawing", variant="primary")
            found.append((use.click, pad, lambda value: explorer.drawn(value and value["composite"])))
    with gr.Tab("Upload"):
        gr.Markdown(words.UPLOAD)
        file = gr.UploadButton("Choose a file", variant="primary", elem_id="file")
        found.append((file.upload, file, explorer.uploaded))
    return number, found


def _shown(explorer: Explorer) -> list[Any]:
    """Where the chosen picture is shown, and what the model makes of it."""
    about = gr.Markdown(elem_id="about")
    with gr.Row():
        picture, reconstruction = _single("Picture", "picture"), _single("Decoded", "reconstruction")
    several = explorer.run.model.components > 1
    label = f"Which {explorer.kind}, by probability"
    probabilities = gr.Label(num_top_classes=LIKELY, label=label, elem_id="classes", visible=several)
    return [picture, about, reconstruction, probabilities, *_recipe("picture")]


def _map_tab(explorer: Explorer, chosen: gr.State, before: gr.State) -> tuple[gr.Image, list[gr.Image], Update]:
    gr.Markdown(words.MAP.format(kind=explorer.kind))
    code_map = gr.Image(
        label="Codes of test pictures", show_label=False, format="png", type="pil", interactive=False, elem_id="map",
        buttons=["download", "fullscreen"],
    )  # fmt: skip
    with gr.Row():
        first = _single("A", "between-a")
        with gr.Column(min_width=160):
            t = gr.Slider(0, 1, 0.5, step=0.01, label="t, from A to B", elem_id="t")
            about = gr.Markdown()
        last, second = _single("At t", "between-last"), _single("B", "between-b")
    panel = _panel("between", last, about)

    def between(here: Chosen, earlier: Chosen, t: float) -> Any:
        return _spread(explorer.interpolate(earlier, here, t))

    t.change(between, [chosen, before, t], list(panel), **AT_ONCE)
    return code_map, [first, second], (between, [chosen, before, t], panel)


def _direction_tab(
    explorer: Explorer, chosen: gr.State, way: Callable[[Chosen, str, float], Way], about: str, preposition: str,
    limits: tuple[float, float, float],
) -> list[Update]:  # fmt: skip
    """A class and a slider; nothing but the reason for a model that has no other class."""
    if explorer.one_way:
        gr.Markdown(explorer.one_way)
        return []
    gr.Markdown(about)
    choices, name = list(zip(explorer.names, explorer.run.names, strict=True)), way.__name__
    least, most, usual = limits
    letter = "t" if least == 0 else "α"
    with gr.Row():
        with gr.Column(min_width=200):
            label = f"{preposition} {explorer.kind}"
            other = gr.Dropdown(choices, value=choices[-1][1], label=label, elem_id=f"{name}-class")
            far = gr.Slider(least, most, usual, step=0.05, label=letter, elem_id=f"{name}-far")
            taken = gr.Markdown(elem_id=f"{name}-taken")
        last = _single(f"At {letter}", f"{name}-last")
    panel = _panel(name, last, taken)

    def moved(here: Chosen, other: str, far: float) -> Any:
        return _spread(way(here, other, far))

    inputs = [chosen, other, far]
    gr.on([other.input, far.change], moved, inputs, list(panel), **AT_ONCE)
    return [(moved, inputs, panel)]


def _samples_tab(explorer: Explorer, page: gr.Blocks) -> None:
    gr.Markdown(words.SAMPLES.format(kind=explorer.kind))
    choices = [(EACH, EACH), *zip(explorer.names, explorer.run.names, strict=True)]
    component = gr.Dropdown(choices, value=EACH, label=f"Of {explorer.kind}", elem_id="component")
    with gr.Row():
        n = gr.Slider(1, MOST, 10, step=1, label=f"How many of a {explorer.kind}", elem_id="n")
        spread = gr.Slider(0, 2, 1, step=0.05, label="Spread", elem_id="spread")
        seed = gr.Number(0, precision=0, label="Seed of the random codes", elem_id="seed")
    label = f"The same codes in every {explorer.kind}, a row a code (of {explorer.names[0]}, unless one is chosen)"
    everywhere = gr.Checkbox(False, label=label, visible=not explorer.one_way, elem_id="everywhere")
    panel = _panel("samples", gr.Image(visible=False), gr.Markdown(visible=False))

    def drawn(component: str, n: float, spread: float, seed: float | None, everywhere: bool) -> Any:
        chosen = None if component == EACH else component
        return _spread(explorer.samples(chosen, n, spread, seed, everywhere))

    inputs: list[Any] = [component, n, spread, seed, everywhere]
    changes = [component.input, n.change, spread.change, seed.input, everywhere.input]
    gr.on([page.load, *changes], answered(drawn), inputs, list(panel), **(LIVE | {"show_progress": "minimal"}))


def _single(label: str, name: str) -> gr.Image:
    return gr.Image(
        label=label, format="png", type="pil", interactive=False, height=SINGLE, min_width=120, elem_id=name,
        elem_classes="pixels", buttons=["download", "fullscreen"],
    )  # fmt: skip


def _panel(name: str, last: gr.Image, about: gr.Markdown) -> Panel:
    strip = gr.Image(
        show_label=False, format="png", type="pil", interactive=False, elem_id=f"{name}-strip",
        buttons=["download", "fullscreen"],
    )  # fmt: skip
    return Panel(last, strip, *_recipe(name), about)


def _recipe(name: str) -> tuple[gr.Code, gr.Code]:
    """Where the lines are shown that make the pictures above."""
    look: dict[str, Any] = {"lines": 1, "wrap_lines": True, "show_line_numbers": False, "interactive": False}
    command = gr.Code(language="shell", label="The same from the command line", elem_id=f"{name}-command", **look)
    with gr.Accordion("The same in Python", open=False):
        python = gr.Code(language="python", label="Python", elem_id=f"{name}-python", **look)
    return python, command


def _spread(way: Way) -> tuple[Any, ...]:
    return way.last, way.strip, *way.recipe, plain(way.about)
