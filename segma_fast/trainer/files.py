"""Files and folders that are written atomically: completely or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FORMER = "former"  # folder in a draft for what it replaces


class WriteError(OSError):
    """A file or folder that cannot be written; the message names it and says why."""


@contextmanager
def writing(what: Path | str) -> Iterator[None]:
    """Turn an error of the file system inside the block into a :class:`WriteError` that names what was to be written.

    Of nested blocks the outermost gives the name: drafts and parts have names that a user does not know.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        named = WriteError(f"{what} cannot be written: {reason}")
        named.strerror = reason
        raise named from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing.

    Raises:
        WriteError: if that is impossible, or one of them is a file.
    """
    with writing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise OSError(f"{file_on_the_way(folder) or folder} is not a folder") from error


def file_on_the_way(folder: Path) -> Path | None:
    """What is at the place of a folder, or of one above it, and is no folder; None if there is no such file."""
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), None)
    return None if nearest is None or nearest.is_dir() else nearest


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces ``path`` if the block succeeds and is deleted if it raises.

    Raises:
        WriteError: for an error of the file system, also inside the block.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    with writing(path):
        make_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        try:
            yield draft
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as draft:
        draft.write_text(text)


def usual_mode(path: Path) -> None:
    """Give a file or folder that was made for this user alone the permissions of others."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def publish_folder(draft: Path, final: Path) -> None:
    """Flush the files of a folder to disk, then rename it to ``final``, replacing an existing folder."""
    flush(draft)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(draft, final)


def replace_files(draft: Path, folder: Path, names: Sequence[str]) -> None:
    """Put the files of a draft in place of those with these names in a folder, the first of them last.

    All other files stay. If anything fails, all are as before. A process that is killed leaves the folder without the
    first file, or with the new ones alone.
    """
    flush(draft)
    former = draft / FORMER
    former.mkdir()
    moved: list[str] = []
    placed: list[str] = []
    try:
        for name in names:
            if (folder / name).is_file():
                os.replace(folder / name, former / name)
                moved.append(name)
        for name in reversed(names):
            if (draft / name).exists():
                os.replace(draft / name, folder / name)
                placed.append(name)
    except BaseException:
        for name in placed:
            (folder / name).unlink()
        for name in reversed(moved):
            os.replace(former / name, folder / name)
        raise


def flush(folder: Path) -> None:
    """Have the files of a folder written to disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
