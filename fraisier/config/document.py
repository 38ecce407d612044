"""A YAML text as a tree in which every value knows where it stands.

Read event by event instead of through `yaml.load`: duplicate keys are seen, aliases are bounded, deep nesting
costs no stack, and a plain scalar keeps its text, so that an error can say what YAML made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

MAX_BYTES = 1 << 20
MAX_NODES = 50_000  # after aliases are expanded: a "billion laughs" ends here
MAX_DEPTH = 32
_CORE = "tag:yaml.org,2002:"
_UNWRITABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Report = Callable[[int, int, str], None]  # line, column (from 1), message


class Broken(Exception):
    """The text cannot be read any further. `line` and `column` count from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line, self.column, self.message = line, column, message


class Node:
    """A mapping (`entries`), a list (`items`) or a scalar (`text`) and where it stands.

    `tag` is what YAML takes a scalar for: str, int, float, bool, null, timestamp, … `key_line` and
    `key_column` are those of the key that names it, or its own. `misnamed`: that key is no text, and it was
    reported.
    """

    __slots__ = (
        "column",
        "entries",
        "items",
        "key_column",
        "key_line",
        "kind",
        "line",
        "misnamed",
        "name",
        "parent",
        "tag",
        "text",
    )

    def __init__(self, kind: str, line: int, column: int, text: str = "", tag: str = "") -> None:
        self.kind, self.line, self.column, self.text, self.tag = kind, line, column, text, tag
        self.key_line, self.key_column = line, column
        self.misnamed = False
        self.parent: Node | None = None
        self.name = ""
        self.entries: dict[str, Node] = {}
        self.items: list[Node] = []

    @property
    def path(self) -> str:
        """Where it stands in words: fraises.api.environments.production.build[0]."""
        above = self.parent.path if self.parent else ""
        return above + self.name if not above or self.name.startswith("[") else f"{above}.{self.name}"

    def adopt(self, name: str, child: Node) -> None:
        """Put `child` under `name`, or at the end of a list."""
        child.parent = self
        if self.kind == "list":
            child.name = f"[{len(self.items)}]"
            self.items.append(child)
        else:
            child.name = name
            self.entries[name] = child

    def copy(self, budget: Budget, depth: int) -> Node:
        """The same below another parent."""
        budget.spend(self, depth)
        twin = Node(self.kind, self.line, self.column, self.text, self.tag)
        for name, child in self.entries.items():
            copied = child.copy(budget, depth + 1)
            copied.key_line, copied.key_column, copied.misnamed = (
                child.key_line,
                child.key_column,
                child.misnamed,
            )
            twin.adopt(name, copied)
        for child in self.items:
            twin.adopt("", child.copy(budget, depth + 1))
        return twin


class Budget:
    """How large a document may become."""

    def __init__(self) -> None:
        self._left = MAX_NODES

    def spend(self, node: Node, depth: int) -> None:
        """Count one more value.

        Raises:
            Broken: too many, or too deep.
        """
        self._left -= 1
        if self._left < 0:
            raise Broken(node.line, node.column, f"has more than {MAX_NODES} values, aliases expanded")
        if depth > MAX_DEPTH:
            raise Broken(node.line, node.column, f"is nested deeper than {MAX_DEPTH} levels")


def parse(data: bytes, report: Report) -> Node:
    """The tree of a YAML text; what can be read past (duplicate keys, …) goes to `report`.

    Raises:
        Broken: it is no YAML, or more of it than a configuration can be.
    """
    text = _decode(data)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    composer = _Composer(loader, report)
    try:
        return composer.document()
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text) from None
    except yaml.YAMLError as error:
        raise Broken(1, 1, f"is no YAML: {error}") from None
    except (RecursionError, ValueError) as error:
        raise Broken(1, 1, f"is no YAML that can be read: {type(error).__name__}") from None
    finally:
        loader.dispose()


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise Broken(1, 1, f"is larger than {MAX_BYTES >> 20} MiB, which no configuration is")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        message = f"is no UTF-8: byte 0x{data[error.start]:02x}; save the file as UTF-8"
        raise Broken(*_position(before), message) from None
    if found := _UNWRITABLE.search(text):
        message = f"has the control character U+{ord(found[0]):04X}, which YAML does not allow; remove it"
        raise Broken(*_position(text[: found.start()]), message)
    return text


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _syntax(error: yaml.MarkedYAMLError, text: str) -> Broken:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.split("\n")
    here = lines[line - 1] if line <= len(lines) else ""
    indentation = here[: len(here) - len(here.lstrip())]
    if "\t" in indentation:
        return Broken(line, indentation.index("\t") + 1, "is indented with a tab; YAML wants spaces")
    context = f" {error.context}" if error.context else ""
    hint = (
        "; put text that begins with @, `, %, & or * in quotes"
        if "cannot start" in str(error.problem)
        else ""
    )
    return Broken(line, column, f"is no YAML: {error.problem}{context}{hint}")


