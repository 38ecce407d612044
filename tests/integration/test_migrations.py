"""Deployments that migrate: real Alembic, Django, confiture and psql on a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fraisier import wiring
from fraisier.cli.main import main
from fraisier.domain.errors import Conflict
from fraisier.domain.fraise import EnvironmentKey
from tests.disks import disk
from tests.integration.migration_projects import FRAMEWORKS, Project
from tests.integration.outside import serving
from tests.integration.site import KEY, Site, until
from tests.servers.postgresql import PostgresqlServer, postgresql_server, postgresql_url

__all__ = ["postgresql_server", "postgresql_url"]

PLACE = ("shop", "production")
LEASE = "worker: {lease: 2s, shutdown_grace: 1s}"
HEALTH = 'health_check: {command: "test ! -e bad", timeout: 1, interval: 0.1, passes: 1}'


class Shop:
    """A site whose environment has a database."""

    def __init__(self, site: Site, project: Project, server: PostgresqlServer) -> None:
        self.site, self.project, self.server = site, project, server

    def push(self, *kinds: str, bad: bool = False) -> str:
        extra = {"bad": "x"} if bad else {}
        return self.site.push({"VERSION": str(len(kinds)), **self.project.files(*kinds), **extra})

    def push_branched(self, version: str, *, bad: bool = False, **revisions: str) -> str:
        """Alembic's revisions that are no line; see `Project.branched`."""
        extra = {"bad": "x"} if bad else {}
        return self.site.push({"VERSION": version, **self.project.branched(**revisions), **extra})

    def reconfigure(self, more: str, lines: str = HEALTH) -> None:
        """Other lines in the environment."""
        self.site.write_config(f"{lines}\n{self.project.config(more)}")
        self.reload()

    def reload(self) -> None:
        """Take the changed file."""
        self.site.fraisier.configuration = wiring.load(str(self.site.config))
        self.site.fraisier.publish()

    def deploy(self, **fields: Any) -> dict[str, Any]:
        """Frameworks start slowly where many tests run."""
        requested = self.site.request(**fields)
        assert requested.deployment is not None, requested.reason
        return self.site.ended(requested.deployment.id, 200)

    def cli(self, *words: str) -> str:
        """What a command prints; it has to succeed."""
        done = CliRunner().invoke(main, ("--config", str(self.site.config), *words))
        assert done.exit_code == 0, done.output
        return done.output

    @property
    def tables(self) -> list[str]:
        listed = "SELECT relname FROM pg_class WHERE relname ~ '^t[a-z]?[0-9]+$' ORDER BY 1"
        return self.psql(listed).split()

    def psql(self, sql: str) -> str:
        database = self.project.url.partition("@/")[2].partition("?")[0]
        return self.server.psql(sql, database=database)

    def notes(self, deployment: str) -> list[tuple[str, str]]:
        """What was noted of the database: kind and revision."""
        rows = self.site.fraisier.store.database_changes(KEY)
        return [(row["kind"], row["revision"]) for row in rows if row["deployment_id"] == deployment]

    def detail(self, deployment: str, kind: str) -> dict[str, Any]:
        rows = self.site.fraisier.store.database_changes(KEY)
        return next(r["detail"] for r in rows if (r["deployment_id"], r["kind"]) == (deployment, kind))

    def is_held(self) -> bool:
        return "1" in self.psql(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_stat_file%' AND state = 'active'"
            " AND pid <> pg_backend_pid()"
        )

    def is_taken_over(self, deployment: str) -> None:
        """Until then the migration runs on: nobody has ended it yet."""
        until("the takeover", lambda: self.site.fraisier.store.deployment(deployment)["attempts"] == 2, 60)

    def end_sessions(self) -> None:
        """A server ends what a dead client left when it notices; here, now."""
        self.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database() AND query LIKE '%pg_stat_file%'"
        )


@contextmanager
def a_shop(
    folder: Path, framework: str, url: str, server: PostgresqlServer, more: str = "", head: str = ""
) -> Iterator[Shop]:
    project = Project(framework, url, server.folder)
    site = Site(folder, extra=f"{HEALTH}\n{project.config(more)}", head=head)
    try:
        yield Shop(site, project, server)
    finally:
        site.fraisier.store.close()


