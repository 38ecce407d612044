"""A session that is lost at any moment of any verb: the verb is done once, and its caller does not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from fraisier.application.ports import Claim, Ending, Serving
from fraisier.database.postgresql import PostgresqlStore, open_postgresql
from fraisier.database.postgresql_connection import Connections, DatabaseUrl, ServerConnection
from fraisier.domain.deployment import Status, Trigger
from fraisier.domain.errors import Cause
from fraisier.domain.plan import Phase, StepName, StepState
from tests.integration.postgresql_stores import *  # noqa: F403 - its fixtures
from tests.integration.postgresql_stores import PREPARED, prepare
from tests.servers.postgresql import PostgresqlServer
from tests.unit.store_contract import (
    KEY,
    LEASE,
    PATIENCE,
    SHA_B,
    STAGING,
    claimed,
    delivery,
    publish,
    wish,
)

# What a transaction leaves behind, without what differs from run to run.
_LEFT = """
SELECT (SELECT jsonb_agg(jsonb_build_array(status, trigger, "commit", cancel_requested_by, cause, release)
                         ORDER BY pk) FROM tb_deployments),
       (SELECT jsonb_agg(jsonb_build_array(name, token, releases, lease_worker, seen_tip, current_release)
                         ORDER BY name) FROM tb_environments),
       (SELECT jsonb_agg(jsonb_build_array(delivery_id, verdict, deployments) ORDER BY pk)
          FROM tb_webhook_events),
       (SELECT jsonb_agg(jsonb_build_array(number, outcome) ORDER BY pk) FROM tb_deployment_attempts),
       (SELECT jsonb_agg(jsonb_build_array(step, state, tail) ORDER BY pk) FROM tb_deployment_steps),
       (SELECT jsonb_agg(text ORDER BY seq) FROM tb_step_output),
       (SELECT jsonb_agg(jsonb_build_array(action, actor) ORDER BY pk) FROM tb_audit_log),
       (SELECT jsonb_agg(jsonb_build_array(id, retired_at IS NULL) ORDER BY id) FROM tb_workers),
       (SELECT jsonb_object_agg(name, value)
          FROM (SELECT name, sum(value) AS value FROM tb_counters GROUP BY name) c)
