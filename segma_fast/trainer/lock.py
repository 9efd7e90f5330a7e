"""A folder that one command at a time works in, and who that is."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segma_fast.trainer.files import make_folder, writing

HOLDER = ".in_use"  # in a locked folder: one line that says who holds the lock
LONGEST = 500  # characters of it that are shown


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Lock a folder against other commands that use this lock; no effect where file locks are missing (Windows).

    Raises:
        ValueError: if another command holds the lock; the message says which.
        WriteError: if there can be no such folder.
    """
    make_folder(folder)
    handle = _lock(folder, alone=True)
    try:
        with suppress(OSError):  # a full disk is told where it costs a file of the run
            (folder / HOLDER).write_text(_myself())
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink()
        if handle is not None:
            os.close(handle)


def check_free(folder: Path) -> None:
    """Raise ``ValueError`` as :func:`only_one` would if another command holds the lock of a folder."""
    if folder.is_dir():
        handle = _lock(folder, alone=False)
        if handle is not None:
            os.close(handle)


def _lock(folder: Path, alone: bool) -> int | None:
    """A descriptor that holds the lock until it is closed; those that are not alone do not exclude each other."""
    try:
        import fcntl
    except ImportError:
        return None
    with writing(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ValueError(f"another command is at work in {folder}{_holder(folder)}") from error
    except OSError:  # a file system without locks
        pass
    return handle


def _myself() -> str:
    program, *arguments = sys.argv or [""]
    name = "segma-fast" if Path(program).name == "__main__.py" else Path(program).name
    command = shlex.join([name or "python", *arguments])
    return f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}: {command}"


def _holder(folder: Path) -> str:
    try:
        kept = (folder / HOLDER).read_text(errors="replace")[:LONGEST]
    except OSError:
        return ""
    return f": {''.join(c if c.isprintable() else ' ' for c in kept).strip()}"
