"""Kinds of sources of backups, each on the real thing: dumped, changed, brought back, compared."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.hear import hear
from fraisier.backups.command import BackupCommand
from fraisier.backups.folder import Folder
from fraisier.backups.postgresql import PostgreSQL
from fraisier.backups.sqlite import Sqlite
from fraisier.domain.backup import Source
from fraisier.domain.errors import StepFailed
from fraisier.domain.secret import Secret
from fraisier.hosts.local import LocalHost
from tests.desks import RUN, USER, RealDesk, desk, folder, open_path, theirs
from tests.factories import environment
from tests.integration.source_contract import LIMIT, SECRET, SourceContract, World, run
from tests.servers.postgresql import PostgresqlServer, postgresql_server, postgresql_url

__all__ = ["desk", "folder", "open_path", "postgresql_server", "postgresql_url"]

# --------------------------------------------------------------------------------------------------- PostgreSQL
SCHEMA = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, mood mood DEFAULT 'glad');
CREATE TABLE "odd ""name" (id int REFERENCES customer, line text);
CREATE TABLE empty (id int);
CREATE TABLE line (line text);
CREATE TABLE parts (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE parts_2026 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE SCHEMA shop;
CREATE TABLE shop.item (id int, picture bytea);
CREATE VIEW names AS SELECT name FROM customer;
CREATE MATERIALIZED VIEW many AS SELECT count(*) FROM customer;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
CREATE EXTENSION pg_trgm;
INSERT INTO customer SELECT n, 'customer ' || n FROM generate_series(1, 500) n;
INSERT INTO "odd ""name" VALUES (1, E'two\nlines\n\\.\nCOPY public.fake (id) FROM stdin;'), (2, '');
INSERT INTO line VALUES ('COPY public.fake (id) FROM stdin;'), ('-- fraisier: whole'), ('\\.'), ('');
INSERT INTO parts SELECT n, '2026-03-01' FROM generate_series(1, 7) n;
INSERT INTO shop.item SELECT n, sha512(n::text::bytea) FROM generate_series(1, 2000) n;
SELECT lo_from_bytea(4711, '\\x00ff');
"""


class Postgres:
    """A database of a role that is no superuser and needs a password over TCP; here, trust on a socket."""

    def __init__(self, server: PostgresqlServer, url: str) -> None:
        self.server, self.url = server, url
        self.database = url.partition("@/")[2].partition("?")[0]
        self.role = f"owner_{self.database}"
        quoted = SECRET.replace("'", "''")
        server.psql(f"CREATE ROLE {self.role} LOGIN CREATEDB PASSWORD '{quoted}'")
        server.psql(f"ALTER DATABASE {self.database} OWNER TO {self.role}")
        server.psql(f"SET ROLE {self.role}; {SCHEMA}", database=self.database)
        self.brand = PostgreSQL()
        where = f"/{self.database}?host={server.folder}"
        password = "".join(f"%{byte:02x}" for byte in SECRET.encode())
        self.source = Source(
            name="db", kind="postgresql", url=Secret(f"postgresql://{self.role}:{password}@{where}", "${DB}")
        )
        self.broken = replace(self.source, url=Secret(f"postgresql://nobody:{password}@{where}", "${DB}"))

    def content(self) -> object:
        """What pg_dump writes, without owners of what belongs to the server."""
        lines = run("pg_dump", "--dbname", self.url, user="postgres", cwd="/").splitlines()
        return [line for line in lines if not line.startswith(("\\restrict ", "\\unrestrict "))]

    def change(self) -> None:
        self.server.psql(
            f"SET ROLE {self.role};"
            "DELETE FROM customer WHERE id = 9; UPDATE customer SET name = 'other' WHERE id = 3;"
            "CREATE TABLE later (id int REFERENCES customer); CREATE SCHEMA newer; DROP VIEW names;"
            "CREATE TYPE newer.colour AS ENUM ('red'); ALTER TABLE shop.item ADD COLUMN c newer.colour;"
            "SELECT lo_from_bytea(4712, '\\x00ff');",
            database=self.database,
        )

    def strip(self) -> dict[str, int]:
        """The extension is the server's, and a dump has no more of it than its name."""
        self.server.psql(
            f"SET ROLE {self.role};"
            'DROP TABLE customer, "odd ""name", empty, line, parts_2026, shop.item CASCADE;'
            "CREATE VIEW one AS SELECT 1; CREATE SEQUENCE shop.numbers; CREATE TYPE pair AS (a int, b int);"
            "CREATE PROCEDURE nothing() LANGUAGE sql AS ''; CREATE MATERIALIZED VIEW shop.m AS SELECT 1;",
            database=self.database,
        )
        return {
            "large objects": 1,
            "materialized views": 1,
            "partitioned tables": 1,
            "routines": 2,
            "schemas": 1,
            "sequences": 1,
            "types": 2,
            "views": 1,
        }


