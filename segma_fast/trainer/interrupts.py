"""Ctrl-C and SIGTERM that wait for the end of a step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Within the block a first Ctrl-C or SIGTERM is noted in ``asked`` alone; a second one acts as usual.

    Args:
        active: whether to do so; signals can be caught in the main thread only, in others nothing is changed.
    """

    def __init__(self, active: bool = True) -> None:
        self.asked: int | None = None
        self._active = active and threading.current_thread() is threading.main_thread()
        self._former: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        self.asked = number

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def act(self) -> None:
        """Do what was asked for, now that it does no harm.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with the status of a program that it ended.
        """
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self.asked is not None:
            raise SystemExit(128 + self.asked)

    def __enter__(self) -> Interrupts:
        if self._active:
            self._former = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
