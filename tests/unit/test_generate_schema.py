"""db/schema.sql and db/functions.sql are what the migrations come to."""

from __future__ import annotations

import pytest

from fraisier.database.migration_files import Migration, load_migrations
from tools.generate_schema import DB, generate, name_of, statements

FILES = generate(list(load_migrations(DB / "postgresql")))


@pytest.mark.parametrize("name", ["schema.sql", "functions.sql"])
def test_the_generated_files_are_current(name: str) -> None:
    assert (DB / name).read_text(encoding="utf-8") == FILES[name], "run `make schema`"


def test_every_statement_of_the_migrations_is_in_one_of_the_files() -> None:
    """Unless a later migration replaces what it makes."""
    found = [each for migration in load_migrations(DB / "postgresql") for each in statements(migration.sql)]
    newest = {name: each for each in found if (name := name_of(each))}
    for statement in found:
        wanted = newest.get(name_of(statement), statement)
        assert sum(wanted in text for text in FILES.values()) == 1, statement


def test_statements_end_where_postgresql_ends_them() -> None:
    script = """
-- ---- a heading

-- what it is; really
CREATE TABLE a (b text DEFAULT ';', "c;d" int);  -- said; afterwards
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $body$ SELECT $$;$$; -- ' unpaired
$body$;
INSERT INTO a VALUES ('it''s; fine');
"""
    found = list(statements(script))
    assert [each.partition("(")[0].split("\n")[-1] for each in found] == [
        "CREATE TABLE a ",
        "CREATE FUNCTION f",
        "INSERT INTO a VALUES ",
    ]
    assert found[0].startswith("-- what it is; really\nCREATE TABLE")
    assert found[0].endswith("-- said; afterwards")
    with pytest.raises(ValueError, match="has no end"):
        list(statements("SELECT 1; SELECT 'open"))


def test_the_newest_definition_counts() -> None:
    first = Migration(1, "one", "CREATE FUNCTION fn_a() RETURNS int AS $$1$$;\nCREATE VIEW v_a AS SELECT 1;")
    second = Migration(
        2,
        "two",
        "DROP VIEW v_a;\nCREATE OR REPLACE FUNCTION fn_a() RETURNS int AS $$2$$;\nCREATE TABLE tb_b (c int);",
    )
    files = generate([first, second])
    assert "$$1$$" not in files["functions.sql"]
    assert "$$2$$" in files["functions.sql"]
    assert "v_a" not in files["schema.sql"]
    assert "tb_b" in files["schema.sql"]
