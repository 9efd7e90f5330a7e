"""CRC-32 of the files of a folder, in a file beside them; a folder without it is not checked."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

SUMS = "checksums.json"


def write_sums(folder: Path) -> None:
    """Add the sums of all files in a folder."""
    sums = {file.name: _checksum(file) for file in folder.iterdir()}
    (folder / SUMS).write_text(json.dumps(sums))


def check_sum(file: Path) -> None:
    """Raise ``ValueError`` for a file that is not as it was saved, if that is known."""
    sums = file.with_name(SUMS)
    if not (sums.exists() and file.exists()):
        return
    try:
        expected = json.loads(sums.read_text()).get(file.name)
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{SUMS} is damaged; once it is deleted, nothing is checked") from error
    if expected != _checksum(file):
        raise ValueError(f"damaged, or not the one that was saved, by {SUMS}; once that is deleted, nothing is checked")


def _checksum(file: Path) -> int:
    total = 0
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            total = zlib.crc32(block, total)
    return total
