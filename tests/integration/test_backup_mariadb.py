"""MariaDB as a source of backups: dumped, changed, brought back, compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fraisier.application.hear import hear
from fraisier.backups.mysql import MySQL
from fraisier.domain.backup import Source
from fraisier.domain.secret import Secret
from tests.desks import RUN, desk, folder, open_path, theirs
from tests.integration.source_contract import LIMIT, SECRET, SourceContract, World
from tests.servers.mariadb import MariadbServer, mariadb_server

__all__ = ["desk", "folder", "mariadb_server", "open_path"]

MYSQL_SCHEMA = r"""
CREATE TABLE customer (id int PRIMARY KEY, name varchar(500) NOT NULL, stamp timestamp DEFAULT '2026-01-01');
CREATE TABLE `odd ``na"me` (id int, line text, twice int AS (id * 2) STORED);
CREATE TABLE empty (id int);
CREATE TABLE item (id int, picture longblob, customer int, FOREIGN KEY (customer) REFERENCES customer (id));
CREATE VIEW names AS SELECT name FROM customer;
CREATE TABLE log (id int);
CREATE TRIGGER noted AFTER DELETE ON item FOR EACH ROW INSERT INTO log VALUES (OLD.id);
CREATE FUNCTION doubled(n int) RETURNS int DETERMINISTIC RETURN 2 * n;
CREATE EVENT often ON SCHEDULE EVERY 1 DAY STARTS '2036-01-01' DO INSERT INTO log VALUES (0);
INSERT INTO customer (id, name) SELECT seq, CONCAT('it''s \\\\ (', seq, '),(x') FROM seq_1_to_500;
INSERT INTO `odd ``na"me` (id, line) VALUES (1, 'two\nlines\n),(\n-- fraisier: whole'), (2, ''), (3, NULL);
INSERT INTO item SELECT seq, UNHEX(SHA2(seq, 512)), seq MOD 500 + 1 FROM seq_1_to_2000;
"""


class Maria:
    """A database of a user who needs a password."""

    def __init__(self, server: MariadbServer) -> None:
        self.server = server
        self.database = server.database("shop", SECRET)
        server.sql(MYSQL_SCHEMA, database=self.database, user="shop", password=SECRET)
        self.brand = MySQL()
        password = "".join(f"%{byte:02x}" for byte in SECRET.encode())
        where = f"localhost/{self.database}?socket={server.socket}"
        self.source = Source(name="db", kind="mysql", url=Secret(f"mysql://shop:{password}@{where}", "${DB}"))
        self.broken = replace(self.source, url=Secret(f"mysql://shop:{password}x@{where}", "${DB}"))

    def content(self) -> object:
        return self.server.dump(self.database).splitlines()

    def change(self) -> None:
        self.server.sql(
            "UPDATE customer SET name = 'other' WHERE id = 3; DELETE FROM item WHERE id = 7; DROP VIEW names;"
            "CREATE TABLE later (customer int, FOREIGN KEY (customer) REFERENCES customer (id)); DROP EVENT often",
            database=self.database,
        )

    def strip(self) -> dict[str, int]:
        self.server.sql(
            'DROP TABLE item, customer, `odd ``na"me`, empty, log; CREATE SEQUENCE numbers;',
            database=self.database,
        )
        return {"events": 1, "routines": 1, "sequences": 1, "views": 1}


class TestMariaDB(SourceContract):
    question = "SELECT count(*), max(name) FROM customer"
    answer = r"500|it's \\ (99),(x"

    @pytest.fixture
    def world(self, mariadb_server: MariadbServer) -> World:
        return Maria(mariadb_server)

    def test_rows_are_counted_by_table(self, desk, world, file):
        told = desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        assert told["tables"] == {"customer": 500, 'odd `na"me': 3, "empty": 0, "item": 2000, "log": 0}

    def test_rows_are_counted_as_mysql_writes_them_too(self, desk, world, file, open_path):
        """All rows of a table in one line: mariadb-dump is one that joins them."""
        programs = theirs(open_path / "bin")
        (programs / "mariadb-dump").write_text(
            "#!/bin/sh\n/usr/bin/mariadb-dump \"$@\" | sed -e ':a' -e '/VALUES$/{N;s/\\n/ /}' "
            "-e '/^INSERT.*),$/{N;s/\\n//;ta' -e '}' -e '/^INSERT.*),$/ba'\n"
        )
        (programs / "mariadb-dump").chmod(0o755)
        desk.environment = replace(desk.environment, env={"PATH": f"{programs}:/usr/bin:/bin"})
        told = desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        assert told["tables"]["item"] == 2000
        assert told["tables"]["customer"] == 500
        assert told["tables"]['odd `na"me'] == 3

    def test_a_scratch_database_has_no_events(self, desk, world, file, folder, mariadb_server):
        """They would act, on whatever they name."""
        brand, source = world.brand, world.source
        desk.tell(brand.dump_source(source, file, timeout=LIMIT))
        to = brand.scratch(source, str(folder), RUN)
        hear(desk, brand.make_scratch(source, to, timeout=LIMIT), doing="make")
        hear(desk, brand.restore(source, file, to, timeout=LIMIT), doing="restore")
        schema = f"SELECT count(*) FROM information_schema.%s WHERE %s = '{to}'"
        assert mariadb_server.sql(schema % ("events", "event_schema")).strip() == "0"
        assert mariadb_server.sql(schema % ("routines", "routine_schema")).strip() == "1"
        assert mariadb_server.sql(schema % ("triggers", "trigger_schema")).strip() == "1"
        hear(desk, brand.drop_scratch(source, to, timeout=LIMIT), doing="drop")
