"""Backups by scripts of a repository: deployed, run, tried, rolled back; and what a kill -9 leaves of a run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fraisier.domain.run import RunStatus
from tests.integration.site import KEY, Site, until

LINES = """\
smoke: sh -n dump.sh
sources:
  things: {{command: sh ./dump.sh, restore: sh ./restore.sh $FRAISIER_RESTORE_TO, query: grep -c thing things}}
destinations: {{disk: {folder}/disk}}
env: {{PATH: "{folder}/programs:/usr/bin:/bin"}}
retention: {{keep_last: 2}}"""
# A copy at the destination is synced before it gets its name.
FIND = '#!/bin/sh\nwhile [ -e {folder}/data/slow ]; do sleep 0.05; done\nexec /usr/bin/find "$@"\n'
DUMP = 'cp {data}/things "$FRAISIER_BACKUP"'
RESTORE = 'cp "$FRAISIER_BACKUP" "${1:-{data}}/things"'


class Scripts(Site):
    """A backup fraise with a repository."""

    def write_config(self, extra: str = "", head: str = "") -> None:
        super().write_config(LINES.format(folder=self.folder), head)
        self.config.write_text(self.config.read_text().replace("type: api", "type: backup"))

    def load(self, dump: str = DUMP) -> dict[str, object]:
        data, programs = self.folder / "data", self.folder / "programs"
        data.mkdir(exist_ok=True)
        programs.mkdir(exist_ok=True)
        (programs / "find").write_text(FIND.format(folder=self.folder))
        (programs / "find").chmod(0o755)
        (data / "things").write_text("a thing\n")
        scripts = {"dump.sh": dump, "restore.sh": RESTORE, "VERSION": dump}
        self.push({name: text.replace("{data}", str(data)) for name, text in scripts.items()})
        return self.deploy()

    def run(self, job: str, **parameters: str) -> dict[str, object]:
        store = self.fraisier.store
        run = str(self.fraisier.request_run(KEY, job, parameters=parameters, by="anna")["id"])

        def look() -> dict[str, object] | None:
            row = store.run(run)
            return dict(row) if RunStatus(row["status"]).is_final else None

        found: dict[str, object] = until(f"the end of {run}", look, 60.0)
        return found

    def kept(self) -> list[str]:
        place = self.folder / "disk" / "shop" / "production"
        return sorted(each.name for each in place.iterdir()) if place.exists() else []


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Scripts]:
    made = Scripts(tmp_path)
    try:
        yield made
    finally:
        made.fraisier.store.close()


def test_scripts_are_deployed_tried_and_what_they_dump_comes_back(site: Scripts) -> None:
    with site.working():
        first = site.load()
        assert first["status"] == "success", first
        assert site.kept() == []
        row = site.run("main")
        assert (row["status"], row["release"]) == ("success", first["release"]), row["error_message"]
        row = site.run("verify")
        assert row["status"] == "success", row["error_message"]
        things = site.folder / "data" / "things"
        things.write_text("other")
        row = site.run("restore")
        assert "cannot restore over what is there" in str(row["error_message"])
        row = site.run("restore", force="yes")
        assert (row["status"], things.read_text()) == ("success", "a thing\n"), row["error_message"]
        second = site.load("if")  # no shell script
        assert (second["status"], site.version) == (
            "failed",
            DUMP.replace("{data}", str(site.folder / "data")),
        )
        third = site.load("false  # {data}")
        assert third["status"] == "success", third
        assert site.run("main")["status"] == "failed"
        rolled = site.fraisier.roll_back(KEY, by="anna").deployment
        assert rolled is not None
        assert site.ended(rolled.id)["status"] == "success"
        assert site.run("main")["status"] == "success"


@contextmanager
def performing(site: Scripts) -> Iterator[subprocess.Popen[bytes]]:
    """A process that makes a backup by itself, because no worker lives."""
    argv = [sys.executable, "-m", "fraisier", "--config", str(site.config), "backup", "run", *_PLACE]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


_PLACE = (KEY.fraise, KEY.environment)


@pytest.mark.parametrize("where", ["dumping", "storing"])
def test_whoever_is_killed_leaves_nothing_half_and_the_next_cleans_up(site: Scripts, where: str) -> None:
    slow = 'echo $$ > {data}/pid; cp {data}/things "$FRAISIER_BACKUP"'
    if where == "dumping":
        slow += "; [ ! -e {data}/slow ] || sleep 300"
    with site.working():
        assert site.load(slow)["status"] == "success"
        good = site.run("main")
        assert good["status"] == "success", good
    before = site.kept()
    data = site.folder / "data"
    (data / "slow").touch()
    (data / "pid").unlink()
    with performing(site) as process:
        until("the dump", (data / "pid").exists, 60.0)
        if where == "storing":
            parts = site.folder / "disk" / "shop" / "production"
            until("the copy", lambda: any(each.name.endswith(".part") for each in parts.iterdir()), 60.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [name for name in site.kept() if not name.startswith(".")] == before
    (data / "slow").unlink()
    (data / "things").write_text("a thing\n")
    with site.working():
        left = until(
            "the end of what was left",
            lambda: [r for r in site.fraisier.store.runs() if r["cause"] == "interrupted"],
            60.0,
        )
        assert left[0]["status"] == "failed"
        row = site.run("main")
        assert row["status"] == "success", row["error_message"]
        assert site.run("verify")["status"] == "success"
    # What was under way is ended by whoever comes next: until then it may have come whole.
    assert len(site.kept()) in ((2, 3) if where == "storing" else (2,))
    staging = site.app / "backups" / "staging"
    assert list(staging.iterdir()) == []
    copies = site.fraisier.store.copies(KEY)
    assert {copy.name for copy in copies} == set(site.kept())
    assert all(
        (site.folder / "disk" / "shop" / "production" / copy.name / "manifest.json").exists()
        for copy in copies
    )
