"""Kinds of values: how each is read from a node, described in words, and told to an editor as JSON Schema.

Why not pydantic: importing it and building the models takes 90 to 120 ms, most of what `fraisier list` may
take to start, and its locations would still have to be mapped back to lines and quoting mistakes of YAML.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from fraisier.config import texts
from fraisier.config.document import Node
from fraisier.config.reading import (
    Reader,
    Refused,
    Variables,
    did_you_mean,
    mistaken,
    names,
    sounds_secret,
)
from fraisier.domain.secret import Secret
from fraisier.domain.window import Window, parse

Schema = dict[str, Any]
Check = Callable[[str], str]  # '' or what is wrong with a text, and what is allowed

_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\Z")
_FRACTION = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]i?)?B?\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1} | {
    prefix + binary: (1024 if binary else 1000) ** power
    for power, prefixes in enumerate(("kK", "M", "G", "T"), 1)
    for prefix in prefixes
    for binary in ("", "i")
}
_ONE_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}\Z")
_DATABASE_URL = re.compile(r"[a-z][a-z0-9+]*://\S+\Z", re.IGNORECASE)
_USERINFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@]*:[^/\s@]+@", re.IGNORECASE)
REFERENCE_SCHEMA = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-.*)?\}"}


class Kind(Protocol):
    """One kind of value. `words` is what the reference calls it."""

    @property
    def words(self) -> str: ...

    def read(self, node: Node, reader: Reader) -> Any:
        """The value.

        Raises:
            Refused: it is none; the message says what is allowed.
        """
        ...

    def schema(self) -> Schema: ...


class Text:
    """Text that is shown and stored; never a secret."""

    def __init__(
        self, words: str = "text", check: Check | None = None, variables: Variables = Variables.shown
    ) -> None:
        self.words, self._check, self._variables = words, check, variables

    def read(self, node: Node, reader: Reader) -> str:
        text = reader.text(node, self._variables)
        if self._variables is not Variables.shell and _CONTROL.search(text):
            raise Refused(node, "has a line break or another control character; expected one line")
        if not text.strip():
            raise Refused(node, f"is empty; expected {self.words}, or leave the key out")
        if self._check and (wrong := self._check(text)):
            replaced = self._variables is not Variables.shell and names(node.text)
            hidden = f"the value of {node.text[:60]} cannot be used; expected {self.words}"
            raise Refused(node, hidden if replaced else wrong)
        return text

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


class ShellLine(Text):
    """A line, or several, for sh. `${…}` is left for the shell, which sees `env` and `env_file`."""

    def __init__(self) -> None:
        super().__init__("shell line", _no_nul, Variables.shell)


def _no_nul(text: str) -> str:
    return "has a NUL character, which no command can hold" if "\0" in text else ""


class Place(Text):
    """Where a service listens. A port needs no quotes."""

    def __init__(self) -> None:
        super().__init__("socket or port", texts.listen)

    def read(self, node: Node, reader: Reader) -> str:
        if node.kind == "scalar" and node.tag == "int":
            if wrong := texts.listen(node.text):
                raise Refused(node, wrong)
            return node.text
        return super().read(node, reader)

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, super().schema()]}


class SecretText:
    """A value that is used and never shown."""

    words = "secret"

    def read(self, node: Node, reader: Reader) -> Secret:
        text = reader.text(node, Variables.private, secret=True)
        if not text.strip():
            source = "after its variables are replaced" if names(node.text) else "as written"
            raise Refused(node, f"is empty {source}; an empty secret would let everybody in: give it a value")
        if _CONTROL.search(text):
            raise Refused(node, "has a line break or another control character; a secret is one line")
        return Secret(text, reference_of(node))

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


def reference_of(node: Node) -> str:
    """How a secret is written down: `${VAR}` where that is all, else its place in the configuration.

    Defaults and literal parts of the text may be secrets themselves, so they are no part of a reference.
    """
    return node.text if _ONE_VARIABLE.match(node.text) else f"config:{node.path}"


class Value:
    """A variable's or a header's value, as written. A secret where its name or a variable says so."""

    words = "text, number or yes/no"

    def __init__(self, *, one_line: bool = False) -> None:
        self._one_line = one_line

    def read(self, node: Node, reader: Reader) -> str | Secret:
        if node.kind != "scalar" or node.tag == "null":
            raise Refused(node, f'{mistaken(node)}; expected {self.words} (write "" for an empty text)')
        text = reader.resolved(node, Variables.private)
        if "\0" in text or (self._one_line and _CONTROL.search(text)):
            raise Refused(node, "has a character that is not allowed here (NUL, or a line break in a header)")
        is_secret = names(node.text) or sounds_secret(node.name) or _USERINFO.match(text)
        return Secret(text, reference_of(node)) if text and is_secret else text

    def schema(self) -> Schema:
        return {"type": ["string", "number", "boolean"]}


class DatabaseUrl(Value):
    """Where a database is: a URL, which is a secret where it has a password or comes from a variable."""

    words = "URL"

    def __init__(self) -> None:
        super().__init__(one_line=True)

    def read(self, node: Node, reader: Reader) -> str | Secret:
        value = super().read(node, reader)
        text = value.reveal() if isinstance(value, Secret) else value
        if not _DATABASE_URL.match(text):  # never repeated: it may hold a password
            raise Refused(node, "is no database; expected e.g. postgresql://user@host/name or sqlite:///path")
        return value

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


class Flag:
    """Yes or no."""

    words = "true or false"
    _yes, _no = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})

    def read(self, node: Node, reader: Reader) -> bool:
        text = _plain(node, reader, "bool", self.words).lower()
        if text not in self._yes | self._no:
            raise Refused(node, f"is neither yes nor no; expected {self.words}")
        return text in self._yes

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "boolean"}, REFERENCE_SCHEMA]}


class FlagOrAuto:
    """Yes, no, or whatever Fraisier finds out: the words `true`, `false` and `auto`."""

    words = "true, false or `auto`"

    def read(self, node: Node, reader: Reader) -> str:
        if node.kind == "scalar" and node.text == "auto":
            return "auto"
        return "true" if Flag().read(node, reader) else "false"

    def schema(self) -> Schema:
        return {"enum": [True, False, "auto"]}


class Whole:
    """A whole number within bounds."""

    def __init__(self, lowest: int, highest: int) -> None:
        self._lowest, self._highest = lowest, highest
        self.words = f"whole number from {lowest} to {highest}"

    def read(self, node: Node, reader: Reader) -> int:
        text = _plain(node, reader, "int", self.words)
        if not _DECIMAL.match(text) or len(text) > 18:
            raise Refused(node, f"is no plain number; expected a {self.words}, without leading zeros")
        if not self._lowest <= int(text) <= self._highest:
            raise Refused(node, f"{node.text} is out of range; expected a {self.words}")
        return int(text)

    def schema(self) -> Schema:
        whole = {"type": "integer", "minimum": self._lowest, "maximum": self._highest}
        return {"anyOf": [whole, REFERENCE_SCHEMA]}


class Share:
    """A number of things, or a percentage of all of them: (25, True) is a quarter."""

    words = "number or percentage"

    def read(self, node: Node, reader: Reader) -> tuple[int, bool]:
        expected = 'a whole number from 1, or a percentage such as "25%"'
        text = _plain(node, reader, "int str", expected)
        number, percent = text.removesuffix("%").rstrip(), text.endswith("%")
        is_number = _DECIMAL.match(number) and len(number) <= 6
        if not is_number or not 1 <= int(number) <= (100 if percent else 10**6):
            raise Refused(node, f"{node.text[:60]!r} is neither; expected {expected}")
        return int(number), percent

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}


class Duration:
    """Seconds, as a number or in words: 30, 15m, 1h30m, 30d."""

    def __init__(self, lowest: float = 0.0, highest: float = 10 * 365 * 86400.0) -> None:
        self._lowest, self._highest = lowest, highest
        self.words = "duration"

    def read(self, node: Node, reader: Reader) -> float:
        text = _plain(node, reader, "int float str", "a duration such as 30, 15m, 1h30m or 30d")
        seconds = seconds_of(text)
        if seconds is None:
            raise Refused(
                node, f"{node.text[:60]!r} is no duration; expected one such as 30, 15m, 1h30m or 30d"
            )
        if not self._lowest <= seconds <= self._highest:
            bounds = f"{self._lowest:g} to {self._highest:g} seconds"
            raise Refused(node, f"{node.text[:60]} is out of range; expected {bounds}")
        return seconds

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}


def seconds_of(text: str) -> float | None:
    """15m -> 900.0; None where it is no duration."""
    if len(text) > 40:
        return None
    if _FRACTION.match(text):
        return float(text)
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        return None
    units = [part[2] for part in parts]
    if len(set(units)) != len(units):
        return None
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


class Times:
    """A window of the week."""

    words = "window"

    def read(self, node: Node, reader: Reader) -> Window:
        text = reader.text(node)
        try:
            return parse(text)
        except ValueError as error:
            raise Refused(node, str(error)) from None

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


class Size:
    """Bytes, as a number or in words: 1048576, 25MB (millions), 25MiB (1024 * 1024)."""

    def __init__(self, lowest: int = 0, highest: int = 1 << 50) -> None:
        self._lowest, self._highest = lowest, highest
        self.words = "size"

    def read(self, node: Node, reader: Reader) -> int:
        text = _plain(node, reader, "int str", "a size such as 500MB, 1GiB or 1048576")
        match = _SIZE.match(text) if len(text) < 30 else None
        if match is None:
            raise Refused(node, f"{node.text[:60]!r} is no size; expected one such as 500MB, 1GiB or 1048576")
        size = int(float(match[1]) * _BYTES[match[2] or ""])
        if not self._lowest <= size <= self._highest:
            raise Refused(
                node, f"{node.text} is out of range; expected {self._lowest} to {self._highest} bytes"
            )
        return size

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}


def _plain(node: Node, reader: Reader, tags: str, expected: str) -> str:
    """The text of a scalar of one of these types, or whatever a variable holds."""
    if node.kind == "scalar" and node.tag == "str" and names(node.text):
        return reader.resolved(node).strip()
    if node.kind != "scalar" or node.tag not in tags.split():
        raise Refused(node, f"{mistaken(node)}; expected {expected}")
    return node.text


class Choice:
    """One of a few words. `later` are words of other versions of Fraisier."""

    def __init__(self, *allowed: str, later: tuple[str, ...] = ()) -> None:
        self._allowed, self._later = allowed, later
        self.words = " or ".join(f"`{each}`" for each in allowed)

    def read(self, node: Node, reader: Reader) -> str:
        text = reader.text(node)
        if text in self._allowed:
            return text
        allowed = ", ".join(self._allowed)
        if text in self._later:
            raise Refused(
                node, f"{text} is not performed by this version of Fraisier; it performs: {allowed}"
            )
        raise Refused(
            node, f"{node.text[:60]!r} is not known; expected {allowed}{did_you_mean(text, self._allowed)}"
        )

    def schema(self) -> Schema:
        return {"enum": list(self._allowed)}
