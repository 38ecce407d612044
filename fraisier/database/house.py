"""Keeping house: what is published, who works, what is pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from fraisier.application.ports import Row
from fraisier.application.ports.news import News
from fraisier.database.hosts import publish_hosts
from fraisier.database.transaction import Connection, Transaction, as_json
from fraisier.database.uuids import time_ordered_uuid
from fraisier.domain.errors import Conflict
from fraisier.domain.fraise import Environment, EnvironmentKey, Fraise

SIGN_OF_LIFE = 15.0  # seconds that a worker counts as alive after it registered, until it renews

_INSTALLATION = "SELECT id FROM tb_installation"
_DIGEST = "SELECT digest FROM tb_installation"
# Whoever works by another configuration than the published one claims nothing ('' = whatever is published).
CONFIGURED_ALIKE = """
       (CAST(:digest AS text) = '' OR (SELECT digest FROM tb_installation) IN ('', :digest))
"""
_PUBLISHED = "UPDATE tb_installation SET digest = ?, published_at = ?"

_HIDE_FRAISES = "UPDATE tb_fraises SET published = FALSE WHERE published"
_HIDE_ENVIRONMENTS = "UPDATE tb_environments SET published = FALSE WHERE published"
_FRAISES = "SELECT name, type, description, forge, repository FROM tb_fraises WHERE published"
_ENVIRONMENTS = "SELECT fraise, name, document, labels FROM tb_environments WHERE published"
_PUBLISH_FRAISE = """
INSERT INTO tb_fraises (id, name, type, description, forge, repository) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE
   SET type = excluded.type, description = excluded.description, forge = excluded.forge,
       repository = excluded.repository, published = TRUE
"""
_PUBLISH_ENVIRONMENT = """
INSERT INTO tb_environments (id, fraise, name, document, labels) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (fraise, name) DO UPDATE
   SET document = excluded.document, labels = excluded.labels, published = TRUE
"""

_RETIRE = "UPDATE tb_workers SET retired_at = ? WHERE id = ?"

# Rows come in the order of time, so that pruning walks from the oldest and stops at the first it keeps.
_OLDEST_PAYLOADS = """
SELECT pk, received_at FROM tb_webhook_events
 WHERE pk > (SELECT pruned_event FROM tb_installation) ORDER BY pk LIMIT ?
"""
_PRUNE_PAYLOADS = """
UPDATE tb_webhook_events SET payload = NULL
 WHERE pk > (SELECT pruned_event FROM tb_installation) AND pk <= ? AND payload IS NOT NULL
"""
_NOTE_PRUNED = "UPDATE tb_installation SET pruned_event = ?"
_OLDEST_OUTPUT = "SELECT seq, written_at FROM tb_step_output ORDER BY seq LIMIT ?"
_PRUNE_OUTPUT = "DELETE FROM tb_step_output WHERE seq <= ?"
_FORGET_WORKERS = """
DELETE FROM tb_workers
 WHERE seen_at < ? AND id NOT IN (SELECT lease_worker FROM tb_environments)
