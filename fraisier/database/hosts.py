"""Where the hosts of environments with several of them stand; see `domain.rollout`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fraisier.application.ports import Claim
from fraisier.application.ports.news import News
from fraisier.database.transaction import Connection, DatabaseRow, Transaction
from fraisier.database.uuids import random_uuid
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Environment, EnvironmentKey
from fraisier.domain.rollout import HostState, Standing

_STANDINGS = "SELECT * FROM tb_environment_hosts WHERE fraise = ? AND environment = ? ORDER BY host"

# What a host runs that was not known before, the next deployment sees.
_PUBLISH = """
INSERT INTO tb_environment_hosts (id, fraise, environment, host, since) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (fraise, environment, host) DO NOTHING
"""

# `since` is when the state, or the release, became what it is.
_NOTE = """
INSERT INTO tb_environment_hosts AS h (id, fraise, environment, host, state, release, "commit",
    previous_release, previous_commit, deployment, touched, unfinished, cause, detail, since)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (fraise, environment, host) DO UPDATE
   SET state = excluded.state, release = excluded.release, "commit" = excluded."commit",
       previous_release = excluded.previous_release, previous_commit = excluded.previous_commit,
       deployment = excluded.deployment, touched = excluded.touched, unfinished = excluded.unfinished,
       cause = excluded.cause, detail = excluded.detail,
       since = CASE WHEN h.state = excluded.state AND h.release = excluded.release
                    THEN h.since ELSE excluded.since END
"""


def publish_hosts(tx: Transaction, environments: Iterable[Environment]) -> None:
    """Make the hosts of environments with several known."""
    for environment in environments:
        if len(environment.hosts) > 1:
            for host in environment.hosts:
                tx.execute(_PUBLISH, (random_uuid(), environment.fraise, environment.name, host, tx.at))


def standings(connection: Connection, key: EnvironmentKey) -> tuple[Standing, ...]:
    """Where the hosts of an environment stand."""
    return tuple(map(_standing, connection.execute(_STANDINGS, (key.fraise, key.environment))))


def _standing(row: DatabaseRow) -> Standing:
    return Standing(
        host=row["host"],
        state=HostState(row["state"]),
        release=row["release"],
        commit=row["commit"],
        previous=row["previous_release"],
        previous_commit=row["previous_commit"],
        deployment=row["deployment"] or "",
        touched=bool(row["touched"]),
        unfinished=bool(row["unfinished"]),
        cause=Cause(row["cause"]) if row["cause"] else None,
        detail=row["detail"],
    )


def note(tx: Transaction, claim: Claim, found: Sequence[Standing]) -> None:
    """Where these hosts stand now."""
    key = claim.environment
    for each in found:
        row = (
            *(random_uuid(), key.fraise, key.environment, each.host, each.state.value),
            *(each.release, each.commit, each.previous, each.previous_commit),
            *(each.deployment or None, each.touched, each.unfinished),
            *(each.cause and each.cause.value, each.detail, tx.at),
        )
        tx.later(_NOTE, row)
    tx.tell(News.work)
