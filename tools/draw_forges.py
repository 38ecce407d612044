"""Draws the pictures of docs/setup-*.md: each forge's form for a webhook, and the way of its push.

Drawings of our own, not of theirs: what is to be filled in, in the order in which it is asked for.

python -m tools.draw_forges
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
_STYLE = """
    .box { fill: #f6f8fa; stroke: #57606a; stroke-width: 1.3 }
    .field { fill: #ffffff; stroke: #8c959f; stroke-width: 1.2 }
    .good { fill: #dafbe1; stroke: #1a7f37; stroke-width: 1.3 }
    .way { fill: none; stroke: #57606a; stroke-width: 1.6 }
    .head { fill: #57606a } .mark { fill: #cf222e }
    .number { fill: #ffffff; font-weight: 600; font-size: 12px }
    text { fill: #1f2328 }
    .small { font-size: 12px; fill: #57606a }
    .name { font-weight: 600 }
    .value { font-family: ui-monospace, monospace; font-size: 13px }
    @media (prefers-color-scheme: dark) {
      .box { fill: #21262d; stroke: #9198a1 } .field { fill: #0d1117; stroke: #6e7681 }
      .good { fill: #12361f; stroke: #3fb950 } .way { stroke: #9198a1 } .head { fill: #9198a1 }
      text { fill: #f0f6fc } .small { fill: #9198a1 } .number { fill: #ffffff }
    }"""
_FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"


@dataclass(frozen=True)
class Form:
    """A forge's form: where it is, its fields with what goes in, and boxes to tick."""

    forge: str
    where: str
    fields: tuple[tuple[str, str], ...]
    ticks: tuple[tuple[str, bool], ...]
    button: str
    proof: str  # the header that Fraisier verifies


URL = "https://deploy.example.com/webhook"
SECRET = "the secret of secrets.env"
FORMS = {
    "github": Form(
        "GitHub",
        "Repository › Settings › Webhooks › Add webhook",
        (("Payload URL", URL), ("Content type", "application/json"), ("Secret", SECRET)),
        (("Enable SSL verification", True), ("Just the push event", True), ("Active", True)),
        "Add webhook",
        "X-Hub-Signature-256",
    ),
    "gitlab": Form(
        "GitLab",
        "Project › Settings › Webhooks › Add new webhook",
        (("URL", URL), ("Secret token (or signing token)", SECRET)),
        (("Push events", True), ("Tag push events", True), ("Enable SSL verification", True)),
        "Add webhook",
        "X-Gitlab-Token or webhook-signature",
    ),
    "gitea": Form(
        "Gitea, Forgejo",
        "Repository › Settings › Webhooks › Add webhook › Gitea or Forgejo",
        (
            ("Target URL", URL),
            ("HTTP method", "POST"),
            ("Content type", "application/json"),
            ("Secret", SECRET),
        ),
        (("Trigger on: push events", True), ("Active", True)),
        "Add webhook",
        "X-Gitea-Signature or X-Forgejo-Signature",
    ),
    "bitbucket": Form(
        "Bitbucket Cloud",
        "Repository › Repository settings › Webhooks › Add webhook",
        (("Title", "Fraisier"), ("URL", URL), ("Secret", SECRET)),
        (("Active", True), ("Skip certificate verification", False), ("Repository push", True)),
        "Save",
        "X-Hub-Signature",
    ),
    "bitbucket-server": Form(
        "Bitbucket Server, Data Center",
        "Repository › Repository settings › Webhooks › Create webhook",
        (("Name", "Fraisier"), ("URL", URL), ("Secret", SECRET)),
        (("Active", True), ("Repository: Push", True)),
        "Create",
        "X-Hub-Signature",
    ),
}


def _svg(width: int, height: int, title: str, parts: Iterator[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' aria-labelledby="title" font-family="{_FONT}" font-size="14">\n'
        f'  <title id="title">{escape(title)}</title>\n  <style>{_STYLE}\n  </style>\n'
    )
    return head + "".join(f"  {part}\n" for part in parts) + "</svg>\n"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(x: float, y: float, number: int) -> str:
    circle = f'<circle class="mark" cx="{x}" cy="{y}" r="10"/>'
    return circle + _text(x, y + 4, str(number), "number", "middle")


def form(shape: Form) -> str:
    """The form, its fields and boxes numbered in the order of the page's steps."""
    height = 84 + 58 * len(shape.fields) + 30 * len(shape.ticks) + 62

    def parts() -> Iterator[str]:
        yield f'<rect class="box" x="8" y="8" width="624" height="{height - 16}" rx="10"/>'
        yield _text(28, 38, shape.forge, "name")
        yield _text(28, 60, shape.where, "small")
        y, number = 84, 1
        for label, value in shape.fields:
            yield _number(38, y + 26, number)
            yield _text(62, y + 10, label, "small")
            yield f'<rect class="field" x="62" y="{y + 16}" width="540" height="28" rx="5"/>'
            yield _text(74, y + 35, value, "value")
            y, number = y + 58, number + 1
        for label, ticked in shape.ticks:
            yield _number(38, y + 12, number)
            yield f'<rect class="field" x="62" y="{y + 4}" width="16" height="16" rx="3"/>'
            if ticked:
                yield f'<path class="way" d="M65 {y + 12} l4 4 l7 -9"/>'
            yield _text(88, y + 17, label)
            y, number = y + 30, number + 1
        yield f'<rect class="good" x="62" y="{y + 10}" width="150" height="32" rx="6"/>'
        yield _text(137, y + 31, shape.button, "name", "middle")

    return _svg(640, height, f"The form for a webhook of {shape.forge}", parts())


def way(shape: Form) -> str:
    """The way of a push, from this forge to the deployment."""
    stations = (
        (shape.forge, ("git push", "sends a webhook")),
        ("Your web server", ("TLS, then /webhook to", "127.0.0.1:8080")),
        ("fraisier serve", ("verifies the raw body,", "stores, answers 202")),
        ("worker", ("fetches the commit,", "builds, switches, checks")),
    )

    def parts() -> Iterator[str]:
        yield (
            '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
            ' orient="auto"><path class="head" d="M0 0 10 5 0 10z"/></marker></defs>'
        )
        for place, (name, lines) in enumerate(stations):
            x = 8 + place * 230
            kind = "good" if place == 3 else "box"
            yield f'<rect class="{kind}" x="{x}" y="30" width="176" height="92" rx="8"/>'
            yield _text(x + 88, 58, name, "name", "middle")
            for row, line in enumerate(lines):
                yield _text(x + 88, 82 + 18 * row, line, "small", "middle")
            if place < 3:
                yield f'<path class="way" d="M{x + 178} 76 h48" marker-end="url(#a)"/>'
        yield _text(8, 150, f"The proof: {shape.proof}", "small")

    return _svg(884, 166, f"The way of a push from {shape.forge}", parts())


def pictures() -> dict[str, str]:
    """Every picture's text, by its file's name."""
    drawn = {}
    for name, shape in FORMS.items():
        drawn[f"webhook-{name}.svg"] = form(shape)
        drawn[f"way-{name}.svg"] = way(shape)
    return drawn


def main() -> None:
    """Write them all."""
    for name, text in pictures().items():
        (IMAGES / name).write_text(text, encoding="utf-8")
        print(f"docs/images/{name}")


if __name__ == "__main__":
    main()
