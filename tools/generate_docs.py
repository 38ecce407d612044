"""Writes what is generated of docs/ anew: the command line, the configuration, pictures of forms.

python -m tools.generate_docs
"""

from __future__ import annotations

from pathlib import Path

from fraisier.cli.reference import reference as commands
from fraisier.config.reference import render_markdown as configuration
from tools.draw_forges import main as draw_forges

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Write both pages, and the pictures."""
    for name, render in (("cli.md", commands), ("configuration.md", configuration)):
        (DOCS / name).write_text(render(), encoding="utf-8")
        print(f"docs/{name}")
    draw_forges()


if __name__ == "__main__":
    main()
