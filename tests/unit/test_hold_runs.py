"""Runs beside a deployment: none stands on a database, or a release, that is changed beneath it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.control import Control
from fraisier.application.ports import Claim, Finished, RunClaim
from fraisier.deployers.timer_units import service_of
from fraisier.domain.acts import Command
from fraisier.domain.deployment import Deployment, Status, Trigger
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import BuildCommand, Cutover, Database, FraiseType
from fraisier.domain.job import Job, Keeper, OnRunning, Schedule
from fraisier.domain.migration import Reversible
from fraisier.domain.run import RunEnding, RunStatus, RunWish
from tests import fleet as fleets
from tests.factories import KEY, SHA_A, SHA_B, SHA_C, fraise
from tests.fleet import Fleet
from tests.fleet_database import SharedDatabase
from tests.unit.test_run_deployment import Death, World

GOOD = RunEnding(status=RunStatus.success, exit_code=0)
MAIN = Job(name="main", run="load")


class Pipeline(World):
    """An etl fraise with a database. `happened` is what was done to what runs stand on, in order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.happened: list[str] = []
        self.configure(
            type=FraiseType.etl,
            cutover=Cutover.trial,
            target=None,
            health_check=None,
            jobs={"main": MAIN},
            database=Database(up="migrate"),
        )
        self.host.scripts["migrate"] = self.noting("migrate")
        self.host.scripts["down"] = self.noting("down")
        self.store.publish([fraise(self.environment)], digest="e", documents={})
        self.store.register_worker("runs", info={})

    def noting(self, what: str, code: int = 0) -> Callable[[Command, object], int]:
        def note(_: Command, __: object) -> int:
            self.happened.append(what)
            return code

        return note

    def ask(self) -> None:
        assert self.store.request_run(RunWish(environment=KEY, job="main")) is not None

    def take(self) -> RunClaim | None:
        return self.store.claim_run("runs", environments=[KEY])

    def begin(self) -> RunClaim:
        self.ask()
        claim = self.take()
        assert claim is not None
        return claim

    @contextlib.contextmanager
    def deploying(
        self, commit: str, control: Control | None = None, **wish: object
    ) -> Iterator[list[Deployment]]:
        """A deployment that is under way until this is left; what it came to is in the list then."""
        self.wish(commit, **wish)  # type: ignore[arg-type]
        claim, ended = self.claim(), list[Deployment]()

        def perform() -> None:
            if (end := self.run(claim, control or Control())) is not None:
                ended.append(end)

        thread = threading.Thread(target=perform)
        thread.start()
        self.waits_for_runs(claim)
        yield ended
        thread.join(20)
        assert not thread.is_alive()

    def waits_for_runs(self, claim: Claim) -> None:
        for _ in range(400):
            if "waiting for the end of run" in self.printed(claim) or "is cancelled" in self.printed(claim):
                return
            threading.Event().wait(0.02)
        raise AssertionError(self.printed(claim))

    def printed(self, claim: Claim) -> str:
        return "".join(piece.text for piece in self.store.output(claim.deployment.id))

    def killed(self, dies: tuple[str, str], commit: str = SHA_B) -> None:
        """A deployment whose worker died there."""
        self.wish(commit)
        self.dies = dies
        claim = self.claim()
        with contextlib.suppress(Death):
            self.run(claim, Control())
        self.dies = ("", "")
        self.store.hand_back(claim)

    def resumed(self) -> Deployment:
        self.store.register_worker("other", info={})
        ended = self.run(self.claim("other"), Control())
        assert ended is not None
        return ended


