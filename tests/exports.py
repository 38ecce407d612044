"""Exports and databases for tests, read without any of Fraisier's code."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

Rows = dict[str, list[dict[str, Any]]]


def lines(file: Path) -> list[Any]:
    """Every line of an export."""
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def contents(file: Path) -> Rows:
    """The rows of an export, by table."""
    found: Rows = {}
    columns: list[str] = []
    for line in lines(file)[1:-1]:
        if isinstance(line, dict):
            table, columns = line["table"], line["columns"]
            found[table] = []
        else:
            found[table].append(dict(zip(columns, line, strict=True)))
    return found


def without_import(rows: Rows) -> Rows:
    """The same without the audit row that an import adds."""
    return {
        table: [row for row in listed if table != "tb_audit_log" or row["action"] != "import"]
        for table, listed in rows.items()
    }


def write(file: Path, documents: list[Any]) -> None:
    """An export of these lines; the last one is given the checksum that fits."""
    text = b"".join(json.dumps(each).encode() + b"\n" for each in documents[:-1])
    end = {**documents[-1], "sha256": hashlib.sha256(text).hexdigest()}
    # As the product writes it: what its reader looks for begins the line.
    text += json.dumps(end, separators=(",", ":")).encode() + b"\n"
    file.write_bytes(gzip.compress(text))


def dump(database: Path) -> Rows:
    """Every row of every table of a SQLite file."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [name for (name,) in connection.execute(_TABLES)]
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
            for table in tables
        }


_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'tb_%' ORDER BY name"
