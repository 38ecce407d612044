"""What every store promises of runs: one door, one worker for each, no time used twice, nothing forgotten.

Used like `store_contract`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fraisier.application.ports import LEFT, Newest, Row, RunClaim, Serving, Store
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Cause, Conflict, NotFound, TokenOutdated
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.job import JobKind
from fraisier.domain.run import Alert, AlertKind, Reported, RunEnding, RunStatus, RunTrigger, RunWish
from tests import factories
from tests.factories import KEY
from tests.unit.store_contract import LEASE, PATIENCE, STAGING, Advance, claimed, finished, wish

DUE = 1_800_000_000.0
GOOD = RunEnding(status=RunStatus.success, exit_code=0)
BAD = RunEnding(status=RunStatus.failed, cause=Cause.run, error="exit code 3", exit_code=3)


def run_wish(**changes: Any) -> RunWish:
    return replace(RunWish(environment=KEY, job="main", requested_by="anna"), **changes)


def asked(store: Store, **changes: Any) -> Row:
    row = store.request_run(run_wish(**changes))
    assert row is not None
    return row


def register(store: Store, *workers: str) -> None:
    for number, worker in enumerate(workers):
        store.register_worker(worker, info={"host": "here", "pid": 4_000_000 + number})


def take(store: Store, worker: str = "w1", **changes: Any) -> RunClaim | None:
    return store.claim_run(worker, **{"environments": (KEY, STAGING), **changes})


def taken(store: Store, worker: str = "w1", **changes: Any) -> RunClaim:
    claim = take(store, worker, **changes)
    assert claim is not None
    return claim


def status(store: Store, run: str) -> str:
    return str(store.run(run)["status"])


def alert(**changes: Any) -> Alert:
    base = Alert(environment=KEY, job="main", kind=AlertKind.missed, message="it has not begun", hint="look")
    return replace(base, **changes)


class _WithWorkers:
    @pytest.fixture(autouse=True)
    def _living(self, store: Store) -> None:
        register(store, "w1", "w2")


class RunContract(_WithWorkers):
    """Asking, performing, ending."""

    def test_a_run_goes_from_the_wish_to_its_end(self, store: Store) -> None:
        row = asked(store, parameters={"day": "2026-11-23'; rm -rf /"})
        assert (row["fraise_id"], row["environment"], row["job"]) == ("orders", "production", "main")
        assert (row["kind"], row["trigger"], row["status"]) == ("command", "manual", "pending")
        assert row["requested_at"].endswith("Z")
        claim = taken(store)
        assert (claim.id, claim.attempt, claim.interrupted, claim.slot) == (row["id"], 1, False, 0)
        assert claim.parameters == {"day": "2026-11-23'; rm -rf /"}
        assert status(store, claim.id) == "running"
        assert [each["id"] for each in store.active_runs(KEY)] == [claim.id]
        store.write_run_output(claim, "one\n")
        store.write_run_output(claim, "two\n")
        ending = replace(GOOD, peak_memory=5_000_000, artefacts=("/a/x.csv",), detail={"rows": 3})
        ended = store.finish_run(claim, ending)
        assert (ended["status"], ended["exit_code"], ended["peak_memory_bytes"]) == ("success", 0, 5_000_000)
        assert (ended["artefacts"], ended["detail"]) == (["/a/x.csv"], {"rows": 3})
        assert ended["parameters"] == claim.parameters
        assert ended["duration_seconds"] >= 0
        assert ended["ended_at"] >= ended["started_at"] >= ended["requested_at"]
        pieces = store.run_output(claim.id)
        assert [text for _, text in pieces] == ["one\n", "two\n"]
        assert [text for _, text in store.run_output(claim.id, after=pieces[0][0])] == ["two\n"]
        assert store.run_output("nonsense") == []
        assert store.active_runs(KEY) == []
        assert store.counts()["runs.success"] == 1

    def test_how_a_failure_came_about_is_told(self, store: Store) -> None:
        asked(store)
        ended = store.finish_run(taken(store), replace(BAD, hint="look at its output"))
        assert (ended["status"], ended["cause"], ended["exit_code"]) == ("failed", "run", 3)
        assert (ended["error_message"], ended["hint"]) == ("exit code 3", "look at its output")

    def test_runs_of_what_is_not_published_are_refused(self, store: Store) -> None:
        nowhere = EnvironmentKey("orders", "moon")
        with pytest.raises(NotFound):
            store.request_run(run_wish(environment=nowhere))
        with pytest.raises(NotFound):
            store.raise_alert(alert(environment=nowhere))

    def test_a_run_has_the_release_that_its_environment_runs(self, store: Store) -> None:
        store.request(wish())
        serving = Serving(release="7-aaaaaaaaaa", commit=factories.SHA_A, healthy=True)
        finished(store, claimed(store), serving=serving)
        asked(store)
        claim = taken(store)
        assert (claim.release, claim.commit) == ("7-aaaaaaaaaa", factories.SHA_A)
        assert store.run(claim.id)["release"] == "7-aaaaaaaaaa"

    def test_one_more_than_concurrency_is_refused_or_skipped(self, store: Store) -> None:
        asked(store)
        with pytest.raises(Conflict, match="another run"):
            store.request_run(run_wish())
        skipped = asked(store, trigger=RunTrigger.scheduled, due=DUE)
        assert skipped["status"] == "skipped"
        assert skipped["error_message"]
        assert asked(store, job="other")["status"] == "pending"
        assert asked(store, environment=STAGING)["status"] == "pending"
        claim = taken(store)
        with pytest.raises(Conflict):
            store.request_run(run_wish())
        store.finish_run(claim, GOOD)
        assert asked(store)["status"] == "pending"

    def test_as_many_as_concurrency_are_under_way_each_in_a_slot_of_its_own(self, store: Store) -> None:
        for _ in range(2):
            asked(store, concurrency=2)
        with pytest.raises(Conflict):
            store.request_run(run_wish(concurrency=2))
        first, second = taken(store), taken(store, "w2")
        assert (first.slot, second.slot) == (0, 1)
        store.finish_run(first, GOOD)
        asked(store, concurrency=2)
        assert taken(store).slot == 0
        assert first.token < second.token

    def test_nothing_is_backed_up_while_it_is_replaced(self, store: Store) -> None:
        for kind in (JobKind.restore, JobKind.backup, JobKind.verify, JobKind.prune):
            asked(store, job=kind.value, kind=kind)
        asked(store, job="restore", kind=JobKind.restore, environment=STAGING)
        first, *others = (taken(store) for _ in range(4))
        found = [(claim.environment, claim.job) for claim in (first, *others)]
        assert found == [(KEY, "restore"), (KEY, "verify"), (KEY, "prune"), (STAGING, "restore")]
        assert take(store) is None
        store.finish_run(first, GOOD)
        assert taken(store).job == "backup"
        asked(store, job="restore", kind=JobKind.restore)
        assert take(store) is None

    def test_who_waits_alone_for_a_backup_takes_over_what_a_dead_worker_left_of_it(
        self, store: Store
    ) -> None:
        asked(store, job="backup", kind=JobKind.backup)
        left = taken(store)
        wanted = asked(store, job="restore", kind=JobKind.restore)
        assert take(store, "w2", only=wanted["id"]) is None
        store.retire_worker("w1")
        over = take(store, "w2", only=wanted["id"])
        assert over is not None
        assert (over.id, over.job) == (left.id, "backup")
        store.finish_run(over, BAD)
        own = take(store, "w2", only=wanted["id"])
        assert own is not None
        assert own.id == wanted["id"]

    def test_a_time_of_a_schedule_is_used_once(self, store: Store) -> None:
        row = asked(store, trigger=RunTrigger.scheduled, due=DUE)
        assert row["due"] == "2027-01-15T08:00:00.000000Z"
        assert store.request_run(run_wish(trigger=RunTrigger.scheduled, due=DUE)) is None
        assert store.note_missed(run_wish(due=DUE), why="nobody was there") is None
        missed = store.note_missed(run_wish(due=DUE + 60), why="nobody was there")
        assert missed is not None
        assert (missed["status"], missed["error_message"]) == ("missed", "nobody was there")
        assert store.request_run(run_wish(due=DUE + 60)) is None
        assert store.request_run(run_wish(due=DUE, job="other")) is not None

    def test_of_many_that_ask_for_the_same_time_one_is_heard(self, store: Store) -> None:
        rows = together(lambda: store.request_run(run_wish(due=DUE, trigger=RunTrigger.scheduled)), 6)
        assert len([row for row in rows if row is not None]) == 1

    def test_of_two_workers_one_gets_the_run(self, store: Store) -> None:
        for _ in range(5):
            asked(store)
            claims = [claim for claim in together(lambda: take(store), 4) if claim is not None]
            assert len(claims) == 1
            store.finish_run(claims[0], GOOD)

    def test_a_try_that_waits_begins_when_its_time_has_come(self, store: Store) -> None:
        asked(store, not_before=time.time() + 600)
        assert take(store) is None
        due = store.next_run_due()
        assert due is not None
        assert 590 < due <= 601
        later = asked(store, job="other", not_before=time.time() - 5)
        assert taken(store).id == later["id"]

    def test_nothing_waits_where_nothing_was_asked_for(self, store: Store) -> None:
        assert store.next_run_due() is None
        asked(store)
        assert store.next_run_due() is None, "what may begin now is claimed, not waited for"

    def test_a_run_whose_worker_dies_is_looked_for_as_soon_as_it_may_be_dead(
        self, store: Store, advance: Advance
    ) -> None:
        asked(store)
        store.renew("w1", [], lease=LEASE)
        taken(store, "w1")
        due = store.next_run_due()
        assert due is not None
        assert 0 < due <= LEASE
        advance(LEASE * 3)
        assert store.next_run_due() is None, "it is left, and may be claimed"

    def test_who_may_be_dead_by_its_last_sign_of_life_takes_nothing_before_another(
        self, store: Store, advance: Advance
    ) -> None:
        """Another worker would end at once what it has taken."""
        store.renew("w1", [], lease=LEASE)
        advance(LEASE * 3)
        asked(store)
        assert take(store, "w1") is None
        store.renew("w1", [], lease=LEASE)
        assert take(store, "w1") is not None

    def test_the_next_try_is_stored_with_the_end_of_the_one_before(self, store: Store) -> None:
        first = asked(store, trigger=RunTrigger.scheduled, due=DUE)
        again = run_wish(trigger=RunTrigger.retry, attempt=2, retry_of=first["id"], due=DUE)
        store.finish_run(taken(store), replace(BAD, again=again))
        second = taken(store)
        assert (second.attempt, second.retry_of, second.trigger) == (2, first["id"], RunTrigger.retry)
        assert store.run(second.id)["retry_of"] == first["id"]
        assert second.due == DUE

    def test_what_somebody_called_off_is_not_tried_again(self, store: Store) -> None:
        asked(store)
        claim = taken(store)
        store.cancel_run(claim.id, by="bert")
        store.finish_run(claim, replace(BAD, again=run_wish(attempt=2, retry_of=claim.id)))
        assert take(store) is None

    def test_what_depends_on_a_run_is_stored_with_its_end(self, store: Store) -> None:
        asked(store)
        then = (
            run_wish(job="after", trigger=RunTrigger.dependency),
            run_wish(job="after", trigger=RunTrigger.dependency),
        )
        store.finish_run(taken(store), replace(GOOD, then=then))
        assert [row["status"] for row in store.runs(job="after")] == ["skipped", "pending"]

    def test_one_that_waits_is_cancelled_at_once(self, store: Store) -> None:
        row = asked(store)
        cancelled = store.cancel_run(row["id"], by="bert")
        assert (cancelled["status"], cancelled["cause"]) == ("cancelled", "cancelled")
        assert "bert" in cancelled["error_message"]
        assert cancelled["started_at"] is None
        assert take(store) is None
        with pytest.raises(Conflict, match="has ended"):
            store.cancel_run(row["id"], by="bert")
        for unknown in ("nonsense", "00000000-0000-4000-a000-000000000000"):
            with pytest.raises(NotFound):
                store.cancel_run(unknown, by="bert")

    def test_the_worker_of_one_that_is_under_way_is_asked(self, store: Store) -> None:
        asked(store)
        claim = taken(store)
        assert store.run_cancel_requests("w1") == {}
        assert store.cancel_run(claim.id, by="bert")["status"] == "running"
        assert store.run_cancel_requests("w1") == {claim.id: "bert"}
        assert store.run_cancel_requests("w2") == {}
        store.finish_run(claim, RunEnding(status=RunStatus.cancelled, cause=Cause.cancelled))
        assert store.run_cancel_requests("w1") == {}

    def test_what_a_dead_worker_left_is_taken_over_to_be_ended(self, store: Store, advance: Advance) -> None:
        asked(store)
        begun = taken(store, "w1")
        assert take(store, "w2") is None, "its worker lives"
        advance(LEASE * 3)
        store.renew("w2", [], lease=LEASE)
        again = taken(store, "w2")
        assert (again.id, again.interrupted, again.slot) == (begun.id, True, begun.slot)
        assert again.token > begun.token
        assert store.lost_runs([begun, again]) == {begun.id}
        with pytest.raises(TokenOutdated):
            store.write_run_output(begun, "I am still here")
        with pytest.raises(TokenOutdated):
            store.finish_run(begun, GOOD)
        store.finish_run(again, replace(BAD, cause=Cause.interrupted))
        assert status(store, begun.id) == "failed"

    def test_who_takes_over_and_dies_is_taken_over(self, store: Store, advance: Advance) -> None:
        asked(store)
        taken(store, "w1")
        store.retire_worker("w1")
        second = taken(store, "w2")
        store.retire_worker("w2")
        register(store, "w3")
        third = taken(store, "w3")
        assert (third.id, third.interrupted) == (second.id, True)

    def test_what_a_worker_has_let_go_of_comes_back_to_be_ended(self, store: Store) -> None:
        """The store was away for so long that it gave up; then it goes on living."""
        asked(store)
        begun = taken(store, performing=())
        assert take(store, performing=(begun.id,)) is None
        assert take(store, "w2", performing=()) is None, "only its worker knows"
        again = taken(store, performing=())
        assert (again.id, again.interrupted, again.token > begun.token) == (begun.id, True, True)
        with pytest.raises(TokenOutdated):
            store.finish_run(begun, GOOD)

    def test_the_token_of_runs_is_raised_over_whatever_a_host_has(self, store: Store) -> None:
        assert store.raise_run_token(KEY, above=41) == 42
        assert store.raise_run_token(KEY, above=7) == 43
        asked(store)
        assert taken(store).token == 44
        with pytest.raises(NotFound):
            store.raise_run_token(EnvironmentKey("orders", "moon"), above=1)

    def test_a_run_that_has_ended_is_nobodys(self, store: Store) -> None:
        asked(store)
        claim = taken(store)
        assert store.lost_runs([claim]) == frozenset()
        store.finish_run(claim, GOOD)
        assert store.lost_runs([claim]) == {claim.id}
        with pytest.raises(TokenOutdated):
            store.finish_run(claim, BAD)
        assert status(store, claim.id) == "success"

    def test_only_one_run_is_taken_where_only_one_is_wanted(self, store: Store) -> None:
        other = asked(store, job="other")
        row = asked(store)
        assert taken(store, only=row["id"]).id == row["id"]
        assert take(store, only=row["id"]) is None
        assert status(store, other["id"]) == "pending"
        assert take(store, "w2", only=LEFT) is None
        store.retire_worker("w1")
        assert taken(store, "w2", only=LEFT).id == row["id"], "what a deployment may wait for has to end"

    def test_labels_bind_runs_as_they_bind_deployments(self, store: Store, advance: Advance) -> None:
        labelled = factories.environment(labels=("gpu",))
        store.publish([factories.fraise(labelled)], digest="d2", documents={})
        asked(store)
        assert take(store, labels=()) is None
        assert take(store, labels=("other",)) is None
        claim = taken(store, labels=("gpu", "other"))
        store.publish([factories.fraise()], digest="d3", documents={})
        store.retire_worker("w1")
        assert take(store, "w2", labels=()) is None, "its folder is where the label is"
        assert taken(store, "w2", labels=("gpu",)).id == claim.id

    def test_no_run_is_taken_by_another_configuration_than_the_published_one(self, store: Store) -> None:
        row = asked(store)
        store.publish([factories.fraise()], digest="d2", documents={})
        assert take(store, digest="d1") is None
        assert taken(store, digest="d2").id == row["id"]

    def test_what_waits_in_an_environment_that_is_gone_comes_to_somebody(self, store: Store) -> None:
        row = asked(store, environment=STAGING)
        store.publish([factories.fraise()], digest="d2", documents={})
        assert taken(store, environments=(KEY,)).id == row["id"]

    def test_a_worker_takes_runs_of_the_environments_that_it_knows(self, store: Store) -> None:
        asked(store, environment=STAGING)
        assert take(store, environments=(KEY,)) is None

    def test_of_much_output_the_beginning_and_the_end_are_kept(self, store: Store) -> None:
        asked(store)
        claim = taken(store)
        for number in range(100):
            store.write_run_output(claim, f"[{number}]" + "x" * 16_000)
        texts = [text for _, text in store.run_output(claim.id)]
        whole = "".join(texts)
        assert whole.startswith("[0]")
        assert "[99]" in whole
        assert "bytes of output were not kept" in whole
        assert "[50]" not in whole
        assert len(whole) < 600_000

    def test_whoever_listens_is_woken(self, store: Store) -> None:
        woken = threading.Event()
        unsubscribe = store.subscribe(woken.set)

        def wakes(act: Callable[[], object]) -> None:
            woken.clear()
            act()
            assert woken.wait(PATIENCE)

        try:
            wakes(lambda: asked(store))
            claim = taken(store)
            wakes(lambda: store.cancel_run(claim.id, by="bert"))
            wakes(lambda: store.finish_run(claim, GOOD))
            wakes(lambda: store.raise_alert(alert()))
            wakes(lambda: store.clear_alert(KEY, "main", [AlertKind.missed], by="anna"))
        finally:
            unsubscribe()

    def test_runs_are_listed_newest_first_with_filters(self, store: Store) -> None:
        first = asked(store)
        store.finish_run(taken(store), BAD)
        second = asked(store, job="other")
        third = asked(store, environment=STAGING)
        assert ids_of(store.runs()) == [third["id"], second["id"], first["id"]]
        assert ids_of(store.runs("orders", "production")) == [second["id"], first["id"]]
        assert ids_of(store.runs(job="other")) == [second["id"]]
        assert ids_of(store.runs(status="failed")) == [first["id"]]
        assert ids_of(store.runs("orders", "production", status="failed", job="main")) == [first["id"]]
        assert ids_of(store.runs(limit=1, offset=1)) == [second["id"]]
        assert ids_of(store.runs("nobody")) == []

    def test_a_run_is_found_by_the_beginning_of_its_id(self, store: Store) -> None:
        row = asked(store)
        assert store.run(row["id"][:6])["id"] == row["id"]
        for wrong in ("", "xyz", "00000000"):
            with pytest.raises(NotFound):
                store.run(wrong)

    def test_the_last_run_of_each_job_is_the_newest_that_began(self, store: Store) -> None:
        assert store.last_runs(KEY) == {}
        for job in ("a", "b", "a"):
            asked(store, job=job)
            store.finish_run(taken(store), GOOD)
        newest = asked(store, job="b")
        taken(store)
        asked(store, job="c")
        last = store.last_runs(KEY)
        assert set(last) == {"a", "b"}
        assert (last["b"]["id"], last["b"]["status"]) == (newest["id"], "running")

    def test_old_output_is_pruned_and_the_run_stays(self, store: Store, advance: Advance) -> None:
        asked(store)
        claim = taken(store)
        store.write_run_output(claim, "old")
        store.finish_run(claim, GOOD)
        advance(100)
        assert store.prune(retention=50)["output"] == 1
        assert store.run_output(claim.id) == []
        assert status(store, claim.id) == "success"


class RunHoldContract(_WithWorkers):
    """Deployments hold runs back."""

    def test_no_run_begins_while_a_deployment_holds_them_back(self, store: Store) -> None:
        store.request(wish())
        deployment = claimed(store)
        asked(store)
        asked(store, environment=STAGING)
        store.hold_runs(deployment)
        assert taken(store).environment == STAGING
        assert take(store) is None

    @pytest.mark.parametrize("ending", [Status.success, Status.failed, Status.rolled_back])
    def test_the_end_of_the_deployment_lets_them_begin(self, store: Store, ending: Status) -> None:
        store.request(wish())
        deployment = claimed(store)
        asked(store)
        store.hold_runs(deployment)
        finished(store, deployment, ending)
        assert taken(store).environment == KEY

    def test_a_retry_that_waits_holds_nothing_back(self, store: Store) -> None:
        store.request(wish())
        deployment = claimed(store)
        asked(store)
        store.hold_runs(deployment)
        attempt = store.begin_attempt(deployment, resolved="{}")
        store.retry_later(deployment, attempt, delay=60, cause=Cause.network, error="cannot fetch")
        assert taken(store).environment == KEY

    def test_a_dead_deployment_holds_them_until_it_was_ended(self, store: Store, advance: Advance) -> None:
        store.request(wish())
        deployment = claimed(store)
        asked(store)
        store.hold_runs(deployment)
        advance(LEASE * 3)
        for worker in ("w1", "w2"):
            store.renew(worker, [], lease=LEASE)
        assert take(store) is None
        finished(store, claimed(store, "w2"), Status.failed)
        assert taken(store).environment == KEY

    def test_who_was_replaced_holds_nothing_back(self, store: Store) -> None:
        store.request(wish())
        deployment = claimed(store)
        store.hand_back(deployment)
        claimed(store, "w2")
        with pytest.raises(TokenOutdated):
            store.hold_runs(deployment)

    def test_what_a_deployment_wants_run_is_stored_with_its_end(self, store: Store) -> None:
        store.request(wish())
        asked(store)
        under_way = taken(store)
        finished(store, claimed(store), runs=(run_wish(trigger=RunTrigger.deploy),))
        (row,) = store.runs(status="pending")
        assert row["trigger"] == "deploy"
        assert take(store) is None, "it waits for the one that is under way"
        store.finish_run(under_way, GOOD)
        assert taken(store).id == row["id"]


class ReportContract(_WithWorkers):
    """What hosts perform by themselves."""

    def reported(self, **changes: Any) -> Reported:
        base = Reported(
            environment=KEY,
            host="web1",
            job="main",
            invocation="i-1",
            started_at=DUE,
            due=DUE,
            output="hello\n",
        )
        return replace(base, **changes)

    def test_a_report_is_stored_once_and_completed_once(self, store: Store) -> None:
        begun = store.report_run(self.reported())
        assert (begun["status"], begun["host"], begun["invocation"]) == ("running", "web1", "i-1")
        assert begun["started_at"] == begun["due"] == "2027-01-15T08:00:00.000000Z"
        ended = self.reported(ending=replace(GOOD, peak_memory=7), ended_at=DUE + 2.5, output="bye\n")
        row = store.report_run(ended)
        assert (row["id"], row["status"], row["duration_seconds"]) == (begun["id"], "success", 2.5)
        assert store.report_run(ended)["status"] == "success"
        assert [text for _, text in store.run_output(row["id"])] == ["hello\n", "bye\n"]
        assert len(store.runs()) == 1

    def test_no_worker_takes_or_cancels_what_a_host_performs(self, store: Store) -> None:
        row = store.report_run(self.reported())
        assert take(store) is None
        with pytest.raises(Conflict, match="by itself"):
            store.cancel_run(row["id"], by="bert")
        with pytest.raises(Conflict, match="another run"):
            store.request_run(run_wish())

    def test_a_worker_ends_what_was_cut_off_on_its_host(self, store: Store) -> None:
        asked(store, concurrency=2, parameters={"day": "today"})
        beside = taken(store)
        begun = store.report_run(self.reported())
        for _ in range(2):  # whoever collects it may die before it forgets it
            store.report_run(self.reported(left=True, output="bye\n"))
        assert [text for _, text in store.run_output(begun["id"])] == ["hello\n", "bye\n"]
        claim = taken(store, "w2")
        assert (claim.id, claim.interrupted, claim.invocation) == (begun["id"], True, "i-1")
        assert claim.slot != beside.slot, "to take its ground over ends nobody else's processes"
        assert take(store) is None
        store.report_run(self.reported(ending=GOOD))
        assert store.finish_run(claim, BAD)["status"] == "failed"

    def test_one_that_was_noted_as_missed_and_came_after_all_is_stored(self, store: Store) -> None:
        store.note_missed(run_wish(due=DUE), why="nobody was there")
        row = store.report_run(self.reported(ending=GOOD, ended_at=DUE + 1))
        assert (row["status"], row["due"]) == ("success", None)

    def test_a_further_try_knows_the_first(self, store: Store) -> None:
        first = store.report_run(self.reported(ending=BAD, ended_at=DUE + 1))
        other = store.report_run(self.reported(invocation="j-1", due=DUE + 60, ending=BAD, ended_at=DUE + 2))
        further = self.reported(first="i-1", attempt=2, ending=BAD, ended_at=DUE + 3)
        second = store.report_run(replace(further, invocation="i-1.2"))
        third = store.report_run(replace(further, invocation="i-1.3", attempt=3, ending=GOOD))
        assert second["retry_of"] == third["retry_of"] == first["id"] != other["id"]

    def test_unknown_environments_are_refused(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.report_run(self.reported(environment=EnvironmentKey("orders", "moon")))


class WatchContract(_WithWorkers):
    """Schedules and alerts."""

    def test_up_to_when_jobs_were_planned_only_grows(self, store: Store) -> None:
        job, other = ("orders", "production", "main"), ("orders", "staging", "main")
        assert store.planned_until([KEY]) == {}
        store.note_planned({job: DUE, other: DUE + 1})
        store.note_planned({job: DUE - 10})
        assert store.planned_until([KEY]) == {job: DUE}
        store.note_planned({job: DUE + 0.25})
        assert store.planned_until([KEY, STAGING]) == {job: DUE + 0.25, other: DUE + 1}
        store.note_planned({})

    def test_one_that_was_due_and_not_wanted_is_noted_as_skipped(self, store: Store) -> None:
        row = store.note_missed(run_wish(due=DUE), why="the other one failed", status=RunStatus.skipped)
        assert row is not None
        assert (row["status"], row["error_message"], row["started_at"]) == (
            "skipped",
            "the other one failed",
            None,
        )
        assert store.note_missed(run_wish(due=DUE), why="again") is None

    def test_the_newest_runs_of_each_job_that_was_planned(self, store: Store) -> None:
        job = ("orders", "production", "main")
        asked(store)
        assert store.newest_runs() == {}
        store.note_planned({job: DUE, ("orders", "staging", "main"): DUE})
        first = store.newest_runs()[job]
        assert (first.waiting > 0, first.begun, first.success) == (True, 0, 0)
        assert store.newest_runs()["orders", "staging", "main"] == Newest()
        store.finish_run(taken(store), GOOD)
        asked(store)
        again = run_wish(trigger=RunTrigger.retry, attempt=2)
        store.finish_run(taken(store), replace(BAD, again=again))
        store.note_missed(run_wish(due=DUE), why="nobody")
        asked(store, job="other")
        newest = store.newest_runs()[job]
        assert 0 < newest.success < newest.failed == newest.begun < newest.retry < newest.missed
        assert newest.waiting == newest.retry
        rows = store.runs_at({newest.success, newest.failed, newest.missed, 10**9})
        assert {at: row["status"] for at, row in rows.items()} == {
            newest.success: "success",
            newest.failed: "failed",
            newest.missed: "missed",
        }

    def test_an_alert_stands_once_until_it_is_cleared(self, store: Store) -> None:
        run = asked(store)["id"]
        assert store.raise_alert(alert(run=run))
        assert not store.raise_alert(alert(message="again"))
        assert store.raise_alert(alert(kind=AlertKind.failed))
        assert store.raise_alert(alert(environment=STAGING))
        newest, standing = store.alerts("orders", "production")
        assert (newest["kind"], standing["kind"]) == ("failed", "missed")
        assert (standing["message"], standing["hint"], standing["run_id"]) == (
            "it has not begun",
            "look",
            run,
        )
        (cleared,) = store.clear_alert(KEY, "main", [AlertKind.missed, AlertKind.late], by="anna")
        assert (cleared["id"], cleared["cleared_by"]) == (standing["id"], "anna")
        assert store.clear_alert(KEY, "main", [AlertKind.missed], by="anna") == []
        assert [row["kind"] for row in store.alerts("orders", "production")] == ["failed"]
        everything = store.alerts("orders", "production", standing=False)
        assert [row["kind"] for row in everything] == ["failed", "missed"]
        assert everything[1]["cleared_at"]
        assert store.raise_alert(alert())

    def test_an_environment_is_not_healthy_while_an_alert_stands(self, store: Store) -> None:
        (before,) = store.fraise_status("orders", "production")
        assert (before["alerts"], before["healthy"], before["last_run"]) == (0, None, None)
        store.raise_alert(alert())
        asked(store)
        store.finish_run(taken(store), BAD)
        (row,) = store.fraise_status("orders", "production")
        assert (row["alerts"], row["healthy"], row["last_run_status"]) == (1, False, "failed")
        assert row["last_run"].endswith("Z")
        (other,) = store.fraise_status("orders", "staging")
        assert (other["alerts"], other["healthy"]) == (0, None)
        store.clear_alert(KEY, "main", list(AlertKind), by="anna")
        (after,) = store.fraise_status("orders", "production")
        assert (after["alerts"], after["healthy"]) == (0, None)


def ids_of(rows: Sequence[Row]) -> list[str]:
    return [row["id"] for row in rows]


def together(act: Callable[[], Any], times: int) -> list[Any]:
    """What `times` threads that begin at once get."""
    found: list[Any] = []
    start = threading.Barrier(times)

    def one() -> None:
        start.wait()
        found.append(act())

    threads = [threading.Thread(target=one) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
