"""What a folder such as runs/reproduce/mnist-tuned holds goes into docs/experiments.md or docs/other_models.md.

``python -m benchmarks.studies.experiments_page FOLDER`` puts the tables of ``segma-fast reproduce`` or ``compare``
into the page with the marks of the folder's name, and copies the pictures that this page shows.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks import ROOT
from benchmarks.report.tables import put_into

DOCS = ROOT / "docs"


def main(folder: Path, docs: Path = DOCS) -> None:
    between = marks(folder.name)
    page = next((path for path in sorted(docs.glob("*.md")) if between[0] in path.read_text()), None)
    if page is None:
        sys.exit(f"no page of {docs} has a line {between[0]}, below which the tables of {folder} would go")
    try:
        put_into(page, (folder / "tables.md").read_text().strip(), between)
    except OSError as error:
        sys.exit(f"{error}: segma-fast reproduce or compare leaves this file")
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
