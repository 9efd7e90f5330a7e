"""Files that cannot be written or read: one line that names the file as the user knows it, and says what stays."""

from __future__ import annotations

import io
import resource
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training import config
from tqdm import tqdm

from segma_fast.__main__ import main
from segma_fast.trainer import loop, metrics_log
from segma_fast.trainer.checkpoints import latest_checkpoint
from segma_fast.trainer.events import Events
from segma_fast.trainer.metrics_log import Records
from segma_fast.trainer.run import load_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    loop.train(config(folder, epochs=1))
    return folder


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command that fails says, in one line."""
    monkeypatch.setattr(threading, "excepthook", lambda found: pytest.fail(f"a traceback of {found.thread}"))

    def of(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main(list(arguments))
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line.removeprefix("segma-fast: error: ")

    return of


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """For this process a file of more bytes is what a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_places_that_cannot_be(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("afile").touch()
    Path("pictures").mkdir()
    run = ("--run-dir", str(run_dir))
    for out in ("afile/x.png", "afile/y/x.png"):
        assert said("sample", *run, "--out", out) == f"{out} cannot be written: afile is not a folder"
    here = f"{tmp_path}/afile"
    assert said("publish", *run, "--out", "afile/x") == f"{here}/x cannot be written: {here} is not a folder"
    assert said("train", "--run-dir", "afile/x") == "run_dir must be a folder, got afile/x: afile is a file"
    assert said("train", "--config", "pictures") == "a configuration is a file, got the folder pictures"
    assert said("train", "--config", "afile/x.json") == "afile/x.json cannot be read: Not a directory"
    if Path("/proc/self").exists():
        assert (
            said("sample", *run, "--out", "/proc/x.png") == "/proc/x.png cannot be written: No such file or directory"
        )
        assert said("publish", *run, "--out", "/proc/x") == "/proc/x cannot be written: No such file or directory"


def test_a_full_disk_before_and_after_training(run_dir: Path, tmp_path: Path, said: Callable[..., str]) -> None:
    full = "cannot be written: File too large"
    new = ("--epochs", "1", "--hidden", "8", "--run-dir", f"{tmp_path}/new")
    with no_file_beyond(100):
        assert said("train", *new) == f"{tmp_path}/new/config.json {full}"
    with no_file_beyond(1000):
        out = ("--out", f"{tmp_path}/x.png")
        assert said("sample", "--run-dir", str(run_dir), *out) == f"{tmp_path}/x.png {full}"
        lines = said("publish", "--run-dir", str(run_dir), "--out", f"{tmp_path}/model")
        assert lines.startswith(f"{tmp_path}/model cannot be written: ") and "File too large" in lines
    assert not list(tmp_path.glob(".*"))
    with no_file_beyond(30_000):
        assert (
            said("train", *new, "--overwrite") == f"{tmp_path}/new/samples.png {full}; the checkpoint of step 13 stays"
        )
    assert load_run(tmp_path / "new").step == 13


@pytest.mark.parametrize("name", ["tensorboard/events.out.tfevents.*", "metrics.csv"])
def test_a_full_disk_while_metrics_are_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, without a thread whose traceback comes later."""
    threads = threading.active_count()

    def fill(line: Mapping[str, float]) -> None:
        assert threading.active_count() == threads
        if "test_error" in line:
            (file,) = tmp_path.glob(name)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 9, resource.RLIM_INFINITY))

    if name == "metrics.csv":
        monkeypatch.setattr(Events, "write", lambda *_: None)
    with (
        no_file_beyond(10**9),
        pytest.raises(OSError, match=rf"/{name} cannot be written: File too large; the checkpoint of step 20 stays$"),
    ):
        loop.train(config(tmp_path, checkpoint_every=20, log_every=5), on_metrics=fill)
    assert load_run(tmp_path).step == 20
    assert loop.train(config(tmp_path, checkpoint_every=20, log_every=5), resume=True).steps > 20


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    """A run that was stopped and went on has each step once."""
    loop.train(config(tmp_path, epochs=1, log_every=5))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("14,")  # cut off
    lost = Events(tmp_path / "tensorboard", 13)
    lost.write({"loss": -1.0}, 14)
    lost.close()
    loop.train(config(tmp_path, epochs=2, log_every=5), resume=True)
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert (
        [event.step for event in found.Scalars("loss")]
        == [int(row[0]) for row in rows[1:]]
        == [5, 10, 13, 15, 20, 25, 26]
    )
    losses = [float(row[rows[0].index("loss")]) for row in rows[1:]]
    assert [event.value for event in found.Scalars("loss")] == pytest.approx(losses)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: None, "metrics.csv is missing: it goes on with 0 lines up to step 13"),
        (lambda text: text.replace("\n5,", "\n5;"), "damaged: it goes on with 2 lines up to step 13"),
        (lambda text: text.replace("step,", "stop,"), "damaged: it goes on with 3 lines"),
        (lambda text: text[: text.rindex("13,")], "damaged: it goes on with 2 lines"),
        (lambda text: "", "missing: it goes on with 0 lines"),
    ],
)
def test_lost_metrics_are_told(change: Callable[[str], str | None], message: str, tmp_path: Path) -> None:
    loop.train(config(tmp_path, epochs=1, log_every=5))
    file = tmp_path / "metrics.csv"
    text = change(file.read_text())
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.warns(UserWarning, match=message):
        loop.train(config(tmp_path, epochs=2, log_every=5), resume=True)
    assert file.read_text().splitlines()[-1].startswith("26,")


@pytest.mark.parametrize(
    ("steps", "spent", "percent"), [(1000, 0.5, 50.0), (12, 0.5, 100 * 10 / 12), (1000, 1.2, 100.0)]
)
def test_the_progress_bar_counts_what_ends_first(
    steps: int, spent: float, percent: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 steps in half of the time, beside which all steps last long, or end soon; and a last step that is late."""
    now = iter([0.0, *(6.0 * spent * step for step in range(1, 11))])
    monkeypatch.setattr(metrics_log, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    monkeypatch.setattr(metrics_log, "tqdm", lambda **kept: tqdm(**{**kept, "disable": False, "file": io.StringIO()}))
    with Records(tmp_path, Accelerator(cpu=True), ("a",), 0, steps, 7, minutes=1.0) as records:
        for _ in range(10):
            records.advance()
        assert 100 * records.bar.n / records.bar.total == pytest.approx(percent)


def test_a_run_begins_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = loop.train(config(tmp_path, epochs=1))
    first = capsys.readouterr().out.splitlines()[0]
    parameters = sum(parameter.numel() for parameter in outcome.model.parameters())
    assert first.startswith(f"digits: 1438 images of 8 × 8, 100 labels · SeGMA, {parameters:,} parameters · ")
    assert first.endswith(" · 13 steps (1 epoch)")
    assert latest_checkpoint(tmp_path) is not None