"""
PRUNE_CHUNK = 200  # rows per transaction: others write in between


def installation(connection: Connection) -> str:
    """The id that this database was created with."""
    return str(connection.execute(_INSTALLATION).fetchone()[0])


def published_digest(connection: Connection) -> str:
    """The digest of what is published."""
    return str(connection.execute(_DIGEST).fetchone()[0])


def publish(
    tx: Transaction, fraises: Sequence[Fraise], digest: str, documents: Mapping[EnvironmentKey, Row]
) -> None:
    """Replace what is published. What is no longer there is hidden, with its history kept.

    Nothing is written where all of it is published already, as at every start with the same file.
    """
    tx.lock_all()
    rows = [(f.name, f.type.value, f.description, f.source.forge, f.source.repository) for f in fraises]
    environments = [_environment_row(each, documents) for f in fraises for each in f.environments.values()]
    if published_digest(tx) == digest and _are_published(tx, rows, environments):
        return
    tx.execute(_HIDE_ENVIRONMENTS)
    tx.execute(_HIDE_FRAISES)
    for fraise in rows:
        tx.execute(_PUBLISH_FRAISE, (time_ordered_uuid(tx.now), *fraise))
    for environment in environments:
        tx.execute(_PUBLISH_ENVIRONMENT, (time_ordered_uuid(tx.now), *environment))
    publish_hosts(tx, [each for f in fraises for each in f.environments.values()])
    tx.execute(_PUBLISHED, (digest, tx.at))
    tx.audit(
        actor="fraisier", action="publish", subject=digest, detail={"fraises": [f.name for f in fraises]}
    )
    tx.tell(News.work)


def _environment_row(
    environment: Environment, documents: Mapping[EnvironmentKey, Row]
) -> tuple[str, str, str, str]:
    text = orjson.dumps(documents.get(environment.key, {}), default=str).decode()
    return environment.fraise, environment.name, text, as_json(environment.labels)


def _are_published(
    tx: Transaction, fraises: Iterable[Sequence[str]], environments: Iterable[Sequence[str]]
) -> bool:
    if set(map(tuple, tx.execute(_FRAISES))) != set(map(tuple, fraises)):
        return False
    return _read(tx.execute(_ENVIRONMENTS)) == _read(environments)


def _read(environments: Iterable[Sequence[str]]) -> dict[tuple[str, str], tuple[Any, Any]]:
    """By fraise and name: document and labels, whose text a database may write in its own way."""
    return {(row[0], row[1]): (orjson.loads(row[2]), orjson.loads(row[3])) for row in environments}


def register_worker(tx: Transaction, worker: str, info: Row) -> None:
    """A worker begins.

    Raises:
        Conflict: another one of that name runs.
    """
    values: dict[str, Any] = {
        "id": worker,
        "host": str(info.get("host", "")),
        "pid": int(info.get("pid") or 0),
        "version": str(info.get("version", "")),
        "info": orjson.dumps(info, default=str).decode(),
        "now": tx.at,
        **tx.moment(SIGN_OF_LIFE),
    }
    if not tx.execute(tx.sql.register_worker, values).rowcount:
        message = f"cannot start the worker {worker!r}: another one of that name runs"
        raise Conflict(message, "Stop it, or give this one another name")
    tx.tell(News.work)


def retire_worker(tx: Transaction, worker: str) -> None:
    """A worker ends; whatever it had leased is free."""
    tx.execute(_RETIRE, (tx.at, worker))
    tx.tell(News.work)


def prune_payloads(tx: Transaction, before: str) -> tuple[int, bool]:
    """Drop the oldest payloads received before `before`; how many, and whether there are more."""
    rows = tx.execute(_OLDEST_PAYLOADS, (PRUNE_CHUNK,)).fetchall()
    old = [pk for pk, received_at in rows if received_at < before]
    if not old:
        return 0, False
    dropped = tx.execute(_PRUNE_PAYLOADS, (old[-1],)).rowcount
    tx.execute(_NOTE_PRUNED, (old[-1],))
    return dropped, len(old) == PRUNE_CHUNK


def prune_output(tx: Transaction, before: str) -> tuple[int, bool]:
    """Drop the oldest output written before `before`; how many pieces, and whether there are more."""
    rows = tx.execute(_OLDEST_OUTPUT, (PRUNE_CHUNK,)).fetchall()
    old = [seq for seq, written_at in rows if written_at < before]
    if not old:
        return 0, False
    tx.execute(_PRUNE_OUTPUT, (old[-1],))
    return len(old), len(old) == PRUNE_CHUNK


def forget_workers(tx: Transaction, before: str) -> int:
    """Drop workers that were last seen before `before`."""
    return tx.execute(_FORGET_WORKERS, (before,)).rowcount
