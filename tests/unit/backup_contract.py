"""What every store promises about the copies of backups. Used like `store_contract`."""

from __future__ import annotations

import pytest

from fraisier.application.ports import Store
from fraisier.domain.backup import Copy, CopyNote, CopyState, made_at_of
from fraisier.domain.errors import TokenOutdated
from fraisier.domain.job import JobKind
from fraisier.domain.run import RunWish
from tests.factories import KEY
from tests.unit.store_contract import LEASE, STAGING, Advance

FIRST, SECOND = "20261120T010000Z-00000001", "20261121T010000Z-00000002"
RUN = "11111111-2222-4333-8444-555555555555"


def whole(name: str, destination: str = "local", **changes: object) -> CopyNote:
    known = {"bytes": 5 << 30, "manifest": "a" * 64, "state": CopyState.whole, "looked_at": 1_800_000_000.0}
    return CopyNote(destination=destination, name=name, **{**known, **changes})  # type: ignore[arg-type]


class BackupContract:
    """Copies are noted piece by piece, and never forgotten."""

    def test_a_copy_is_known_with_what_was_noted(self, store: Store) -> None:
        store.note_copies(KEY, [whole(FIRST)])
        assert store.copies(KEY) == [
            Copy(
                destination="local",
                name=FIRST,
                made_at=made_at_of(FIRST),
                bytes=5 << 30,
                manifest="a" * 64,
                state=CopyState.whole,
                looked_at=1_800_000_000.0,
            )
        ]
        assert store.copies(STAGING) == []

    def test_a_note_changes_only_what_it_is_about(self, store: Store) -> None:
        store.note_copies(KEY, [whole(FIRST), whole(FIRST, "offsite"), whole(SECOND)])
        store.note_copies(
            KEY,
            [
                CopyNote(
                    destination="local", name=FIRST, state=CopyState.damaged, detail="orders.dump is cut off"
                ),
                CopyNote(destination="local", name=SECOND, verified_at=1_800_000_100.5, verified_run=RUN),
            ],
        )
        first, offsite, second = store.copies(KEY)
        assert (first.state, first.detail, first.bytes) == (
            CopyState.damaged,
            "orders.dump is cut off",
            5 << 30,
        )
        assert (offsite.destination, offsite.state) == ("offsite", CopyState.whole)
        assert (second.verified_at, second.state) == (1_800_000_100.5, CopyState.whole)
        store.note_copies(KEY, [CopyNote(destination="local", name=FIRST, state=CopyState.whole, detail="")])
        assert (store.copies(KEY)[0].state, store.copies(KEY)[0].detail) == (CopyState.whole, "")

    def test_what_was_found_at_a_place_is_added_by_its_name(self, store: Store) -> None:
        store.note_copies(KEY, [CopyNote(destination="local", name=SECOND)])
        (copy,) = store.copies(KEY)
        assert (copy.state, copy.made_at, copy.looked_at) == (CopyState.unknown, made_at_of(SECOND), None)

    def test_what_was_removed_is_remembered_and_may_be_there_again(self, store: Store) -> None:
        store.note_copies(KEY, [whole(FIRST), whole(SECOND)])
        store.note_copies(KEY, [CopyNote(destination="local", name=FIRST, pruned_at=1_800_000_000.0)])
        assert [copy.name for copy in store.copies(KEY)] == [SECOND]
        assert set(store.pruned_copies(KEY, "local")) == {FIRST}
        assert set(store.pruned_copies(KEY, "offsite")) == set()
        assert [row["name"] for row in store.backups("orders")] == [SECOND]
        assert [row["name"] for row in store.backups("orders", with_pruned=True)] == [SECOND, FIRST]
        store.note_copies(KEY, [CopyNote(destination="local", name=FIRST, pruned_at=0.0)])
        assert [copy.name for copy in store.copies(KEY)] == [FIRST, SECOND]

    def test_rows_are_the_newest_first_and_json(self, store: Store) -> None:
        store.note_copies(KEY, [whole(FIRST), whole(SECOND, safety=True)])
        store.note_copies(STAGING, [whole(FIRST)])
        found = [(row["environment"], row["name"]) for row in store.backups()]
        assert found == [("production", SECOND), ("production", FIRST), ("staging", FIRST)]
        row = store.backups("orders", "production", limit=1)[0]
        assert row["safety"] is True
        assert row["made_at"] == "2026-11-21T01:00:00.000000Z"
        assert row["state"] == "whole"
        assert row["verified_at"] is None
        assert set(row) == {
            *("id", "fraise_id", "environment", "destination", "name", "made_at", "bytes", "manifest_sha256"),
            *(
                "state",
                "detail",
                "looked_at",
                "verified_at",
                "verified_run_id",
                "flaw",
                "safety",
                "pruned_at",
            ),
        }

    def test_what_is_said_of_a_copy_is_bounded(self, store: Store) -> None:
        store.note_copies(KEY, [whole(FIRST, flaw="x" * 5000, detail="a\0b")])
        (copy,) = store.copies(KEY)
        assert (len(copy.flaw), copy.detail) == (1000, "ab")

    def test_who_was_replaced_notes_nothing_any_more(self, store: Store, advance: Advance) -> None:
        for worker in ("w1", "w2"):
            store.register_worker(worker, info={"host": "here"})
        store.request_run(RunWish(environment=KEY, job="main", kind=JobKind.backup))
        begun = store.claim_run("w1", environments=[KEY])
        assert begun is not None
        store.note_copies(KEY, [whole(FIRST)], by=begun)
        advance(LEASE * 3)
        store.renew("w2", [], lease=LEASE)
        assert store.claim_run("w2", environments=[KEY]) is not None
        with pytest.raises(TokenOutdated):
            store.note_copies(KEY, [whole(SECOND)], by=begun)
        assert [copy.name for copy in store.copies(KEY)] == [FIRST]

    def test_a_copy_is_not_forgotten(self, store: Store) -> None:
        store.note_copies(KEY, [whole(FIRST)])
        with pytest.raises(Exception, match="cannot delete a backup"):
            store._write(lambda tx: tx.execute("DELETE FROM tb_backups"))  # type: ignore[attr-defined]
