"""What every store promises of the databases of environments: notes that stay, and one deployment for each."""

from __future__ import annotations

import threading

import pytest

from fraisier.application.ports import Claim, Holder, Store
from fraisier.domain.errors import TokenOutdated
from fraisier.domain.migration import DatabaseChange, Kind
from tests.factories import KEY, SHA_A, SHA_B
from tests.unit.store_contract import STAGING, Advance, claimed, finished, wish

PLANNED = DatabaseChange(
    kind=Kind.planned,
    revision="41",
    attempt=1,
    detail={"pending": [{"name": "42_é"}], "verdict": "reversible"},
)


def two_claims(store: Store) -> tuple[Claim, Claim]:
    """Deployments under way in two environments."""
    store.request(wish(SHA_A))
    store.request(wish(SHA_B, environment=STAGING))
    return claimed(store, "w1", KEY), claimed(store, "w1", STAGING)


class DatabaseContract:
    """Notes and locks."""

    def test_a_note_is_found_by_whoever_takes_over_and_by_who_looks(
        self, store: Store, advance: Advance
    ) -> None:
        first, _ = two_claims(store)
        store.begin_attempt(first, resolved="{}")
        store.note_database(first, PLANNED)
        store.note_database(first, DatabaseChange(kind=Kind.migrated, revision="42", attempt=1))
        store.hand_back(first)
        again = claimed(store, "w2", KEY)
        assert [(c.kind, c.revision, c.attempt) for c in again.changes] == [
            (Kind.planned, "41", 1),
            (Kind.migrated, "42", 1),
        ]
        assert again.changes[0].detail == PLANNED.detail
        rows = store.database_changes(KEY)
        assert [row["kind"] for row in rows] == ["planned", "migrated"]
        assert (rows[0]["deployment_id"], rows[0]["detail"]) == (first.deployment.id, PLANNED.detail)
        assert store.database_changes(STAGING) == []
        assert store.database_changes(KEY, deployment=first.deployment.id) == rows

    def test_who_was_replaced_notes_and_locks_nothing(self, store: Store) -> None:
        first, _ = two_claims(store)
        store.hand_back(first)
        claimed(store, "w2", KEY)
        with pytest.raises(TokenOutdated):
            store.note_database(first, PLANNED)
        with pytest.raises(TokenOutdated):
            store.lock_database(first, "orders")

    def test_a_database_belongs_to_one_deployment_until_it_lets_go(self, store: Store) -> None:
        first, second = two_claims(store)
        assert store.lock_database(first, "orders") is None
        assert store.lock_database(first, "orders") is None
        holder = store.lock_database(second, "orders")
        assert holder is not None
        assert (holder.deployment, holder.environment) == (first.deployment.id, KEY)
        assert store.lock_database(second, "another") is None
        store.unlock_databases(first)
        assert store.lock_database(second, "orders") is None

    def test_a_database_is_free_when_its_deployment_has_ended(self, store: Store) -> None:
        first, second = two_claims(store)
        store.lock_database(first, "orders")
        finished(store, first)
        assert store.lock_database(second, "orders") is None

    def test_a_deployment_whose_worker_died_keeps_its_database(self, store: Store, advance: Advance) -> None:
        """Its command may still run; who takes the deployment over takes the database with it."""
        first, second = two_claims(store)
        store.lock_database(first, "orders")
        store.hand_back(first)
        assert store.lock_database(second, "orders") is not None
        again = claimed(store, "w2", KEY)
        assert store.lock_database(again, "orders") is None
        store.unlock_databases(again)
        assert store.lock_database(second, "orders") is None

    def test_of_two_that_come_at_once_one_gets_the_database(self, store: Store) -> None:
        claims, found = two_claims(store), list[Holder | None]()
        start = threading.Barrier(2)

        def take(claim: Claim) -> None:
            start.wait()
            found.append(store.lock_database(claim, "orders"))

        threads = [threading.Thread(target=take, args=(claim,)) for claim in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [holder is None for holder in found].count(True) == 1

    def test_a_rollback_remembers_that_the_database_goes_back_too(self, store: Store) -> None:
        asked = store.request(wish(SHA_A, with_database=True)).deployment
        assert asked is not None
        assert asked.with_database
        assert claimed(store).deployment.with_database
