"""Backups with a real worker, real processes and real databases: made, tried, broken in every way, brought back."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fraisier import wiring
from fraisier.application.watch_backups import WatchBackups
from fraisier.domain.backup import made_at_of
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.run import RunStatus
from fraisier.worker import Worker
from tests.desks import open_path
from tests.disks import disk as small_disk
from tests.fakes import FakeClock
from tests.integration.site import until
from tests.servers.postgresql import PostgresqlServer, postgresql_server, postgresql_url

__all__ = ["open_path", "postgresql_server", "postgresql_url"]

KEY = EnvironmentKey("dumps", "production")
SCHEMA = """
CREATE TABLE item (id int PRIMARY KEY, name text);
CREATE TABLE nothing (id int);
INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 1000) n;
"""


class Vault:
    """An installation that backs a PostgreSQL database, a SQLite one and a folder up to two other folders."""

    def __init__(self, folder: Path, server: PostgresqlServer, url: str) -> None:
        self.folder, self.server = folder, server
        self.database = url.partition("@/")[2].partition("?")[0]
        self.sqlite, self.uploads = folder / "data" / "app.db", folder / "data" / "uploads"
        self.uploads.mkdir(parents=True)
        server.psql(SCHEMA, database=self.database)
        with closing(sqlite3.connect(self.sqlite)) as made, made:
            made.execute("CREATE TABLE visit (day text)")
            made.executemany("INSERT INTO visit VALUES (?)", [(f"day {n}",) for n in range(50)])
        (self.uploads / "deep").mkdir()
        (self.uploads / "deep" / "a file").write_text("kept")
        (self.uploads / "link").symlink_to("deep/a file")
        (self.uploads / "cache").mkdir()
        (self.uploads / "cache" / "x").write_text("not kept")
        self.url = url
        self.config = folder / "fraises.yaml"
        self.events: list[tuple[str, Any]] = []
        self.write_config()
        self.fraisier = wiring.assemble(wiring.load(str(self.config)), listener=self._listen)
        self.fraisier.publish()

    def _listen(self, event: str, fields: Any) -> None:
        self.events.append((event, dict(fields)))

    def write_config(self, extra: str = "retention: {keep_last: 3}") -> None:
        lines = "".join(f"\n        {line}" for line in extra.splitlines())
        self.config.write_text(
            f"""
database: {{url: "sqlite://{self.folder}/state/fraisier.db"}}
fraises:
  dumps:
    type: backup
    environments:
      production:
        app_path: {self.folder}/app
        min_free_disk: 1MB
        sources:
          shop: {{url: "{self.url}", query: "SELECT count(*) > 900 FROM item"}}
          visits: {{url: "sqlite://{self.sqlite}"}}
          uploads: {{path: {self.uploads}, exclude: [cache/]}}
        destinations:
          disk: {self.folder}/disk
          vault: {{place: {self.folder}/vault}}{lines}
