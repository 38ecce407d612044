"""Folders for Fraisier alone."""

from __future__ import annotations

from pathlib import Path


def private_folder(folder: Path) -> None:
    """Create `folder` for us alone; one that exists is left as it is."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
