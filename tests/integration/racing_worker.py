"""A worker for tests of claims, as a process of its own: claims, holds a file per environment, finishes.

Usage: python -m tests.integration.racing_worker URL NAME FOLDER. Ends when nothing has waited for a while.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from fraisier.application.ports import Claim, Ending
from fraisier.database.postgresql import PostgresqlStore, open_postgresql
from fraisier.domain.deployment import Status
from fraisier.domain.fraise import EnvironmentKey

_PATIENCE = 60.0  # seconds for all of it


def environments(number: int) -> list[EnvironmentKey]:
    """The environments that are raced for."""
    return [EnvironmentKey("orders", f"e{n}") for n in range(number)]


def perform(store: PostgresqlStore, claim: Claim, folder: Path) -> None:
    """Be alone in the environment, or say that one was not."""
    held = folder / claim.environment.environment
    try:
        os.close(os.open(held, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        (folder / "overlap").write_text(f"{claim.environment} by {claim.worker}\n")
    attempt = store.begin_attempt(claim, resolved="{}")
    held.unlink(missing_ok=True)
    store.finish(claim, attempt, Ending(status=Status.success))


def main(url: str, name: str, folder: Path) -> None:
    """Perform until every deployment has ended."""
    store = open_postgresql(url)
    store.register_worker(name, info={"pid": os.getpid()})
    keys = environments(20)
    latest = time.monotonic() + _PATIENCE
    (folder / f"{name}.ready").touch()
    while time.monotonic() < latest:
        claim = store.claim(name, lease=30, environments=keys)
        if claim is not None:
            perform(store, claim, folder)
        elif (folder / "all-requested").exists():
            counts = store.counts()
            if not counts.get("deployments.pending") and not counts.get("deployments.running"):
                break
    store.retire_worker(name)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