"""
        )

    def configure(self, extra: str) -> None:
        self.write_config(extra)
        self.fraisier.configuration = wiring.load(str(self.config))
        self.fraisier.publish()

    # -- runs
    def run(self, job: str, **parameters: str) -> dict[str, Any]:
        asked = self.fraisier.request_run(KEY, job, parameters=parameters, by="anna")
        return self.ended(str(asked["id"]))

    def ended(self, run: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            row = self.fraisier.store.run(run)
            return dict(row) if RunStatus(row["status"]).is_final else None

        found: dict[str, Any] = until(f"the end of {run}", look, 120.0)
        return found

    def backup(self) -> str:
        """The name of a new one, the newest: of two that were made in one second nobody can tell the order."""
        row = self.run("main")
        assert row["status"] == "success", (row, self.said(row["id"]))
        name = str(row["detail"]["backup"])
        until("the next second", lambda: time.time() >= made_at_of(name) + 1)
        return name

    def said(self, run: str) -> str:
        return "".join(text for _, text in self.fraisier.store.run_output(run))

    # -- what is kept
    def kept(self, destination: str = "disk") -> set[str]:
        folder = self.folder / destination / "dumps" / "production"
        return {each.name for each in folder.iterdir() if not each.name.startswith(".")}

    def file(self, name: str, file: str, destination: str = "disk") -> Path:
        return self.folder / destination / "dumps" / "production" / name / file

    def state(self, name: str, destination: str = "disk") -> str:
        copies = self.fraisier.store.copies(KEY)
        return next(
            copy.state for copy in copies if (copy.name, copy.destination) == (name, destination)
        ).value

    def alerts(self) -> dict[str, str]:
        return {row["kind"]: row["message"] for row in self.fraisier.store.alerts("dumps", "production")}

    def staged(self) -> list[Path]:
        return list((self.folder / "app" / "backups" / "staging").iterdir())

    def databases(self) -> list[str]:
        return self.server.psql(
            "SELECT datname FROM pg_database WHERE datname LIKE 'fraisier_verify%'"
        ).split()

    def rows(self) -> str:
        return self.server.psql("SELECT count(*), max(id) FROM item", database=self.database).strip()


@contextmanager
def opened(folder: Path, server: PostgresqlServer, url: str) -> Iterator[Vault]:
    made = Vault(folder, server, url)
    worker = Worker(made.fraisier)
    worker.start()
    try:
        yield made
    finally:
        worker.stop(5)
        made.fraisier.store.close()


@pytest.fixture
def vault(open_path: Path, postgresql_server: PostgresqlServer, postgresql_url: str) -> Iterator[Vault]:
    with opened(open_path, postgresql_server, postgresql_url) as made:
        yield made


def test_backups_are_made_tried_and_pruned(vault: Vault) -> None:
    names = [vault.backup() for _ in range(4)]
    assert vault.kept("disk") == vault.kept("vault") == set(names[1:])
    assert {each.name for each in vault.file(names[-1], "x").parent.iterdir()} == {
        *("manifest.json", "shop.dump", "shop.dump.roles.sql", "uploads.tar.packed", "visits.sqlite"),
    }
    row = vault.run("verify")
    assert (row["status"], row["detail"]["verified"]) == ("success", names[-1]), vault.said(row["id"])
    said = vault.said(row["id"])
    assert all(f"{source}: came back as it was" in said for source in ("shop", "visits", "uploads"))
    assert (vault.staged(), vault.databases(), vault.alerts()) == ([], [], {})
    (status,) = vault.fraisier.store.fraise_status("dumps", "production")
    assert (status["alerts"], status["last_run_status"]) == (0, "success")


FAULTS = {
    "corrupt": lambda path: path.write_bytes(path.read_bytes()[:40] + b"!" + path.read_bytes()[41:]),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "missing": lambda path: path.unlink(),
}


def test_each_fault_is_found_within_one_cycle_and_retention_never_eats_a_good_one(vault: Vault) -> None:
    good = vault.backup()
    assert vault.run("verify")["status"] == "success"
    for fault, inject in FAULTS.items():
        name = vault.backup()
        for destination in ("disk", "vault"):
            inject(vault.file(name, "shop.dump", destination))
        row = vault.run("verify")
        assert row["status"] == "failed", fault
        assert {vault.state(name, "disk"), vault.state(name, "vault")} == {"damaged"}, fault
        assert name in vault.alerts()["backup"] or "backup" in vault.alerts(), fault
        assert row["detail"]["verified"] == good, fault
        assert good in vault.kept("disk"), fault
        assert good in vault.kept("vault"), fault
    (status,) = vault.fraisier.store.fraise_status("dumps", "production")
    assert status["healthy"] is False
    row = vault.run("prune", damaged="yes")
    assert row["status"] == "failed" or good in vault.kept("disk")
    newest = vault.backup()
    vault.run("prune", damaged="yes")
    assert vault.kept("disk") == {good, newest}
    assert vault.run("verify")["status"] == "success"
    assert "backup" not in vault.alerts()
    until("the heartbeat to end its own", lambda: not vault.alerts(), 60.0)


def test_a_dump_that_is_whole_and_cannot_be_restored_is_found(vault: Vault) -> None:
    good = vault.backup()
    vault.server.psql("CREATE VIEW broken AS SELECT 1 / (SELECT 0) AS x", database=vault.database)
    vault.server.psql("CREATE MATERIALIZED VIEW m AS SELECT 1 AS x", database=vault.database)
    vault.server.psql("DELETE FROM item WHERE id > 100", database=vault.database)
    vault.backup()
    row = vault.run("verify")
    assert row["status"] == "failed"
    assert "its query answered 'f'" in row["error_message"]
    assert row["detail"]["verified"] == good
    assert vault.databases() == []


def test_a_full_destination_keeps_the_other_one_whole_and_nothing_half(vault: Vault) -> None:
    first = vault.backup()
    vault.uploads.joinpath("big").write_bytes(os.urandom(8 << 20))
    (vault.folder / "vault").rename(vault.folder / "away")
    with small_disk(vault.folder / "vault", 4 << 20) as disk:
        disk.folder.chmod(0o755)
        shutil.copytree(vault.folder / "away", disk.folder, dirs_exist_ok=True)
        before = [each for each in disk.folder.rglob("*") if each.is_file()]
        row = vault.run("main")
        assert row["status"] == "failed"
        assert "at vault" in row["error_message"]
        assert "the disk is full" in row["error_message"]
        assert [each for each in disk.folder.rglob("*") if each.is_file()] == before
    assert len(vault.kept("disk")) == 2
    assert first in vault.kept("disk")


def test_a_full_staging_disk_leaves_everything_as_it_was(vault: Vault) -> None:
    first = vault.backup()
    vault.uploads.joinpath("big").write_bytes(os.urandom(8 << 20))
    with small_disk(vault.folder / "small", 4 << 20):
        vault.configure(f"retention: {{keep_last: 1}}\nstaging: {vault.folder}/small")
        row = vault.run("main")
        assert (row["status"], row["cause"]) == ("failed", "disk"), row
        assert [each for each in (vault.folder / "small").rglob("*") if each.is_file()] == []
    assert vault.kept("disk") == vault.kept("vault") == {first}


def test_a_disk_that_is_not_mounted_has_not_lost_its_backups(vault: Vault) -> None:
    name = vault.backup()
    (vault.folder / "vault").rename(vault.folder / "away")
    row = vault.run("verify")
    assert row["status"] == "failed"
    assert "vault cannot be read" in row["error_message"]
    assert vault.state(name, "vault") == "whole"
    (vault.folder / "away").rename(vault.folder / "vault")
    assert vault.run("verify")["status"] == "success"


def test_a_password_that_is_no_longer_right_is_told_and_nothing_goes(vault: Vault) -> None:
    first = vault.backup()
    right = vault.url
    vault.url = right.replace("postgres@/", "nobody@/")
    vault.configure("retention: {keep_last: 1}")
    row = vault.run("main")
    assert row["status"] == "failed"
    assert "cannot back up shop" in row["error_message"]
    assert vault.kept("disk") == {first}
    row = vault.run("verify")
    assert row["status"] == "failed"
    copies = {copy.name: copy for copy in vault.fraisier.store.copies(KEY)}
    assert copies[first].flaw == ""


def test_what_is_there_is_saved_before_it_is_replaced(vault: Vault) -> None:
    name = vault.backup()
    vault.server.psql("DELETE FROM item WHERE id > 10; CREATE TABLE later (id int)", database=vault.database)
    (vault.uploads / "deep" / "a file").write_text("changed")
    (vault.uploads / "new").write_text("new")
    row = vault.run("restore")
    assert (row["status"], row["cause"]) == ("failed", "preflight")
    assert "cannot restore over what is there: shop: 3 tables with 10 rows" in row["error_message"]
    assert vault.rows() == "10|10"
    row = vault.run("restore", force="yes")
    assert row["status"] == "success", (row["error_message"], vault.said(row["id"]))
    assert row["detail"]["backup"] == name
    assert vault.rows() == "1000|1000"
    assert (vault.uploads / "deep" / "a file").read_text() == "kept"
    assert (vault.uploads / "link").is_symlink()
    assert not (vault.uploads / "new").exists()
    assert not (vault.uploads / "cache").exists()
    safety = row["detail"]["safety"]
    assert safety in vault.kept("disk")
    row = vault.run("restore", force="yes", backup=safety, source="uploads")
    assert row["status"] == "success", (row["error_message"], vault.said(row["id"]))
    assert (vault.uploads / "new").read_text() == "new"
    assert (vault.uploads / "cache" / "x").read_text() == "not kept"  # by backups; the restore removed it
    row = vault.run("restore", force="yes", backup=safety, source="shop")
    assert (row["status"], vault.rows()) == ("success", "10|10"), (
        row["error_message"],
        vault.said(row["id"]),
    )
    assert "later" in vault.server.psql("\\dt", database=vault.database)


def test_one_source_is_brought_back_beside_what_is_there(vault: Vault) -> None:
    vault.backup()
    row = vault.run("restore", source="shop", to="shop_of_yesterday")
    assert row["status"] == "success", (row["error_message"], vault.said(row["id"]))
    assert vault.server.psql("SELECT count(*) FROM item", database="shop_of_yesterday").strip() == "1000"
    row = vault.run("restore", source="shop", to="shop_of_yesterday")
    assert "there is something already" in row["error_message"]
    vault.server.psql("DROP DATABASE shop_of_yesterday")
    there = vault.folder / "brought-back"
    row = vault.run("restore", source="uploads", to=str(there))
    assert row["status"] == "success", (row["error_message"], vault.said(row["id"]))
    assert (there / "deep" / "a file").read_text() == "kept"
    assert not (there / "cache").exists()


def test_an_environment_whose_backups_nobody_verified_is_unhealthy(vault: Vault) -> None:
    vault.backup()
    clock = FakeClock(vault.fraisier.clock.now() + 9 * 86400.0)
    watch = WatchBackups(vault.fraisier.store, clock)
    watch(vault.fraisier.configuration.environments.values())
    (status,) = vault.fraisier.store.fraise_status("dumps", "production")
    assert (status["healthy"], status["alerts"]) == (False, 1)
    assert vault.run("verify")["status"] == "success"
    (status,) = vault.fraisier.store.fraise_status("dumps", "production")
    assert status["alerts"] == 0


def test_nothing_is_deployed_where_there_is_no_repository(vault: Vault) -> None:
    from fraisier.domain.errors import UsageError

    with pytest.raises(UsageError, match="cannot deploy dumps/production: it has no repository"):
        vault.fraisier.request_deployment(KEY, by="anna")
    with pytest.raises(UsageError, match="fraisier backup run dumps production"):
        vault.fraisier.plan(KEY)