class TestPostgreSQL(SourceContract):
    question = "SELECT count(*), max(name) FROM customer"
    answer = "500|customer 99"

    @pytest.fixture
    def world(self, postgresql_server: PostgresqlServer, postgresql_url: str) -> World:
        return Postgres(postgresql_server, postgresql_url)

    def test_rows_are_counted_by_table_as_they_are_named(self, desk, world, file):
        told = desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        assert told["tables"] == {
            "public.customer": 500,
            'public."odd ""name"': 2,
            "public.empty": 0,
            "public.line": 4,
            "public.parts_2026": 7,
            "shop.item": 2000,
        }

    def test_roles_are_kept_and_those_that_are_missing_are_made(self, desk, world, file, postgresql_server):
        told = desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        roles = Path(file + ".roles.sql").read_text()
        assert f"CREATE ROLE {world.role};" in roles
        assert "PASSWORD" not in roles, "an ordinary role may not read passwords"
        assert any("without their passwords" in line for line in told["told"])

        superuser = replace(world.source, url=world.url)
        postgresql_server.psql(f"CREATE ROLE reader_{world.database} LOGIN")
        postgresql_server.psql(
            f"GRANT SELECT ON customer TO reader_{world.database};", database=world.database
        )
        desk.tell(world.brand.dump_source(superuser, file, timeout=LIMIT))
        assert "PASSWORD 'SCRAM" in Path(file + ".roles.sql").read_text()
        postgresql_server.psql(f"DROP OWNED BY reader_{world.database}", database=world.database)
        postgresql_server.psql(f"DROP ROLE reader_{world.database}")
        postgresql_server.psql(f"ALTER ROLE {world.role} CONNECTION LIMIT 7")
        hear(desk, world.brand.restore(superuser, file, "", timeout=LIMIT), doing="restore")
        found = postgresql_server.psql(
            "SELECT rolname, rolcanlogin, rolconnlimit FROM pg_roles WHERE rolname LIKE '%_"
            f"{world.database}' ORDER BY 1"
        )
        assert found.splitlines() == [
            f"owner_{world.database}|t|7",
            f"reader_{world.database}|t|-1",
        ], "a role that is there stays as it is"

    @pytest.mark.parametrize("damaged", [False, True])
    def test_roles_are_asked_for_while_the_dump_is_read(self, desk, world, file, open_path, damaged):
        """Neither waits for the other; where the dump is no good nothing of either stays."""
        programs = theirs(open_path / "bin")
        asked, pause = programs / "asked", "sleep 1; exit 1" if damaged else 'exec /usr/bin/pg_dumpall "$@"'
        (programs / "pg_dumpall").write_text(f"#!/bin/sh\n>{asked}\n{pause}\n")
        (programs / "pg_restore").write_text(
            f"#!/bin/sh\nfor n in 1 2 3 4 5 6 7 8 9; do [ -e {asked} ] && break; sleep 0.3; done\n"
            f'[ -e {asked} ] && {"! :" if damaged else "exec"} /usr/bin/pg_restore "$@"\n'
        )
        for program in ("pg_dumpall", "pg_restore"):
            (programs / program).chmod(0o755)
        desk.environment = replace(desk.environment, env={"PATH": f"{programs}:/usr/bin:/bin"})
        if damaged:
            with pytest.raises(StepFailed, match="the dump is damaged"):
                desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
            assert not list(Path(file).parent.iterdir())
        else:
            told = desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
            assert [more["suffix"] for more in told["more"]] == [".roles.sql"]

    def test_a_scratch_database_is_never_one_that_is_in_use(self, world):
        for name in ("postgres", "fraisier_verify_x; DROP", 'fraisier_verify_"'):
            with pytest.raises(ValueError, match="not a scratch database"):
                world.brand.drop_scratch(world.source, name, timeout=1)


