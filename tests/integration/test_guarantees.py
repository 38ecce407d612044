"""kill -9 at any moment, again and again, while pushes, cancels and rollbacks arrive: DESIGN's guarantees.

What is checked afterwards is read from outside: the SQLite file, the host's files, the process table and
what the service answers. Moments and acts are drawn from a seed: FRAISIER_SEED plays another one.
"""

from __future__ import annotations

import json
import os
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.integration.outside import Serve, all_ended, deployments, processes_below, rows, serving
from tests.integration.site import Site, service, until

SEED = int(os.environ.get("FRAISIER_SEED", "20"))
ROUNDS = int(os.environ.get("FRAISIER_ROUNDS", "6"))
KEEP = 3
FILES_ONLY = """
build: ["test ! -e broken", "sleep 0.2", "echo built > built"]
database: {{framework: command, up: "echo up $FRAISIER_RELEASE >> {folder}/migrations; sleep 0.1"}}
health_check: {{command: "test ! -e sick", interval: 0.05, timeout: 0.4}}
keep_releases: 3
"""


class Story:
    """What somebody did to a site, and what was promised to them."""

    def __init__(self, site: Site, serve: Serve, seed: int) -> None:
        self.site, self.serve = site, serve
        self.dice = random.Random(seed)
        self.accepted: dict[str, str] = {}  # deployment -> commit
        self.number = 0

    def act(self) -> None:
        """One thing that may happen at any time."""
        self.dice.choice((self.push, self.push, self.push, self.cancel, self.roll_back))()

    def push(self, *, good: bool = False) -> str:
        """Push a version; most are good. Returns the deployment that was accepted, if one was."""
        self.number += 1
        kind = "good" if good else self.dice.choice(("good", "good", "good", "sick", "broken"))
        commit = self.site.push(self.files(f"{self.number}-{kind}", kind))
        status, answer = self.serve.webhook(commit)
        if status != 202:
            return ""
        for each in answer["deployments"]:
            self.accepted[each["id"]] = commit
        return str(answer["deployments"][0]["id"])

    def files(self, version: str, kind: str) -> dict[str, str]:
        """A version's files; a later one replaces the marks of an earlier one."""
        for mark in ("sick", "broken"):
            (self.site.repository.work / mark).unlink(missing_ok=True)
        marks = {kind: "x"} if kind != "good" else {}
        return {**service(version, health=503 if kind == "sick" else 200), **marks}

    def cancel(self) -> None:
        """Cancel what was accepted last, at whatever stage it is."""
        if self.accepted:
            self.serve.cli("cancel", list(self.accepted)[-1])

    def roll_back(self) -> None:
        """Ask for the release before."""
        done = self.serve.cli("rollback", "shop", "production", "--no-wait", "--json")
        if done.returncode == 0:
            row = json.loads(done.stdout)
            self.accepted[row["id"]] = row["commit"]


def check(story: Story, ended: list[dict[str, Any]]) -> None:
    """Everything that must hold once all has come to rest."""
    site = story.site
    known = {row["id"]: row for row in ended}
    assert set(story.accepted) <= set(known), "an accepted push is never lost"
    for deployment, commit in story.accepted.items():
        assert known[deployment]["commit"] in ("", commit), "the commit that was verified"
    for row in ended:
        assert row["completed_at"], row
        assert row["status"] == "success" or (row["cause"] and row["error_message"]), row
    one_at_a_time(site)
    assert not rows(site, "SELECT * FROM tb_deployment_steps WHERE state = 'running'")
    assert not rows(site, "SELECT * FROM tb_deployment_attempts WHERE ended_at IS NULL")
    no_migration_twice(site)
    what_runs_is_whole(site)


def one_at_a_time(site: Site) -> None:
    attempts = rows(site, "SELECT * FROM tb_deployment_attempts ORDER BY token")
    assert len({row["token"] for row in attempts}) == len(attempts)
    for before, after in pairwise(attempts):
        assert before["ended_at"] <= after["started_at"], (before, after)


