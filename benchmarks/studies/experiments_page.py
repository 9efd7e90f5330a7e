"""``python benchmarks/experiments.py runs/reproduce/mnist-tuned`` puts what is there into docs/experiments.md.

That is the page of ``segma-fast reproduce`` and, of a folder that the document shows pictures of, its figures.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from table import put_into

DOCS = Path(__file__).parents[1] / "docs"


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
        sys.exit("usage: python benchmarks/experiments.py FOLDER")
    main(Path(sys.argv[1]))
