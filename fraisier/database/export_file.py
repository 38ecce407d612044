"""The file of an export: gzip of JSON lines, versioned and self-checking. docs/database.md describes it.

{"format": "fraisier-export", "version": 1, "schema": 2, "installation": "...", ...}
{"table": "tb_fraises", "columns": ["name", "id", ...]}
["api", "0193...", ...]
{"end": {"tb_fraises": 1, ...}, "sha256": "..."}      of all lines before it
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from fraisier.application.ports.database import Told
from fraisier.database.tables import OLDEST_SCHEMA
from fraisier.domain.errors import UnusableExport

FORMAT = "fraisier-export"
VERSION = 1
_LEVEL = 3  # of 9: three times as fast as the usual 6, for files that are a tenth larger
_CHUNK = 256 * 1024  # bytes that are compressed at a time
_TELL_EVERY = 1000  # rows
_DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error)

Row = Sequence[Any]  # JSON types


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line: where an export comes from."""

    fraisier: str  # the version that wrote it
    schema: int
    dialect: str
    installation: str
    exported_at: str


@dataclass(frozen=True, slots=True)
class Section:
    """The rows of one table; iterate them before the next section is asked for."""

    table: str
    columns: Sequence[str]
    rows: Iterable[Row]


class ExportWriter:
    """Writes an export to a binary stream; nothing of it counts until `finish`."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        # No time and no name in gzip's own header: what is the same is the same file.
        self._file = gzip.GzipFile("", "wb", _LEVEL, file, mtime=0)
        self._digest = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._size = 0
        self.counts: dict[str, int] = {}
        self._write(
            {"format": FORMAT, "version": VERSION} | {n: getattr(header, n) for n in header.__slots__}
        )

    def section(self, section: Section, told: Told) -> None:
        """Write a table's rows as they come."""
        self._write({"table": section.table, "columns": list(section.columns)})
        count = 0
        for count, row in enumerate(section.rows, 1):
            self._write(row)
            if count % _TELL_EVERY == 0:
                told(section.table, count)
        self.counts[section.table] = count
        told(section.table, count)

    def finish(self) -> None:
        """Write the end, and all that waits."""
        self._flush()
        self._write({"end": self.counts, "sha256": self._digest.hexdigest()})
        self._flush()
        self._file.close()

    def _write(self, document: Any) -> None:
        line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        self._waiting.append(line)
        self._size += len(line)
        if self._size >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        text = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._digest.update(text)
        self._file.write(text)


class ExportReader:
    """Reads an export once, from its beginning to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = gzip.GzipFile("", "rb", fileobj=file)
        self._digest = hashlib.sha256()
        self._before_end = ""
        self._number = 0
        self._next: Any = None  # the line that ended a section
        self.counts: dict[str, int] = {}
        self.header = _header(self._line())

    def sections(self, told: Told) -> Iterator[Section]:
        """Every table; after the last one the end has been checked.

        Raises:
            UnusableExport: the file is damaged, or ends before its end.
        """
        self._next = self._line()
        while (table := _section(self._next)) is not None:
            name, columns = table
            yield Section(name, columns, self._rows(name, len(columns), told))
            if name not in self.counts:
                message = f"cannot import: the rows of {name} were not taken"
                raise UnusableExport(message)
        self._check_end(self._next)

    def _rows(self, table: str, width: int, told: Told) -> Iterator[Row]:
        count = 0
        while isinstance(row := self._line(), list):
            if len(row) != width:
                raise _damaged(f"line {self._number} has {len(row)} values instead of {width}")
            count += 1
            yield row
            if count % _TELL_EVERY == 0:
                told(table, count)
        self._next = row
        self.counts[table] = count
        told(table, count)

    def _line(self) -> Any:
        try:
            line = self._file.readline()
        except _DAMAGE as error:
            raise _damaged(str(error)) if self._number else _no_export() from None
        if not line.endswith(b"\n"):
            raise _damaged("it ends too early") if self._number else _no_export()
        self._number += 1
        if line.startswith(b'{"end"'):
            self._before_end = self._digest.hexdigest()
        self._digest.update(line)
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise _damaged(f"line {self._number} is no JSON: {error}") from None

    def _check_end(self, end: Any) -> None:
        if not isinstance(end, dict) or "end" not in end:
            raise _damaged(f"line {self._number} is neither rows nor the end")
        if end.get("sha256") != self._before_end or end["end"] != self.counts:
            raise _damaged("its checksum does not fit")
        try:
            rest = self._file.read(1)
        except _DAMAGE as error:
            raise _damaged(str(error)) from None
        if rest:
            raise _damaged("something follows its end")


def _section(document: Any) -> tuple[str, Sequence[str]] | None:
    if not isinstance(document, dict) or "table" not in document:
        return None
    columns = document.get("columns")
    if not isinstance(columns, list):  # nothing was compared with a checksum yet: any byte may be wrong
        raise _damaged(f"{document['table']} has no columns")
    return str(document["table"]), [str(each) for each in columns]


def _header(document: Any) -> Header:
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise _no_export()
    version, schema = document.get("version"), document.get("schema")
    if version != VERSION:
        message = f"cannot import an export of format {version}: this Fraisier knows {VERSION}"
        raise UnusableExport(message, "Import it with the Fraisier that wrote it, or a newer one")
    if not isinstance(schema, int) or schema < OLDEST_SCHEMA:
        message = f"cannot import an export of schema {schema}: {OLDEST_SCHEMA} is the oldest that fits"
        raise UnusableExport(
            message, "Export the database again with this Fraisier, after `fraisier db migrate`"
        )
    return Header(**{name: document.get(name, "") for name in Header.__slots__})


def _no_export() -> UnusableExport:
    message = "cannot import: this is no export of Fraisier"
    return UnusableExport(message, "Give a file that `fraisier db export` wrote")


def _damaged(reason: str) -> UnusableExport:
    message = f"cannot import: the export is damaged: {reason}"
    return UnusableExport(message, "Nothing was imported. Take another copy of the file, or export again")