class _Open:
    """A mapping or list whose end has not come yet."""

    __slots__ = ("anchor", "key", "merged", "node")

    def __init__(self, node: Node, anchor: str | None) -> None:
        self.node, self.anchor = node, anchor
        self.key: Node | None = None
        self.merged: list[Node] = []


class _Composer:
    def __init__(self, loader: Any, report: Report) -> None:
        self._loader, self._report = loader, report
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._budget = Budget()
        self._root: Node | None = None

    def document(self) -> Node:
        documents = 0
        while (event := self._loader.get_event()) is not None:
            line, column = event.start_mark.line + 1, event.start_mark.column + 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise Broken(line, column, "begins a second document; a configuration is one")
            elif isinstance(event, yaml.StreamEndEvent):
                break
            else:
                self._take(event, line, column)
        if self._root is None:
            raise Broken(1, 1, "is empty; `fraisier init` writes one to begin with")
        return self._root

    def _take(self, event: Any, line: int, column: int) -> None:
        if isinstance(event, yaml.ScalarEvent):
            node = Node("scalar", line, column, event.value, self._tag(event, line, column))
            self._place(node, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor or "", line, column)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._refuse_tag(event, line, column)
            kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "list"
            self._begin(Node(kind, line, column), event.anchor)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end()

    def _tag(self, event: Any, line: int, column: int) -> str:
        if event.tag in (None, "!", _CORE + "str"):
            tag = event.tag or self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
            return "str" if tag == "!" else str(tag).removeprefix(_CORE)
        self._refuse_tag(event, line, column)
        return "str"

    def _refuse_tag(self, event: Any, line: int, column: int) -> None:
        if event.tag not in (None, "!"):
            self._report(
                line, column, f"tag {event.tag.replace(_CORE, '!!')[:80]} is not supported; remove it"
            )

    def _begin(self, node: Node, anchor: str | None) -> None:
        self._budget.spend(node, len(self._open))
        if self._open and self._open[-1].node.kind == "mapping" and self._open[-1].key is None:
            raise Broken(node.line, node.column, "uses a mapping or list as a key; a key is text")
        self._open.append(_Open(node, anchor))

    def _end(self) -> None:
        frame = self._open.pop()
        for source in frame.merged:
            self._merge(frame.node, source)
        if frame.anchor:
            self._anchors[frame.anchor] = frame.node
        self._attach(frame.node)

    def _place(self, node: Node, anchor: str | None) -> None:
        self._budget.spend(node, len(self._open))
        if anchor:
            self._anchors[anchor] = node
        self._attach(node)

    def _alias(self, anchor: str, line: int, column: int) -> None:
        source = self._anchors.get(anchor)
        if source is None:
            raise Broken(line, column, f"*{anchor[:80]} names no anchor that is complete before it")
        self._attach(source.copy(self._budget, len(self._open)))

    def _attach(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        frame = self._open[-1]
        if frame.node.kind == "list":
            frame.node.adopt("", node)
        elif frame.key is None:
            frame.key = node
        else:
            self._enter(frame, frame.key, node)
            frame.key = None

    def _enter(self, frame: _Open, key: Node, node: Node) -> None:
        if key.kind != "scalar":
            raise Broken(key.line, key.column, "uses a mapping or list as a key; a key is text")
        if key.tag == "merge":
            frame.merged.extend(node.items if node.kind == "list" else [node])
            return
        if key.tag != "str":
            node.misnamed = True
            quoted = f'put it in quotes: "{key.text[:80]}"'
            self._report(
                key.line, key.column, f"key {key.text[:80]} is no text for YAML but {key.tag}; {quoted}"
            )
        earlier = frame.node.entries.get(key.text)
        if earlier is not None:
            where = f"line {earlier.key_line}"
            self._report(
                key.line, key.column, f"key {key.text[:80]!r} is there already, in {where}; keep one"
            )
            return
        node.key_line, node.key_column = key.line, key.column
        frame.node.adopt(key.text, node)

    def _merge(self, into: Node, source: Node) -> None:
        if source.kind != "mapping":
            self._report(source.line, source.column, "<<: merges mappings only, e.g. <<: *defaults")
            return
        for name, child in source.entries.items():
            if name not in into.entries:
                copied = child.copy(self._budget, len(self._open) + 1)
                copied.key_line, copied.key_column = child.key_line, child.key_column
                copied.misnamed = child.misnamed
                into.adopt(name, copied)