"""


class Knife:
    """Ends the session that is in use at its nth statement: before it is sent, or before it is answered."""

    def __init__(self, url: str) -> None:
        self._admin = psycopg.connect(url, autocommit=True)
        self.at = 0  # which statement; 0 = none
        self.answered = False
        self.cuts = 0

    def close(self) -> None:
        self._admin.close()

    def run(self, connection: ServerConnection, statement: Callable[[], Any]) -> Any:
        if not self.at:
            return statement()
        self.at -= 1
        if self.at:
            return statement()
        self.cuts += 1
        if self.answered:
            statement()
            connection.raw.close()
            raise psycopg.OperationalError("the answer was lost")
        self._admin.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.raw.info.backend_pid,))
        return statement()


class CutSession(ServerConnection):
    knife: Knife

    def execute(self, sql: str, values: Any = ()) -> Any:
        run = super().execute
        return self.knife.run(self, lambda: run(sql, values)) if hasattr(self, "knife") else run(sql, values)

    def script(self, sql: str) -> Any:
        run = super().script
        return self.knife.run(self, lambda: run(sql))


class CutSessions(Connections):
    def __init__(self, url: str, knife: Knife) -> None:
        super().__init__(DatabaseUrl(url))
        self._knife = knife

    def _new(self, latest: float) -> ServerConnection:
        session = CutSession(self.url)
        session.knife = self._knife
        return session


@dataclass
class World:
    store: PostgresqlStore
    claim: Claim
    attempt: int
    step: int


def with_claim(store: PostgresqlStore) -> World:
    """A deployment that is being performed, in its build."""
    store.register_worker("w1", info={"host": "here", "pid": 7})
    store.request(wish())
    claim = claimed(store)
    attempt = store.begin_attempt(claim, resolved="{}")
    step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="1-a")
    return World(store, claim, attempt, step)


SERVES = Ending(status=Status.success, serving=Serving(release="1-a", commit="a" * 40, healthy=True))
VERBS: dict[str, Callable[[World], Any]] = {
    "record": lambda w: w.store.record(delivery("d-9", wish(SHA_B))).result(PATIENCE).status,
    "request": lambda w: w.store.request(wish(SHA_B, requested_by="bob", trigger=Trigger.manual)).reason,
    "cancel": lambda w: w.store.cancel(w.claim.deployment.id, by="bob").status,
    "claim": lambda w: claimed_staging(w.store),
    "raise_token": lambda w: w.store.raise_token(STAGING, above=7, by="bob"),
    "renew": lambda w: sorted(map(str, w.store.renew("w1", [w.claim], lease=LEASE))),
    "begin_attempt": lambda w: w.store.begin_attempt(w.claim, resolved="{}"),
    "next_release_number": lambda w: w.store.next_release_number(w.claim),
    "pin": lambda w: w.store.pin(w.claim, commit=w.claim.deployment.commit, seen_tip=SHA_B),
    "set_release": lambda w: w.store.set_release(w.claim, release="2-b", previous="1-a"),
    "begin_step": lambda w: (
        w.store.begin_step(w.claim, w.attempt, phase=Phase.deploy, name=StepName.restart, release="1-a")
        and None
    ),
    "end_step": lambda w: w.store.end_step(w.claim, w.step, state=StepState.success, tail="well"),
    "write_output": lambda w: w.store.write_output(w.claim, w.step, "words\n"),
    "finish": lambda w: w.store.finish(w.claim, w.attempt, SERVES).status,
    "retry_later": lambda w: (
        w.store.retry_later(w.claim, w.attempt, delay=60, cause=Cause.network, error="cannot fetch").status
    ),
    "hand_back": lambda w: w.store.hand_back(w.claim),
    "publish": lambda w: publish(w.store),
    "register_worker": lambda w: w.store.register_worker("w2", info={"host": "there", "pid": 8}),
    "retire_worker": lambda w: w.store.retire_worker("w1"),
    "audit": lambda w: w.store.audit(actor="bob", action="look", subject="x", detail={}),
    "prune": lambda w: w.store.prune(retention=0.0)["output"],
    "ping": lambda w: w.store.ping(),
    "history": lambda w: len(w.store.history(limit=5)),
    "fraise_status": lambda w: len(w.store.fraise_status()),
}


def claimed_staging(store: PostgresqlStore) -> int:
    store.request(wish(environment=STAGING))
    claim = store.claim("w1", lease=LEASE, environments=(KEY, STAGING))
    assert claim is not None
    return claim.token


@dataclass
class Run:
    """What one performance of a verb gave and left behind, and whether the session was lost in it."""

    value: Any
    left: Any
    cut: bool


@pytest.fixture
def perform(postgresql_server: PostgresqlServer) -> Iterator[Callable[..., Run]]:
    urls: list[str] = []

    def run(verb: str, at: int, *, answered: bool) -> Run:
        url = postgresql_server.database(postgresql_server.template(PREPARED, prepare))
        urls.append(url)
        knife = Knife(url)
        store = PostgresqlStore(CutSessions(url, knife))
        try:
            world = with_claim(store)
            knife.at, knife.answered = at, answered
            value = VERBS[verb](world)
            cut, knife.at = knife.cuts == 1, 0
            with psycopg.connect(url) as connection:
                left = connection.execute(_LEFT).fetchone()
        finally:
            store.close()
            knife.close()
        return Run(value, left, cut)

    yield run
    for url in urls:
        postgresql_server.drop(url)


@pytest.mark.parametrize("answered", [False, True], ids=["before-it-is-sent", "before-it-is-answered"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_whose_session_is_lost_is_done_once(
    perform: Callable[..., Run], verb: str, *, answered: bool
) -> None:
    undisturbed = perform(verb, 0, answered=False)
    at = 1
    while (disturbed := perform(verb, at, answered=answered)).cut:
        assert (disturbed.value, disturbed.left) == (undisturbed.value, undisturbed.left), f"statement {at}"
        at += 1
    assert at > 1


def test_a_store_that_is_opened_while_sessions_are_ended_opens(database: str) -> None:
    first = open_postgresql(database)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fraisier'"
        )
    assert first.history() == []
    first.ping()
    first.close()


def test_a_newer_fraisier_may_migrate_what_others_work_with(database: str) -> None:
    """Of a table that has another column, what was prepared before gives an error, once for each session."""
    store = open_postgresql(database)
    publish(store)
    store.register_worker("w1", info={})

    def deploy(commit: str) -> None:
        store.request(wish(commit))
        claim = store.claim("w1", lease=LEASE, environments=[KEY])
        assert claim is not None
        attempt = store.begin_attempt(claim, resolved="{}")
        store.finish(claim, attempt, Ending(status=Status.failed, error="no"))
        assert store.history(limit=1)[0]["commit"] == commit

    deploy("1" * 40)
    with psycopg.connect(database, autocommit=True) as newer:
        for table in ("tb_deployments", "tb_deployment_steps", "tb_environments", "tb_workers"):
            newer.execute(f"ALTER TABLE {table} ADD COLUMN novelty integer".encode())
        newer.execute("ALTER VIEW v_deployment_history RENAME TO v_older")
        newer.execute("CREATE VIEW v_deployment_history AS SELECT *, 1 AS novelty FROM v_older")
    deploy("2" * 40)
    store.close()
