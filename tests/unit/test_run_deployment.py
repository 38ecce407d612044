"""A claimed deployment, performed to its end or to the way back, on a real store and a played host."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.control import Control
from fraisier.application.ports import Claim, Serving
from fraisier.application.run_deployment import RunDeployment
from fraisier.application.tools import Retries, Tools
from fraisier.database.sqlite import open_sqlite
from fraisier.domain.deployment import Deployment, Status, Trigger, Wish
from fraisier.domain.errors import Cause, NotFound, StepFailed, TokenOutdated
from fraisier.domain.fraise import (
    BuildCommand,
    Database,
    Environment,
    EnvironmentKey,
    HealthCheck,
    TargetSpec,
)
from fraisier.domain.plan import StepName
from fraisier.domain.recovery import MOST_INTERRUPTIONS
from fraisier.domain.secret import MASK, Secret
from fraisier.migrations.command import CommandMigrations
from fraisier.wiring import SystemClock
from tests.factories import KEY, SHA_A, SHA_B, SHA_C, environment, fraise
from tests.fake_repository import FakeRepository
from tests.fakes import FakeHost, FakeProber, FakeTarget, FakeUnits
from tests.migrated import lay_migrated


class Death(BaseException):
    """kill -9, as far as one thread can play it: nothing more is journaled or cleaned up."""


class Codec:
    """Keeps environments by name; the real one is tested with the configuration."""

    def __init__(self) -> None:
        self.kept: dict[str, Environment] = {}

    def dump(self, environment: Environment) -> str:
        self.kept[str(len(self.kept))] = environment
        return str(len(self.kept) - 1)

    def load(self, text: str) -> Environment:
        return self.kept[text]

    def secrets(self, environment: Environment, env_file: bytes | None = None) -> list[str]:
        return [value.reveal() for value in environment.env.values() if isinstance(value, Secret)]


@dataclass
class World:
    """One environment of one machine, and what it takes to deploy to it."""

    folder: Path
    store: Any = None  # one of its own, unless a test gives another

    def __post_init__(self) -> None:
        self.app = self.folder / "app"
        self.units = FakeUnits()
        self.host = FakeHost(units=self.units)
        self.target = FakeTarget(self.units)
        self.prober = FakeProber()
        self.repository = FakeRepository()
        self.clock = SystemClock()
        self.retries = Retries()
        self.codec = Codec()
        self.store = self.store or self._own_store()
        self.environment = environment(
            app_path=str(self.app),
            target=TargetSpec(kind="fake", unit="orders.service"),
            health_check=HealthCheck(url="http://x/", interval=0.01, timeout=0.3, passes=2),
            build=(BuildCommand(run="echo building"),),
            min_free_disk=1,
        )
        self.store.publish([fraise(self.environment)], digest="d", documents={})
        self.store.register_worker("w", info={})
        self.events: list[tuple[str, str]] = []
        self.on_step = lambda name, phase: None
        self.dies = ("", "")

    def _own_store(self) -> Any:
        lay_migrated(self.folder / "db" / "f.db")
        return open_sqlite(f"sqlite://{self.folder}/db/f.db", state_folder=str(self.folder / "db"))

    def configure(self, **changes: object) -> None:
        self.environment = replace(self.environment, **changes)  # type: ignore[arg-type]

    @property
    def run(self) -> RunDeployment:
        return self.running_with(lambda key: self.environment)

    def running_with(self, find: Callable[[EnvironmentKey], Environment]) -> RunDeployment:
        tools = Tools(
            hosts={"localhost": self.host},
            targets={"fake": self.target},
            probers={"http": self.prober},
            migrations={"command": CommandMigrations()},
            repository=self.repository,
            clock=self.clock,
            retries=self.retries,
        )
        return RunDeployment(tools, self.store, self.codec, find, self.listen)

    def listen(self, event, fields) -> None:
        self.events.append((event, fields.get("step", "")))
        if event == "step_started":
            self.on_step(fields["step"], fields["phase"])
        if (event, fields.get("step", "")) == self.dies:
            raise Death

    def wish(self, commit: str, trigger: Trigger = Trigger.webhook, **fields: object) -> str:
        made = Wish(environment=KEY, ref="refs/heads/main", trigger=trigger, commit=commit, **fields)  # type: ignore[arg-type]
        requested = self.store.request(made)
        assert requested.deployment is not None, requested.reason
        return requested.deployment.id

    def claim(self, worker: str = "w") -> Claim:
        claim = self.store.claim(worker, lease=10, environments=[KEY])
        assert claim is not None
        return claim

    def deploy(self, commit: str, **fields: object) -> Deployment:
        self.wish(commit, **fields)  # type: ignore[arg-type]
        ended = self.run(self.claim(), Control())
        assert ended is not None
        return ended

    @property
    def current(self) -> str:
        link = self.app / "current"
        return link.readlink().name if link.is_symlink() else ""

    def serves(self) -> str:
        """The content that the running release has."""
        return (self.app / "current" / "app.txt").read_text()

    def steps(self, deployment: str) -> list[tuple[str, str, str]]:
        return [(s["phase"], s["step"], s["state"]) for s in self.store.steps(deployment)]


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    for sha in (SHA_A, SHA_B, SHA_C):
        made.repository.commit(sha)
    yield made
    made.store.close()


def test_a_commit_becomes_the_running_release(world):
    ended = world.deploy(SHA_A)
    assert ended.status is Status.success
    assert world.serves() == SHA_A
    assert world.current == "1-aaaaaaaaaa" == ended.release
    assert world.units.release == world.current
    row = world.store.fraise_status()[0]
    assert (row["current_commit"], row["current_release"]) == (SHA_A, world.current)


def test_an_attempt_is_stored_with_its_first_step(world):
    stored = []
    world.store.begin_attempt = lambda *_, **__: pytest.fail("this is a commit more before it begins")
    together = world.store.begin_with_step
    world.store.begin_with_step = lambda *a, **k: stored.append(k["name"]) or together(*a, **k)
    ended = world.deploy(SHA_A)
    assert stored == [StepName.preflight]
    assert [step["attempt"] for step in world.store.steps(ended.id)] == [1] * len(world.steps(ended.id))


def test_an_attempt_that_fails_before_its_first_step_is_stored_all_the_same(world):
    asked = world.wish(SHA_A)
    control = Control()
    control.cancel("alice")
    assert world.run(world.claim(), control).status is Status.cancelled
    assert world.store.deployment(asked)["attempts"] == 1
    assert world.steps(asked) == []


def test_every_step_is_journaled_in_order(world):
    ended = world.deploy(SHA_A)
    assert world.steps(ended.id) == [
        ("deploy", name, "success")
        for name in (
            "preflight",
            "fetch",
            "prepare",
            "build",
            "activate",
            "restart",
            "check_health",
            "finish",
        )
    ]


def test_an_unhealthy_release_is_rolled_back_and_its_commit_quarantined(world):
    world.deploy(SHA_A)
    world.prober.unhealthy = {"2-bbbbbbbbbb"}
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.unhealthy)
    assert "503" in ended.error_message
    assert world.serves() == SHA_A
    assert world.units.release == world.current == "1-aaaaaaaaaa"
    again = world.store.request(
        Wish(environment=KEY, ref="refs/heads/main", trigger=Trigger.webhook, commit=SHA_B)
    )
    assert again.deployment is None


def test_the_tip_of_a_branch_that_failed_before_needs_force(world):
    world.deploy(SHA_A)
    world.prober.unhealthy = {"2-bbbbbbbbbb"}
    world.deploy(SHA_B)
    world.repository.tip = SHA_B
    refused = world.deploy("", trigger=Trigger.manual)
    assert (refused.status, refused.cause) == (Status.failed, Cause.quarantined)
    assert "--force" in refused.hint
    assert world.deploy("", trigger=Trigger.manual, force=True).status is Status.success
    assert world.store.fraise_status()[0]["quarantined_commits"] == []


def test_a_first_deployment_that_fails_leaves_nothing_running(world):
    world.prober.unhealthy = {"1-aaaaaaaaaa"}
    ended = world.deploy(SHA_A)
    assert ended.status is Status.failed
    assert world.current == ""
    assert not world.units.running


def test_a_release_that_does_not_start_is_rolled_back(world):
    world.deploy(SHA_A)
    world.units.crashing = {"2-bbbbbbbbbb"}
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.unhealthy)
    assert world.serves() == SHA_A


def test_a_failed_way_back_is_a_state_that_says_so(world):
    world.deploy(SHA_A)
    world.prober.unhealthy = {"1-aaaaaaaaaa", "2-bbbbbbbbbb"}
    ended = world.deploy(SHA_B)
    assert ended.status is Status.rollback_failed
    assert "way back failed" in ended.error_message
    assert world.current == "1-aaaaaaaaaa"


def test_a_failed_build_never_touches_what_runs(world):
    world.deploy(SHA_A)
    starts = world.units.starts
    world.configure(build=(BuildCommand(run="exit 3"),))
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.failed, Cause.build)
    assert "exited with 3" in ended.error_message
    assert world.serves() == SHA_A
    assert world.units.starts == starts


def test_a_failed_migration_stops_before_the_switch(world):
    world.deploy(SHA_A)
    world.configure(database=Database(up="exit 1", down="echo down"))
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.failed, Cause.migration)
    assert world.serves() == SHA_A
    assert "echo down" not in [c.argv[-1] for c in world.host.commands]


def test_the_database_goes_back_with_the_code_where_a_way_down_is_given(world):
    world.deploy(SHA_A)
    world.configure(database=Database(up="echo up", down="echo down"))
    world.prober.unhealthy = {"2-bbbbbbbbbb"}
    ended = world.deploy(SHA_B)
    assert ended.status is Status.rolled_back
    assert [s for s in world.steps(ended.id) if s[0] == "rollback"] == [
        ("rollback", name, "success") for name in ("migrate", "activate", "restart", "check_health")
    ]


def test_a_crash_of_the_bad_release_just_before_the_restart_is_not_held_against_the_good_one(world):
    world.units.crashes_late = True
    world.deploy(SHA_A)
    world.units.crashing = {"2-bbbbbbbbbb"}
    assert world.deploy(SHA_B).status is Status.rolled_back


def test_a_network_failure_is_retried_and_then_works(world):
    world.repository.failures = [StepFailed(Cause.network, "cannot reach the forge")]
    waiting = world.deploy(SHA_A)
    assert (waiting.status, waiting.cause) == (Status.pending, Cause.network)
    assert world.store.claim("w", lease=10, environments=[KEY]) is None, "it waits before it is tried again"
    assert world.store.next_due() is not None


def test_a_network_failure_that_lasts_ends_failed_without_quarantine(world):
    world.configure(retry_for=0)
    world.repository.failures = [StepFailed(Cause.network, "cannot reach the forge")]
    ended = world.deploy(SHA_A)
    assert (ended.status, ended.cause) == (Status.failed, Cause.network)
    assert world.deploy(SHA_A, trigger=Trigger.manual).status is Status.success


@pytest.mark.parametrize(("tried_for", "status"), [(59.0, Status.pending), (61.0, Status.failed)])
def test_it_is_the_store_that_says_how_long_was_tried(world, tried_for, status):
    world.configure(retry_for=60)
    world.repository.failures = [StepFailed(Cause.network, "cannot reach the forge")] * 2
    world.retries = Retries(first=0.0)
    world.deploy(SHA_A)
    claim = replace(world.claim(), tried_for=tried_for)
    assert world.run(claim, Control()).status is status


def test_a_clock_that_is_set_back_makes_nobody_try_for_ever(world):
    world.configure(retry_for=60)
    world.repository.failures = [StepFailed(Cause.network, "cannot reach the forge")] * 2
    world.retries = Retries(first=0.0)
    world.deploy(SHA_A)
    world.retries = Retries()
    claim = replace(world.claim(), attempts=6)  # whose pauses were 2, 4, 8, 16, 32, 60 s
    assert world.run(claim, Control()).status is Status.failed


def test_too_little_disk_is_retried_later(world):
    world.configure(min_free_disk=1 << 60)
    assert world.deploy(SHA_A).status is Status.pending


def test_preflight_says_what_is_wrong_before_anything_is_changed(world):
    world.app.mkdir()
    (world.app / "index.html").write_text("mine")
    ended = world.deploy(SHA_A)
    assert (ended.status, ended.cause) == (Status.failed, Cause.preflight)
    assert "index.html" in ended.error_message
    assert [p.name for p in world.app.iterdir()] == ["index.html"]


def test_a_late_delivery_of_an_ancestor_is_superseded(world):
    world.deploy(SHA_B)
    ended = world.deploy(SHA_A)
    assert ended.status is Status.superseded
    assert world.serves() == SHA_B


def test_a_branch_that_has_moved_on_is_left_for_its_own_push_or_a_sweep(world):
    world.repository.tip = SHA_B
    assert world.deploy(SHA_A, tip=SHA_A).status is Status.success
    assert world.store.fraise_status()[0]["seen_tip"] == SHA_A


def test_a_shared_file_that_is_missing_is_named(world):
    world.configure(shared=(".env",))
    ended = world.deploy(SHA_A)
    assert ended.cause is Cause.preflight
    assert "shared/.env" in ended.error_message


def test_submodules_without_the_key_fail_with_a_hint(world):
    world.repository.needs = replace(world.repository.needs, submodules=True)
    ended = world.deploy(SHA_A)
    assert ended.status is Status.failed
    assert "submodules: true" in ended.hint


def test_a_cancel_before_the_switch_leaves_the_old_release_serving(world):
    world.deploy(SHA_A)
    control = Control()
    world.configure(build=(BuildCommand(run="sleep 30"),))
    world.on_step = lambda name, phase: control.cancel("alice") if name == "build" else None
    world.wish(SHA_B)
    ended = world.run(world.claim(), control)
    assert (ended.status, ended.cause) == (Status.cancelled, Cause.cancelled)
    assert "alice" in ended.error_message
    assert world.serves() == SHA_A


def test_a_cancel_after_the_switch_goes_back(world):
    world.deploy(SHA_A)
    control = Control()
    world.on_step = lambda name, phase: control.cancel("alice") if name == "check_health" else None
    world.wish(SHA_B)
    ended = world.run(world.claim(), control)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.cancelled)
    assert world.serves() == SHA_A


def test_a_shutdown_in_a_build_is_resumed_by_the_next_worker(world):
    control = Control()
    world.configure(build=(BuildCommand(run="sleep 30"),))
    world.on_step = lambda name, phase: control.shut_down() if name == "build" else None
    deployment = world.wish(SHA_A)
    assert world.run(world.claim(), control) is None
    assert world.store.deployment(deployment)["status"] == "running"
    world.on_step = lambda name, phase: None
    world.configure(build=())
    ended = world.run(world.claim("w"), Control())
    assert (ended.id, ended.status, ended.release) == (deployment, Status.success, "2-aaaaaaaaaa")


@pytest.mark.parametrize("fails", ["build", "check_health"])
def test_what_fails_while_the_machine_goes_down_is_resumed_after_the_boot(world, fails):
    world.deploy(SHA_A)
    world.configure(build=(BuildCommand(run="exit 1" if fails == "build" else "echo ok"),))
    world.prober.unhealthy = {"2-bbbbbbbbbb"} if fails == "check_health" else set()
    world.host.going_down = True
    deployment = world.wish(SHA_B)
    assert world.run(world.claim(), Control()) is None
    world.host.going_down = False
    world.prober.unhealthy = set()
    world.configure(build=())
    ended = world.run(world.claim(), Control())
    assert (ended.id, ended.status) == (deployment, Status.success)


def test_a_drained_worker_stops_between_two_steps(world):
    control = Control()
    world.on_step = lambda name, phase: control.drain() if name == "build" else None
    deployment = world.wish(SHA_A)
    assert world.run(world.claim(), control) is None
    assert world.steps(deployment)[-1] == ("deploy", "build", "success")


STEPS = ["preflight", "fetch", "prepare", "build", "migrate", "activate", "restart", "check_health", "finish"]


@pytest.mark.parametrize("dies_in", STEPS)
@pytest.mark.parametrize("when", ["begins", "ended"])
def test_a_worker_that_dies_at_any_step_leaves_the_old_release_or_the_new_one(world, dies_in, when):
    world.configure(database=Database(up="echo up"))
    world.deploy(SHA_A)
    deployment = world.wish(SHA_B)
    world.dies = ("step_started" if when == "begins" else "step_ended", dies_in)
    claim = world.claim()
    with contextlib.suppress(Death):
        world.run(claim, Control())
    world.dies = ("", "")
    world.store.register_worker("other", info={})
    world.store.hand_back(claim)
    ended = world.run(world.claim("other"), Control())
    assert ended is not None
    assert ended.id == deployment
    assert ended.status is Status.success, "a migration that nobody has begun may begin"
    assert world.serves() == SHA_B
    ups = [c for c in world.host.commands if c.argv[-1] == "echo up" and c.env["FRAISIER_COMMIT"] == SHA_B]
    assert len(ups) <= 1


def test_a_worker_that_dies_in_a_migration_leaves_the_old_release(world):
    world.configure(database=Database(up="echo up"))
    world.deploy(SHA_A)
    world.wish(SHA_B)
    claim, ups = world.claim(), []

    def die(command, job):
        ups.append(command)
        raise Death

    world.host.scripts["echo up"] = die
    with contextlib.suppress(Death):
        world.run(claim, Control())
    world.store.register_worker("other", info={})
    world.store.hand_back(claim)
    ended = world.run(world.claim("other"), Control())
    assert ended is not None
    assert (ended.status, ended.cause) == (Status.failed, Cause.migration_interrupted)
    assert "--force" in ended.hint
    assert world.serves() == SHA_A
    assert len(ups) == 1


def die_in_build(world):
    """A worker begins to build and dies; what it had started runs on until somebody takes over."""
    deployment = die_in(world, "build")
    world.host.scopes[str(world.app)] = 1
    return deployment


def die_in(world, step):
    deployment = world.wish(SHA_A)
    world.dies = ("step_started", step)
    claim = world.claim()
    with contextlib.suppress(Death):
        world.run(claim, Control())
    world.dies = ("", "")
    world.store.hand_back(claim)
    return deployment


def test_a_dead_workers_build_is_ended_although_its_deployment_is_cancelled(world):
    deployment = die_in_build(world)
    control = Control()
    control.cancel("bob")
    ended = world.run(world.claim(), control)
    assert (ended.id, ended.status) == (deployment, Status.cancelled)
    assert not world.host.scopes


def test_a_dead_workers_build_is_ended_although_preflight_fails_now(world):
    die_in_build(world)
    world.configure(min_free_disk=1 << 60)
    assert world.run(world.claim(), Control()).status is Status.pending
    assert not world.host.scopes


def test_a_dead_workers_build_is_ended_although_its_environment_is_gone(world):
    deployment = die_in_build(world)

    def gone(key):
        raise NotFound(f"no environment {key}")

    ended = world.running_with(gone)(world.claim(), Control())
    assert (ended.id, ended.status, ended.cause) == (deployment, Status.failed, Cause.preflight)
    assert not world.host.scopes


@pytest.mark.parametrize(("died_at", "status"), [("build", "failed"), ("restart", "rollback_failed")])
def test_a_deployment_ends_although_a_defect_keeps_everybody_from_beginning_it(
    world, died_at, status, monkeypatch
):
    deployment = die_in(world, died_at)
    world.host.scopes[str(world.app)] = 1

    def broken(_text):
        raise TypeError("no text, but 7")

    monkeypatch.setattr(world.codec, "load", broken)
    ended = world.run(world.claim(), Control())
    assert (ended.id, ended.status, ended.cause) == (deployment, Status(status), Cause.internal)
    assert "no text, but 7" in ended.error_message


def test_what_passes_before_it_is_begun_is_tried_again_but_not_for_ever(world, monkeypatch):
    deployment = world.wish(SHA_A)

    def short(_environment):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(world.codec, "dump", short)
    for _ in range(MOST_INTERRUPTIONS):
        claim = world.claim()
        with pytest.raises(OSError, match="Too many"):
            world.run(claim, Control())
        world.store.hand_back(claim)
    ended = world.run(world.claim(), Control())
    assert (ended.id, ended.status, ended.cause) == (deployment, Status.failed, Cause.host)
    assert "Too many open files" in ended.error_message


def test_a_deployment_ends_although_its_environment_is_gone_and_what_died_was_on_another_machine(world):
    deployment = die_in_build(world)
    resolved = world.codec.dump(replace(world.environment, labels=("web9",)))

    def gone(key):
        raise NotFound(f"no environment {key}")

    ended = world.running_with(gone)(replace(world.claim(), resolved=resolved), Control())
    assert (ended.id, ended.status) == (deployment, Status.failed)
    assert "web9" in ended.error_message


def test_a_dead_workers_build_is_ended_where_it_ran_although_the_path_has_changed(world):
    die_in_build(world)
    world.configure(app_path=str(world.folder / "elsewhere"))
    assert world.run(world.claim(), Control()).status is Status.success
    assert not world.host.scopes


def test_what_died_here_is_ended_here_and_does_not_start_over_where_its_environment_no_longer_lives(world):
    deployment = die_in_build(world)
    world.configure(labels=("web2",))
    ended = world.run(world.claim(), Control())
    assert (ended.id, ended.status, ended.cause) == (deployment, Status.failed, Cause.preflight)
    assert "[web2]" in world.store.deployment(deployment)["error_message"]
    assert not world.host.scopes
    assert not world.current


def test_a_worker_that_was_replaced_changes_nothing_when_it_wakes_up(world):
    world.deploy(SHA_A)
    world.wish(SHA_B)
    old = world.claim()
    world.store.hand_back(old)
    world.store.register_worker("other", info={})
    new = world.claim("other")
    assert new.token > old.token
    with pytest.raises(TokenOutdated):
        world.run(old, Control())
    assert world.serves() == SHA_A
    assert world.run(new, Control()).status is Status.success


def test_a_rollback_is_a_deployment_of_its_own(world):
    world.deploy(SHA_A)
    world.deploy(SHA_B)
    ended = world.deploy(SHA_A, trigger=Trigger.rollback, release="1-aaaaaaaaaa")
    assert (ended.status, ended.release) == (Status.success, "1-aaaaaaaaaa")
    assert world.serves() == SHA_A
    assert "fetch" not in [step for _, step, _ in world.steps(ended.id)]


def test_a_rollback_to_a_release_that_is_gone_is_refused(world):
    world.deploy(SHA_A)
    ended = world.deploy(SHA_C, trigger=Trigger.rollback, release="9-cccccccccc")
    assert (ended.status, ended.cause) == (Status.failed, Cause.preflight)
    assert world.serves() == SHA_A


def test_old_releases_are_removed_but_not_the_one_to_go_back_to(world):
    world.configure(keep_releases=2)
    for sha in (SHA_A, SHA_B, SHA_C):
        world.deploy(sha)
    assert sorted(p.name for p in (world.app / "releases").iterdir()) == ["2-bbbbbbbbbb", "3-cccccccccc"]


def test_failed_releases_are_removed_before_good_ones(world):
    world.configure(keep_releases=3)
    world.deploy(SHA_A)
    world.prober.unhealthy = {"2-bbbbbbbbbb"}
    world.deploy(SHA_B)
    world.deploy(SHA_C)
    assert sorted(p.name for p in (world.app / "releases").iterdir()) == ["1-aaaaaaaaaa", "3-cccccccccc"]


def test_an_unfinished_release_of_a_failed_build_is_removed_by_the_next_one(world):
    world.configure(build=(BuildCommand(run="exit 1"),))
    world.deploy(SHA_A)
    world.configure(build=())
    world.deploy(SHA_B)
    assert [p.name for p in (world.app / "releases").iterdir()] == ["2-bbbbbbbbbb"]


def test_no_secret_reaches_output_journal_or_error(world):
    secret = "s3cr3t-t0ken"
    world.configure(
        env={"TOKEN": Secret(secret)}, build=(BuildCommand(run=f"echo {secret}"), BuildCommand(run="exit 1"))
    )
    world.host.scripts["exit 1"] = StepFailed(Cause.build, f"cannot build with {secret}", f"unset {secret}")
    ended = world.deploy(SHA_A)
    shown = "".join(piece.text for piece in world.store.output(ended.id))
    everything = f"{ended}{shown}{world.store.steps(ended.id)}{world.store.deployment(ended.id)}"
    assert MASK in shown
    assert secret not in everything
    assert secret.encode() not in b"".join(p.read_bytes() for p in (world.folder / "db").glob("f.db*"))


def test_a_defect_of_ours_ends_the_deployment_with_a_cause(world):
    world.host.scripts["echo building"] = RuntimeError("surprise")
    ended = world.deploy(SHA_A)
    assert (ended.status, ended.cause) == (Status.failed, Cause.internal)
    assert "surprise" in ended.error_message


def test_what_serves_is_what_the_database_says_after_a_rollback(world):
    world.deploy(SHA_A)
    world.prober.unhealthy = {"2-bbbbbbbbbb"}
    world.deploy(SHA_B)
    row = world.store.fraise_status()[0]
    assert Serving(release=row["current_release"], commit=row["current_commit"], healthy=True) == Serving(
        release=world.current, commit=SHA_A, healthy=True
    )


def test_two_deployments_of_one_environment_never_run_at_once(world):
    world.wish(SHA_A)
    claim = world.claim()
    world.wish(SHA_B)
    assert world.store.claim("w", lease=10, environments=[KEY]) is None
    done = threading.Thread(target=world.run, args=(claim, Control()))
    done.start()
    done.join()
    assert world.claim().deployment.commit == SHA_B


def test_an_old_release_that_cannot_be_removed_takes_no_healthy_one_away(world, monkeypatch):
    world.configure(keep_releases=1)
    world.deploy(SHA_A)
    world.deploy(SHA_B)

    def remove(path: str, *, user: str = "") -> None:
        raise StepFailed(Cause.preflight, f"cannot remove {path}: Permission denied")

    monkeypatch.setattr(world.host, "remove", remove)
    ended = world.deploy(SHA_C)
    assert ended.status is Status.success
    assert world.serves() == SHA_C


def test_a_retry_is_another_try_and_not_the_end_of_the_first(world):
    world.retries = Retries(first=0.0)
    world.repository.failures = [StepFailed(Cause.network, "cannot reach the forge")]
    waiting = world.deploy(SHA_A)
    assert waiting.status is Status.pending
    ended = world.run(world.claim(), Control())
    assert ended is not None
    assert (ended.status, ended.commit) == (Status.success, SHA_A)
