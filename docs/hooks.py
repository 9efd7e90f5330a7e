"""For mkdocs: links from a page to files of the repository outside docs/ become their names, once they exist."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#]+)(#[^)]*)?\)")
log = logging.getLogger("mkdocs.plugins.segma_fast")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace such links; a file that does not exist is a warning, which fails a strict build."""
    folder, docs = Path(page.file.abs_src_path).parent, Path(config["docs_dir"]).resolve()

    def plain(match: re.Match[str]) -> str:
        text, target = match[1], (folder / match[2]).resolve()
        if docs in target.parents:
            return match[0]
        if not target.exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, match[2])
        if docs.parent not in target.parents:
            log.warning("%s links to %s, which is not in the repository", page.file.src_uri, match[2])
            return match[0]
        name = str(target.relative_to(docs.parent))
        return f"`{name}`" if text.strip("`") in name else f"{text} (`{name}`)"

    return LINK.sub(plain, markdown)
