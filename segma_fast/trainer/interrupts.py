"""Defers Ctrl-C and SIGTERM to the end of a training step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Inside the block, the first Ctrl-C or SIGTERM is only recorded in ``asked``; a second one acts as usual.

    Several trainings may be in the block at once; it ends with the last of them. In other threads than the main one
    signals cannot be caught, and nothing changes.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._inside = 0
        self._former: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        self.asked = number

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def act(self) -> None:
        """Raise the exception for the recorded signal, if there is one.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with the exit status of a process killed by it.
        """
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self.asked is not None:
            raise SystemExit(128 + self.asked)

    def __enter__(self) -> Interrupts:
        self._inside += 1
        if self._inside == 1 and threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside -= 1
        if self._inside == 0:
            self._restore()