# ------------------------------------------------------------------------------- what every framework does


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_every_framework_does(tmp_path, framework, postgresql_url, postgresql_server):
    """Up with a release, back with it, back from a failure, and not at all where there would be no way back."""
    refusing = "on_irreversible: refuse"
    with (
        a_shop(tmp_path, framework, postgresql_url, postgresql_server, refusing) as shop,
        shop.site.working(),
    ):
        revision = shop.project.revision

        shop.push("plain")
        first = shop.deploy()
        assert (first["status"], shop.tables) == ("success", ["t1"]), shop.site.output(first["id"])
        assert shop.notes(first["id"]) == [("planned", revision(0)), ("migrated", revision(1))]

        if framework != "command":  # which has a way down for all, or for none
            for kind, verdict in (("irreversible", "forward-only"), ("destroys", "restore point needed")):
                shop.push("plain", kind)
                refused = shop.deploy()
                assert (refused["status"], refused["cause"]) == ("failed", "irreversible"), refused
                assert verdict in refused["error_message"]
                assert (shop.notes(refused["id"]), shop.tables) == ([], ["t1"])

        shop.push("plain", "plain", "plain", bad=True)
        unhealthy = shop.deploy()
        assert (unhealthy["status"], shop.tables) == ("rolled_back", ["t1"]), shop.site.output(
            unhealthy["id"]
        )
        planned, there, back = (
            ("planned", revision(1)),
            ("migrated", revision(3)),
            ("taken_back", revision(1)),
        )
        assert shop.notes(unhealthy["id"]) == [planned, there, back]
        told = shop.detail(unhealthy["id"], "planned")
        assert told["verdict"] == "reversible"
        assert [each["name"] for each in told["pending"]] == list(shop.project.names("", "", ""))[1:]

        shop.push("plain", "plain", "broken")
        broken = shop.deploy()
        assert (broken["status"], broken["cause"], shop.tables) == ("failed", "migration", ["t1"]), broken
        assert shop.notes(broken["id"]) == [planned, back], (
            "the second migration was performed, and taken back"
        )
        assert "The database was taken back" in broken["error_message"]

        assert shop.site.version == "1"


# ------------------------------------------------------------------------------- Alembic with several heads

ROOT = {"r1": "plain"}
FORK = {"r1": "plain", "a1": "r1 plain", "b1": "r1 plain"}
APART = {"a1": "plain", "b1": "plain"}  # two lines that have nothing in common
HEADS = {  # what was there, what is pending, where the database is before and after
    "two heads": (ROOT, {"a1": "r1 plain", "b1": "r1 plain"}, "r1", "a1,b1"),
    "the next of both heads": (FORK, {"a2": "a1 plain", "b2": "b1 plain"}, "a1,b1", "a2,b2"),
    "the next of one head": (FORK, {"b2": "b1 plain", "b3": "b2 plain"}, "a1,b1", "a1,b3"),
    "the next of one line": (APART, {"b2": "b1 plain"}, "a1,b1", "a1,b2"),
    "what joins both heads": (FORK, {"m1": "a1 b1 plain"}, "a1,b1", "m1"),
    "a second head": ({"r1": "plain", "a1": "r1 plain"}, {"b1": "r1 plain"}, "a1", "a1,b1"),
    "a second line": ({"a1": "plain"}, {"b1": "plain", "b2": "b1 plain"}, "a1", "a1,b2"),
    "a second head, joined": (
        {"r1": "plain", "b1": "r1 plain"},
        {"a1": "r1 plain", "m1": "a1 b1 plain"},
        "b1",
        "m1",
    ),
}


@pytest.mark.parametrize("case", HEADS)
def test_several_heads_are_migrated_and_taken_back_to_exactly_those_of_before(
    tmp_path, case, postgresql_url, postgresql_server
):
    there, pending, before, after = HEADS[case]
    refusing = "on_irreversible: refuse"
    with (
        a_shop(tmp_path, "alembic", postgresql_url, postgresql_server, refusing) as shop,
        shop.site.working(),
    ):
        shop.push_branched("1", **there)
        first = shop.deploy()
        assert (first["status"], shop.notes(first["id"])[-1]) == ("success", ("migrated", before)), first
        tables = shop.tables

        shop.push_branched("2", bad=True, **there, **pending)
        row = shop.deploy()
        assert row["status"] == "rolled_back", (row, shop.site.output(row["id"]))
        assert shop.notes(row["id"]) == [("planned", before), ("migrated", after), ("taken_back", before)]
        told = shop.detail(row["id"], "planned")
        assert told["verdict"] == "reversible"
        assert {each["name"] for each in told["pending"]} == {f"{name}_step" for name in pending}
        assert (shop.tables, shop.site.version) == (tables, "1")


