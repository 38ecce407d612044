"""Whatever people, forges and workers do, and in whatever order, the queue keeps its promises."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from fraisier.application.ports import Claim, Ending, Serving
from fraisier.database.clocks import Clocks
from fraisier.database.sqlite import open_sqlite
from fraisier.domain.deployment import AUTOMATIC, MAY_FOLLOW, REPLACEABLE, Status, Trigger
from fraisier.domain.errors import Cause, Conflict, TokenOutdated
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.plan import Phase, StepName
from tests.migrated import lay_migrated
from tests.unit.store_contract import KEY, STAGING, delivery, publish, sha, wish

ENVIRONMENTS = st.sampled_from([KEY, STAGING])
COMMITS = st.integers(1, 4).map(sha)
WORKERS = st.sampled_from(["w1", "w2", "w3"])
ENDS = st.sampled_from([status for status in MAY_FOLLOW[Status.running] if status is not Status.pending])
LEASE = 10.0


def reachable(status: Status) -> set[Status]:
    """Every status that may follow, in any number of steps."""
    found, new = {status}, {status}
    while new:
        new = {following for each in new for following in MAY_FOLLOW[each]} - found
        found |= new
    return found


REACHABLE = {status: reachable(status) for status in Status}


class Queue(RuleBasedStateMachine):
    """The store, beside the little that a reader has to remember to check it."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ahead = 0.0
        begun, ticks = time.time(), itertools.count()
        clocks = Clocks(
            now=lambda: begun + self.ahead + next(ticks) * 1e-6,  # no wait of the machine is a wait here
            boottime=lambda: self.ahead,  # moves only when a rule says so
            boot_id="boot",
        )
        path = Path(self.folder.name)
        lay_migrated(path / "m.db")
        self.store = open_sqlite(f"sqlite://{path}/m.db", state_folder=str(path), clocks=clocks)
        publish(self.store)
        self.deliveries = 0
        self.statuses: dict[str, Status] = {}
        self.tokens: dict[EnvironmentKey, int] = {KEY: 0, STAGING: 0}
        self.leases: dict[EnvironmentKey, float] = {}

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    # -- what happens
    @rule(
        environment=ENVIRONMENTS, commit=COMMITS, trigger=st.sampled_from(list(Trigger)), force=st.booleans()
    )
    def request(self, environment: EnvironmentKey, commit: str, trigger: Trigger, force: bool) -> None:
        asked = wish(commit, environment=environment, trigger=trigger, force=force, requested_by="bob")
        requested = self.store.request(asked)
        if requested.deployment is None:
            reasons = {"quarantined", "busy"} if trigger is Trigger.heal else {"quarantined"}
            assert trigger in AUTOMATIC or requested.reason in reasons

    @rule(environments=st.lists(ENVIRONMENTS, max_size=2, unique=True), commit=COMMITS, again=st.booleans())
    def record(self, environments: list[EnvironmentKey], commit: str, again: bool) -> None:
        self.deliveries += not again or self.deliveries == 0
        wishes = tuple(wish(commit, environment=each) for each in environments)
        pushed = delivery(f"d{self.deliveries}", *wishes)
        received = self.store.record(pushed).result(10)
        assert received.status in ("accepted", "ignored", "duplicate")

    @rule(target=claims, worker=WORKERS, environments=st.sampled_from([(KEY,), (STAGING,), (KEY, STAGING)]))
    def claim(self, worker: str, environments: tuple[EnvironmentKey, ...]) -> Claim | None:
        claim = self.store.claim(worker, lease=LEASE, environments=environments)
        if claim is None:
            return None
        key = claim.environment
        assert self.leases.get(key, -1.0) <= self.ahead, "the environment was leased"
        assert claim.token == self.tokens[key] + 1
        assert claim.deployment.status is Status.running
        self.tokens[key] = claim.token
        self.leases[key] = self.ahead + LEASE
        return claim

    @rule(claim=claims)
    def renew(self, claim: Claim | None) -> None:
        if claim is None:
            return
        kept = self.store.renew(claim.worker, [claim], lease=LEASE)
        holds = self.tokens[claim.environment] == claim.token and claim.environment in self.leases
        assert set(kept) == ({claim.environment} if holds else set())
        if holds:
            self.leases[claim.environment] = self.ahead + LEASE

    @rule(claim=claims, name=st.sampled_from(list(StepName)))
    def work(self, claim: Claim | None, name: StepName) -> None:
        if claim is None or self._ended(claim):
            return
        try:
            attempt = self.store.begin_attempt(claim, resolved="{}")
            self.store.begin_step(claim, attempt, phase=Phase.deploy, name=name, release="1-a")
        except TokenOutdated:
            assert self.tokens[claim.environment] > claim.token
        else:
            assert self.tokens[claim.environment] == claim.token

    @rule(claim=consumes(claims), status=ENDS, quarantine=st.booleans())
    def finish(self, claim: Claim | None, status: Status, quarantine: bool) -> None:
        if claim is None or self._ended(claim):
            return
        serving = Serving(release="1-a", commit=claim.deployment.commit, healthy=True)
        good = status is Status.success
        ending = Ending(status=status, serving=serving if good else None, quarantine=quarantine and not good)
        try:
            attempt = self.store.begin_attempt(claim, resolved="{}")
            self.store.finish(claim, attempt, ending)
        except TokenOutdated:
            assert self.tokens[claim.environment] > claim.token
        else:
            self.leases.pop(claim.environment, None)

    @rule(claim=consumes(claims), delay=st.sampled_from([0.0, 5.0, 60.0]))
    def retry(self, claim: Claim | None, delay: float) -> None:
        if claim is None or self._ended(claim):
            return
        try:
            attempt = self.store.begin_attempt(claim, resolved="{}")
            self.store.retry_later(claim, attempt, delay=delay, cause=Cause.network, error="cannot fetch")
        except TokenOutdated:
            assert self.tokens[claim.environment] > claim.token
        else:
            self.leases.pop(claim.environment, None)

    @rule(claim=consumes(claims))
    def hand_back(self, claim: Claim | None) -> None:
        if claim is None:
            return
        try:
            self.store.hand_back(claim)
        except TokenOutdated:
            assert self.tokens[claim.environment] > claim.token
        else:
            self.leases.pop(claim.environment, None)

    @precondition(lambda self: self.statuses)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        # In the order in which they came: ids are drawn by lot, and a replay has to cancel the same one.
        chosen = data.draw(st.sampled_from(list(self.statuses)))
        try:
            self.store.cancel(chosen, by="bob")
        except Conflict:
            assert self.statuses[chosen].is_final

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.ahead += seconds

    def _ended(self, claim: Claim) -> bool:
        """Whether a claim that was kept for later is over: its worker would have stopped."""
        row = self.store.deployment(claim.deployment.id)
        return row["status"] != "running"

    # -- what holds at any time
    @invariant()
    def statuses_follow_the_table(self) -> None:
        for row in self.store.history(limit=10_000):
            status = Status(row["status"])
            before = self.statuses.get(row["id"], Status.pending)
            assert status in REACHABLE[before], f"{before} became {status}"
            self.statuses[row["id"]] = status
            assert bool(row["completed_at"]) == status.is_final
            assert (
                status in (Status.pending, Status.running, Status.success) or row["cause"] or row["attempts"]
            )

    @invariant()
    def one_runs_and_of_the_replaceable_the_newest_waits(self) -> None:
        for key in (KEY, STAGING):
            rows = self.store.history(key.fraise, key.environment, limit=10_000)
            assert sum(row["status"] == "running" for row in rows) <= 1
            waiting = [row for row in rows if row["status"] == "pending"]
            replaceable = [row for row in waiting if row["trigger"] in REPLACEABLE]
            assert len(replaceable) <= 1
            if replaceable:
                assert waiting[0] == replaceable[0], "a newer wish waits, and this one does too"

    @invariant()
    def counters_agree_with_the_rows(self) -> None:
        rows = self.store.history(limit=10_000)
        counts = self.store.counts()
        for status in Status:
            found = sum(row["status"] == status for row in rows)
            assert counts.get(f"deployments.{status}", 0) == found


TestQueue = Queue.TestCase
TestQueue.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
