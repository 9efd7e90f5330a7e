"""The page: what a visitor sees and touches, and which of the explorer's answers go where."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from segma_fast.trainer.explore.explorer import FURTHEST, MOST, STRONGEST, Chosen, Explorer, Way

CANVAS = 280  # pixels of a side of the sketch pad
SINGLE = 200  # points of height of a single picture
CSS = """
.gradio-container { max-width: 1280px !important; margin: auto; }
.pixels img { width: 100%; height: 100%; padding-top: 28px; object-fit: contain; image-rendering: pixelated; }
"""
# takes the brush, which waits to be taken otherwise, once the pad is there
TAKE_BRUSH = """() => {
  const take = (tries) => {
    const brush = document.querySelector('#pad button[aria-label="Brush"]');
    if (brush && !brush.dataset.taken) { brush.dataset.taken = "1"; brush.click(); }
    else if (!brush && tries > 0) setTimeout(() => take(tries - 1), 100);
  };
  take(50);
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


def build_page(explorer: Explorer) -> gr.Blocks:
    """The page of an explorer. What a visitor has chosen is in states that each visitor has for themselves."""
    title = f"segma_fast · {explorer.run.folder.name}"
    page: gr.Blocks
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"## {title}\n{explorer.run.about}")
        chosen, before = (gr.State(picture) for picture in explorer.first_two())
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                pickers = _pickers(explorer)
                shown = _shown(explorer)
            with gr.Column(scale=2, min_width=300):
                with gr.Tab("Map"):
                    code_map, between = _map_tab(explorer, chosen, before)
                ways = [between]
                with gr.Tab("Style transfer"):
                    ways += _direction_tab(explorer, chosen, explorer.transfer, "To", (0, FURTHEST, 1.0), TRANSFER)
                with gr.Tab("Intensity"):
                    limits = (-STRONGEST, STRONGEST, 0.5)
                    ways += _direction_tab(explorer, chosen, explorer.intensify, "Away from", limits, INTENSITY)
                with gr.Tab("Samples"):
                    _samples_tab(explorer, page)

        def show(here: Chosen, earlier: Chosen) -> list[Any]:
            judged = explorer.judged(here)
            found = [judged.picture, here.about, judged.reconstruction, judged.probabilities, *judged.recipe]
            return [*found, explorer.map.marked(explorer.judged(earlier).place, judged.place)]

        def follow(event: Any) -> None:
            event = event.success(show, [chosen, before], [*shown, code_map], **AT_ONCE)
            for function, inputs, outputs in ways:
                event = event.success(function, inputs, list(outputs), **AT_ONCE)

        def chosen_by(function: Callable[..., Chosen]) -> Callable[..., Any]:
            return answered(lambda value, here: (function(value), here))

        def clicked(here: Chosen, event: gr.SelectData) -> tuple[Chosen, Chosen]:
            return explorer.clicked(*event.index), here

        for listener, source, function in pickers:
            follow(listener(chosen_by(function), [source, chosen], [chosen, before], **LIVE))
        follow(code_map.select(answered(clicked), [chosen], [chosen, before], **LIVE))
        follow(page.load(lambda: None, api_visibility="private"))
    return page


