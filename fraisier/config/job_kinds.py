"""Kinds of values that only jobs have: see `kinds`."""

from __future__ import annotations

from fraisier.config import texts
from fraisier.config.document import Node
from fraisier.config.kinds import Schema, ShellLine, Text
from fraisier.config.reading import Reader, Refused, Variables, mistaken

# Words, addresses and URLs that tell people, and are no commands.
_CHANNELS = frozenset(
    {"slack", "discord", "email", "mail", "teams", "telegram", "webhook", "mattermost", "pagerduty", "ntfy"}
)


class Default:
    """What a parameter is where a run is given none; no value at all: each run has to be given it."""

    words = "text, number or yes/no; no value: required"

    def read(self, node: Node, reader: Reader) -> str | None:
        if node.kind != "scalar":
            raise Refused(node, f"{mistaken(node)}; expected {self.words}")
        if node.tag == "null":
            return None
        text = reader.resolved(node, Variables.shown)
        if "\0" in text:
            raise Refused(node, "has a NUL character, which no variable can hold")
        return text

    def schema(self) -> Schema:
        return {"type": ["string", "number", "boolean", "null"]}


class Zone(Text):
    """A time zone of the IANA database."""

    def __init__(self) -> None:
        super().__init__("time zone", _known_zone)


def _known_zone(text: str) -> str:
    from fraisier.domain.zones import zone_named  # slow to import, and needed for schedules only

    try:
        zone_named(text)
    except ValueError as error:
        return str(error)
    return ""


class When(Text):
    """A cron expression, or one as systemd's OnCalendar has them."""

    def __init__(self) -> None:
        super().__init__("schedule", _is_schedule)


def _is_schedule(text: str) -> str:
    from fraisier.domain.schedule import check  # likewise

    return check(text)


class Script(ShellLine):
    """A script that follows a run. A channel to people, as older files have it, is none."""

    def read(self, node: Node, reader: Reader) -> str:
        line = super().read(node, reader)
        word = line.strip()
        if word.lower() in _CHANNELS or "://" in word.split()[0] or "@" in word.split()[0]:
            raise Refused(node, f"{word[:60]!r} tells people, {NOT_YET}")
        return line


NOT_YET = "which is not performed by this version of Fraisier; give a shell line, or leave it out"


def artefact(text: str) -> str:
    """A pattern of files, in the release or absolute."""
    path = text if text.startswith("/") else "/" + text
    return texts.absolute(path) and (
        f"{text[:60]!r} is no pattern of files; expected e.g. out/*.csv or /srv/reports/*.pdf, without '..'"
    )
