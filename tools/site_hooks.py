"""What mkdocs does besides its own: pages of the checkout that lie outside of docs/ become part of the site.

Pages link to them as they lie, `../CONTRIBUTING.md`, so that the links also work where the files are read one
by one. https://www.mkdocs.org/user-guide/plugins/#events
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "project"
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "fraises.example.yaml", "db/schema.sql", "db/functions.sql")
_OUT = re.compile(r"\]\(\.\./([^)#\s]+)")
_INSIDE = re.compile(r"\]\((?:docs/)([^)#\s]+)")
_INFO = re.compile(r"^```(\w+) [^\n]*$", re.MULTILINE)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files of OUTSIDE, as pages or, where they are no Markdown, as files to download."""
    for name in OUTSIDE:
        files.append(File.generated(config, f"{FOLDER}/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead links to where the file is on the site; of a fence's words keep the language alone.

    The others tell tests/docs_blocks.py what to do with the block.
    """
    markdown = _INFO.sub(r"```\1", markdown)
    if page.file.src_uri.startswith(f"{FOLDER}/"):
        return _INSIDE.sub(r"](../\1", markdown)
    return _OUT.sub(rf"]({FOLDER}/\1", markdown)
