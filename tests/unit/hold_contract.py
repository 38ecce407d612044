"""What every store promises about pauses and windows: what waits then, what does not, and who wakes up after.

Used like `store_contract`.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import product

import pytest

from fraisier.application.find_holds import FindHolds
from fraisier.application.ports import Claim, Serving, Store
from fraisier.domain.deployment import Status, Trigger, goes_through
from fraisier.domain.errors import Cause, NotFound
from fraisier.domain.fraise import EnvironmentKey
from tests import factories
from tests.factories import KEY, SHA_A, SHA_B, SHA_C
from tests.unit.store_contract import (
    LEASE,
    PATIENCE,
    STAGING,
    Advance,
    claimed,
    delivery,
    finished,
    status_of,
    wish,
)

TRIGGERS = [
    *product((Trigger.webhook, Trigger.manual, Trigger.api, Trigger.rollback), (False,)),
    (Trigger.manual, True),
]


def claim(store: Store, *closed: EnvironmentKey, worker: str = "w1") -> Claim | None:
    return store.claim(worker, lease=LEASE, environments=(KEY, STAGING), closed=closed)


def pause(store: Store) -> None:
    store.pause(KEY, by="anna", reason="the disk is being replaced")


def row_of(store: Store, key: EnvironmentKey = KEY) -> dict[str, object]:
    (row,) = store.fraise_status(key.fraise, key.environment)
    return dict(row)


class HoldContract:
    """In a paused or closed environment nothing begins by itself; nothing of it is lost."""

    def test_a_pause_says_who_when_and_why_until_it_ends(self, store: Store) -> None:
        pause(store)
        row = row_of(store)
        assert (row["paused"], row["paused_by"]) == (True, "anna")
        assert row["paused_reason"] == "the disk is being replaced"
        assert str(row["paused_at"]).endswith("Z")
        store.pause(KEY, by="bert", reason="still")
        assert (row_of(store)["paused_by"], row_of(store)["paused_reason"]) == ("bert", "still")
        assert store.resume(KEY, by="cleo")
        row = row_of(store)
        assert (row["paused"], row["paused_by"], row["paused_at"], row["paused_reason"]) == (
            False,
            "",
            None,
            "",
        )
        assert not row_of(store, STAGING)["paused"]

    def test_going_on_where_nothing_was_paused_changes_nothing(self, store: Store) -> None:
        assert not store.resume(KEY, by="cleo")

    def test_what_is_not_published_cannot_be_paused(self, store: Store) -> None:
        nowhere = EnvironmentKey("orders", "nowhere")
        with pytest.raises(NotFound):
            store.pause(nowhere, by="anna", reason="x")
        with pytest.raises(NotFound):
            store.resume(nowhere, by="anna")

    def test_publishing_again_does_not_end_a_pause(self, store: Store) -> None:
        pause(store)
        store.publish([factories.fraise()], digest="digest-9", documents={})
        assert row_of(store)["paused_by"] == "anna"

    def test_pushes_to_a_paused_environment_are_stored_and_the_newest_begins_after(
        self, store: Store
    ) -> None:
        pause(store)
        first = store.record(delivery("d1", wish(SHA_A))).result(PATIENCE)
        newest = store.record(delivery("d2", wish(SHA_B))).result(PATIENCE)
        assert (first.status, newest.status) == ("accepted", "accepted")
        assert newest.superseded == (first.deployments[0].id,)
        assert claim(store) is None
        assert status_of(store, newest.deployments[0].id) == "pending"
        store.resume(KEY, by="anna")
        begun = claim(store)
        assert begun is not None
        assert begun.deployment.id == newest.deployments[0].id

    @pytest.mark.parametrize(("trigger", "force"), TRIGGERS)
    @pytest.mark.parametrize("how", ["paused", "closed"])
    def test_only_what_goes_through_begins(
        self, store: Store, how: str, trigger: Trigger, force: bool
    ) -> None:
        if how != "closed":
            pause(store)
        asked = store.request(wish(trigger=trigger, force=force, requested_by="anna")).deployment
        assert asked is not None
        begun = claim(store, *(() if how == "paused" else (KEY,)))
        assert (begun is not None) == goes_through(trigger, force=force)
        assert status_of(store, asked.id) == ("pending" if begun is None else "running")

    def test_a_person_who_decides_anew_takes_the_place_of_what_persons_wanted_before(
        self, store: Store
    ) -> None:
        pause(store)
        first = store.request(wish(SHA_A, trigger=Trigger.manual, requested_by="anna")).deployment
        assert first is not None
        held = FindHolds({}, store, 0.0).replaced_by(KEY, goes_first=False)
        assert held == {first.id}
        assert FindHolds({}, store, 0.0).replaced_by(STAGING, goes_first=False) == set()
        insisted = wish(SHA_B, trigger=Trigger.manual, force=True, requested_by="bert", instead_of=held)
        forced = store.request(insisted)
        assert forced.superseded == (first.id,)
        assert FindHolds({}, store, 0.0).replaced_by(KEY, goes_first=False) == set(), (
            "what goes through is not held"
        )
        store.resume(KEY, by="anna")
        begun = claim(store)
        assert begun is not None
        assert forced.deployment is not None
        assert begun.deployment.id == forced.deployment.id
        finished(store, begun)
        assert claim(store) is None
        later = store.request(wish(SHA_C, trigger=Trigger.manual, requested_by="anna")).deployment
        assert later is not None
        assert FindHolds({}, store, 0.0).replaced_by(KEY, goes_first=False) == set(), (
            "nothing is held where nothing is paused"
        )

    @pytest.mark.parametrize("trigger", [Trigger.rollback, Trigger.manual])
    def test_what_goes_first_takes_the_place_of_what_waits_for_its_next_try(
        self, store: Store, trigger: Trigger, advance: Advance
    ) -> None:
        store.request(wish(SHA_A, trigger=Trigger.manual, requested_by="anna"))
        begun = claimed(store)
        holds, attempt = FindHolds({}, store, 0.0), store.begin_attempt(begun, resolved="{}")
        assert holds.replaced_by(KEY, goes_first=True) == set(), "what runs is stopped, or waited for"
        store.retry_later(begun, attempt, delay=60, cause=Cause.network, error="cannot fetch")
        assert holds.replaced_by(KEY, goes_first=False) == set(), "it comes after that"
        first = holds.replaced_by(KEY, goes_first=True)
        newer = wish(
            SHA_B, trigger=trigger, force=trigger is Trigger.manual, requested_by="bert", release="1-b"
        )
        assert store.request(replace(newer, instead_of=first)).superseded == (begun.deployment.id,)
        advance(61)
        finished(store, claimed(store))
        assert claim(store) is None, "it would undo what came after it"

    def test_a_next_try_gives_way_to_what_went_first_meanwhile(self, store: Store) -> None:
        store.request(wish(SHA_A, trigger=Trigger.manual, requested_by="anna"))
        begun = claimed(store)
        attempt = store.begin_attempt(begun, resolved="{}")
        store.request(wish(SHA_B, trigger=Trigger.manual, force=True, requested_by="bert"))
        ended = store.retry_later(begun, attempt, delay=60, cause=Cause.network, error="cannot fetch")
        assert ended.status is Status.superseded
        assert claimed(store).deployment.commit == SHA_B

    def test_a_held_environment_keeps_no_other_from_being_deployed_to(self, store: Store) -> None:
        pause(store)
        store.request(wish())
        store.request(wish(environment=STAGING))
        begun = claim(store)
        assert begun is not None
        assert begun.environment == STAGING
        finished(store, begun)
        store.resume(KEY, by="anna")
        # Names in another order are another environment.
        assert claim(store, EnvironmentKey("production", "orders")) is not None

    def test_whoever_insists_does_not_wait_behind_what_is_held(self, store: Store) -> None:
        pause(store)
        waiting = store.request(wish(SHA_A, trigger=Trigger.manual, requested_by="anna")).deployment
        insisted = store.request(
            wish(SHA_B, trigger=Trigger.manual, force=True, requested_by="bert")
        ).deployment
        begun = claim(store)
        assert begun is not None
        assert insisted is not None
        assert begun.deployment.id == insisted.id
        finished(store, begun)
        assert claim(store) is None
        assert waiting is not None
        assert status_of(store, waiting.id) == "pending"

    @pytest.mark.parametrize("closed", [(), (KEY,)], ids=["paused", "and closed"])
    def test_what_was_begun_before_is_taken_over_and_ends(
        self, store: Store, advance: Advance, closed: tuple[EnvironmentKey, ...]
    ) -> None:
        store.request(wish())
        begun = claimed(store, "dies")
        attempt = store.begin_attempt(begun, resolved="{}")
        pause(store)
        assert store.renew("dies", [begun], lease=LEASE) == {KEY}
        advance(LEASE + 1)
        resumed = claim(store, *closed, worker="w2")
        assert resumed is not None
        assert (resumed.deployment.id, resumed.attempts) == (begun.deployment.id, attempt)
        finished(store, resumed, serving=Serving(release="1-aaaaaaaaaa", commit=SHA_A, healthy=True))
        assert status_of(store, begun.deployment.id) == "success"

    def test_a_retry_waits_for_the_end_of_the_pause(self, store: Store, advance: Advance) -> None:
        store.request(wish())
        begun = claimed(store)
        attempt = store.begin_attempt(begun, resolved="{}")
        store.retry_later(begun, attempt, delay=5, cause=Cause.network, error="cannot fetch")
        pause(store)
        assert store.next_due() is None
        advance(6)
        assert claim(store) is None
        store.resume(KEY, by="anna")
        assert claim(store) is not None

    def test_a_retry_of_what_goes_through_is_due_all_the_same(self, store: Store, advance: Advance) -> None:
        pause(store)
        store.request(wish(trigger=Trigger.manual, force=True, requested_by="anna"))
        begun = claimed(store)
        attempt = store.begin_attempt(begun, resolved="{}")
        store.retry_later(begun, attempt, delay=5, cause=Cause.network, error="cannot fetch")
        assert store.next_due() is not None
        advance(6)
        assert claim(store) is not None

    def test_a_rollback_is_performed_and_what_waited_does_not_undo_it(self, store: Store) -> None:
        pause(store)
        pushed = store.request(wish(SHA_B)).deployment
        store.request(
            wish(SHA_C, trigger=Trigger.rollback, requested_by="anna", release="1-cccccccccc", tip="")
        )
        begun = claim(store)
        assert begun is not None
        assert begun.deployment.trigger is Trigger.rollback
        finished(store, begun)
        store.resume(KEY, by="anna")
        assert claim(store) is None
        assert pushed is not None
        assert status_of(store, pushed.id) == "superseded"

    def test_what_waits_in_a_paused_environment_that_is_gone_comes_to_its_end(self, store: Store) -> None:
        pause(store)
        store.request(wish())
        staging = factories.environment(name="staging", branch="dev")
        store.publish([factories.fraise(staging)], digest="digest-3", documents={})
        assert claim(store) is not None

    @pytest.mark.parametrize("change", ["pause", "resume"])
    def test_whoever_listens_is_woken(self, store: Store, change: str) -> None:
        pause(store)
        woken = threading.Event()
        unsubscribe = store.subscribe(woken.set)
        try:
            woken.clear()
            pause(store) if change == "pause" else store.resume(KEY, by="anna")
            assert woken.wait(PATIENCE)
        finally:
            unsubscribe()

    def test_what_waits_says_whether_somebody_insists(self, store: Store) -> None:
        store.request(wish(trigger=Trigger.manual, force=True, requested_by="anna"))
        (row,) = store.unfinished()
        assert (row["trigger"], row["force"]) == ("manual", True)

    def test_what_the_last_attempt_resolved_is_told(self, store: Store) -> None:
        asked = store.request(wish()).deployment
        assert asked is not None
        assert store.resolved(asked.id) == store.resolved("") == store.resolved("nonsense") == ""
        begun = claimed(store)
        store.begin_attempt(begun, resolved='{"a": 1}')
        store.begin_attempt(begun, resolved='{"a": 2}')
        assert store.resolved(asked.id) == '{"a": 2}'

    def test_the_newest_token_is_told(self, store: Store) -> None:
        assert store.token(KEY) == 0
        store.request(wish())
        begun = claimed(store)
        assert store.token(KEY) == begun.token == 1
        finished(store, begun, Status.failed)
        assert store.token(KEY) == 1
        assert store.token(EnvironmentKey("orders", "nowhere")) == 0
