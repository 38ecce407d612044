"""Draws the pictures of docs/benchmarks.md from stored figures: plain SVG, nothing to install."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_FONT = 'font-family="system-ui, sans-serif" font-size="13"'
WIDTH, LEFT, BAR, GAP, TOP = 720, 250, 22, 10, 56
COLOURS = {"fraisier": "#c2334d", "floor": "#9aa5b1", "limit": "#1f2933"}


def draw(found: Mapping[str, Any], folder: Path) -> None:
    """Write every picture whose part was measured."""
    parts = found["parts"]
    about = found["machine"]
    where = f"{about['cores']} × {about['cpu']}, Python {about['python']}, fsync {about['fsync_ms']} ms, "
    where += f"load before {about['load_before']}, {about['at'][:10]}, commit {about['commit']}"
    if "receive" in parts:
        picture = _bars("Durable acknowledgements per second", where, _acknowledgements(parts["receive"]))
        (folder / "bench-acknowledgements.svg").write_text(picture)
    if "deploy" in parts:
        picture = _bars(
            "A deployment that changes nothing, milliseconds", where, _deployment(parts["deploy"])
        )
        (folder / "bench-deployment.svg").write_text(picture)


Row = tuple[str, float, str]  # label, value, colour


def _acknowledgements(found: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for each in found["throughput"]:
        label = f"{each['connections']} connections" if each["connections"] > 1 else "1 connection"
        rows.append((f"{label}: stored on disk", each["receiver"]["per_second"], "fraisier"))
        rows.append((f"{label}: floor, nothing stored", each["floor"]["per_second"], "floor"))
    return rows


def _deployment(found: Mapping[str, Any]) -> list[Row]:
    return [
        ("Fraisier, from the webhook", found["fraisier_ms"], "fraisier"),
        ("shell script, same commands", found["script_ms"], "floor"),
        ("limit: script + 150", found["script_ms"] + 150, "limit"),
    ]


def _bars(title: str, where: str, rows: Sequence[Row]) -> str:
    height = TOP + len(rows) * (BAR + GAP) + GAP
    scale = (WIDTH - LEFT - 90) / max(value for _, value, _ in rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {_FONT} role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="24" font-size="16" font-weight="600" fill="#1f2933">{escape(title)}</text>',
        f'<text x="16" y="42" font-size="11" fill="#52606d">{escape(where)}</text>',
    ]
    for number, (label, value, colour) in enumerate(rows):
        y = TOP + number * (BAR + GAP)
        lines += _bar(y, label, value, (value * scale, COLOURS[colour]))
    return "\n".join([*lines, "</svg>", ""])


def _bar(y: int, label: str, value: float, drawn: tuple[float, str]) -> list[str]:
    length, colour = drawn
    middle = y + BAR * 0.7
    return [
        f'<text x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end" fill="#1f2933">{escape(label)}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
        f'<text x="{LEFT + length + 8:.1f}" y="{middle:.0f}" fill="#1f2933">{value:,.0f}</text>',
    ]
