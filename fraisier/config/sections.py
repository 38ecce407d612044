"""Values that hold others: lists, tables of names, and sections with known keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fraisier.config.document import Node
from fraisier.config.kinds import Check, Kind, Schema
from fraisier.config.reading import Reader, Refused, did_you_mean, mistaken

NOTHING: Mapping[str, str] = {}


class Many:
    """A list, or (`or_one`) a single value that stands for a list of one. Always a tuple."""

    def __init__(self, kind: Kind, *, or_one: bool = False) -> None:
        self.kind, self._or_one = kind, or_one
        self.words = f"{kind.words}, or a list" if or_one else f"list of: {kind.words}"

    def read(self, node: Node, reader: Reader) -> tuple[Any, ...]:
        if node.kind != "list":
            if self._or_one:
                return (self.kind.read(node, reader),)
            raise Refused(node, f"{mistaken(node)}; expected a list of: {self.kind.words}")
        if self._or_one and not node.items:
            raise Refused(node, "is an empty list; give a value or leave the key out")
        return tuple(_read_all(((item, item) for item in node.items), self.kind, reader).values())

    def schema(self) -> Schema:
        listed: Schema = {"type": "array", "items": self.kind.schema()}
        return {"anyOf": [self.kind.schema(), listed | {"minItems": 1}]} if self._or_one else listed


class Table:
    """A mapping whose keys are names that the user chooses."""

    def __init__(self, kind: Kind, check: Check, *, needed: bool = False) -> None:
        self.kind, self._check, self._needed = kind, check, needed
        self.words = f"mapping of names to: {kind.words}"

    def read(self, node: Node, reader: Reader) -> dict[str, Any]:
        if node.kind != "mapping":
            raise Refused(node, f"{mistaken(node)}; expected a mapping")
        if self._needed and not node.entries:
            raise Refused(node, "is empty; expected at least one")
        for name, child in node.entries.items():
            if wrong := self._check(name):
                reader.refuse(child, wrong, at_key=True)
        return _read_all(node.entries.items(), self.kind, reader)

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": self.kind.schema()}


def _read_all(children: Any, kind: Kind, reader: Reader) -> dict[Any, Any]:
    """Every child that can be read; the problems of the others are kept."""
    found = {}
    for name, child in children:
        try:
            found[name] = kind.read(child, reader)
        except Refused as refused:
            reader.keep(refused)
    return found


class Either:
    """A short form (a scalar) or a long form (a section)."""

    def __init__(self, short: Kind, long: Section, *, into: str) -> None:
        self._short, self._long, self._into = short, long, into
        self.words = f"{short.words}, or a section"

    def read(self, node: Node, reader: Reader) -> Parsed:
        if node.kind == "mapping":
            return self._long.read(node, reader)
        return Parsed(self._long, node, {self._into: self._short.read(node, reader)})

    def schema(self) -> Schema:
        return {"anyOf": [self._short.schema(), self._long.schema()]}


class Key:
    """One key of a section. `default` is what the value is when it is left out; `shown` says it in words."""

    def __init__(
        self, kind: Kind, doc: str, default: Any = None, *, required: bool = False, shown: str = ""
    ) -> None:
        self.kind, self.doc, self.default, self.required = kind, doc, default, required
        self.shown = shown or ("" if default in (None, (), {}) else _in_words(default))


def _in_words(default: Any) -> str:
    return (
        str(default).lower()
        if isinstance(default, bool)
        else f"{default:g}"
        if isinstance(default, float)
        else str(default)
    )


class Section:
    """A mapping with known keys. `later` are keys of other versions; `other` reads all the rest."""

    def __init__(
        self, keys: Mapping[str, Key], *, later: Mapping[str, str] = NOTHING, other: Kind | None = None
    ) -> None:
        self.keys, self.later, self.other = keys, later, other
        self.words = "section"

    def read(self, node: Node, reader: Reader) -> Parsed:
        if node.kind != "mapping":
            raise Refused(node, f"{mistaken(node)}; expected a mapping with {_some(self.keys)}")
        parsed = Parsed(self, node, {})
        for name, child in node.entries.items():
            if child.misnamed and name not in self.keys:
                continue
            try:
                parsed.values[name] = self._kind(name, child).read(child, reader)
            except Refused as refused:
                reader.keep(refused)
        for name, key in self.keys.items():
            if key.required and name not in node.entries:
                reader.refuse(node, f"{name} is missing: {key.doc}", at_key=True)
        return parsed

    def _kind(self, name: str, child: Node) -> Kind:
        if name in self.keys:
            return self.keys[name].kind
        if name in self.later:
            what = f"is not performed by this version of Fraisier ({self.later[name]}); leave it out"
            raise Refused(child, what, at_key=True)
        if self.other is not None and not self._is_misspelt(name, child):
            return self.other
        hint = did_you_mean(name, self.keys) or f"; allowed are {', '.join(self.keys)}"
        raise Refused(child, f"is no key that Fraisier knows here{hint}", at_key=True)

    def _is_misspelt(self, name: str, child: Node) -> bool:
        """Whether a name of the user's choice is rather a key of ours: it has no section, and looks alike."""
        takes_sections = isinstance(self.other, Section)
        return takes_sections and child.kind != "mapping" and bool(did_you_mean(name, self.keys))

    def schema(self) -> Schema:
        properties = {name: key.kind.schema() | {"description": key.doc} for name, key in self.keys.items()}
        required = [name for name, key in self.keys.items() if key.required]
        schema: Schema = {"type": "object", "properties": properties}
        schema["additionalProperties"] = self.other.schema() if self.other else False
        return schema | ({"required": required} if required else {})


def _some(keys: Mapping[str, Key]) -> str:
    listed = list(keys)
    return ", ".join(listed[:6]) + (", …" if len(listed) > 6 else "")


class Parsed:
    """A section that was read: values that are good, defaults for the rest."""

    __slots__ = ("node", "section", "values")

    def __init__(self, section: Section, node: Node, values: dict[str, Any]) -> None:
        self.section, self.node, self.values = section, node, values

    def __getitem__(self, name: str) -> Any:
        """The value of a key, or its default."""
        if name in self.values:
            return self.values[name]
        return self.section.keys[name].default

    def given(self, name: str) -> bool:
        """Whether the file has the key, good or bad."""
        return name in self.node.entries or name in self.values

    def at(self, name: str) -> Node:
        """Where the key's value stands, or else the section."""
        return self.node.entries.get(name, self.node)
