"""The table of keys as JSON Schema, for editors."""

from __future__ import annotations

from typing import Any

from fraisier.config.keys import ROOT


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. Looser than Fraisier itself: patterns and what must hold between keys are left out."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fraises.yaml of Fraisier"}
    return head | ROOT.schema()
