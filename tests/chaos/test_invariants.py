"""The invariants see what they are there for: on a site that is well, somebody breaks one thing by hand."""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.invariants import INVARIANTS, Promises, violations
from tests.chaos.site import ChaosSite
from tests.integration.outside import serving


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> tuple[ChaosSite, Promises]:
    """A site on which two versions were deployed."""
    site, promises = ChaosSite(tmp_path_factory.mktemp("site"), health="timeout: 10"), Promises()
    with serving(site) as serve:
        serve.start()
        for version in ("one", "two"):
            status, answer = serve.webhook(site.push_version(version))
            assert status == 202
            promises.accepted(answer)
            assert site.settles()
    return site, promises


@pytest.fixture
def well(deployed: tuple[ChaosSite, Promises]) -> Iterator[tuple[ChaosSite, Promises]]:
    """It, as it was before the test that was here last."""
    site, promises = deployed
    assert violations(site, promises) == []
    kept = site.folder.with_name("kept")
    shutil.copytree(site.folder, kept, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    yield site, Promises({*promises.events}, {**promises.commits})
    shutil.rmtree(site.folder)
    kept.rename(site.folder)


def tell(statement: str) -> Callable[[ChaosSite], None]:
    """The database is made to say something else, past the triggers that forbid it."""

    def told(site: ChaosSite) -> None:
        with closing(sqlite3.connect(site.folder / "state" / "fraisier.db")) as connection, connection:
            triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (name,) in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute("PRAGMA foreign_keys = off")
            connection.execute(statement)

    return told


def touch(path: str, text: str = "", *, append: str = "") -> Callable[[ChaosSite], None]:
    """A file is written, or written on."""

    def touched(site: ChaosSite) -> None:
        found = site.folder / path
        found.write_text(text + (found.read_text() + append if append else ""))

    return touched


def remove(pattern: str) -> Callable[[ChaosSite], None]:
    """Files are taken away."""

    def removed(site: ChaosSite) -> None:
        for path in site.folder.glob(pattern):
            path.unlink()

    return removed


def point_to_the_first(site: ChaosSite) -> None:
    """`current` is turned by hand."""
    link = site.app / "current"
    (first,) = (site.app / "releases").glob("1-*")
    link.unlink()
    link.symlink_to(f"releases/{first.name}")


LAST_ATTEMPT = "WHERE pk = (SELECT max(pk) FROM tb_deployment_attempts)"
LAST_STEP = "WHERE pk = (SELECT max(pk) FROM tb_deployment_steps)"
BREACHES: dict[str, tuple[str, Callable[[ChaosSite], Any]]] = {
    "an event is gone": (
        "nothing_accepted_is_missing",
        tell("UPDATE tb_webhook_events SET id = 'another' WHERE pk = 2"),
    ),
    "a deployment is gone": (
        "nothing_accepted_is_missing",
        tell("UPDATE tb_deployments SET id = 'another' WHERE pk = 2"),
    ),
    "another commit": (
        "nothing_accepted_is_missing",
        tell("UPDATE tb_deployments SET \"commit\" = 'another' WHERE pk = 2"),
    ),
    "still running": ("everything_ended", tell("UPDATE tb_deployments SET status = 'running' WHERE pk = 2")),
    "no cause": ("everything_ended", tell("UPDATE tb_deployments SET status = 'failed' WHERE pk = 2")),
    "an open attempt": (
        "everything_ended",
        tell(f"UPDATE tb_deployment_attempts SET ended_at = NULL {LAST_ATTEMPT}"),
    ),
    "an open step": (
        "everything_ended",
        tell(f"UPDATE tb_deployment_steps SET state = 'running' {LAST_STEP}"),
    ),
    "one token twice": (
        "one_at_a_time",
        tell(f"UPDATE tb_deployment_attempts SET token = token - 1 {LAST_ATTEMPT}"),
    ),
    "attempts at once": (
        "one_at_a_time",
        tell(f"UPDATE tb_deployment_attempts SET started_at = '2001' {LAST_ATTEMPT}"),
    ),
    "an older one's step": (
        "one_at_a_time",
        tell(
            f"UPDATE tb_deployment_steps SET deployment = (SELECT min(deployment) FROM tb_deployment_steps), attempt = 9 {LAST_STEP}"
        ),
    ),
    "no marker": ("current_is_whole", remove("app/.fraisier/releases/2-*.json")),
    "built twice": ("current_is_whole", touch("app/current/built", append="built\n")),
    "another release": ("what_runs_is_what_the_database_says", point_to_the_first),
    "another commit's files": ("what_runs_is_what_the_database_says", touch("app/current/VERSION", "three")),
    "migrated twice": (
        "nothing_is_done_twice",
        lambda site: touch("migrations", append=(site.folder / "migrations").read_text())(site),
    ),
    "migrated down": ("nothing_is_done_twice", touch("migrations", "down 2-0000000000\n")),
    "a scope is left": ("nobody_else_is_at_work", touch("app/.fraisier/scopes/abc", "{}")),
    "a token too high": ("tokens_are_in_order", touch("app/.fraisier/token", "99\n")),
    "a lease is held": (
        "nothing_is_locked",
        tell("UPDATE tb_environments SET lease_worker = 'somebody'"),
    ),
    "git's lock": (
        "nothing_is_locked",
        lambda site: next(site.folder.glob("state/mirrors/*/HEAD")).with_name("x.lock").touch(),
    ),
    "a release without a marker": ("tidy", lambda site: (site.app / "releases" / "9-0123456789").mkdir()),
    "half a file": ("tidy", touch("app/.fraisier/.token.new")),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_an_invariant_sees_that(breach, well):
    site, promises = well
    name, happens = BREACHES[breach]
    happens(site)
    assert name in {found.partition(":")[0] for found in violations(site, promises)}


@contextmanager
def held(lock: Path) -> Iterator[None]:
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_lock_that_somebody_holds_and_a_process_that_was_left_are_seen(well):
    site, promises = well
    with held(site.app / ".fraisier" / "lock"):
        assert any(found.startswith("nothing_is_locked") for found in violations(site, promises))
    left = subprocess.Popen(["sleep", "60"], cwd=site.app / "current")
    try:
        assert any(found.startswith("nobody_else_is_at_work") for found in violations(site, promises))
    finally:
        left.kill()
        left.wait()


def test_every_invariant_has_seen_something():
    seen = {name for name, _ in BREACHES.values()}
    assert seen == {check.__name__ for check in INVARIANTS}


def test_a_scenario_may_make_an_invariant_void(well):
    site, promises = well
    touch("app/.fraisier/token", "99\n")(site)
    assert violations(site, promises, without=("tokens_are_in_order",)) == []


def test_what_was_promised_is_kept_by_what_was_answered():
    promises = Promises()
    promises.accepted({"event_id": "e", "deployments": [{"id": "d", "commit": "c"}]})
    promises.requested("r")
    assert json.loads(json.dumps([sorted(promises.events), promises.commits])) == [["e"], {"d": "c", "r": ""}]