def no_migration_twice(site: Site) -> None:
    journal = rows(site, "SELECT deployment, release FROM tb_deployment_steps WHERE step = 'migrate'")
    owner = {row["release"]: row["deployment"] for row in journal}
    note = site.folder / "migrations"
    done = [owner[line.split()[1]] for line in note.read_text().splitlines()] if note.exists() else []
    assert len(done) == len(set(done)), done


def what_runs_is_whole(site: Site) -> None:
    (environment,) = rows(site, "SELECT * FROM tb_environments")
    assert environment["lease_worker"] == ""
    current = site.app / "current"
    if not environment["current_release"]:
        assert not current.is_symlink()
        return
    release = current.readlink().name
    assert release == environment["current_release"]
    marker = json.loads((site.app / ".fraisier" / "releases" / f"{release}.json").read_text())
    assert marker["commit"] == environment["current_commit"]
    assert (current / "built").exists()
    assert not list((site.app / ".fraisier" / "scopes").iterdir())
    assert int((site.app / ".fraisier" / "token").read_text()) <= environment["token"]
    if site.supervised:
        until("the service", lambda: site.answer() == (200, site.version))


def play(site: Site, seed: int, rounds: int, longest: float) -> Story:
    """Rounds of acts, each ended by a kill at a moment of chance; then everything comes to rest."""
    with serving(site) as serve:
        story = Story(site, serve, seed)
        serve.start()
        story.push(good=True)
        for _ in range(rounds):
            until_then = time.monotonic() + story.dice.uniform(0.05, longest)
            while time.monotonic() < until_then:
                story.act()
                time.sleep(min(story.dice.uniform(0, 0.4), max(0.0, until_then - time.monotonic())))
            serve.kill()
            serve.start()
        check(story, all_ended(site))
        last = story.push(good=True)
        ended = {row["id"]: row for row in all_ended(site)}
        assert ended[last]["status"] == "success", ended[last]
        check(story, list(ended.values()))
        tidy(site)
    assert not [each for each in processes_below(site.app) if "service.py" not in each]
    return story


def tidy(site: Site) -> None:
    """After a success: good releases only, not too many of them, each with its marker."""
    folders = {path.name for path in (site.app / "releases").iterdir()}
    markers = {path.stem for path in (site.app / ".fraisier" / "releases").iterdir()}
    assert folders == markers
    assert len(folders) <= KEEP + 1
    leftovers = [path for path in site.app.rglob(".*.new") if "git" not in path.parts]
    assert not leftovers


@pytest.mark.parametrize("seed", range(SEED, SEED + 2))
def test_killed_at_any_moment_everything_ends_and_something_whole_runs(tmp_path: Path, seed: int) -> None:
    site = Site(tmp_path, extra=FILES_ONLY.format(folder=tmp_path).strip(), head="worker: {lease: 2s}")
    try:
        play(site, seed, ROUNDS, 1.2)
    finally:
        site.fraisier.store.close()


def test_killed_at_any_moment_the_service_that_answers_is_the_one_of_the_database(tmp_path: Path) -> None:
    extra = f'build: ["echo built > built"]\nkeep_releases: {KEEP}'
    site = Site(tmp_path, extra=extra, head="worker: {lease: 2s}", supervised=True)
    try:
        with site.supervising():
            play(site, SEED, max(2, ROUNDS // 2), 2.5)
    finally:
        site.fraisier.store.close()


def test_a_deployment_is_never_lost_between_two_kills_in_a_row(tmp_path: Path) -> None:
    """Killed before it is even ready, over and over: the queue is on disk, not in anybody's memory."""
    site = Site(tmp_path, extra=FILES_ONLY.format(folder=tmp_path).strip(), head="worker: {lease: 2s}")
    dice = random.Random(SEED)
    try:
        commit = site.push({"VERSION": "one"})
        wanted = site.request(commit=commit).deployment
        assert wanted is not None
        with serving(site) as serve:
            for _ in range(ROUNDS):
                serve.start(ready=False)
                time.sleep(dice.uniform(0.2, 1.4))
                serve.kill()
            serve.start()
            all_ended(site)
        (row,) = deployments(site)
        assert row["id"] == wanted.id
        assert row["status"] == "success" or row["cause"] == "migration_interrupted", row
        assert site.version == ("one" if row["status"] == "success" else "")
    finally:
        site.fraisier.store.close()
