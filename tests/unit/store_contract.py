"""What every store promises, whatever it is made of.

A test module subclasses these and provides two fixtures: `store`, an empty store with the environments of
`PUBLISHED`, and `advance`, which lets the store's lease clock run on by some seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fraisier.application.ports import Claim, Delivery, Ending, News, Serving, Store
from fraisier.domain.deployment import Status, Trigger, Wish
from fraisier.domain.errors import Cause, Conflict, NotFound, StepFailed, TokenOutdated
from fraisier.domain.fraise import EnvironmentKey, Fraise
from fraisier.domain.plan import Phase, StepName, StepState
from fraisier.domain.push import Change, EventKind, Push, RefKind
from fraisier.domain.rollout import HostState, Standing
from tests import factories
from tests.factories import KEY, SHA_A, SHA_B, SHA_C

STAGING = EnvironmentKey("orders", "staging")
LEASE = 10.0
PATIENCE = 10.0  # seconds that a Future may take

Advance = Callable[[float], None]


def published() -> list[Fraise]:
    return [factories.fraise(factories.environment(), factories.environment(name="staging", branch="dev"))]


def publish(store: Store) -> None:
    documents = {KEY: {"branch": "main"}, STAGING: {"branch": "dev"}}
    store.publish(published(), digest="digest-1", documents=documents)


def wish(commit: str = SHA_A, **changes: Any) -> Wish:
    return factories.wish(commit, **changes)


def delivery(delivery_id: str = "d-1", *wishes: Wish, **changes: Any) -> Delivery:
    """A push to main; of a commit of its own unless wishes are given."""
    asked = wishes or (wish(),)
    moved = Change(
        kind=RefKind.branch, name="main", before=SHA_C, after=asked[0].commit, commit=asked[0].commit
    )
    push = Push(
        forge="github",
        type="push",
        kind=EventKind.push,
        delivery_id=delivery_id,
        repository="acme/orders",
        sender="alice",
        changes=(moved,),
    )
    base = Delivery(push=push, payload=b'{"ref": "main"}', received_at=time.time(), wishes=asked)
    return replace(base, **changes)


def sha(number: int) -> str:
    return f"{number:040x}"


def claimed(store: Store, worker: str = "w1", *keys: EnvironmentKey) -> Claim:
    claim = store.claim(worker, lease=LEASE, environments=keys or (KEY, STAGING))
    assert claim is not None
    return claim


def finished(store: Store, claim: Claim, status: Status = Status.success, **changes: Any) -> None:
    attempt = store.begin_attempt(claim, resolved="{}")
    store.finish(claim, attempt, Ending(status=status, **changes))


def status_of(store: Store, deployment: str) -> str:
    return str(store.deployment(deployment)["status"])


class ReceivingContract:
    """Deliveries: recorded once, decided on, answered after the commit."""

    def test_a_mapped_push_becomes_an_event_and_a_pending_deployment(self, store: Store) -> None:
        received = store.record(delivery()).result(PATIENCE)
        assert received.status == "accepted"
        (deployment,) = received.deployments
        row = store.deployment(deployment.id)
        assert (row["commit"], row["status"], row["trigger"]) == (SHA_A, "pending", "webhook")
        assert row["event_id"] == received.event_id == store.events()[0]["id"]
        assert deployment.event_id == received.event_id

    def test_a_delivery_that_comes_again_is_a_duplicate_of_the_first(self, store: Store) -> None:
        first = store.record(delivery("same")).result(PATIENCE)
        again = store.record(delivery("same", wish(SHA_B))).result(PATIENCE)
        assert (again.status, again.event_id) == ("duplicate", first.event_id)
        assert len(store.events()) == len(store.history()) == 1

    def test_duplicates_that_arrive_together_are_stored_once(self, store: Store) -> None:
        futures = [store.record(delivery("same", wish(sha(n)))) for n in range(1, 40)]
        answers = [future.result(PATIENCE) for future in futures]
        assert [each.status for each in answers] == ["accepted"] + ["duplicate"] * 38
        assert len({each.event_id for each in answers}) == 1

    def test_the_same_delivery_id_of_another_forge_is_another_delivery(self, store: Store) -> None:
        ours = delivery("same")
        theirs = replace(ours, push=replace(ours.push, forge="gitlab"))
        assert store.record(ours).result(PATIENCE).event_id != store.record(theirs).result(PATIENCE).event_id

    def test_deliveries_without_an_id_are_never_duplicates(self, store: Store) -> None:
        futures = [store.record(delivery("", wish(sha(n)))) for n in range(1, 6)]
        assert {future.result(PATIENCE).status for future in futures} == {"accepted"}
        assert store.record(delivery("", wish(sha(9)))).result(PATIENCE).status == "accepted"

    def test_pushes_a_b_a_deploy_a_twice(self, store: Store) -> None:
        answers = [store.record(delivery(f"d{n}", wish(c))).result(PATIENCE) for n, c in enumerate("aba")]
        assert [each.status for each in answers] == ["accepted"] * 3
        assert answers[2].superseded == (answers[1].deployments[0].id,)

    def test_the_same_commit_pushed_again_asks_for_nothing(self, store: Store) -> None:
        store.record(delivery("d1")).result(PATIENCE)
        again = store.record(delivery("d2")).result(PATIENCE)
        assert (again.status, again.reason, again.deployments) == ("ignored", "already_requested", ())

    def test_many_pushes_at_once_leave_only_the_newest_waiting(self, store: Store) -> None:
        futures = [store.record(delivery(f"d{n}", wish(sha(n)))) for n in range(1, 101)]
        ids = [future.result(PATIENCE).deployments[0].id for future in futures]
        by_status = {status_of(store, each) for each in ids[:-1]}
        assert by_status == {"superseded"}
        assert status_of(store, ids[-1]) == "pending"
        ended = store.deployment(ids[0])
        assert ended["cause"] == "superseded"
        assert ended["completed_at"]
        assert ids[1] in ended["error_message"]

    def test_each_environment_that_is_wished_for_gets_a_deployment(self, store: Store) -> None:
        both = delivery("d1", wish(), wish(environment=STAGING))
        received = store.record(both).result(PATIENCE)
        assert [each.environment for each in received.deployments] == [KEY, STAGING]

    def test_environments_that_are_not_published_are_left_out(self, store: Store) -> None:
        unknown = wish(environment=EnvironmentKey("orders", "moon"))
        received = store.record(delivery("d1", unknown)).result(PATIENCE)
        assert (received.status, received.deployments) == ("ignored", ())

    def test_a_ping_is_recorded_and_answered_as_pong(self, store: Store) -> None:
        push = replace(delivery().push, kind=EventKind.ping, type="ping", changes=())
        received = store.record(replace(delivery(), push=push, wishes=(), reason="ping")).result(PATIENCE)
        assert received.status == "pong"
        assert [row["id"] for row in store.events(verdict="pong")] == [received.event_id]

    def test_an_event_that_nobody_maps_is_recorded_with_its_reason(self, store: Store) -> None:
        received = store.record(replace(delivery(), wishes=(), reason="not_mapped")).result(PATIENCE)
        assert (received.status, received.reason) == ("ignored", "not_mapped")
        assert store.events()[0]["reason"] == "not_mapped"

    def test_an_event_shows_what_was_pushed(self, store: Store) -> None:
        store.record(delivery()).result(PATIENCE)
        row = store.events()[0]
        assert row["ref"] == "refs/heads/main"
        assert (row["before"], row["after"], row["sender"]) == (SHA_C, SHA_A, "alice")
        assert row["changes"][0]["name"] == "main"
        assert row["received_at"].endswith("Z")

    def test_what_cannot_be_stored_fails_alone(self, store: Store) -> None:
        good = [store.record(delivery(f"d{n}", wish(sha(n)))) for n in range(1, 20)]
        lone_surrogate = replace(delivery("bad"), remote="\ud800")
        bad = store.record(lone_surrogate)
        good += [store.record(delivery(f"e{n}", wish(sha(n)))) for n in range(20, 40)]
        with pytest.raises(UnicodeEncodeError):
            bad.result(PATIENCE)
        assert {future.result(PATIENCE).status for future in good} == {"accepted"}
        assert len(store.events(limit=100)) == 39

    def test_counts_follow_what_is_stored(self, store: Store) -> None:
        for number in range(1, 6):
            store.record(delivery(f"d{number}", wish(sha(number)))).result(PATIENCE)
        store.record(delivery("d1")).result(PATIENCE)
        counts = store.counts()
        assert counts["events.accepted"] == 5
        assert counts["events.duplicate"] == 1
        assert (counts["deployments.superseded"], counts["deployments.pending"]) == (4, 1)


class RequestingContract:
    """Wishes of people, sweeps and the API."""

    def test_a_wish_becomes_a_pending_deployment(self, store: Store) -> None:
        requested = store.request(wish(trigger=Trigger.manual, requested_by="bob"))
        assert requested.deployment is not None
        row = store.deployment(requested.deployment.id)
        assert (row["status"], row["requested_by"], row["fraise_id"]) == ("pending", "bob", "orders")

    def test_an_unknown_environment_is_refused_and_the_known_ones_named(self, store: Store) -> None:
        with pytest.raises(NotFound, match="orders/production"):
            store.request(wish(environment=EnvironmentKey("apo", "production")))

    def test_what_is_no_longer_published_cannot_be_wished_for(self, store: Store) -> None:
        store.publish([factories.fraise()], digest="digest-2", documents={})
        with pytest.raises(NotFound):
            store.request(wish(environment=STAGING))
        assert store.published_digest() == "digest-2"

    def test_publishing_what_is_published_changes_nothing(self, store: Store) -> None:
        told = threading.Event()
        stop = store.subscribe(told.set)
        documents = {KEY: {"branch": "main", "port": 1.0}, STAGING: {}}
        store.publish(
            published(), digest="digest-1", documents=documents
        )  # another document, the same digest
        assert told.wait(PATIENCE)
        while told.is_set():
            told.clear()
            time.sleep(0.2)
        store.publish(published(), digest="digest-1", documents=documents)
        assert not told.wait(0.3)
        store.publish([factories.fraise()], digest="digest-1", documents={})
        assert told.wait(PATIENCE)
        stop()

    def test_whoever_looks_for_work_is_not_woken_by_steps_or_by_his_own_claims(self, store: Store) -> None:
        work, anything, runs = threading.Event(), threading.Event(), threading.Event()
        ends = [
            store.subscribe(runs.set, least=News.work),
            store.subscribe(work.set, least=News.claim),
            store.subscribe(anything.set),
        ]

        def quiet() -> None:
            while anything.is_set():
                anything.clear()
                time.sleep(0.2)
            work.clear()

        store.request(wish())
        assert work.wait(PATIENCE)
        quiet()
        runs.clear()
        claim = claimed(store)
        assert anything.wait(PATIENCE)  # who subscribed first was woken, or was not
        assert not work.is_set()
        attempt = store.begin_attempt(claim, resolved="{}")
        anything.clear()
        store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="")
        assert anything.wait(PATIENCE)
        assert not work.is_set()
        quiet()
        store.request(wish(SHA_B))
        assert work.wait(PATIENCE)
        quiet()
        assert not runs.is_set()  # a deployment that may begin is nothing to do for who performs runs
        store.request(wish(SHA_C, trigger=Trigger.manual, environment=STAGING, tip=""))
        assert runs.wait(PATIENCE)  # after a person's decision whoever sweeps is to look
        quiet()
        runs.clear()
        finished(store, claim)
        assert work.wait(PATIENCE)
        assert runs.wait(PATIENCE)
        for end in ends:
            end()

    def test_people_do_not_supersede_each_other(self, store: Store) -> None:
        first = store.request(wish(trigger=Trigger.manual))
        store.request(wish(SHA_B, trigger=Trigger.manual))
        assert first.deployment is not None
        assert status_of(store, first.deployment.id) == "pending"

    def test_a_newer_wish_supersedes_a_waiting_push_but_never_a_running_one(self, store: Store) -> None:
        store.request(wish(SHA_A))
        running = claimed(store).deployment
        waiting = store.request(wish(SHA_B)).deployment
        newest = store.request(wish(SHA_C, trigger=Trigger.manual))
        assert waiting is not None
        assert newest.superseded == (waiting.id,)
        assert status_of(store, running.id) == "running"

    def test_the_tip_that_was_decided_on_is_remembered_even_where_nothing_follows(self, store: Store) -> None:
        store.request(wish(SHA_A, tip=SHA_A))
        assert store.request(wish(SHA_A, tip=SHA_B)).deployment is None
        assert store.fraise_status(*_place())[0]["seen_tip"] == SHA_B

    def test_a_person_s_decision_keeps_the_last_tip_that_is_known_and_when_it_was(self, store: Store) -> None:
        named = wish(SHA_A, trigger=Trigger.manual, tip="")
        store.request(named)
        assert store.fraise_status(*_place())[0]["seen_tip"] == "?", "none was known"
        store.request(wish(SHA_B, tip=SHA_B))
        for _ in range(2):
            decided = store.request(named).deployment
            assert decided is not None
            seen = store.fraise_status(*_place())[0]["seen_tip"]
            assert seen == f"?{SHA_B}@{int(decided.requested_at)}"

    def test_a_rollback_stops_what_runs_before_it_migrates(self, store: Store) -> None:
        store.request(wish(SHA_A))
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="1-a")
        store.request(wish(SHA_B, trigger=Trigger.rollback, requested_by="bob", release="0-b"))
        assert store.cancel_requests("w1") == {claim.deployment.id: "bob"}

    def test_a_rollback_lets_a_deployment_that_migrates_end(self, store: Store) -> None:
        store.request(wish(SHA_A))
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.migrate, release="1-a")
        store.request(wish(SHA_B, trigger=Trigger.rollback, requested_by="bob"))
        assert store.cancel_requests("w1") == {}

    def test_cancelling_a_waiting_deployment_ends_it(self, store: Store) -> None:
        deployment = store.request(wish()).deployment
        assert deployment is not None
        assert store.cancel(deployment.id, by="bob").status is Status.cancelled
        row = store.deployment(deployment.id)
        assert (row["cause"], row["cancel_requested_by"]) == ("cancelled", "bob")
        with pytest.raises(Conflict):
            store.cancel(deployment.id, by="bob")

    def test_cancelling_a_running_deployment_asks_its_worker(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        assert store.cancel(claim.deployment.id, by="bob").status is Status.running
        assert store.cancel_requests("w1") == {claim.deployment.id: "bob"}
        assert store.cancel_requests("w2") == {}

    def test_cancelling_what_does_not_exist_is_refused(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.cancel("nothing", by="bob")


class ClaimContract:
    """One at a time per environment, and only for the newest token."""

    def test_a_claim_starts_the_deployment_and_raises_the_token(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        assert (claim.token, claim.deployment.status, claim.attempts) == (1, Status.running, 0)
        assert store.deployment(claim.deployment.id)["started_at"]

    def test_an_environment_has_one_worker_at_a_time(self, store: Store) -> None:
        store.request(wish(SHA_A))
        claimed(store)
        store.request(wish(SHA_B))
        assert store.claim("w2", lease=LEASE, environments=(KEY, STAGING)) is None

    def test_environments_do_not_wait_for_each_other(self, store: Store) -> None:
        store.request(wish())
        store.request(wish(environment=STAGING))
        assert claimed(store).environment != claimed(store, "w2").environment

    def test_only_the_environments_asked_for_are_claimed(self, store: Store) -> None:
        store.request(wish())
        assert store.claim("w1", lease=LEASE, environments=(STAGING,)) is None

    def test_nothing_is_claimed_by_another_configuration_than_the_published_one(self, store: Store) -> None:
        store.request(wish())
        assert store.claim("w1", lease=LEASE, environments=[KEY], digest="digest-0") is None
        assert store.token(KEY) == 0
        claim = store.claim("w1", lease=LEASE, environments=[KEY], digest="digest-1")
        assert claim is not None
        store.hand_back(claim)
        store.publish(published(), digest="digest-2", documents={})
        assert store.claim("w1", lease=LEASE, environments=[KEY], digest="digest-1") is None
        assert store.claim("w1", lease=LEASE, environments=[KEY]) is not None, "who names none may"

    def test_the_oldest_goes_first_and_a_rollback_before_all(self, store: Store) -> None:
        store.request(wish(SHA_A, trigger=Trigger.manual))
        store.request(wish(SHA_B, trigger=Trigger.manual))
        store.request(wish(SHA_C, trigger=Trigger.rollback))
        order = []
        for _ in range(3):
            claim = claimed(store)
            order.append(claim.deployment.commit)
            finished(store, claim)
        assert order == [SHA_C, SHA_A, SHA_B]

    def test_what_attempts_were_made_with_is_told_once_and_then_only_what_is_new(self, store: Store) -> None:
        assert store.resolved_since(0) == []
        made = (("a", KEY), ("a", KEY), ("b", STAGING), ("c", KEY))
        for number, (resolved, key) in enumerate(made, 1):
            store.request(wish(sha(number), environment=key))
            claim = claimed(store)
            store.finish(claim, store.begin_attempt(claim, resolved=resolved), Ending(status=Status.success))
        found = store.resolved_since(0)
        told = [(row["environment"], row["resolved"]) for row in found]
        assert told == [("production", "a"), ("staging", "b"), ("production", "c")]
        rest = store.resolved_since(found[1]["attempt_pk"])
        assert [row["resolved"] for row in rest] == ["c"]
        assert store.resolved_since(found[2]["attempt_pk"]) == []

    def test_a_lease_that_ended_is_taken_over_and_the_old_token_is_refused(
        self, store: Store, advance: Advance
    ) -> None:
        store.request(wish())
        old = claimed(store)
        attempt = store.begin_attempt(old, resolved="as it was")
        step = store.begin_step(old, attempt, phase=Phase.deploy, name=StepName.build, release="1-a")
        advance(LEASE + 1)
        new = claimed(store, "w2")
        assert (new.deployment.id, new.token) == (old.deployment.id, old.token + 1)
        assert (new.resolved, new.attempts) == ("as it was", 1)
        assert [each.id for each in new.journal] == [step]
        with pytest.raises(TokenOutdated):
            store.end_step(old, step, state=StepState.success, tail="")
        assert store.renew("w1", [old], lease=LEASE) == frozenset()

    def test_a_renewed_lease_holds(self, store: Store, advance: Advance) -> None:
        store.request(wish())
        claim = claimed(store)
        advance(LEASE - 1)
        assert list(store.renew("w1", [claim], lease=LEASE)) == [KEY]
        advance(LEASE - 1)
        assert store.claim("w2", lease=LEASE, environments=(KEY,)) is None

    def test_what_was_interrupted_goes_before_what_waits(self, store: Store, advance: Advance) -> None:
        store.request(wish(SHA_A, environment=STAGING, trigger=Trigger.manual))
        interrupted = claimed(store)
        store.request(wish(SHA_B, trigger=Trigger.rollback))
        advance(LEASE + 1)
        assert claimed(store, "w2").deployment.id == interrupted.deployment.id

    def test_a_worker_that_hands_back_is_followed_at_once(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        store.hand_back(claim)
        assert claimed(store, "w2").deployment.id == claim.deployment.id

    def test_a_worker_that_retires_gives_up_its_leases(self, store: Store) -> None:
        store.register_worker("w1", info={"host": "here", "pid": 7, "version": "1.0"})
        store.request(wish())
        claim = claimed(store)
        store.retire_worker("w1")
        assert claimed(store, "w2").deployment.id == claim.deployment.id
        assert store.live_workers() == []

    def test_a_worker_lives_until_it_gives_no_sign_of_life(self, store: Store, advance: Advance) -> None:
        store.register_worker("w1", info={"host": "here", "pid": 7, "version": "1.0"})
        store.renew("w1", [], lease=LEASE)
        (row,) = store.live_workers()
        assert (row["id"], row["host"], row["pid"], row["version"]) == ("w1", "here", 7, "1.0")
        advance(LEASE + 1)
        assert store.live_workers() == []

    def test_a_retry_waits_until_it_is_due(self, store: Store, advance: Advance) -> None:
        store.request(wish())
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        waiting = store.retry_later(claim, attempt, delay=60, cause=Cause.network, error="cannot fetch")
        assert (waiting.status, waiting.cause) == (Status.pending, Cause.network)
        assert store.claim("w1", lease=LEASE, environments=(KEY,)) is None
        due = store.next_due()
        assert due is not None
        assert 50 < due <= 60
        advance(61)
        again = claimed(store)
        assert (again.attempts, again.deployment.started_at) == (1, claim.deployment.started_at)

    def test_time_in_which_nobody_tried_is_not_counted_as_tried(self, store: Store, advance: Advance) -> None:
        first = self._retried(store, wish(SHA_A))
        advance(36_000)
        again = claimed(store)
        assert again.deployment.id == first.deployment.id
        store.begin_attempt(again, resolved="{}")
        advance(36_000)  # and its worker had died
        last = claimed(store)
        assert (last.attempts, last.interruptions) == (2, 1)
        assert last.tried_for < PATIENCE

    def test_a_newer_push_supersedes_a_deployment_that_waits_for_its_retry(self, store: Store) -> None:
        store.request(wish(SHA_A))
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        store.retry_later(claim, attempt, delay=60, cause=Cause.network, error="cannot fetch")
        assert store.request(wish(SHA_B)).superseded == (claim.deployment.id,)

    def test_a_retry_gives_way_to_a_push_that_came_meanwhile(self, store: Store) -> None:
        store.request(wish(SHA_A))
        claim = claimed(store)
        store.request(wish(SHA_B))
        attempt = store.begin_attempt(claim, resolved="{}")
        ended = store.retry_later(claim, attempt, delay=60, cause=Cause.network, error="cannot fetch")
        assert ended.status is Status.superseded
        assert claimed(store).deployment.commit == SHA_B

    def test_a_later_wish_does_not_overtake_what_waits_for_its_next_try(
        self, store: Store, advance: Advance
    ) -> None:
        first = self._retried(store, wish(SHA_A, trigger=Trigger.manual))
        pushed = store.request(wish(SHA_B)).deployment
        assert pushed is not None
        assert store.claim("w1", lease=LEASE, environments=(KEY,)) is None, "or the older one would win"
        advance(61)
        again = claimed(store)
        assert again.deployment.id == first.deployment.id
        finished(store, again)
        assert claimed(store).deployment.id == pushed.id

    def test_the_way_back_and_who_insists_do_overtake_it(self, store: Store) -> None:
        self._retried(store, wish(SHA_A, trigger=Trigger.manual))
        insists = wish(SHA_B, trigger=Trigger.manual, force=True)
        for overtaking in (wish(SHA_C, trigger=Trigger.rollback, release="0-c"), insists):
            asked = store.request(overtaking).deployment
            claim = claimed(store)
            assert asked is not None
            assert claim.deployment.id == asked.id
            finished(store, claim)

    def test_a_retry_does_not_give_way_to_an_older_wish(self, store: Store) -> None:
        self._retried(store, wish(SHA_A, trigger=Trigger.manual))
        ended = self._retried(store, wish(SHA_B, trigger=Trigger.api, force=True))
        assert status_of(store, ended.deployment.id) == "pending"

    @staticmethod
    def _retried(store: Store, wanted: Wish) -> Claim:
        asked = store.request(wanted).deployment
        claim = claimed(store)
        assert asked is not None
        assert claim.deployment.id == asked.id
        attempt = store.begin_attempt(claim, resolved="{}")
        store.retry_later(claim, attempt, delay=60, cause=Cause.network, error="cannot fetch")
        return claim

    def test_a_retry_of_what_was_cancelled_ends_it(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        store.cancel(claim.deployment.id, by="bob")
        ended = store.retry_later(claim, attempt, delay=60, cause=Cause.network, error="cannot fetch")
        assert ended.status is Status.cancelled

    def test_a_raised_token_is_over_the_stores_own_and_the_hosts(self, store: Store) -> None:
        store.request(wish())
        own = claimed(store)
        finished(store, own)
        above_own = store.raise_token(KEY, above=0, by="alice")
        assert above_own > own.token
        above_host = store.raise_token(KEY, above=700, by="alice")
        assert above_host > 700
        store.request(wish(SHA_B))
        assert claimed(store).token > above_host

    def test_a_raised_token_outdates_every_claim_before_it(self, store: Store) -> None:
        store.request(wish())
        old = claimed(store)
        attempt = store.begin_attempt(old, resolved="{}")
        store.hand_back(old)
        store.raise_token(KEY, above=0, by="alice")
        with pytest.raises(TokenOutdated):
            store.finish(old, attempt, Ending(status=Status.success))

    def test_the_token_of_another_environment_stays_when_one_is_raised(self, store: Store) -> None:
        store.request(wish())
        store.raise_token(STAGING, above=700, by="alice")
        assert claimed(store).token < 700

    def test_no_token_is_raised_while_a_worker_holds_the_environment(
        self, store: Store, advance: Advance
    ) -> None:
        store.request(wish())
        holder = claimed(store)
        with pytest.raises(Conflict, match=holder.worker):
            store.raise_token(KEY, above=0, by="alice")
        store.begin_attempt(holder, resolved="{}")  # and its token is still good
        advance(LEASE + 1)
        assert store.raise_token(KEY, above=0, by="alice") > holder.token

    def test_no_token_is_raised_for_an_environment_that_is_not_known(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.raise_token(EnvironmentKey("orders", "nowhere"), above=0, by="alice")

    def test_next_due_tells_when_a_lease_ends_that_something_waits_for(self, store: Store) -> None:
        assert store.next_due() is None
        store.request(wish())
        claimed(store)
        due = store.next_due()
        assert due is not None
        assert 0 < due <= LEASE


class JournalContract:
    """Attempts, steps, output, and the end of a deployment."""

    def test_a_success_is_what_the_environment_runs(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        store.set_release(claim, release="1-aaaa", previous="")
        finished(store, claim, serving=Serving(release="1-aaaa", commit=SHA_A, healthy=True))
        row = store.fraise_status(*_place())[0]
        assert (row["status"], row["current_release"], row["current_commit"]) == ("success", "1-aaaa", SHA_A)
        assert row["current_deployment_id"] == claim.deployment.id
        assert row["healthy"] is True
        assert row["last_deployed"]
        assert row["lease_worker"] is None
        history = store.deployment(claim.deployment.id)
        assert history["release"] == "1-aaaa"
        assert history["duration_seconds"] >= 0

    def test_a_quarantined_commit_is_not_asked_for_again_by_itself(self, store: Store) -> None:
        store.request(wish(SHA_A))
        finished(
            store, claimed(store), Status.failed, cause=Cause.build, error="cannot build", quarantine=True
        )
        store.request(wish(SHA_B))
        again = store.record(delivery("d1", wish(SHA_A))).result(PATIENCE)
        assert (again.status, again.reason) == ("ignored", "quarantined")
        assert store.fraise_status(*_place())[0]["quarantined_commits"] == [SHA_A]

    def test_force_lifts_the_quarantine(self, store: Store) -> None:
        store.request(wish(SHA_A))
        finished(
            store, claimed(store), Status.failed, cause=Cause.build, error="cannot build", quarantine=True
        )
        store.request(wish(SHA_A, trigger=Trigger.manual, force=True))
        assert store.fraise_status(*_place())[0]["quarantined_commits"] == []

    def test_a_refused_force_push_is_not_asked_for_again(self, store: Store) -> None:
        store.request(wish(SHA_A))
        finished(store, claimed(store), Status.failed, cause=Cause.force_push_refused, error="cannot")
        store.request(wish(SHA_B))
        assert store.request(wish(SHA_A)).reason == "refused"

    def test_a_failure_before_the_switch_leaves_what_runs(self, store: Store) -> None:
        store.request(wish(SHA_A))
        finished(store, claimed(store), serving=Serving(release="1-a", commit=SHA_A, healthy=True))
        store.request(wish(SHA_B))
        finished(store, claimed(store), Status.failed, cause=Cause.build, error="cannot build")
        row = store.fraise_status(*_place())[0]
        assert (row["status"], row["current_release"]) == ("failed", "1-a")

    def test_a_step_is_journaled_before_and_after(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.fetch, release="")
        assert store.steps(claim.deployment.id)[0]["state"] == "running"
        failure = StepFailed(Cause.network, "cannot fetch", "See the network")
        store.end_step(claim, step, state=StepState.failed, tail="last words", failure=failure)
        (row,) = store.steps(claim.deployment.id)
        assert (row["step"], row["state"], row["tail"]) == ("fetch", "failed", "last words")
        assert (row["cause"], row["hint"], row["error"]) == ("network", "See the network", "cannot fetch")
        with pytest.raises(Conflict):
            store.end_step(claim, step, state=StepState.success, tail="")

    def test_an_attempt_can_begin_together_with_its_first_step(self, store: Store, advance: Advance) -> None:
        store.request(wish())
        old = claimed(store)
        first = {"phase": Phase.deploy, "name": StepName.preflight, "release": "1-a"}
        attempt, step = store.begin_with_step(old, resolved="as it is", **first)
        (row,) = store.steps(old.deployment.id)
        assert (row["id"], row["attempt"], row["step"], row["host"]) == (step, attempt, "preflight", "")
        assert (attempt, row["state"], row["phase"], row["release"]) == (1, "running", "deploy", "1-a")
        assert store.resolved(old.deployment.id) == "as it is"
        advance(LEASE + 1)
        claim = claimed(store, "w2")
        with pytest.raises(TokenOutdated):
            store.begin_with_step(old, resolved="too late", **first)
        assert store.begin_with_step(claim, resolved="again", **first)[0] == 2
        assert [row["state"] for row in store.steps(old.deployment.id)] == ["interrupted", "running"]
        assert store.resolved(old.deployment.id) == "again"

    def test_another_try_closes_what_was_left_before_it_too(self, store: Store, advance: Advance) -> None:
        store.request(wish())
        for outcome in ("interrupted", "retry", "interrupted"):
            claim = claimed(store)
            attempt = store.begin_attempt(claim, resolved="{}")
            store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="1-a")
            if outcome == "retry":
                store.retry_later(claim, attempt, delay=1, cause=Cause.disk, error="full")
            else:
                store.hand_back(claim)
            advance(2)
        again = claimed(store)
        assert [each.retried for each in again.journal] == [True, True, False]
        assert (again.attempts, again.interruptions) == (3, 2)

    def test_who_takes_over_knows_why_a_step_failed(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        for failure in (None, StepFailed(Cause.disk, "cannot build", "Make room")):
            step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="1-a")
            state = StepState.failed if failure else StepState.success
            store.end_step(claim, step, state=state, tail="", failure=failure)
        store.hand_back(claim)
        known = [(each.cause, each.error, each.hint) for each in claimed(store).journal]
        assert known == [(None, "", ""), (Cause.disk, "cannot build", "Make room")]

    def test_what_an_attempt_left_running_was_interrupted(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        first = store.begin_attempt(claim, resolved="{}")
        store.begin_step(claim, first, phase=Phase.deploy, name=StepName.build, release="1-a")
        store.hand_back(claim)
        again = claimed(store)
        assert store.begin_attempt(again, resolved="{}") == first + 1
        assert store.steps(claim.deployment.id)[0]["state"] == "interrupted"
        assert store.deployment(claim.deployment.id)["attempts"] == 2

    def test_what_dead_workers_left_is_interrupted_before_anybody_resumes_it(self, store: Store) -> None:
        asked = [store.request(wish(environment=key)).deployment for key in (KEY, STAGING)]
        left, held = claimed(store, "w1", KEY), claimed(store, "w2", STAGING)
        for claim in (left, held):
            attempt = store.begin_attempt(claim, resolved="{}")
            store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="1-a")
        store.hand_back(left)
        assert (store.interrupt_left(), store.interrupt_left()) == (1, 0)
        states = [store.steps(each.id)[0]["state"] for each in asked if each]
        assert states == ["interrupted", "running"]
        assert status_of(store, left.deployment.id) == "running"
        again = claimed(store, "w3", KEY)
        assert (again.token, again.attempts, again.interruptions) == (left.token + 2, 1, 1)
        with pytest.raises(TokenOutdated):
            store.begin_attempt(left, resolved="{}")

    def test_a_commit_is_pinned_once(self, store: Store) -> None:
        store.request(wish(commit="", tip="", trigger=Trigger.manual))
        claim = claimed(store)
        store.pin(claim, commit=SHA_A, seen_tip=SHA_A)
        store.pin(claim, commit=SHA_A)
        with pytest.raises(Conflict):
            store.pin(claim, commit=SHA_B)
        assert store.deployment(claim.deployment.id)["commit"] == SHA_A
        assert store.fraise_status(*_place())[0]["seen_tip"] == SHA_A

    def test_release_numbers_are_given_out_once(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        assert [store.next_release_number(claim) for _ in range(3)] == [1, 2, 3]

    def test_output_is_read_in_order_and_from_where_one_was(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="")
        for line in ("one\n", "two\n", "three\n"):
            store.write_output(claim, step, line)
        pieces = store.output(claim.deployment.id)
        assert [piece.text for piece in pieces] == ["one\n", "two\n", "three\n"]
        assert {(piece.step, piece.phase, piece.attempt) for piece in pieces} == {
            ("build", "deploy", attempt)
        }
        rest = store.output(claim.deployment.id, after=pieces[0].seq, limit=1)
        assert [piece.text for piece in rest] == ["two\n"]

    def test_output_is_bounded_with_both_ends_kept(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="")
        store.write_output(claim, step, "first line\n")
        for _ in range(20):
            store.write_output(claim, step, "x" * 100_000)
        store.write_output(claim, step, "last line\n")
        text = "".join(piece.text for piece in store.output(claim.deployment.id))
        assert len(text) < 600_000
        assert text.startswith("first line\n")
        assert text.endswith("last line\n")
        assert "bytes of output were not kept" in text

    def test_pruning_drops_output_and_payloads_but_no_history(self, store: Store, advance: Advance) -> None:
        store.record(delivery()).result(PATIENCE)
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        step = store.begin_step(claim, attempt, phase=Phase.deploy, name=StepName.build, release="")
        store.write_output(claim, step, "words\n")
        assert store.prune(retention=3600) == {"payloads": 0, "output": 0}
        advance(3601)
        assert store.prune(retention=3600) == {"payloads": 1, "output": 1}
        assert store.prune(retention=3600) == {"payloads": 0, "output": 0}
        assert len(store.history()) == len(store.events()) == len(store.steps(claim.deployment.id)) == 1


class ReadingContract:
    """The views."""

    def test_history_is_newest_first_and_filters(self, store: Store) -> None:
        for number in range(1, 6):
            store.request(wish(sha(number)))
        store.request(wish(SHA_A, environment=STAGING))
        assert [row["environment"] for row in store.history(limit=2)] == ["staging", "production"]
        assert len(store.history("orders")) == 6
        assert len(store.history("orders", "production")) == 5
        assert len(store.history("", "staging")) == 1
        assert len(store.history(status="superseded")) == 4
        assert store.history("orders", "staging", status="superseded") == []
        commits = [row["commit"] for row in store.history("orders", "production", limit=2, offset=1)]
        assert commits == [sha(4), sha(3)]

    def test_a_deployment_is_found_by_the_beginning_of_its_id(self, store: Store) -> None:
        deployment = store.request(wish()).deployment
        assert deployment is not None
        assert store.deployment(deployment.id[:8])["id"] == deployment.id
        with pytest.raises(NotFound):
            store.deployment("nothing")
        with pytest.raises(NotFound):
            store.deployment("")

    def test_a_beginning_that_fits_several_is_refused(self, store: Store) -> None:
        ids = [store.request(wish(sha(n), trigger=Trigger.manual)).deployment for n in range(1, 18)]
        firsts = [each.id[0] for each in ids if each]
        common = max(firsts, key=firsts.count)  # 17 ids, 16 digits: two begin alike
        with pytest.raises(NotFound, match="more than one"):
            store.deployment(common)

    def test_status_has_a_row_for_each_environment_even_if_nothing_was_deployed(self, store: Store) -> None:
        rows = store.fraise_status()
        assert [(row["fraise_id"], row["environment"]) for row in rows] == [
            ("orders", "production"),
            ("orders", "staging"),
        ]
        assert {row["status"] for row in rows} == {None}
        assert {row["pending"] for row in rows} == {0}

    def test_stats_tell_how_deployments_ended(self, store: Store) -> None:
        for number, status in enumerate([Status.success, Status.success, Status.failed, Status.rolled_back]):
            store.request(wish(sha(number + 1)))
            finished(store, claimed(store), status)
        store.request(wish(SHA_A))
        (row,) = store.stats("orders", "production")
        assert (row["total"], row["succeeded"], row["failed"], row["rolled_back"]) == (5, 2, 1, 1)
        assert row["success_rate"] == pytest.approx(0.5)
        assert row["average_duration_seconds"] >= 0
        assert row["last_deployed"]

    def test_fraises_are_listed_with_their_environments(self, store: Store) -> None:
        (row,) = store.fraises()
        assert (row["fraise_id"], row["type"]) == ("orders", "api")
        assert row["environments"] == ["production", "staging"]

    def test_the_store_can_be_written(self, store: Store) -> None:
        store.ping()
        store.audit(actor="bob", action="look", subject="orders", detail={"why": "test"})


class HostsContract:
    """Where the hosts of an environment stand."""

    def test_an_environment_with_one_host_has_one_row_of_what_it_runs(self, store: Store) -> None:
        on_hosts(store, "localhost")
        assert [(row["host"], row["state"]) for row in store.hosts("orders", "production")] == [
            ("localhost", "unknown")
        ]
        store.request(wish())
        serving = Serving(release="1-a", commit=SHA_A, healthy=True)
        finished(store, claimed(store), serving=serving)
        (row,) = store.hosts("orders", "production")
        assert (row["host"], row["state"], row["commit"], row["healthy"]) == (
            "localhost",
            "current",
            SHA_A,
            True,
        )

    def test_every_configured_host_is_named_in_the_order_of_the_file(self, store: Store) -> None:
        on_hosts(store, "web2", "web1")
        assert [(row["host"], row["state"], row["release"]) for row in store.hosts()] == [
            ("web2", "unknown", ""),
            ("web1", "unknown", ""),
        ]
        on_hosts(store, "web3", "web2")
        assert [row["host"] for row in store.hosts("orders")] == ["web3", "web2"]

    def test_where_a_host_stands_is_kept_until_it_stands_elsewhere(self, store: Store) -> None:
        on_hosts(store, "web1", "web2")
        store.request(wish())
        claim = claimed(store)
        first = Standing(
            host="web1",
            state=HostState.unreachable,
            release="1-aaaaaaaaaa",
            commit=SHA_A,
            previous="0-bbbbbbbbbb",
            previous_commit=SHA_B,
            deployment=claim.deployment.id,
            touched=True,
            unfinished=True,
            cause=Cause.network,
            detail="no route to host",
        )
        store.note_hosts(claim, [first])
        known = {each.host: each for each in store.standings(KEY)}
        assert known == {"web1": first, "web2": Standing(host="web2")}
        web1, _ = store.hosts()
        told = {name: web1[name] for name in ("state", "release", "commit", "healthy", "cause", "detail")}
        assert told == {
            "state": "unreachable",
            "release": "1-aaaaaaaaaa",
            "commit": SHA_A,
            "healthy": None,
            "cause": "network",
            "detail": "no route to host",
        }
        assert (web1["deployment_id"], web1["fraise_id"]) == (claim.deployment.id, "orders")
        store.note_hosts(claim, [replace(first, detail="still no route")])
        assert store.hosts()[0]["since"] == web1["since"]
        store.note_hosts(claim, [replace(first, state=HostState.current)])
        assert store.hosts()[0]["since"] > web1["since"]

    def test_the_end_of_a_deployment_says_where_its_hosts_stand(self, store: Store) -> None:
        on_hosts(store, "web1", "web2")
        store.request(wish())
        claim = claimed(store)
        standings = tuple(Standing(host=name, state=HostState.current) for name in ("web1", "web2"))
        serving = Serving(release="1-a", commit=SHA_A, healthy=True)
        ending = Ending(status=Status.success, serving=serving, hosts=standings)
        store.finish(claim, store.begin_attempt(claim, resolved="{}"), ending)
        assert [row["state"] for row in store.hosts()] == ["current", "current"]

    def test_who_was_replaced_says_nothing_of_hosts(self, store: Store, advance: Advance) -> None:
        store.request(wish())
        claim = claimed(store)
        advance(2 * LEASE)
        claimed(store, "w2")
        with pytest.raises(TokenOutdated):
            store.note_hosts(claim, [Standing(host="web1", state=HostState.current)])

    def test_a_step_knows_its_host(self, store: Store) -> None:
        store.request(wish())
        claim = claimed(store)
        attempt = store.begin_attempt(claim, resolved="{}")
        for host in ("", "web1"):
            step = store.begin_step(
                claim, attempt, phase=Phase.deploy, name=StepName.build, release="1-a", host=host
            )
            store.write_output(claim, step, "building")
            store.end_step(claim, step, state=StepState.success, tail="")
        assert [step["host"] for step in store.steps(claim.deployment.id)] == ["", "web1"]
        assert [piece.host for piece in store.output(claim.deployment.id)] == ["", "web1"]

    def test_hosts_are_healed_where_nothing_else_waits(self, store: Store) -> None:
        heal = wish("", trigger=Trigger.heal, tip="")
        store.request(wish())
        assert store.request(heal).reason == "busy"
        claim = claimed(store)
        assert store.request(heal).reason == "busy"
        finished(store, claim)
        before = store.fraise_status("orders", "production")[0]
        assert store.request(heal).deployment is not None
        assert store.request(heal).reason == "busy"
        claim = claimed(store)
        serving = Serving(release=before["current_release"], commit=SHA_A, healthy=True)
        store.finish(
            claim, store.begin_attempt(claim, resolved="{}"), Ending(status=Status.success, serving=serving)
        )
        after = store.fraise_status("orders", "production")[0]
        for name in ("current_release", "current_deployment_id", "last_deployed", "seen_tip"):
            assert after[name] == before[name], name


def on_hosts(store: Store, *hosts: str) -> None:
    """Publish production on these hosts."""
    environment = factories.environment(hosts=hosts)
    store.publish(
        [factories.fraise(environment)], digest=" ".join(hosts), documents={KEY: {"hosts": list(hosts)}}
    )


def _place() -> tuple[str, str]:
    return KEY.fraise, KEY.environment
