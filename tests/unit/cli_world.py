"""A real configuration and a real store in a temporary folder, for tests of the command line."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner, Result

from fraisier import wiring
from fraisier.application.ports import Claim, Ending, Serving, Store
from fraisier.cli.main import main
from fraisier.domain.deployment import Deployment, Status, Trigger, Wish
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.plan import Phase, StepName, StepState
from tests.migrated import lay_migrated

PRODUCTION = EnvironmentKey("orders", "production")
STAGING = EnvironmentKey("orders", "staging")
SHA = "5f1c0d2a77" + "a" * 30
OTHER_SHA = "0b" * 20

CONFIGURATION = """\
git: {{provider: github, github: {{webhook_secret: "{secret}"}}}}
database: {{url: "sqlite://{folder}/state/fraisier.db"}}
sweep_interval: 0
fraises:
  orders:
    description: Orders API
    repository: acme/orders
    clone_url: {folder}/origin.git
    environments:
      production: {{branch: main, app_path: {folder}/production, build: ["echo built"]}}
      staging: {{branch: staging, app_path: {folder}/staging}}
"""


@dataclass(frozen=True)
class World:
    """One installation in a folder of its own."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> World:
        text = CONFIGURATION.format(folder=folder, secret="s3cret-of-the-tests")
        (folder / "fraises.yaml").write_text(text)
        (folder / "fraises.yaml").chmod(0o600)
        return cls(folder)

    @property
    def config(self) -> Path:
        return self.folder / "fraises.yaml"

    def run(self, *args: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> Result:
        """The command in this process, as in a pipe."""
        return CliRunner().invoke(main, ["--config", str(self.config), *args], input=stdin, env=env)

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "fraisier", "--config", str(self.config), *args]

    @contextmanager
    def store(self) -> Iterator[Store]:
        lay_migrated(self.folder / "state" / "fraisier.db")
        configuration = wiring.load(str(self.config))
        store = wiring.open_store(configuration)
        try:
            wiring.assemble(configuration, store=store).publish()
            yield store
        finally:
            store.close()


def request(store: Store, key: EnvironmentKey = PRODUCTION, commit: str = SHA, by: str = "ada") -> Deployment:
    wish = Wish(
        environment=key, ref="refs/heads/main", commit=commit, trigger=Trigger.manual, requested_by=by
    )
    deployment = store.request(wish).deployment
    assert deployment is not None
    return deployment


def begin(store: Store, key: EnvironmentKey = PRODUCTION) -> tuple[Claim, int]:
    """Claim what waits in an environment and begin an attempt."""
    store.register_worker("w1", info={"host": "here", "pid": os.getpid(), "version": "0", "digest": ""})
    claim = store.claim("w1", lease=60.0, environments=[key])
    assert claim is not None
    return claim, store.begin_attempt(claim, resolved="{}")


def step(
    store: Store, claim: Claim, attempt: int, name: StepName, *, output: str = "", error: str = ""
) -> None:
    """Journal a step, begun and ended."""
    number = store.begin_step(claim, attempt, phase=Phase.deploy, name=name, release="1-5f1c0d2a77")
    if output:
        store.write_output(claim, number, output)
    state = StepState.failed if error else StepState.success
    failure = StepFailed(Cause.build, error) if error else None
    store.end_step(claim, number, state=state, tail=output, failure=failure)


def deploy(store: Store, key: EnvironmentKey = PRODUCTION, commit: str = SHA) -> str:
    """A deployment that succeeded; returns its id."""
    deployment = request(store, key, commit)
    claim, attempt = begin(store, key)
    store.set_release(claim, release="1-5f1c0d2a77", previous="")
    step(store, claim, attempt, StepName.fetch)
    step(store, claim, attempt, StepName.build, output="built\n")
    serving = Serving(release="1-5f1c0d2a77", commit=commit, healthy=True)
    store.finish(claim, attempt, Ending(status=Status.success, serving=serving))
    store.retire_worker("w1")
    return deployment.id


def fail(store: Store, key: EnvironmentKey = PRODUCTION, commit: str = OTHER_SHA) -> str:
    """A deployment whose build failed; returns its id."""
    deployment = request(store, key, commit)
    claim, attempt = begin(store, key)
    step(store, claim, attempt, StepName.build, output="oops\n", error="cannot build: exit code 3")
    ending = Ending(
        status=Status.failed,
        cause=Cause.build,
        error="cannot build: exit code 3",
        hint="Mend it and push again",
        quarantine=True,
    )
    store.finish(claim, attempt, ending)
    store.retire_worker("w1")
    return deployment.id


def on_a_terminal(
    argv: list[str],
    *,
    columns: int = 100,
    env: Mapping[str, str] | None = None,
    limit: float = 30.0,
    typed: bytes = b"",
) -> tuple[int, str]:
    """Run a command on a terminal where `typed` is typed; returns its exit status and all that was shown."""
    leader, follower = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "TZ": "UTC", **(env or {})}
    if env is None or "NO_COLOR" not in env:
        environ.pop("NO_COLOR", None)
    process = subprocess.Popen(argv, stdin=follower, stdout=follower, stderr=follower, env=environ)
    os.close(follower)
    os.write(leader, typed)
    shown = b""
    try:
        while select.select([leader], [], [], limit)[0]:
            try:
                data = os.read(leader, 65536)
            except OSError:  # the other side was closed
                break
            shown += data
        return process.wait(limit), shown.decode("utf-8", "replace")
    finally:
        os.close(leader)
        if process.poll() is None:
            process.kill()
            process.wait()
