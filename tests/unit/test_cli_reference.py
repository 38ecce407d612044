"""The reference of the command line is what the commands say of themselves."""

from __future__ import annotations

from pathlib import Path

from fraisier.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_reference_is_in_step_with_the_commands() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "python -m fraisier.cli.reference > docs/cli.md"
