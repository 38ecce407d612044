"""A deployment's database: asked, judged, locked, backed up and taken back, on a played host and a real store."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from fraisier.application.control import Control
from fraisier.domain.deployment import Status, Trigger, Wish
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Database, Environment, EnvironmentKey
from fraisier.domain.migration import OnIrreversible, Reversible
from fraisier.domain.secret import Secret
from tests.factories import KEY, SHA_A, SHA_B, fraise
from tests.unit.test_run_deployment import Death, World

ALL = ["1", "2", "3"]


class FakeDatabase:
    """A database whose migrations are numbered, behind the shell lines of `framework: command`."""

    def __init__(self, world: World, **keys: object) -> None:
        self.world = world
        self.applied: list[str] = []
        self.wanted = ALL[:1]
        self.fails_at = ""
        self.unreachable = False
        self.dies_at = ""
        self.dies_down = ""
        self.keys = {"up": "up", "down": "down", "current": "current", "pending": "pending", **keys}
        world.configure(database=Database(**self.keys))  # type: ignore[arg-type]
        lines = {"up": self.up, "down": self.down, "current": self.current, "pending": self.pending}
        world.host.scripts.update(lines)

    def current(self, command, job):
        if self.unreachable:
            return 75
        job.output(("\n".join(self.applied[-1:]) + "\n").encode())
        return 0

    def pending(self, command, job):
        job.output("\n".join(n for n in self.wanted if n not in self.applied).encode())
        return 0

    def up(self, command, job):
        for number in self.wanted:
            if number == self.dies_at:
                raise Death
            if number == self.fails_at:
                return 1
            if number not in self.applied:
                self.applied.append(number)
        return 0

    def down(self, command, job):
        to = command.env["FRAISIER_REVISION"]
        while self.applied and self.applied[-1] != to:
            if self.applied[-1] == self.dies_down:
                raise Death
            self.applied.pop()
        return 0


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    for sha in (SHA_A, SHA_B):
        made.repository.commit(sha)
    yield made
    made.store.close()


def database(world: World, **keys: object) -> FakeDatabase:
    """Of an environment that runs SHA_A at revision 1; SHA_B wants 2 and 3, too."""
    made = FakeDatabase(world, **keys)
    assert world.deploy(SHA_A).status is Status.success
    made.wanted = ALL
    return made


def killed(world: World, commit: str = SHA_B) -> None:
    """Its worker dies, and another one finds what it left."""
    world.wish(commit)
    claim = world.claim()
    with contextlib.suppress(Death):
        world.run(claim, Control())
    world.store.register_worker("other", info={})
    world.store.hand_back(claim)


def resumed(world: World):
    ended = world.run(world.claim("other"), Control())
    assert ended is not None
    return ended


def notes(world: World) -> list[tuple[str, str]]:
    rows = world.store.database_changes(KEY)
    newest = rows[-1]["deployment_id"]
    return [(row["kind"], row["revision"]) for row in rows if row["deployment_id"] == newest]


def test_the_revision_before_is_on_disk_before_a_migration_begins(world):
    base = database(world)
    seen = []
    up = base.up
    world.host.scripts["up"] = lambda command, job: (seen.extend(notes(world)), up(command, job))[1]
    assert world.deploy(SHA_B).status is Status.success
    assert seen == [("planned", "1")]
    assert notes(world) == [("planned", "1"), ("migrated", "3")]


def test_a_migration_that_fails_in_the_middle_is_taken_back_to_the_noted_revision(world):
    base = database(world)
    base.fails_at = "3"
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.failed, Cause.migration)
    assert (base.applied, world.serves()) == (["1"], SHA_A)
    assert "The database was taken back" in ended.error_message


def test_a_migration_that_fails_stays_where_it_is_not_reversible(world):
    base = database(world, reversible=Reversible.no)
    base.fails_at = "3"
    ended = world.deploy(SHA_B)
    assert (ended.status, base.applied) == (Status.failed, ["1", "2"])
    assert "stays so at revision 2: the migration is forward-only" in ended.error_message
    assert notes(world)[-1] == ("left", "2")


def test_a_migration_that_changed_nothing_is_said_to_have_changed_nothing(world):
    base = database(world, reversible=Reversible.no)
    base.fails_at = "2"
    assert "The database is as it was, at revision 1" in world.deploy(SHA_B).error_message


def test_a_migration_that_has_begun_is_not_tried_again_whatever_became_of_it(world):
    database(world)
    world.host.scripts["up"] = StepFailed(Cause.host, "cannot reach the host")
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.failed, Cause.host)
    assert notes(world)[-1] == ("taken_back", "1")


def test_a_database_that_cannot_be_reached_is_asked_again_later(world):
    base = database(world)
    base.unreachable = True
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.pending, Cause.database)
    assert base.applied == ["1"]


@pytest.mark.parametrize(("dies_at", "status"), [("2", Status.success), ("3", Status.failed)])
def test_a_migration_whose_worker_died_is_repeated_only_if_it_had_not_begun(world, dies_at, status):
    base = database(world)
    base.dies_at = dies_at
    killed(world)
    base.dies_at = ""
    ended = resumed(world)
    assert ended.status is status
    if status is Status.failed:
        assert ended.cause is Cause.migration_interrupted
        assert "was at revision 1, is at 2" in ended.error_message
        assert (base.applied, world.serves()) == (["1", "2"], SHA_A), "nothing is touched any more"
    else:
        assert (base.applied, world.serves()) == (ALL, SHA_B)


def test_a_migration_that_was_done_when_its_worker_died_is_not_done_again(world):
    base = database(world)
    ups = []

    def die(command, job):
        ups.append(command)
        base.up(command, job)
        raise Death

    world.host.scripts["up"] = die
    killed(world)
    assert resumed(world).status is Status.success
    assert (len(ups), base.applied, world.serves()) == (1, ALL, SHA_B)
    assert notes(world) == [("planned", "1"), ("migrated", "3")]


@pytest.mark.parametrize("dies_down", ["3", "2"])
def test_a_way_down_that_was_interrupted_goes_on_only_from_where_it_began(world, dies_down):
    base = database(world)
    world.prober.unhealthy.add("2-" + SHA_B[:10])
    base.dies_down = dies_down
    killed(world)
    base.dies_down = ""
    ended = resumed(world)
    assert world.serves() == SHA_A
    if dies_down == "3":
        assert (ended.status, base.applied) == (Status.rolled_back, ["1"])
    else:
        assert (ended.status, base.applied) == (Status.rollback_failed, ["1", "2"])
        assert "at revision 2, between 3 and 1" in ended.error_message


def test_a_refused_migration_has_changed_nothing_and_bars_no_commit(world):
    base = database(world, reversible=Reversible.no, on_irreversible=OnIrreversible.refuse)
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.failed, Cause.irreversible)
    assert (base.applied, notes(world)[-1]) == (["1"], ("migrated", "1")), "the note is of the release before"
    world.configure(database=Database(**{**base.keys, "on_irreversible": OnIrreversible.proceed}))
    assert world.deploy(SHA_B, trigger=Trigger.manual).status is Status.success, "it is not quarantined"


def test_a_cancel_in_the_middle_takes_the_database_back(world):
    base = database(world)
    control = Control()

    def cancelled(command, job):
        base.applied.append("2")
        control.cancel("bob")
        raise StepFailed(Cause.cancelled, "cannot finish: it was told to stop")

    world.host.scripts["up"] = cancelled
    world.wish(SHA_B)
    ended = world.run(world.claim(), control)
    assert (ended.status, base.applied) == (Status.cancelled, ["1"])
    assert "taken back" in ended.error_message


def test_a_secret_that_is_printed_as_a_revision_is_not_noted(world):
    world.configure(env={"TOKEN": Secret("hunter2hunter2", "${TOKEN}")})
    base = FakeDatabase(world)
    base.applied = ["hunter2hunter2"]
    ended = world.deploy(SHA_A)
    assert (ended.status, ended.cause) == (Status.failed, Cause.migration)
    assert "hunter2" not in str(world.store.database_changes(KEY)) + ended.error_message


@pytest.mark.parametrize("said", ["--sql\n", "1\n2\n", "$(reboot)\n", "x" * 5000])
def test_what_is_no_revision_stops_the_deployment_before_anything_is_changed(world, said):
    base = database(world)

    def current(command, job):
        job.output(said.encode())
        return 0

    world.host.scripts["current"] = current
    ended = world.deploy(SHA_B)
    assert (ended.status, ended.cause, base.applied) == (Status.failed, Cause.migration, ["1"])
    assert "cannot tell the database's revision" in ended.error_message


# ----------------------------------------------------------------------------------------------- the lock

OTHER = EnvironmentKey("jobs", "production")


def other_environment(world: World) -> Environment:
    return replace(world.environment, fraise="jobs", app_path=f"{world.folder}/jobs")


@pytest.fixture
def claims(world):
    """Two deployments under way, of two fraises with one database."""
    world.configure(database=Database(up="up", lock="orders"))
    world.store.publish(
        [fraise(world.environment), fraise(other_environment(world))], digest="d", documents={}
    )
    world.wish(SHA_A)
    first = world.claim()
    world.store.request(Wish(environment=OTHER, ref="refs/heads/main", trigger=Trigger.manual, commit=SHA_A))
    second = world.store.claim("w", lease=10, environments=[OTHER])
    assert second is not None
    return first, second


def test_a_dead_worker_s_database_is_free_only_when_somebody_has_ended_its_commands(world, claims):
    first, second = claims
    world.store.lock_database(first, "orders")
    world.store.hand_back(first)
    assert world.store.lock_database(second, "orders") is not None
    assert world.run(world.store.claim("w", lease=10, environments=[KEY]), Control()) is not None
    assert world.store.lock_database(second, "orders") is None