def test_one_head_of_several_without_a_way_down_or_broken_stops_the_deployment(
    tmp_path, postgresql_url, postgresql_server
):
    refusing = "on_irreversible: refuse"
    with (
        a_shop(tmp_path, "alembic", postgresql_url, postgresql_server, refusing) as shop,
        shop.site.working(),
    ):
        shop.push_branched("1", **FORK)
        assert shop.deploy()["status"] == "success"
        shop.push_branched("2", **FORK, a2="a1 plain", b2="b1 irreversible")
        refused = shop.deploy()
        assert (refused["status"], refused["cause"]) == ("failed", "irreversible"), refused
        assert "b2_step" in refused["error_message"]

        shop.push_branched("3", **FORK, a2="a1 plain", b2="b1 broken")
        broken = shop.deploy()
        assert (broken["status"], broken["cause"]) == ("failed", "migration"), broken
        assert shop.notes(broken["id"])[-1] == ("taken_back", "a1,b1")
        assert "is as it was" in broken["error_message"] or "was taken back" in broken["error_message"]
        assert (shop.tables, shop.site.version) == (["ta1", "tb1", "tr1"], "1")


def test_a_person_goes_back_to_several_heads(tmp_path, postgresql_url, postgresql_server):
    with a_shop(tmp_path, "alembic", postgresql_url, postgresql_server) as shop, shop.site.working():
        releases: list[str] = []
        revisions = dict(FORK)
        for version, more in (("1", {}), ("2", {"b2": "b1 plain"}), ("3", {"m1": "a1 b2 plain"})):
            revisions |= more
            shop.push_branched(version, **revisions)
            row = shop.deploy()
            assert row["status"] == "success", (row, shop.site.output(row["id"]))
            releases.append(row["release"])
        requested = shop.site.fraisier.roll_back(KEY, to=releases[0], by="alice", with_database=True)
        assert "from revision m1 to a1,b1" in requested.database
        row = shop.site.ended(requested.deployment.id)
        assert (row["status"], shop.site.version, shop.tables) == ("success", "1", ["ta1", "tb1", "tr1"]), row
        assert shop.notes(row["id"])[-1] == ("migrated", "a1,b1")


# ---------------------------------------------------------------------------------------- killed in the middle


@contextmanager
def killed(shop: Shop, when: str) -> Iterator[dict[str, Any]]:
    """A worker is killed in the migration, and the next one goes on: what became of the deployment."""
    held = shop.project.hold_after if when == "done" else shop.project.hold
    held.touch()
    kinds = {"not begun": ("held",), "in between": ("plain", "held"), "done": ("plain",)}[when]
    began = Path(f"{held}.began").exists if when == "done" else shop.is_held
    try:
        with serving(shop.site) as serve:
            serve.start()
            shop.push(*kinds)
            requested = shop.site.request()
            assert requested.deployment is not None
            until("the migration", began, 200)
            serve.kill()
            serve.start()
            shop.is_taken_over(requested.deployment.id)
            shop.end_sessions()
            held.unlink()
            yield shop.site.ended(requested.deployment.id, 200)
    finally:
        held.unlink(missing_ok=True)


# What `command` does otherwise is in tests/unit/test_migrate_database.py.
KILLS = [(each, when) for each in FRAMEWORKS[:3] for when in ("not begun", "in between", "done")]


@pytest.mark.parametrize(("framework", "when"), [*KILLS, ("command", "in between")])
def test_a_killed_migration_is_repeated_only_if_it_had_not_begun(
    tmp_path, framework, when, postgresql_url, postgresql_server
):
    with (
        a_shop(tmp_path, framework, postgresql_url, postgresql_server, head=LEASE) as shop,
        killed(shop, when) as row,
    ):
        revision = shop.project.revision
        if when == "in between":
            assert (row["status"], row["cause"]) == ("failed", "migration_interrupted"), row
            assert f"is at {revision(1)}" in row["error_message"]
            assert (shop.tables, shop.site.version) == (["t1"], "")
        else:
            assert row["status"] == "success", (row, shop.site.output(row["id"]))
            assert shop.tables == ["t1"]
            assert shop.notes(row["id"])[-1] == ("migrated", revision(1))


