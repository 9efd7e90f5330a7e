"""The record of a training run: metrics.csv, TensorBoard events, and the progress bar."""

from __future__ import annotations

import csv
import io
import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from accelerate import Accelerator
from tqdm import tqdm

from segma_fast.trainer.events import Events
from segma_fast.trainer.files import write_text, writing
from segma_fast.trainer.run_folder import METRICS, TENSORBOARD

SHORT = {
    "loss": "loss {:.3g}",
    "reconstruction": "mse {:.2g}",
    "log_distance": "log d² {:.3g}",
    "cross_entropy": "ce {:.1g}",
    "test_error": "err {:.1%}",
}


def columns(terms: Sequence[str]) -> tuple[str, ...]:
    """The columns of metrics.csv for a model whose loss has these terms."""
    return ("step", "epoch", "seconds", "images_per_second", "loss", *terms, "test_error")


class Records:
    """Writes metrics to metrics.csv, TensorBoard and the progress bar, on the main process only.

    Args:
        run_dir: the run folder.
        accelerator: says which process is the main one.
        terms: names of the terms of the model's loss.
        start: the step that the run continues from; later lines, left by an interrupted run, are dropped.
        steps, images_per_step: total steps of the run, and images per step, for the progress bar.
        minutes: time limit of this session, from now on, or None; the progress bar counts what ends first.
        label: what the printed lines begin with.
    """

    PICTURES: ClassVar[int] = 5  # at most so many times in a run, besides its end

    def __init__(
        self,
        run_dir: Path,
        accelerator: Accelerator,
        terms: Sequence[str],
        start: int,
        steps: int,
        images_per_step: int,
        minutes: float | None = None,
        label: str = "",
    ) -> None:
        self.label = f"{label}: " if label else ""
        self.columns = columns(terms)
        self.accelerator, self.main = accelerator, accelerator.is_main_process
        self.path = run_dir / METRICS
        self.images_per_step = images_per_step
        self.start, self.steps, self.minutes = start, steps, minutes
        self.part = self.PICTURES * start // steps
        if self.main:
            write_text(self.path, self._kept(start))
            self.events = Events(run_dir / TENSORBOARD, start)
        self.bar = tqdm(
            total=steps * images_per_step,
            initial=start * images_per_step,
            unit=" img",
            unit_scale=True,
            bar_format="{percentage:3.0f}% {remaining} {rate_fmt}{postfix}",  # fits into 80 columns
            desc=label or None,
            disable=None if self.main else True,  # None: shown only on a terminal
            smoothing=0.3 if minutes is None else 0,  # by the mean speed what remains of the time is what is left of it
        )
        self.began = time.perf_counter()

    def _kept(self, start: int) -> str:
        """What metrics.csv says up to a step; a warning if that is not all that was written."""
        header, found = ",".join(self.columns), ""
        if start and self.path.exists():
            found = self.path.read_text(errors="replace")
        former, *lines = found[: found.rfind("\n") + 1].splitlines() or [""]  # a last line may have been cut off
        sound = [line for line in lines if self._is_sound(line)]
        kept = [line for line in sound if int(line.split(",")[0]) <= start]
        whole = former == header and len(sound) == len(lines) and kept and kept[-1].startswith(f"{start},")
        if start and not whole:  # each checkpoint has a line
            lost = "missing" if not found else "damaged"
            warnings.warn(f"{self.path} is {lost}: it goes on with {len(kept)} lines up to step {start}", stacklevel=3)
        return "\n".join([header, *kept]) + "\n"

    def _is_sound(self, line: str) -> bool:
        step, *numbers = line.split(",")
        try:
            return step.isdecimal() and len([float(number or "0") for number in numbers]) == len(self.columns) - 1
        except ValueError:
            return False

    def advance(self) -> None:
        """Count a step."""
        if self.minutes is not None and not self.bar.disable:
            done = self.bar.n + self.images_per_step - self.bar.initial
            by_time = done * max(1.0, 60 * self.minutes / (time.perf_counter() - self.began))
            self.bar.total = min(self.steps * self.images_per_step, self.bar.initial + by_time)
        self.bar.update(self.images_per_step)

    def write(self, values: dict[str, Any], *, show: bool) -> None:
        """Write one line; columns without a value, or with NaN, stay empty.

        Args:
            values: numbers by column name.
            show: also print the line if there is no progress bar.
        """
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        step = values["step"]
        if not self.main:
            return
        self.events.write({k: v for k, v in values.items() if k not in ("step", "seconds")}, step)
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(
            [f"{v:.7g}" if isinstance(v := values.get(name, ""), float) else v for name in self.columns]
        )
        with writing(self.path), self.path.open("a") as file:
            file.write(line.getvalue())
        self.bar.set_postfix_str(", ".join(text.format(values[k]) for k, text in self._short(values)))
        if show and self.bar.disable:
            listed = ", ".join(f"{k.replace('_', ' ')} {values[k]:.4g}" for k, _ in self._short(values))
            speed = f"{values['images_per_second']:.0f} images/s"
            print(f"{self.label}step {step}, epoch {values['epoch']:.1f}: {listed}, {speed}", flush=True)

    def due(self, step: int, ending: bool) -> bool:
        """Whether to show pictures at this checkpoint: at the last one, and the first of each fifth of the run."""
        part = self.PICTURES * step // self.steps
        due = self.main and (ending or part > self.part)
        self.part = part if due else self.part
        return due

    def _short(self, values: dict[str, Any]) -> list[tuple[str, str]]:
        """The columns shown in the progress bar (the loss and all after it), with their formats."""
        return [(k, SHORT.get(k, k.replace("_", " ") + " {:.3g}")) for k in self.columns[4:] if k in values]

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        if self.main:
            self.events.close()
        self.accelerator.end_training()
