"""TensorBoard's event files, written at once: its own writer has a thread, whose errors come late and as tracebacks."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from itertools import count
from pathlib import Path

from PIL.Image import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from segma_fast.trainer.files import make_folder, writing

_NUMBERS = count()  # of the files of this process


class Events:
    """A new event file in a folder.

    Args:
        folder: where TensorBoard looks for it.
        start: the step that a run goes on from, 0 for a new one; TensorBoard leaves out what former files say later.

    Raises:
        WriteError: if it cannot be written, here or in any method.
    """

    def __init__(self, folder: Path, start: int = 0) -> None:
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        self.path = folder / name
        make_folder(folder)
        with writing(self.path):
            self._file = self.path.open("wb")
        self._add(Event(file_version="brain.Event:2"))
        if start:
            self._add(Event(step=start + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Add numbers, by their names, at a step."""
        values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        self._add(Event(step=step, summary=Summary(value=values)))

    def show(self, pictures: Mapping[str, Image], step: int) -> None:
        """Add pictures, by their names, at a step."""
        values = []
        for name, picture in pictures.items():
            picture.save(png := BytesIO(), "png")
            shown = Summary.Image(width=picture.width, height=picture.height, encoded_image_string=png.getvalue())
            values.append(Summary.Value(tag=name, image=shown))
        self._add(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        with suppress(OSError):  # what was not written yet has raised an error already
            self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        with writing(self.path):
            RecordWriter(self._file).write(event.SerializeToString())
            self._file.flush()