# ------------------------------------------------------------------------------------------------------ backups


def test_a_backup_is_made_verified_and_pruned_before_the_migration(
    tmp_path, postgresql_url, postgresql_server
):
    more = "backup_before_deploy: true, keep_backups: 2"
    with a_shop(tmp_path, "command", postgresql_url, postgresql_server, more) as shop, shop.site.working():
        for n in (1, 2, 3):
            shop.push(*["plain"] * n)
            row = shop.deploy()
            assert row["status"] == "success", shop.site.output(row["id"])
        folder = shop.site.app / "backups"
        dumps = sorted(path.name for path in folder.iterdir())
        assert [name.partition("-")[0] for name in dumps] == ["2", "3"]
        assert folder.stat().st_mode & 0o777 == 0o700
        newest = Path(shop.detail(row["id"], "backed_up")["path"])
        assert newest.stat().st_mode & 0o777 == 0o600
        assert shop.detail(row["id"], "backed_up")["bytes"] == newest.stat().st_size
        scratch = shop.server.database()
        subprocess.run(("pg_restore", "--no-owner", "--dbname", scratch, str(newest)), check=True)
        name = scratch.partition("@/")[2].partition("?")[0]
        listed = shop.server.psql(
            "SELECT relname FROM pg_class WHERE relname ~ '^t[0-9]+$' ORDER BY 1", database=name
        )
        assert listed.split() == ["t1", "t2"], "as it was before the third migration"
        shop.server.drop(scratch)


