"""The reference of the command line is what the commands say of themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_reference_is_in_step_with_the_commands() -> None:
    # In a process of its own: click remembers help options of commands that other tests called directly.
    argv = [sys.executable, "-m", "fraisier.cli.reference"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert PAGE.read_text(encoding="utf-8") == shown.stdout, "run `make docs`"