# -------------------------------------------------------------------------------------------------------- SQLite
class SqliteFile:
    """A database in WAL mode that somebody has open."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "it's a shop.db"
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
            connection.execute('CREATE TABLE "odd ""name" (x)')
            connection.executemany(
                "INSERT INTO item (name) VALUES (?)", [(f"item {n}",) for n in range(3000)]
            )
        for path in folder.glob(self.path.name + "*"):
            if USER:
                shutil.chown(path, USER)
        self.brand = Sqlite()
        self.source = Source(name="db", kind="sqlite", url=f"sqlite://{self.path}")
        self.broken = replace(self.source, url=f"sqlite://{folder.parent}/nowhere/x.db")

    def content(self) -> object:
        with closing(sqlite3.connect(self.path)) as connection:
            return list(connection.iterdump())

    def change(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("DELETE FROM item WHERE id = 5")
            connection.execute("CREATE TABLE later (x)")

    def strip(self) -> dict[str, int]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("CREATE VIEW names AS SELECT name FROM item")
            connection.execute("DROP TABLE item")
            connection.execute('DROP TABLE "odd ""name"')
        return {"views": 1}


class TestSqlite(SourceContract):
    question = "SELECT count(*), max(id) FROM item"
    answer = "3000|3000"

    @pytest.fixture
    def world(self, open_path: Path) -> World:
        return SqliteFile(theirs(open_path / "data"))

    def test_what_cannot_be_dumped_fails_and_leaves_nothing(self, desk, world, file):
        """A database that is not there yet is nothing to dump, before a first migration."""
        told = desk.tell(world.brand.dump_source(world.broken, file, timeout=LIMIT))
        assert told == {"nothing": "there is no database yet"}
        assert not list(Path(file).parent.iterdir())


class TestSqliteWithoutPython(TestSqlite):
    """Python is hidden: the program sqlite3 does it."""

    @pytest.fixture
    def desk(self, open_path: Path) -> RealDesk:
        programs = open_path / "programs"
        programs.mkdir(mode=0o755)
        for found in (Path("/usr/bin"), Path("/bin")):
            for program in found.iterdir():
                if "python" not in program.name and not (programs / program.name).exists():
                    (programs / program.name).symlink_to(program)
        made = environment(user=USER, app_path=str(open_path / "app"), env={"PATH": str(programs)})
        return RealDesk(LocalHost(), made)


# -------------------------------------------------------------------------------------------------------- folder
class Tree:
    """Files of odd names, links of both kinds, a hole, an empty folder, and what is left out."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        (folder / "a").mkdir()
        (folder / "none").mkdir()
        (folder / "a/two\nlines").write_text("x")
        (folder / "a/-rf *").write_bytes(os.urandom(100_000))
        (folder / ".hidden").write_text("h")
        (folder / "a/hard").hardlink_to(folder / ".hidden")
        (folder / "link").symlink_to("a/hard")
        (folder / "astray").symlink_to("/nowhere")
        with (folder / "hole").open("wb") as file:
            file.truncate(50 << 20)
            file.write(b"x")
        (folder / "run.sh").write_text("#!/bin/sh")
        (folder / "run.sh").chmod(0o750)
        self.own()
        self.brand = Folder()
        self.source = Source(
            name="files", kind="folder", path=str(folder), exclude=("cache/", "*.log", "/top")
        )
        self.broken = replace(self.source, path=str(folder / "nowhere"))

    def own(self) -> None:
        for path in (self.path, *self.path.rglob("*")):
            if USER:
                os.chown(path, pwd.getpwnam(USER).pw_uid, -1, follow_symlinks=False)

    def content(self) -> object:
        return {str(path.relative_to(self.path)): _of(path) for path in sorted(self.path.rglob("*"))}

    def change(self) -> None:
        (self.path / "a/hard").unlink()
        (self.path / "a/new").write_text("n")
        (self.path / "more").mkdir()
        (self.path / "run.sh").chmod(0o700)
        self.own()

    def strip(self) -> dict[str, int]:
        for path in self.path.rglob("*"):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
        return {"folders": 2}


