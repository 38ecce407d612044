"""What a scenario of faults plays in: a store, dice, real processes, and what was promised to whom."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.invariants import Promises, violations
from tests.chaos.site import ChaosSite
from tests.integration.outside import Serve, serving
from tests.integration.site import until
from tests.servers.postgresql import PostgresqlServer

STORES = ("sqlite", "postgresql")
HEALTH = "interval: 0.05, timeout: 2"  # several processes on few cores take their time
_AWAY = (sqlite3.OperationalError, psycopg.Error)  # the store, while a scenario has it down


@dataclass
class World:
    """One round: `length` says how much happens in it, `dice` what and when."""

    folder: Path
    store: str
    dice: random.Random
    length: int
    stack: ExitStack
    server: PostgresqlServer | None = None  # of the session; scenarios that hurt one start their own
    promises: Promises = field(default_factory=Promises)
    site: ChaosSite = field(init=False)
    look_at: list[Callable[[], list[str]]] = field(default_factory=list)  # violations of further environments
    pushed: int = 0

    def database(self) -> str:
        """A new, empty database's URL; '' on SQLite."""
        if self.server is None:
            return ""
        url = self.server.database()
        self.stack.callback(self.server.drop, url)
        return url

    def build(
        self, *, extra: str = "", head: str = "", database: str | None = None, before_build: str = "sleep 0.1"
    ) -> ChaosSite:
        """The site that everything happens to. `before_build` is a command that makes builds last."""
        url = self.database() if database is None else database
        self.site = ChaosSite(self.folder, database=url, extra=extra, head=head, health=HEALTH)
        first = '- "test ! -e broken'
        self.edit(first, f'- "{before_build}"\n          {first}')
        return self.site

    def edit(self, old: str, new: str) -> None:
        """Change the configuration file; nobody is told."""
        text = self.site.config.read_text()
        assert old in text, f"the configuration has no {old!r}"
        self.site.config.write_text(text.replace(old, new))

    def held_build(self) -> str:
        """For `before_build`: while the file `hold` is there a build does not go on."""
        return f"touch {self.folder}/began; while test -e {self.folder}/hold; do sleep 0.02; done"

    def push_held(self, serve: Serve) -> str:
        """Push a good version; returns its deployment when its build waits to be let go."""
        (self.folder / "began").unlink(missing_ok=True)
        (self.folder / "hold").touch()
        deployment = self.push(serve, "good")
        until("the build", (self.folder / "began").exists)
        return deployment

    def let_go(self) -> None:
        """Let builds go on."""
        (self.folder / "hold").unlink(missing_ok=True)

    def process(self, *command: str, ready: bool = True, env: dict[str, str] | None = None) -> Serve:
        """`fraisier serve` or another command of the site, gone in the end; what it says is in `serve.log`."""
        started = self.stack.enter_context(serving(self.site, command=command or ("serve",)))
        started.start(ready=ready and not command, env=env)
        return started

    # -- what people do
    def push(self, serve: Serve, kind: str = "") -> str:
        """Push a version, most are good, and deliver it; returns the deployment, '' if it was not accepted."""
        self.pushed += 1
        kind = kind or self.dice.choice(("good", "good", "slow", "slow", "sick", "broken"))
        return self.deliver(serve, self.site.push_version(f"{self.pushed}-{kind}", kind))

    def deliver(self, serve: Serve, commit: str, **fields: Any) -> str:
        """Tell of a commit; returns the deployment, '' if it was not accepted."""
        status, answer = serve.webhook(commit, **fields)
        if status == 202:
            self.promises.accepted(answer)
            return str(answer["deployments"][0]["id"])
        if status == 200:
            self.promises.events.add(answer["event_id"])
        return ""

    def deliver_until_accepted(self, serve: Serve, commit: str) -> str:
        """As a forge that repeats what was not accepted."""
        return str(until("a 202", lambda: self.deliver(serve, commit), 30))

    def cancel(self, serve: Serve) -> None:
        """Call off what was asked for last, whatever it is at."""
        if self.promises.commits:
            serve.cli("cancel", list(self.promises.commits)[-1])

    def roll_back(self, serve: Serve) -> None:
        """Ask for the release before."""
        self.note(serve.cli("rollback", "shop", "production", "--no-wait", "--json"))

    def request(self, serve: Serve, *words: str) -> str:
        """`fraisier deploy`, without waiting; returns the deployment."""
        return self.note(serve.cli("deploy", "shop", "production", "--no-wait", "--json", *words))

    def note(self, done: subprocess.CompletedProcess[str]) -> str:
        """Remember what a command promised. Exit code 4: nobody works now, but it waits."""
        if done.returncode not in (0, 4) or not done.stdout.strip():
            return ""
        row = json.loads(done.stdout)
        self.promises.requested(row["id"], row["commit"] or "")
        return str(row["id"])

    # -- looking on
    def look(self, what: str, find: Callable[[], Any], seconds: float = 20) -> Any:
        """What `find` returns as soon as it is true, and the store can be asked."""

        def found() -> Any:
            try:
                return find()
            except _AWAY:
                return None

        return until(what, found, seconds)

    def deployment(self, deployment: str) -> dict[str, Any]:
        """Its row."""
        found = self.site.rows("SELECT * FROM tb_deployments WHERE id = ?", deployment)
        assert found, f"deployment {deployment} was accepted and is not there"
        return found[0]

    def steps(self, deployment: str) -> list[str]:
        """The names of its steps that have begun, in order."""
        found = self.site.rows(
            "SELECT step FROM tb_deployment_steps WHERE deployment = ? ORDER BY pk", deployment
        )
        return [row["step"] for row in found]

    def in_step(self, deployment: str, step: str) -> None:
        """Return when a step has begun."""
        self.look(f"step {step}", lambda: step in self.steps(deployment))

    def ended(self, deployment: str, seconds: float = 40) -> dict[str, Any]:
        """The row of a deployment once it has ended."""
        self.look(f"the end of {deployment}", lambda: self.deployment(deployment)["completed_at"], seconds)
        return self.deployment(deployment)

    def pause(self, longest: float, shortest: float = 0.0) -> None:
        """Wait for a time of chance."""
        time.sleep(self.dice.uniform(shortest, longest))

    def comes_to_rest(self, seconds: float = 60) -> None:
        """Return when every deployment has ended."""
        try:
            self.look("every deployment to end", lambda: not self.site.unfinished(), seconds)
        except AssertionError:
            for row in self.site.unfinished():
                print(row, self.steps(row["id"]), sep="\n")
            raise

    def goes_on(self, serve: Serve) -> None:
        """Nothing that happened keeps the next push from being deployed."""
        self.comes_to_rest()
        last = self.push(serve, "good")
        assert last, "the push was not accepted"
        row = self.ended(last)
        assert row["status"] == "success", row

    def violations(self, without: Sequence[str] = ()) -> list[str]:
        """What does not hold now that all has come to rest."""
        if self.look_at:
            return [violation for look in self.look_at for violation in look()]
        return violations(self.site, self.promises, without=without)


def log_of(folder: Path) -> str:
    """What the processes of a round said, for who has to find out."""
    log = folder / "serve.log"
    return log.read_text(errors="replace")[-6000:] if log.exists() else ""
