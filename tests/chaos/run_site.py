"""Sites for runs: jobs whose script notes what it does, and backups to a folder."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.chaos.site import ChaosSite, ended_as

RUN_FINAL = {"success", "failed", "cancelled", "skipped", "missed"}
SOON = 3.0  # seconds until the time of a schedule comes, after a site is there again
_LONG_AGO = "2020-01-01 00:00:00"

# $1: how long it works, in tenths of a second; $2: its exit code; $3: how many may run at once (1). Whoever runs
# holds one of so many locks; its sleeps do not.
SCRIPT = """
say() {{ echo "$1 $FRAISIER_RUN $FRAISIER_JOB" >> {folder}/notes; }}
current() {{ readlink {folder}/app/current; }}
is_free=no
for place in $(seq ${{3:-1}}); do
    exec 9> {folder}/busy-$FRAISIER_JOB-$place
    if flock -n 9; then is_free=yes; break; fi
done
[ $is_free = yes ] || say overlaps
say begins
was=$(current)
left=$1
while [ $left -gt 0 ]; do
    sleep 0.1 9>&-
    left=$((left - 1))
    [ "$(current)" = "$was" ] || {{ say switched; was=$(current); }}
done
[ $2 -ne 0 ] || say ends
exit $2
"""
JOBS = """
build: ["echo built >> built"]
keeper: worker
on_running: {on_running}
jobs:
  good: {{run: "sh {folder}/script 4 0"}}
  after: {{run: "sh {folder}/script 1 0", depends_on: good}}
  bad:
    run: "sh {folder}/script 3 7"
    retries: 1
    retry_delay: 200ms
    on_failure: ["echo hook $FRAISIER_RUN $FRAISIER_JOB >> {folder}/notes"]
  flaky: {{run: "sh {folder}/script 3 $((FRAISIER_ATTEMPT < 2))", retries: 1, retry_delay: 200ms}}
  pair: {{run: "sh {folder}/script 6 0 2", concurrency: 2}}
  long: {{run: "sh {folder}/script 9 0"}}
  endless: {{run: "sh {folder}/script 200 0"}}  # longer than anybody here waits
  due: {{run: "sh {folder}/script 3 0", schedule: "{due} UTC"}}
"""
TRIES = {"bad": 2, "flaky": 2}  # of the others there is one
BACKUP = """
database: {{url: "{database}"}}
state_folder: {folder}/state
sweep_interval: 0
{head}
fraises:
  shop:
    type: backup
    environments:
      production:
        app_path: {folder}/app
        min_free_disk: 1MB
        sources:
          orders:
            command: "sleep 0.3; echo orders > $FRAISIER_BACKUP"
            restore: "sleep 0.3; cp $FRAISIER_BACKUP $FRAISIER_RESTORE_TO/orders"
        destinations: {{disk: {folder}/disk, other: {folder}/other}}
        retention: {{keep_last: 1}}
"""


class RunSite(ChaosSite):
    """An environment with jobs. `on_running` is what a deployment does with runs."""

    def __init__(self, folder: Path, *, on_running: str = "wait", **premises: Any) -> None:
        self._on_running = on_running
        super().__init__(folder, **premises)
        (folder / "script").write_text(SCRIPT.format(folder=folder))

    def write_config(self, extra: str = "", head: str = "") -> None:
        """`extra` is of deployments; here the jobs stand instead."""
        self._head = head
        self._write_jobs(_LONG_AGO)

    def _write_jobs(self, due: str) -> None:
        lines = JOBS.format(folder=self.folder, on_running=self._on_running, due=due)
        super().write_config(lines.strip(), self._head)
        self.config.write_text(self.config.read_text().replace("type: api", "type: scheduled"))

    # -- looking from outside
    def runs(self) -> list[dict[str, Any]]:
        """Every run, oldest first."""
        return self.rows("SELECT * FROM tb_runs ORDER BY pk")

    def unfinished(self) -> list[dict[str, Any]]:
        """Deployments and runs that have not ended."""
        return super().unfinished() + [row for row in self.runs() if row["status"] not in RUN_FINAL]

    def ending(self) -> str:
        """How the last deployment ended, and the last try of each job."""
        last = {row["job"]: f"{row['job']} {ended_as(row)}" for row in self.runs()}
        return ", ".join([*([super().ending()] if self.deployments() else []), *last.values()]) or "nothing"


class DueSite(RunSite):
    """The same, and a schedule's time comes soon after the site is there again."""

    _is_near = False

    def unfinished(self) -> list[dict[str, Any]]:
        """What nobody has asked for yet has not ended: who plans next may have to wait for a dead one's lease."""
        to_come = self._is_near and all(row["job"] != "due" for row in self.runs())
        return super().unfinished() + [{"job": "due", "status": "to come"}] * to_come

    def comes_back(self) -> None:
        """Its one time is near."""
        self._is_near = True
        at = datetime.now(UTC) + timedelta(seconds=SOON)
        self._write_jobs(f"{at:%Y-%m-%d %H:%M:%S}")


class BackupSite(RunSite):
    """An environment that is backed up to two folders. Of two backups the older one may go."""

    places = ("disk", "other")

    def write_config(self, extra: str = "", head: str = "") -> None:
        """There is nothing to deploy."""
        for place in self.places:
            (self.folder / place).mkdir(exist_ok=True)
        self.config.write_text(BACKUP.format(folder=self.folder, database=self.database, head=head))

    def kept_in(self, place: str) -> Path:
        """Where a destination has its backups."""
        return self.folder / place / "shop" / "production"


def notes_of(site: ChaosSite) -> Counter[tuple[str, str]]:
    """What the scripts noted: what, and the run, with how often that was."""
    path = site.folder / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter((what, run) for what, run, _ in (line.split() for line in lines))
