"""How often PostgreSQL is asked, and what becomes of a round trip of which one statement fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest

from fraisier.application.ports import Claim
from fraisier.database import claims
from fraisier.database.postgresql import PostgresqlStore
from fraisier.database.postgresql_connection import Connections, DatabaseUrl, ServerConnection, Statement
from fraisier.database.postgresql_transaction import PostgresqlTransaction, Transactions
from fraisier.database.prepared_delivery import PreparedDelivery
from fraisier.database.receiving import record_all
from fraisier.domain.errors import TokenOutdated
from fraisier.domain.plan import Phase, StepName, StepState
from tests.integration.postgresql_stores import *  # noqa: F403 - its fixtures
from tests.unit.store_contract import KEY, LEASE, STAGING, claimed, delivery, sha, wish


class CountedSession(ServerConnection):
    """Notes what it sends: a list of the statements of each round trip."""

    trips: list[list[str]]

    def execute_all(self, statements: Iterable[Statement], found: list[Any]) -> None:
        sent = list(statements)
        self.trips.append([sql for sql, _ in sent])
        with self.raw.pipeline():
            for sql, values in sent:
                found.append(super().execute(sql, values))

    def execute(self, sql: str, values: Any = ()) -> Any:
        self.trips.append([sql])
        return super().execute(sql, values)

    def script(self, sql: str) -> Any:
        self.trips.append([sql])
        return super().script(sql)

    def roll_back(self) -> None:
        self.trips.append(["ROLLBACK"])
        super().roll_back()


class CountedSessions(Connections):
    def __init__(self, url: str) -> None:
        super().__init__(DatabaseUrl(url))
        self.trips: list[list[str]] = []

    def _new(self, latest: float) -> ServerConnection:
        session = CountedSession(self.url)
        session.trips = self.trips
        return session


@pytest.fixture
def sessions(database: str) -> CountedSessions:
    return CountedSessions(database)


@pytest.fixture
def counted(sessions: CountedSessions) -> Iterator[PostgresqlStore]:
    store = PostgresqlStore(sessions)
    store.ping()  # the first transaction of a session makes its receipt
    yield store
    store.close()


def begun(store: PostgresqlStore) -> tuple[Claim, int]:
    store.request(wish())
    claim = claimed(store)
    return claim, store.begin_attempt(claim, resolved="{}")


def begin(store: PostgresqlStore, claim: Claim, attempt: int) -> int:
    return store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="1-a", host="")


def test_from_a_request_to_the_first_step_the_server_is_asked_six_times(
    counted: PostgresqlStore, sessions: CountedSessions
) -> None:
    def trips(act: Callable[[], Any]) -> tuple[int, Any]:
        sessions.trips.clear()
        value = act()
        return len(sessions.trips), value

    assert trips(lambda: counted.request(wish()))[0] == 2
    claiming, claim = trips(lambda: claimed(counted))
    assert claiming == 2
    first = partial(counted.begin_with_step, phase=Phase.deploy, name=StepName.preflight, release="")
    beginning, (attempt, step) = trips(lambda: first(claim, resolved="{}"))
    assert beginning == 2
    beginning, _ = trips(lambda: begin(counted, claim, attempt))
    assert beginning == 2
    assert trips(lambda: counted.end_step(claim, step, state=StepState.success, tail=""))[0] == 2
    assert trips(lambda: counted.hand_back(claim))[0] == 2


@pytest.mark.parametrize("pushes", [2, 100])
def test_a_batch_of_pushes_takes_two_round_trips_whatever_its_size(
    sessions: CountedSessions, counted: PostgresqlStore, pushes: int
) -> None:
    transactions = Transactions(sessions, "test")
    for round_ in range(2):  # the second one supersedes what the first one asked for
        batch = [
            PreparedDelivery(delivery(f"d-{round_}-{number}", wish(sha(round_ * pushes + number + 1))))
            for number in range(pushes)
        ]
        sessions.trips.clear()
        answers = transactions.perform(partial(_record, batch=batch))
        assert [each.status for each in answers] == ["accepted"] * pushes
        assert [len(trip) for trip in sessions.trips] == [4, 3]
    assert counted.counts()["deployments.pending"] == 1
    assert counted.counts()["deployments.superseded"] == 2 * pushes - 1


def _record(tx: PostgresqlTransaction, batch: list[PreparedDelivery]) -> Any:
    return record_all(tx, batch)


def test_a_claim_that_finds_nothing_commits_nothing(
    database: str, counted: PostgresqlStore, sessions: CountedSessions
) -> None:
    with psycopg.connect(database, autocommit=True) as looking:
        before = looking.execute("SELECT sum(serial) FROM tb_receipts").fetchone()
        assert counted.claim("w1", lease=LEASE, environments=(KEY, STAGING)) is None
        assert looking.execute("SELECT sum(serial) FROM tb_receipts").fetchone() == before
    sessions.trips.clear()
    assert counted.claim("w1", lease=LEASE, environments=(KEY, STAGING)) is None
    assert len(sessions.trips) == 2


def test_a_claim_that_finds_nothing_leaves_its_session_with_what_it_has_prepared(
    counted: PostgresqlStore, sessions: CountedSessions
) -> None:
    def nothing_due() -> tuple[int, int]:
        assert counted.claim("w1", lease=LEASE, environments=(KEY, STAGING)) is None
        (session,) = sessions._idle
        return session.raw.info.backend_pid, session.execute(
            "SELECT count(*) FROM pg_prepared_statements"
        ).fetchone()[0]

    session, prepared = nothing_due()
    assert prepared > 3
    assert nothing_due() == (session, prepared)


def test_a_token_that_is_outdated_is_said_before_an_error_of_what_was_sent_with_it(
    counted: PostgresqlStore, sessions: CountedSessions
) -> None:
    claim, attempt = begun(counted)
    step = begin(counted, claim, attempt)
    counted.hand_back(claim)
    counted.raise_token(KEY, above=7, by="bob")

    def end_twice(tx: PostgresqlTransaction) -> None:
        claims.hold(tx, claim)
        for state in ("success", "failed"):
            tx.later("UPDATE tb_deployment_steps SET state = ? WHERE pk = ?", (state, step))

    with pytest.raises(TokenOutdated):
        Transactions(sessions, "test").perform(end_twice)
    assert [row["state"] for row in counted.steps(claim.deployment.id)] == ["running"]


def test_after_a_statement_that_fails_none_of_its_round_trip_is_run(database: str) -> None:
    session = ServerConnection(DatabaseUrl(database))
    found: list[Any] = []
    with pytest.raises(psycopg.errors.DivisionByZero):
        session.execute_all(
            [
                ("SELECT CAST(? AS text) AS word", ("one",)),
                ("SELECT 1 / CAST(? AS integer)", (0,)),
                ("INSERT INTO tb_audit_log (at, actor, action, subject) VALUES (now(), ?, '', '')", ("x",)),
            ],
            found,
        )
    assert found[0].fetchone()["word"] == "one"
    assert session.execute("SELECT count(*) FROM tb_audit_log WHERE actor = ?", ("x",)).fetchone()[0] == 0
    session.close()
