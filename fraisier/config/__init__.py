"""`fraises.yaml` becomes checked and complete data here; every default and every check of it lives here."""

from __future__ import annotations

from typing import Any


def json_schema() -> dict[str, Any]:
    """A JSON Schema of `fraises.yaml`, for editors."""
    from fraisier.config.schema import json_schema as made  # not needed for reading

    return made()
