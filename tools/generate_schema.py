"""Writes db/schema.sql and db/functions.sql: what the PostgreSQL migrations come to, to be read in one go.

    python -m tools.generate_schema

functions.sql has the functions and the types that they return, each as its newest migration defines it;
schema.sql has all else, and the functions that take a table's row, in the migrations' order. Loaded into
an empty database in this order they make the schema that the migrations make. Nothing applies them: Fraisier
applies the migrations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fraisier.database.migration_files import Migration, load_migrations

DB = Path(__file__).resolve().parent.parent / "db"

_HEAD = """\
-- {what}
-- Made by `make schema` from db/postgresql/*.sql ({newest} is the newest). Do not edit, do not apply.
"""
_FUNCTIONS = _HEAD + "\nSET check_function_bodies = off;  -- they name tables, which come with schema.sql\n"

# What a statement is made of, where a semicolon does not end it.
_TOKEN = re.compile(
    r"--[^\n]*|'(?:[^']|'')*'|\"[^\"]*\"|(?P<dollar>\$\w*\$).*?(?P=dollar)|(?P<end>;[ \t]*(?:--[^\n]*)?)|.",
    re.DOTALL,
)
_COMMENTS = re.compile(r"\A(?:\s*--[^\n]*\n)*\s*")
_OF_FUNCTIONS = re.compile(
    r"(CREATE|ALTER|DROP)( OR REPLACE)? (FUNCTION(?! \w+\(\w+ tb_)|TYPE)\b"
    r"|DO \$|COMMENT ON FUNCTION|GRANT|REVOKE"
)
_OF_A_ROW = re.compile(r"CREATE OR REPLACE FUNCTION \w+\(\w+ tb_")
_NAMED = re.compile(r"(?:CREATE|DROP)(?: OR REPLACE)? (?P<name>(?:FUNCTION|VIEW|TRIGGER)(?: IF EXISTS)? \w+)")


def statements(sql: str) -> Iterator[str]:
    """The statements of a script, each with the comment right above it."""
    text = ""
    for token in _TOKEN.finditer(sql):
        text += token[0]
        if token["end"]:
            yield _without_headings(text)
            text = ""
    if _COMMENTS.sub("", text):
        message = f"the last statement has no end: {text.strip()[:60]!r}"
        raise ValueError(message)


def _without_headings(text: str) -> str:
    """The statement, with the last block of comments if no empty line stands between them."""
    comments = _COMMENTS.match(text)
    split = comments.end() if comments else 0
    above = text[:split].rpartition("\n\n")[2].strip()
    return f"{above}\n{text[split:]}" if above else text[split:]


def name_of(statement: str) -> str:
    """What a later statement may replace: VIEW v_fraise; '' = it stays."""
    named = _NAMED.match(_COMMENTS.sub("", statement))
    return named["name"].replace(" IF EXISTS", "") if named else ""


def generate(migrations: list[Migration]) -> dict[str, str]:
    """Both files: name -> text."""
    kept: dict[str, str] = {}
    for migration in migrations:
        for number, statement in enumerate(statements(migration.sql)):
            key = name_of(statement) or f"{migration.number}/{number}"
            bare = _COMMENTS.sub("", statement)
            # The newest definition counts, and stands where its migration puts it; but views that are older
            # call the functions of a row.
            if not _OF_A_ROW.match(bare):
                kept.pop(key, None)
            if not bare.startswith("DROP"):
                kept[key] = statement
    functions = [each for each in kept.values() if _OF_FUNCTIONS.match(_COMMENTS.sub("", each))]
    tables = [each for each in kept.values() if each not in functions]
    newest = f"{migrations[-1].number:04d}_{migrations[-1].name}"
    return {
        "functions.sql": _joined(
            _FUNCTIONS.format(what="The functions of the PostgreSQL store.", newest=newest), functions
        ),
        "schema.sql": _joined(
            _HEAD.format(what="Tables, triggers and views of the PostgreSQL store.", newest=newest), tables
        ),
    }


def _joined(head: str, parts: list[str]) -> str:
    return "\n".join([head, *(f"{part}\n" for part in parts)])


def main() -> None:
    """Write both files."""
    for name, text in generate(list(load_migrations(DB / "postgresql"))).items():
        (DB / name).write_text(text, encoding="utf-8")
        print(f"db/{name}")


if __name__ == "__main__":
    main()