class Timers(Pipeline):
    """The same, with a schedule that systemd keeps. `timers` says whether its timer is active."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.timers, self.service_runs = False, False
        job = replace(MAIN, keeper=Keeper.systemd, schedule=Schedule(expression="0 2 * * *"))
        self.configure(jobs={"main": job}, database=Database(up="migrate", down="down"))
        self.host.inspect = self.inspect  # type: ignore[method-assign]
        self.host.act = self.act  # type: ignore[method-assign]

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        if argv[:3] == ("systemctl", "show", "--property=Version"):
            return Finished(code=0, stdout=b"255\n", stderr=b"")
        if argv[:2] != ("systemctl", "show"):
            return Finished(code=0, stdout=b"", stderr=b"")
        state = "active" if self.service_runs else "inactive"
        shown = f"Id={service_of(KEY, 'main')}\nInvocationID={'a' * 32}\nActiveState={state}\n"
        return Finished(code=0, stdout=shown.encode(), stderr=b"")

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        if "fraisier-units" in argv:
            verb = next(word for word in argv if word in ("apply", "pause", "remove", "stop"))
            release = next((w for w in argv if "/.fraisier/timers/" in w), "").rpartition("/")[2]
            self.timers = verb == "apply"
            self.happened.append(f"{verb} {release}".strip())
        return Finished(code=0, stdout=b"", stderr=b"")


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    yield from _deployed(Pipeline(tmp_path))


@pytest.fixture
def timers(tmp_path: Path) -> Iterator[Timers]:
    yield from _deployed(Timers(tmp_path))


def _deployed(made: Pipeline) -> Iterator[Pipeline]:
    for sha in (SHA_A, SHA_B, SHA_C):
        made.repository.commit(sha)
    assert made.deploy(SHA_A).status is Status.success
    made.happened.clear()
    yield made
    made.store.close()


def test_the_database_is_migrated_once_the_run_on_it_has_ended(pipeline: Pipeline) -> None:
    run = pipeline.begin()
    with pipeline.deploying(SHA_B) as ended:
        assert pipeline.happened == []
        pipeline.happened.append("the run ended")
        pipeline.store.finish_run(run, GOOD)
    assert ended[0].status is Status.success
    assert pipeline.happened == ["the run ended", "migrate"]


def test_a_run_that_is_cancelled_has_ended_before_the_database_is_migrated(pipeline: Pipeline) -> None:
    pipeline.configure(on_running=OnRunning.cancel)
    run = pipeline.begin()
    with pipeline.deploying(SHA_B) as ended:
        assert pipeline.store.run_cancel_requests("runs") != {}
        assert pipeline.happened == []
        pipeline.store.finish_run(run, replace(GOOD, status=RunStatus.cancelled))
    assert (ended[0].status, pipeline.happened) == (Status.success, ["migrate"])


def test_what_is_asked_for_meanwhile_has_the_new_release(pipeline: Pipeline) -> None:
    run = pipeline.begin()
    with pipeline.deploying(SHA_B) as ended:
        pipeline.host.scripts["migrate"] = lambda *_: pipeline.ask() or int(pipeline.take() is not None)
        pipeline.store.finish_run(run, GOOD)
    assert ended[0].status is Status.success
    held = pipeline.take()
    assert held is not None
    assert held.release == ended[0].release


def test_a_rollback_waits_before_it_takes_the_database_back(pipeline: Pipeline) -> None:
    database = Database(up="up", down="down", current="where", reversible=Reversible.yes)
    pipeline.configure(database=database)
    revisions = ["1"]

    def tell(_: Command, job: Any) -> int:
        job.output(revisions[-1].encode())
        return 0

    pipeline.host.scripts["where"] = tell
    assert pipeline.deploy(SHA_B).status is Status.success
    pipeline.host.scripts["up"] = lambda *_: revisions.append("2") or 0
    assert pipeline.deploy(SHA_C).status is Status.success
    pipeline.host.scripts["down"] = lambda *_: revisions.append("1") or 0
    run = pipeline.begin()
    wish = {"trigger": Trigger.rollback, "release": "2-bbbbbbbbbb", "with_database": True}
    with pipeline.deploying(SHA_B, **wish) as ended:
        assert revisions[-1] == "2"
        pipeline.store.finish_run(run, GOOD)
    assert ended[0].status is Status.success, ended[0].error_message
    assert revisions[-1] == "1"


def test_a_deployment_is_cancelled_while_it_waits_and_nothing_was_changed(pipeline: Pipeline) -> None:
    pipeline.begin()
    control = Control()
    with pipeline.deploying(SHA_B, control) as ended:
        control.cancel("bert")
    assert (ended[0].status, pipeline.happened) == (Status.cancelled, [])
    assert pipeline.current == "1-aaaaaaaaaa"


def test_a_rollback_cuts_the_waiting_short(pipeline: Pipeline) -> None:
    """Once a deployment migrates, it would have to wait for that, and for the run as well."""
    pipeline.begin()
    control = Control()
    with pipeline.deploying(SHA_B, control) as ended:
        pipeline.wish(SHA_A, Trigger.rollback, release="1-aaaaaaaaaa", requested_by="bert")
        wanted = pipeline.store.cancel_requests("w")
        assert [*wanted.values()] == ["bert"]
        control.cancel("bert")
    assert (ended[0].status, pipeline.happened) == (Status.cancelled, [])


@pytest.mark.parametrize("dies", [("step_ended", "backup"), ("step_started", "migrate")])
def test_no_run_begins_between_a_dead_workers_hold_and_its_successors_migration(
    pipeline: Pipeline, dies: tuple[str, str]
) -> None:
    pipeline.killed(dies)
    pipeline.ask()
    assert pipeline.take() is None
    pipeline.host.scripts["migrate"] = lambda *_: int(pipeline.take() is not None)
    ended = pipeline.resumed()
    assert ended.status is Status.success, ended.error_message
    begun = pipeline.take()
    assert begun is not None
    assert begun.release == ended.release


def test_another_try_waits_for_what_began_since_the_last_one(pipeline: Pipeline) -> None:
    pipeline.configure(database=Database(up="migrate", current="where"))
    pipeline.host.scripts["where"] = 75  # it cannot be reached
    pipeline.retries = replace(pipeline.retries, first=0.01)
    tried = pipeline.deploy(SHA_B)
    assert (tried.status, tried.cause) == (Status.pending, Cause.database)
    run = pipeline.begin()
    assert run.release == "1-aaaaaaaaaa"
    pipeline.host.scripts["where"] = 0
    threading.Event().wait(0.05)
    claim = pipeline.claim()
    ended: list[Deployment | None] = []
    thread = threading.Thread(target=lambda: ended.append(pipeline.run(claim, Control())))
    thread.start()
    pipeline.waits_for_runs(claim)
    assert pipeline.happened == []
    pipeline.store.finish_run(run, GOOD)
    thread.join(20)
    assert ended[0] is not None
    assert (ended[0].status, pipeline.happened) == (Status.success, ["migrate"])


# ------------------------------------------------------------------------------------------ systemd's timers


def test_timers_rest_before_the_database_is_migrated(timers: Timers) -> None:
    assert timers.deploy(SHA_B).status is Status.success
    assert timers.happened == ["pause", "migrate", "pause", "apply 2-bbbbbbbbbb"]


@pytest.mark.parametrize("fails", ["migrate", "try"])
def test_timers_go_on_when_the_database_is_back_where_it_was(timers: Timers, fails: str) -> None:
    timers.configure(smoke=BuildCommand(run="try", timeout=5))
    timers.host.scripts |= {"try": timers.noting("try"), fails: timers.noting(fails, 1)}
    assert timers.deploy(SHA_B).status is Status.failed
    tried = ["try", "down"] if fails == "try" else []
    assert timers.happened == ["pause", "migrate", *tried, "apply 1-aaaaaaaaaa"]


def test_timers_go_on_where_the_deployment_is_cancelled_while_it_waits(timers: Timers) -> None:
    timers.service_runs = True
    control = Control()
    timers.wish(SHA_B)
    claim = timers.claim()
    ended: list[Deployment | None] = []
    thread = threading.Thread(target=lambda: ended.append(timers.run(claim, control)))
    thread.start()
    for _ in range(400):
        if "which runs" in timers.printed(claim):
            break
        threading.Event().wait(0.02)
    assert not timers.timers
    control.cancel("bert")
    thread.join(20)
    assert ended[0] is not None
    assert (ended[0].status, timers.happened) == (Status.cancelled, ["pause", "apply 1-aaaaaaaaaa"])


def test_timers_go_on_between_two_tries(timers: Timers) -> None:
    timers.configure(database=Database(up="migrate", current="where"))
    timers.host.scripts["where"] = 75
    assert timers.deploy(SHA_B).status is Status.pending
    assert timers.happened == ["pause", "apply 1-aaaaaaaaaa"]


@pytest.mark.parametrize("goes", ["starts over and fails", "cannot tell how far the migration came"])
def test_timers_that_a_dead_worker_left_paused_go_on_with_the_end(timers: Timers, goes: str) -> None:
    if goes == "starts over and fails":
        timers.killed(("step_ended", "backup"))
        timers.configure(build=(BuildCommand(run="exit 3"),))
    else:

        def die(*_: object) -> int:
            raise Death

        timers.host.scripts["migrate"] = die
        timers.killed(("", ""))
    assert not timers.timers
    ended = timers.resumed()
    assert ended.status is Status.failed
    assert timers.happened[-1] == "apply 1-aaaaaaaaaa"


def test_what_failed_before_anything_was_paused_touches_no_timer(timers: Timers) -> None:
    timers.configure(build=(BuildCommand(run="exit 3"),))
    assert timers.deploy(SHA_B).status is Status.failed
    assert timers.happened == []


# ------------------------------------------------------------------------------------------- several hosts


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    for sha in (SHA_A, SHA_B):
        made.repository.commit(sha)
    made.configure(
        type=FraiseType.etl, cutover=Cutover.trial, target=None, health_check=None, jobs={"main": MAIN}
    )
    made.store.register_worker("runs", info={})
    yield made
    made.close()


def test_the_one_database_of_several_hosts_is_migrated_once_the_run_has_ended(fleet: Fleet) -> None:
    base = SharedDatabase(fleet)
    assert fleet.deploy(SHA_A).status is Status.success
    base.wanted = ["1", "2"]
    assert fleet.store.request_run(RunWish(environment=KEY, job="main")) is not None
    run = fleet.store.claim_run("runs", environments=[KEY])
    assert run is not None
    seen: list[list[str]] = []

    def end() -> None:
        seen.append([*base.applied])
        fleet.store.finish_run(run, GOOD)

    threading.Timer(0.3, end).start()
    assert fleet.deploy(SHA_B).status is Status.success
    assert (seen, base.applied) == ([["1"]], ["1", "2"])


def test_no_run_begins_on_several_hosts_between_a_death_before_the_migration_and_the_end(
    fleet: Fleet,
) -> None:
    base = SharedDatabase(fleet)
    assert fleet.deploy(SHA_A).status is Status.success
    base.wanted, base.dies_before = ["1", "2"], True
    fleet.wish(SHA_B)
    claim = fleet.claim()
    with pytest.raises(fleets.Death):
        fleet.run(claim, Control())
    fleet.store.register_worker("other", info={})
    fleet.store.hand_back(claim)
    assert fleet.store.request_run(RunWish(environment=KEY, job="main")) is not None
    assert fleet.store.claim_run("runs", environments=[KEY]) is None
    ended = fleet.run(fleet.claim("other"), Control())
    assert ended is not None
    assert (ended.status, base.applied) == (Status.success, ["1", "2"])
    begun = fleet.store.claim_run("runs", environments=[KEY])
    assert begun is not None
    assert begun.release == ended.release