def test_a_dump_that_was_cut_off_is_not_taken_for_one(tmp_path, postgresql_url, postgresql_server):
    """pg_dump is replaced by one whose dump lacks its end; its table of contents is whole."""
    with a_shop(tmp_path, "command", postgresql_url, postgresql_server, "backup_before_deploy: true") as shop:
        (tmp_path / "bin").mkdir()
        cut = tmp_path / "bin" / "pg_dump"
        cut.write_text('#!/bin/sh\n/usr/bin/pg_dump "$@" || exit 1\nfor f in "$@"; do :; done\n'
                       'f=${f#--file=}; truncate -s -200 "$f"\n')  # fmt: skip
        cut.chmod(0o755)
        shop.psql("CREATE TABLE ballast AS SELECT md5(i::text) FROM generate_series(1, 5000) i")
        with pytest.MonkeyPatch.context() as patch, shop.site.working():
            patch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
            shop.push("plain")
            row = shop.deploy()
        assert shop.notes(row["id"]) == [("planned", "base")], "nothing was begun, so nothing is taken back"
    assert (row["status"], row["cause"], shop.tables) == ("failed", "backup", []), row
    assert list((shop.site.app / "backups").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_backup_on_a_full_disk_stops_the_deployment_before_the_migration(
    tmp_path, postgresql_url, postgresql_server
):
    more = f"backup_before_deploy: true, backup_folder: {tmp_path}/dumps"
    with (
        disk(tmp_path / "dumps") as dumps,
        a_shop(tmp_path, "command", postgresql_url, postgresql_server, more) as shop,
        shop.site.working(),
    ):
        shop.reconfigure(more, f"{HEALTH}\nretry_for: 0s")
        shop.psql("CREATE TABLE ballast AS SELECT md5(i::text) FROM generate_series(1, 50000) i")
        dumps.fill(leave=8192)
        shop.push("plain")
        row = shop.deploy()
        assert (row["status"], row["cause"], shop.tables) == ("failed", "disk", []), row
        assert [path.name for path in dumps.folder.iterdir()] == ["ballast"], "no half dump is left"
        dumps.free()
        again = shop.deploy()
        assert (again["status"], shop.tables) == ("success", ["t1"]), again


def test_an_irreversible_migration_gets_a_backup_where_the_policy_says_so(
    tmp_path, postgresql_url, postgresql_server
):
    more = "on_irreversible: backup, reversible: false"
    with a_shop(tmp_path, "command", postgresql_url, postgresql_server, more) as shop, shop.site.working():
        shop.push("plain")
        first = shop.deploy()
        assert "backed_up" not in dict(shop.notes(first["id"])), "nothing was ever migrated: nothing to lose"
        shop.push("plain", "plain", bad=True)
        row = shop.deploy()
        assert "the database stays at 0002" in shop.cli("status")
    assert (row["status"], shop.tables) == ("rolled_back", ["t1", "t2"]), row
    dump = shop.detail(row["id"], "backed_up")["path"]
    assert "stays so at revision 0002: the migration is forward-only" in row["error_message"]
    assert dump in row["error_message"]
    assert shop.notes(row["id"])[-1] == ("left", "0002")


# -------------------------------------------------------------------------------------------- one database, many


def test_two_fraises_never_migrate_one_database_at_once(tmp_path, postgresql_url, postgresql_server):
    with a_shop(tmp_path, "command", postgresql_url, postgresql_server) as shop:
        site, jobs = shop.site, EnvironmentKey("jobs", "production")
        second = site.config.read_text().partition("fraises:\n")[2]
        second = second.replace("  shop:", "  jobs:").replace(str(site.app), f"{tmp_path}/jobs")
        site.config.write_text(site.config.read_text() + second)
        shop.reload()
        shop.project.hold.touch()
        shop.push("held")
        with site.working():
            first = site.request().deployment
            until("the migration", shop.is_held, 60)
            waiting = site.fraisier.request_deployment(jobs, by="alice").deployment
            told = "works on it"
            until("the other one to wait", lambda: told in site.output(waiting.id), 60)
            assert f"shop/production (deployment {first.id[:8]}) {told}" in site.output(waiting.id)
            site.fraisier.cancel(waiting.id, by="bob")
            assert site.ended(waiting.id)["status"] == "cancelled", "who waits can be cancelled"
            again = site.fraisier.request_deployment(jobs, by="alice").deployment
            until("the other one to wait", lambda: told in site.output(again.id), 60)
            shop.project.hold.unlink()
            assert [site.ended(each.id, 60)["status"] for each in (first, again)] == ["success", "success"]
        assert "nothing is pending" in site.output(again.id)


# ------------------------------------------------------------------------------------------- a person's rollback


def test_a_rollback_takes_the_database_back_only_when_asked_to(tmp_path, postgresql_url, postgresql_server):
    with a_shop(tmp_path, "command", postgresql_url, postgresql_server) as shop, shop.site.working():
        roll_back, ended = shop.site.fraisier.roll_back, shop.site.ended
        shop.push("plain")
        first = shop.deploy()
        shop.push("plain", "plain")
        shop.deploy()

        assert "at revision 0002. What is pending is known after the build" in shop.cli("plan", *PLACE)
        told = shop.cli("plan", *PLACE, "--commit", first["commit"])
        assert "The database is at revision 0002; nothing is pending." in told
        assert "was at base; reversible" in shop.cli("show", first["id"])

        requested = roll_back(KEY, by="alice")
        assert "The database stays at revision 0002" in requested.database
        assert "--with-database" in requested.database
        row = ended(requested.deployment.id)
        assert (row["status"], shop.site.version, shop.tables) == ("success", "1", ["t1", "t2"])
        assert shop.notes(row["id"]) == [("left", "0002")]

        shop.push("plain", "plain", "plain")
        third = shop.deploy()
        assert third["status"] == "success"
        requested = roll_back(KEY, to=first["release"], by="alice", with_database=True)
        assert "from revision 0003 to 0001" in requested.database
        row = ended(requested.deployment.id)
        assert (row["status"], shop.site.version, shop.tables) == ("success", "1", ["t1"]), row
        assert "migrated to 0001" in shop.cli("show", row["id"])
        with pytest.raises(Conflict, match="deploy that commit again"):
            roll_back(KEY, to=third["release"], by="alice", with_database=True)


def test_a_rollback_whose_release_is_not_healthy_goes_forward_again_with_its_database(
    tmp_path, postgresql_url, postgresql_server
):
    ill = f"case $FRAISIER_RELEASE in 1-*) test ! -e {tmp_path}/ill;; esac"
    health = f'health_check: {{command: "{ill}", timeout: 1, interval: 0.1, passes: 1}}'
    with a_shop(tmp_path, "command", postgresql_url, postgresql_server) as shop, shop.site.working():
        shop.reconfigure("", health)
        shop.push("plain")
        shop.deploy()
        shop.push("plain", "plain")
        shop.deploy()
        (tmp_path / "ill").touch()
        requested = shop.site.fraisier.roll_back(KEY, by="alice", with_database=True)
        row = shop.site.ended(requested.deployment.id)
        assert (row["status"], row["cause"]) == ("rolled_back", "unhealthy"), row
        assert (shop.site.version, shop.tables) == ("2", ["t1", "t2"]), row
        assert [kind for kind, _ in shop.notes(row["id"])] == ["planned", "migrated", "taken_back"]


# ------------------------------------------------------------------------------------------------- other backups


@pytest.mark.parametrize("how", ["python3", "sqlite3"])
def test_a_sqlite_database_that_is_being_written_is_backed_up_whole(tmp_path, how):
    """With the program that a machine has: Python's module, or sqlite3."""
    if how == "sqlite3" and shutil.which("sqlite3") is None:
        pytest.skip("there is no sqlite3 here")
    database = tmp_path / "shop.db"
    lines = f'database: {{up: "true", url: "sqlite://{database}", backup_before_deploy: true}}'
    site = Site(tmp_path, extra=f"{HEALTH}\n{lines}")
    site.push({"VERSION": "1"})
    with pytest.MonkeyPatch.context() as patch, closing(site.fraisier.store), site.working():
        if how == "sqlite3":
            patch.setenv("PATH", str(without(tmp_path / "bin", "python3")))
        first = site.deploy()
        assert first["status"] == "success", site.output(first["id"])
        assert "there is no database yet" in site.output(first["id"])
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE orders (id integer)")
            connection.execute("INSERT INTO orders VALUES (1)")
            connection.execute("BEGIN")
            connection.execute("INSERT INTO orders VALUES (2)")
            row = site.deploy(force=True)
            connection.execute("ROLLBACK")
    assert row["status"] == "success", site.output(row["id"])
    (dump,) = (site.app / "backups").iterdir()
    with closing(sqlite3.connect(dump)) as connection:
        assert connection.execute("SELECT id FROM orders").fetchall() == [(1,)]


def without(folder: Path, program: str) -> Path:
    """A folder with every program of this machine but one."""
    folder.mkdir()
    for place in os.environ["PATH"].split(":"):
        for found in Path(place).glob("*"):
            if not found.name.startswith(program) and not (folder / found.name).is_symlink():
                (folder / found.name).symlink_to(found)
    return folder


_LEFT = ("", ".sum", ".roles", "-wal", "-shm", "-journal", ".whatever a command\nmade")


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_what_a_killed_dump_has_left_goes_with_the_next_and_nothing_else(tmp_path, shared):
    """In a folder that environments share, another one's dump is being written, and others are whole."""
    ours = f"{KEY.fraise}@{KEY.environment}@" if shared else ""
    others = {"shop@staging@1-0123456789.backup.part", "shop@staging@1-0123456789.backup", "notes.part"}
    others |= {"1-0123456789.backup.part"} if shared else set()
    where = f", backup_folder: {tmp_path}/dumps" if shared else ""
    command = "echo dump > $FRAISIER_BACKUP"
    lines = f'database: {{up: "true", keep_backups: 1, backup_before_deploy: true, backup_command: "{command}"{where}}}'
    site = Site(tmp_path, extra=f"{HEALTH}\n{lines}")
    folder = tmp_path / "dumps" if shared else site.app / "backups"
    site.push({"VERSION": "1"})
    with closing(site.fraisier.store), site.working():
        assert site.deploy()["status"] == "success"
        for name in (*(f"{ours}7-0123456789.sqlite.part{left}" for left in _LEFT), *others):
            (folder / name).write_text("x")
        row = site.deploy(force=True)
    assert row["status"] == "success", row
    assert {path.name for path in folder.iterdir()} == {f"{ours}{row['release']}.backup", *others}


@pytest.mark.parametrize(
    ("command", "status", "cause"),
    [
        ("echo dump > $FRAISIER_BACKUP", "success", None),
        ("true", "failed", "backup"),
        ("exit 3", "failed", "backup"),
    ],
)
def test_any_database_is_backed_up_by_a_command_that_writes_a_file(tmp_path, command, status, cause):
    lines = (
        f'database: {{up: "touch {tmp_path}/up", backup_before_deploy: true, backup_command: "{command}"}}'
    )
    site = Site(tmp_path, extra=f"{HEALTH}\n{lines}")
    site.push({"VERSION": "1"})
    with closing(site.fraisier.store), site.working():
        row = site.deploy()
    assert (row["status"], row["cause"], (tmp_path / "up").exists()) == (
        status,
        cause,
        status == "success",
    ), row
    kept = [path.read_text() for path in (site.app / "backups").iterdir()]
    assert kept == (["dump\n"] if status == "success" else [])