def _of(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    if path.is_symlink():
        return ("link", path.readlink())
    return (oct(found.st_mode), found.st_uid, path.read_bytes() if path.is_file() else b"", found.st_nlink)


class TestFolder(SourceContract):
    question = "cat link; ls none | wc -l"
    answer = "h0"

    @pytest.fixture
    def world(self, open_path: Path) -> World:
        return Tree(theirs(open_path / "files"))

    def test_a_hole_stays_a_hole(self, desk, world, dump, folder):
        assert Path(dump).stat().st_size < 1 << 20
        to = world.brand.scratch(world.source, str(folder), RUN)
        hear(desk, world.brand.make_scratch(world.source, to, timeout=LIMIT), doing="make")
        hear(desk, world.brand.restore(world.source, dump, to, timeout=LIMIT), doing="restore")
        hole = Path(to, "hole").stat()
        assert (hole.st_size, hole.st_blocks < 100) == (50 << 20, True)

    def test_what_is_excluded_stays_out(self, desk, world, file, folder):
        for name in ("cache/x", "a/cache/y", "a/b.log", "top/z", "a/top/kept", "cached"):
            path = world.path / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text("x")
        world.own()
        desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        names = set(run("tar", "-tf", file).splitlines())
        assert {"./a/top/kept", "./cached"} <= names
        assert not [name for name in names if "cache/" in name or ".log" in name or name.startswith("./top")]

    def test_files_that_change_while_they_are_read_are_told(self, desk, world, file, open_path):
        """tar is one that finds a file changed, as it may with any file that grows."""
        programs = theirs(open_path / "bin")
        (programs / "tar").write_text(
            '#!/bin/sh\n/bin/tar "$@" || exit\ncase $1 in --create) '
            'echo "tar: ./a/\\"log: file changed as we read it" >&2; exit 1;; esac\n'
        )
        (programs / "tar").chmod(0o755)
        desk.environment = replace(desk.environment, env={"PATH": f"{programs}:/usr/bin:/bin"})
        told = desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        assert told["told"] == ['./a/"log: file changed as we read it']

    def test_one_that_may_not_be_read_fails(self, desk, world, file):
        if not USER:
            pytest.skip("needs root, to have files of others")
        (world.path / "others").write_text("x")
        (world.path / "others").chmod(0o600)
        with pytest.raises(StepFailed, match=r"others: Cannot open: Permission denied|errors"):
            desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        assert not list(Path(file).parent.iterdir())

    def test_gzip_does_where_there_is_no_zstd(self, desk, world, file, open_path):
        programs = theirs(open_path / "bin")
        for program in Path("/bin").iterdir():
            if "zstd" not in program.name:
                (programs / program.name).symlink_to(program)
        desk.environment = replace(desk.environment, env={"PATH": str(programs)})
        desk.tell(world.brand.dump_source(world.source, file, timeout=LIMIT))
        assert Path(file).read_bytes()[:2] == b"\x1f\x8b"
        before = world.content()
        world.change()
        hear(desk, world.brand.restore(world.source, file, "", timeout=LIMIT), doing="restore")
        assert world.content() == before


# ------------------------------------------------------------------------------------------------------- command
class Stock:
    """A file that the user's own lines copy."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stock"
        self.path.write_text("one\n")
        if USER:
            shutil.chown(self.path, USER)
        self.brand = BackupCommand()
        copy = f'to=${{FRAISIER_RESTORE_TO:-{folder}}}; gzip -d -c "$FRAISIER_BACKUP" >"$to/new" && '
        self.source = Source(
            name="stock",
            kind="command",
            command=f'gzip -c {self.path} >"$FRAISIER_BACKUP"',
            restore=copy + 'mv "$to/new" "$to/stock"',
        )
        self.broken = replace(self.source, command="exit 3")

    def content(self) -> object:
        return self.path.read_text()

    def change(self) -> None:
        self.path.write_text("two\n")

    def strip(self) -> dict[str, int]:
        return {}


class TestCommand(SourceContract):
    counts = False
    question = "cat stock"
    answer = "one"

    @pytest.fixture
    def world(self, open_path: Path) -> World:
        return Stock(theirs(open_path / "stock"))

    def test_problems_are_told_before(self, desk, world):
        assert list(world.brand.problems(world.source, desk)) == []

    def test_a_line_that_does_not_look_where_to_is_not_tried(self, world, folder):
        """It would overwrite what is in use."""
        careless = replace(world.source, restore=f"cp $FRAISIER_BACKUP {world.path}")
        with pytest.raises(StepFailed, match="does not say that it heeds"):
            world.brand.restore(careless, "file", str(folder / "x"), timeout=LIMIT)
        with pytest.raises(StepFailed, match="nobody said how"):
            world.brand.restore(replace(careless, restore=""), "file", "", timeout=LIMIT)
