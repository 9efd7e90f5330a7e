"""What a folder such as runs/reproduce/mnist-tuned holds goes into docs/experiments.md.

``python -m benchmarks.studies.experiments_page FOLDER`` puts the tables of ``segma-fast reproduce`` there and, of a
folder that the document shows pictures of, its figures.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks import ROOT
from benchmarks.report.tables import put_into

DOCS = ROOT / "docs"


def main(folder: Path, docs: Path = DOCS) -> None:
    page = docs / "experiments.md"
    try:
        put_into(page, (folder / "tables.md").read_text().strip(), marks(folder.name))
    except OSError as error:
        sys.exit(f"{error}: segma-fast reproduce leaves this file")
    for picture in sorted(folder.glob("*.png")):
        name = f"{folder.name}_{picture.name}"
        if f"images/{name}" in page.read_text():
            print(shutil.copyfile(picture, docs / "images" / name))


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.studies.experiments_page FOLDER")
    main(Path(sys.argv[1]))
