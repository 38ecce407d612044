"""The invariants of runs and backups see what they are there for: somebody breaks one thing by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.invariants import Promises, violations
from tests.chaos.run_invariants import RUN_INVARIANTS, torn_backups
from tests.chaos.run_site import BackupSite, RunSite
from tests.chaos.site import ChaosSite
from tests.chaos.test_invariants import tell, touch
from tests.integration.outside import Serve, serving

Made = dict[str, ChaosSite]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Sites on which a job succeeded and another one failed for good, and on which a backup was verified."""
    sites: Made = {
        "jobs": RunSite(tmp_path_factory.mktemp("jobs"), health="timeout: 10"),
        "backups": BackupSite(tmp_path_factory.mktemp("backups")),
    }
    asks = {"jobs": [("good", 0), ("bad", 1)], "backups": [("main", 0), ("verify", 0)]}
    for name, site in sites.items():
        with serving(site) as serve:
            serve.start()
            if name == "jobs":
                assert serve.webhook(site.push_version("one"))[0] == 202
                assert site.settles()
            for job, code in asks[name]:
                _run(serve, job, code)
                assert site.settles()
    return sites


def _run(serve: Serve, job: str, code: int) -> None:
    done = serve.cli("run", "shop", "production", job)
    assert done.returncode == code, done


@pytest.fixture
def well(made: Made) -> Iterator[Made]:
    """They, as they were before the test that was here last."""
    for site in made.values():
        assert violations(site, Promises()) == []
        skipped = shutil.ignore_patterns("*.sock")
        shutil.copytree(site.folder, site.folder.with_suffix(".kept"), symlinks=True, ignore=skipped)
    yield made
    for site in made.values():
        shutil.rmtree(site.folder)
        site.folder.with_suffix(".kept").rename(site.folder)


def noted(what: str, job: str) -> Callable[[ChaosSite], None]:
    """The script of the job's last run noted something more."""

    def note(site: ChaosSite) -> None:
        run = site.rows("SELECT id FROM tb_runs WHERE job = ? ORDER BY pk", job)[-1]["id"]
        touch("notes", append=f"{what} {run} {job}\n")(site)

    return note


def unnoted(what: str) -> Callable[[ChaosSite], None]:
    """No script has noted it."""

    def forget(site: ChaosSite) -> None:
        path = site.folder / "notes"
        path.write_text("".join(line for line in path.open() if not line.startswith(what)))

    return forget


def backup(change: Callable[[Path], Any]) -> Callable[[ChaosSite], None]:
    """Something happens to the folder of the backup."""
    return lambda site: change(next(site.folder.glob("disk/shop/production/*")))


def a_time_is_used_twice(site: ChaosSite) -> None:
    """The index that forbids it is gone."""
    tell("DROP INDEX ix_runs_due")(site)
    tell("UPDATE tb_runs SET job = 'good', due = '2001', attempt = 1")(site)


BREACHES: dict[str, tuple[str, str, Callable[[ChaosSite], Any]]] = {
    "still running": ("jobs", "every_run_ended", tell("UPDATE tb_runs SET status = 'running'")),
    "no reason": ("jobs", "every_run_ended", tell("UPDATE tb_runs SET error_message = '' WHERE job = 'bad'")),
    "its script did not end": ("jobs", "runs_are_what_scripts_did", unnoted("ends")),
    "another exit code": ("jobs", "runs_are_what_scripts_did", tell("UPDATE tb_runs SET exit_code = 0")),
    "no hook": ("jobs", "runs_are_what_scripts_did", unnoted("hook")),
    "beside another one": ("jobs", "runs_are_what_scripts_did", noted("overlaps", "good")),
    "over a switch": ("jobs", "runs_are_what_scripts_did", noted("switched", "good")),
    "run twice": ("jobs", "runs_are_what_scripts_did", noted("begins", "good")),
    "one try too many": ("jobs", "tries_are_counted", tell("UPDATE tb_runs SET job = 'good'")),
    "one too few": ("jobs", "tries_are_counted", tell("DELETE FROM tb_runs WHERE attempt = 2")),
    "a token too high": (
        "jobs",
        "tokens_of_runs_are_in_order",
        touch("app/.fraisier/jobs/good-0/.fraisier/token", "99\n"),
    ),
    "one time twice": ("jobs", "no_run_is_missing", a_time_is_used_twice),
    "a file is cut": (
        "backups",
        "backups_are_kept",
        backup(lambda f: next(f.glob("orders*")).write_text("or")),
    ),
    "a backup is gone": ("backups", "backups_are_kept", backup(shutil.rmtree)),
    "half a backup": ("backups", "backups_are_kept", backup(lambda f: (f.parent / ".x.part").mkdir())),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_an_invariant_of_runs_sees_that(breach: str, well: Made) -> None:
    site, name, happens = BREACHES[breach]
    happens(well[site])
    assert name in {found.partition(":")[0] for found in violations(well[site], Promises())}


def test_a_run_that_was_taken_and_is_not_there_is_seen(well: Made) -> None:
    assert violations(well["jobs"], Promises(runs={"lost"})) == [
        "no_run_is_missing: run lost was taken and is not there"
    ]


def test_a_backup_that_lacks_a_file_is_seen_before_anybody_takes_over(well: Made) -> None:
    site = well["backups"]
    assert list(torn_backups(site)) == []
    next(site.folder.glob("disk/shop/production/*/orders*")).unlink()
    assert len(list(torn_backups(site))) == 1


def test_every_invariant_of_runs_has_seen_something() -> None:
    assert {name for _, name, _ in BREACHES.values()} == {check.__name__ for check in RUN_INVARIANTS}