def answered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show what is wrong with a visitor's input as a message on the page."""

    @wraps(function)
    def run(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ValueError as error:  # DataError is one
            raise gr.Error(str(error), duration=10, print_exception=False) from error

    return run


TRANSFER = "z + t (μ of the class to go to − μ of its own), equation (10): at t = 1 it is there, beyond 1 further."
INTENSITY = "z + α (μ of its own class − μ of the other), equation (11): more of what sets it apart, or less below 0."


def _pickers(explorer: Explorer) -> list[tuple[Callable[..., Any], Any, Callable[..., Chosen]]]:
    """The ways to choose a picture: the event, the component that has the choice, and what makes a picture of it."""
    found: list[tuple[Callable[..., Any], Any, Callable[..., Chosen]]] = []
    with gr.Tab("Test picture"):
        number = gr.Number(0, precision=0, label=f"Number, 0 to {len(explorer.images) - 1}", elem_id="number")
        found.append((number.input, number, explorer.numbered))
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
        gr.Markdown("A picture file of up to 20 MB; it is brought to the form of the training pictures.")
        file = gr.UploadButton("Choose a file", variant="primary", elem_id="file")
        found.append((file.upload, file, explorer.uploaded))
    return found


def _shown(explorer: Explorer) -> list[Any]:
    """Where the chosen picture is shown, and what the model makes of it."""
    about = gr.Markdown(elem_id="about")
    with gr.Row():
        picture, reconstruction = _single("Picture", "picture"), _single("Reconstruction", "reconstruction")
    most = min(10, explorer.run.model.components)
    probabilities = gr.Label(num_top_classes=most, label=f"Probability of each {explorer.kind}", elem_id="classes")
    return [picture, about, reconstruction, probabilities, *_recipe("picture")]


def _map_tab(explorer: Explorer, chosen: gr.State, before: gr.State) -> tuple[gr.Image, tuple[Any, Any, Panel]]:
    gr.Markdown(
        "Click a point to choose its picture, which is B; the picture that was chosen before is A. "
        "The map is `codes.png` of the run folder."
    )
    code_map = gr.Image(
        label="Codes of test pictures", show_label=False, format="png", type="pil", interactive=False, elem_id="map",
        buttons=["download", "fullscreen"],
    )  # fmt: skip
    with gr.Row():
        t = gr.Slider(0, 1, 0.5, step=0.01, label="t from A to B", elem_id="t", min_width=200)
        last = _single("At t", "between-last")
    panel = _panel("between", last)

    def between(here: Chosen, earlier: Chosen, t: float) -> Any:
        return _spread(explorer.interpolate(earlier, here, t))

    t.input(between, [chosen, before, t], list(panel), **AT_ONCE)
    return code_map, (between, [chosen, before, t], panel)


def _direction_tab(
    explorer: Explorer, chosen: gr.State, way: Callable[[Chosen, str, float], Way], preposition: str,
    limits: tuple[float, float, float], about: str,
) -> list[tuple[Any, Any, Panel]]:  # fmt: skip
    """A class and a slider; nothing but the reason for a model that has no other class."""
    if explorer.one_way:
        gr.Markdown(explorer.one_way)
        return []
    gr.Markdown(about)
    names, name = list(explorer.run.names), way.__name__
    least, most, usual = limits
    letter = "t" if least == 0 else "α"
    with gr.Row():
        with gr.Column(min_width=200):
            label = f"{preposition} {explorer.kind}"
            other = gr.Dropdown(names, value=names[-1], label=label, elem_id=f"{name}-class")
            far = gr.Slider(least, most, usual, step=0.05, label=letter, elem_id=f"{name}-far")
        last = _single(f"At {letter}", f"{name}-last")
    panel = _panel(name, last)

    def moved(here: Chosen, other: str, far: float) -> Any:
        return _spread(way(here, other, far))

    inputs = [chosen, other, far]
    gr.on([other.input, far.input], moved, inputs, list(panel), **AT_ONCE)
    return [(moved, inputs, panel)]


def _samples_tab(explorer: Explorer, page: gr.Blocks) -> None:
    component = gr.Dropdown([EACH, *explorer.run.names], value=EACH, label=f"Of {explorer.kind}", elem_id="component")
    with gr.Row():
        n = gr.Slider(1, MOST, 10, step=1, label="How many", elem_id="n")
        spread = gr.Slider(0, 2, 1, step=0.05, label="Spread around the mean", elem_id="spread")
        seed = gr.Number(0, precision=0, label="Seed", elem_id="seed")
    label = f"The same codes in every {explorer.kind}, a row a code"
    everywhere = gr.Checkbox(False, label=label, visible=not explorer.one_way, elem_id="everywhere")
    panel = _panel("samples", gr.Image(visible=False))

    def drawn(component: str, n: float, spread: float, seed: float, everywhere: bool) -> Any:
        chosen = None if component == EACH else component
        return _spread(explorer.samples(chosen, n, spread, seed, everywhere))

    inputs: list[Any] = [component, n, spread, seed, everywhere]
    gr.on([page.load, *(one.input for one in inputs)], answered(drawn), inputs, list(panel), **LIVE)


def _single(label: str, name: str) -> gr.Image:
    return gr.Image(
        label=label, format="png", type="pil", interactive=False, height=SINGLE, min_width=120, elem_id=name,
        elem_classes="pixels", buttons=["download", "fullscreen"],
    )  # fmt: skip


def _panel(name: str, last: gr.Image) -> Panel:
    strip = gr.Image(
        show_label=False, format="png", type="pil", interactive=False, elem_id=f"{name}-strip",
        buttons=["download", "fullscreen"],
    )  # fmt: skip
    return Panel(last, strip, *_recipe(name))


def _recipe(name: str) -> tuple[gr.Code, gr.Code]:
    """Where the lines are shown that make the pictures above."""
    with gr.Accordion("The same from the command line and in Python", open=True):
        look: dict[str, Any] = {"lines": 1, "wrap_lines": True, "show_line_numbers": False, "interactive": False}
        command = gr.Code(language="shell", label="Command line", elem_id=f"{name}-command", **look)
        python = gr.Code(language="python", label="Python", elem_id=f"{name}-python", **look)
    return python, command


def _spread(way: Way) -> tuple[Any, ...]:
    return way.last, way.strip, *way.recipe
