"""Every copy is looked at, and the newest backup brought back; whatever is wrong is found within one cycle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fraisier.application.look_at_copies import LookAtCopies
from fraisier.application.ports import Desk
from fraisier.application.watch_backups import WatchBackups
from fraisier.database.sqlite import open_sqlite
from fraisier.domain.backup import CopyState, Destination, Retention, Source
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.run import RunStatus
from tests.backup_world import FakeDesk, Killed, World, die_at, make, opened, points, sha256, with_spec
from tests.factories import KEY

DAY = 86400.0


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with opened(tmp_path, **getattr(request, "param", {})) as found:
        yield found


# ------------------------------------------------------------------------------------------------ trying


def test_the_newest_is_brought_back_compared_and_dropped(world: World) -> None:
    make(world)
    name = make(world)
    ending = world.perform("verify")
    assert (ending.status, ending.detail["verified"]) == (RunStatus.success, name)
    for destination in ("disk", "vault"):
        assert world.copy(name, destination).verified_at is not None
    assert world.rows("scratch_orders") is None
    assert world.staged() == []
    assert world.rows() == {"items": [1, 2, 3], "people": [1]}


FAULTS = {
    "changed": lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("file", ["orders.shop", "manifest.json"])
@pytest.mark.parametrize("which", [0, 1])
def test_whatever_is_wrong_with_a_copy_is_found_within_one_cycle(
    world: World, fault: str, file: str, which: int
) -> None:
    names = [make(world) for _ in range(2)]
    FAULTS[fault](world.file(names[which], file))
    ending = world.perform("verify")
    assert ending.status is RunStatus.failed
    assert world.copy(names[which]).state is CopyState.damaged
    assert world.copy(names[which], "vault").state is CopyState.whole
    assert f"{names[which]} at disk" in world.alerts()["backup"]
    assert ending.detail["verified"] == names[1]  # the other destination has it whole
    for _ in range(4):
        make(world)
    assert any(copy.is_good and copy.verified_at for copy in world.store.copies(KEY))


def test_a_manifest_that_was_changed_tells_nothing_of_its_backup(world: World) -> None:
    name = make(world)
    known = world.copy(name)
    manifest = world.file(name, "manifest.json")
    changed = {**json.loads(manifest.read_text()), "safety": True}
    changed["artefacts"][0]["bytes"] += 100
    manifest.write_text(json.dumps(changed))
    world.perform("verify")
    copy = world.copy(name)
    assert (copy.state, copy.detail) == (CopyState.damaged, "its manifest is another than it was")
    assert (copy.safety, copy.bytes, copy.made_at) == (False, known.bytes, known.made_at)


def test_a_destination_that_cannot_be_read_is_told_and_ends_when_it_can_be(world: World) -> None:
    make(world)
    world.shelf.broken["vault"] = StepFailed(Cause.backup, "cannot read vault: the credentials have expired")
    ending = world.perform("verify")
    assert ending.status is RunStatus.failed
    assert "vault cannot be read: cannot read vault: the credentials have expired" in ending.error
    assert world.copies("vault")[0].state is CopyState.whole
    assert "credentials have expired" in world.alerts()["backup"]
    world.shelf.broken.clear()
    assert world.perform("verify").status is RunStatus.success
    assert world.alerts() == {}


@pytest.mark.parametrize("verb", ["read", "look"])
def test_a_copy_that_cannot_be_read_now_is_not_damaged_and_no_rule_acts_on_it(
    world: World, verb: str
) -> None:
    names = [make(world) for _ in range(3)]
    with_spec(world, retention=Retention(last=1))
    known = world.copy(names[-1])
    world.shelf.broken[f"disk.{verb}"] = StepFailed(Cause.backup, "cannot look: Permission denied")
    ending = world.perform("verify")
    assert (ending.status, ending.detail["verified"]) == (RunStatus.failed, names[-1])
    copy = world.copy(names[-1])
    assert (copy.state, copy.is_good, copy.manifest) == (CopyState.unknown, False, known.manifest)
    assert copy.detail == "it cannot be read now: cannot look: Permission denied"
    assert f"{names[0]} at disk: {copy.detail}" in world.alerts()["backup"]
    assert world.perform("prune", damaged="yes").detail["pruned"] == {"disk": [], "vault": names[:2]}
    world.shelf.broken.clear()
    assert world.perform("verify").status is RunStatus.success
    assert (world.copy(names[-1]).state, world.copy(names[-1]).detail) == (CopyState.whole, "")
    assert world.alerts() == {}
    assert world.perform("prune").detail["pruned"] == {"disk": names[:2], "vault": []}


def test_an_older_copy_that_cannot_be_read_stays_until_it_can_be(world: World) -> None:
    names = [make(world) for _ in range(3)]
    place = world.environment.backup.destinations[0]  # type: ignore[union-attr]
    world.shelf.broken["disk.look"] = StepFailed(Cause.backup, "cannot look: Input/output error")
    desk = FakeDesk(world, world.claim("verify"))
    LookAtCopies(world.tools).look(desk, place, world.copy(names[0]))
    world.shelf.broken.clear()
    with_spec(world, retention=Retention(last=1))
    assert world.perform("prune").detail["pruned"] == {"disk": [names[1]], "vault": names[:2]}


def test_a_manifest_that_is_not_there_is_damage_whatever_reading_it_said(world: World) -> None:
    name = make(world)
    world.file(name, "manifest.json").unlink()
    world.perform("verify")
    copy = world.copy(name)
    assert (copy.state, copy.detail) == (CopyState.damaged, "manifest.json is missing")


def test_a_destination_that_is_not_there_says_nothing_about_backups_elsewhere(world: World) -> None:
    names = [make(world) for _ in range(2)]
    world.perform("verify")
    world.shelf.broken["disk"] = StepFailed(Cause.backup, "cannot list the backups: there is no folder /kept")
    ending = world.perform("verify")
    assert ending.detail["verified"] == names[1]
    assert ending.detail["problems"] == [
        "disk cannot be read: cannot list the backups: there is no folder /kept"
    ]
    assert [copy.flaw for copy in world.store.copies(KEY)] == [""] * 4


FETCHED = [(Cause.backup, "it came damaged"), (Cause.network, "")]


@pytest.mark.parametrize(("cause", "flaw"), FETCHED)
def test_what_one_destination_does_not_give_back_another_does(world: World, cause: Cause, flaw: str) -> None:
    name = make(world)
    world.shelf.broken["disk.fetch"] = StepFailed(cause, "it came damaged")
    ending = world.perform("verify")
    assert (ending.status, ending.detail["verified"]) == (RunStatus.failed, name)
    assert f"{name} at disk cannot be restored: it came damaged" in world.alerts()["backup"]
    assert (world.copy(name).flaw, world.copy(name).verified_at) == (flaw, None)
    assert (world.copy(name, "vault").flaw, world.copy(name, "vault").verified_at is None) == ("", False)
    assert world.staged() == []


def test_what_was_found_is_told_whatever_keeps_the_trial(world: World) -> None:
    name = make(world)
    world.file(name).write_bytes(b"x")
    world._make = lambda database: (1, "could not connect to server\n")  # type: ignore[method-assign]
    with pytest.raises(StepFailed, match="cannot make a place"):
        world.perform("verify")
    assert f"{name} at disk: orders.shop has 1 bytes" in world.alerts()["backup"]


def test_a_backup_of_which_nothing_is_known_any_more_is_not_verified(world: World) -> None:
    name = make(world)
    with_spec(world, sources=(Source(name="shop", kind="shop", url="shop:///orders"),))
    with pytest.raises(StepFailed, match=f"cannot try {name}: no source is what orders was"):
        world.perform("verify")
    assert (world.copy(name).verified_at, world.copy(name).flaw) == (None, "")


def test_a_backup_that_is_made_meanwhile_is_not_gone(world: World) -> None:
    make(world)
    names, made = world.shelf.names, []

    def slowly(place: Destination, desk: Desk) -> Sequence[str]:
        found = names(place, desk)
        if not made:
            made.append("")
            made[0] = make(world)
        return found

    world.shelf.names = slowly  # type: ignore[method-assign]
    world.perform("verify")
    assert world.copy(made[0]).state is CopyState.whole


def test_one_that_cannot_be_restored_is_flawed_and_the_one_before_it_tried(world: World) -> None:
    good = make(world)
    real = world._dump
    world._dump = lambda database, file: _spoilt(real(database, file), world, file)  # type: ignore[method-assign]
    bad = make(world)
    ending = world.perform("verify")
    assert ending.status is RunStatus.failed
    assert f"{bad} cannot be restored: cannot bring orders back: the dump is damaged" in ending.error
    assert ending.detail["verified"] == good
    assert world.copy(bad).flaw
    assert not world.copy(bad).is_good
    assert world.rows("scratch_orders") is None
    world._dump = real  # type: ignore[method-assign]
    for _ in range(5):
        make(world)
    assert good in world.on("disk")


def _spoilt(told: tuple[int, str], world: World, file: str) -> tuple[int, str]:
    """A dump that is no dump, though its checksum is right."""

    path = Path(world.host.root + file)
    path.write_text("no dump")
    known = json.loads(told[1].splitlines()[-1])
    return 0, json.dumps({**known, "bytes": path.stat().st_size, "sha256": sha256(path)})


def test_other_rows_than_were_dumped_are_a_flaw(world: World) -> None:
    make(world)
    real = world._restore

    def lossy(file: str, database: str) -> tuple[int, str]:
        code = real(file, database)
        world.write(database, items=[1, 2], people=[1])
        return code

    world._restore = lossy  # type: ignore[method-assign]
    ending = world.perform("verify")
    assert "table items has 2 rows, and had 3 when it was dumped" in ending.error
    assert ending.detail["verified"] == ""


ASKED = [("items", "", ""), ("items", "3", ""), ("items", "4", "answered '3', and not '4'")]
ASKED += [("nothing", "", "answered '0'"), ("broken", "", "its query failed: no such table")]


@pytest.mark.parametrize(("query", "expect", "flaw"), ASKED)
def test_the_users_query_decides(world: World, query: str, expect: str, flaw: str) -> None:
    source = Source(name="orders", kind="shop", url="shop:///orders", query=query, expect=expect)
    with_spec(world, sources=(source,))
    make(world)
    ending = world.perform("verify")
    assert (ending.status is RunStatus.success) == (not flaw)
    assert flaw in ending.error


def test_what_is_not_the_backups_fault_is_no_flaw(world: World) -> None:
    name = make(world)
    world._make = lambda database: (1, "could not connect to server\n")  # type: ignore[method-assign]
    with pytest.raises(StepFailed, match="cannot make a place to bring orders back") as error:
        world.perform("verify")
    assert error.value.cause is Cause.database
    assert world.copy(name).flaw == ""


def test_whenever_a_verification_dies_its_places_are_removed_by_the_next(world: World) -> None:
    name = make(world)
    for point in range(points(world, "verify")):
        die_at(world, point)
        with pytest.raises(Killed):
            world.perform("verify")
        assert world.copy(name).state is CopyState.whole
        assert world.copy(name).flaw == ""
        world.before = lambda _: None
        assert world.perform("verify").status is RunStatus.success
        assert world.rows("scratch_orders") is None
        assert world.staged() == []


def test_without_any_backup_there_is_nothing_to_rely_on(world: World) -> None:
    ending = world.perform("verify")
    assert "there is no whole backup that could be brought back" in ending.error
    assert "backup" in world.alerts()


def test_what_nobody_knew_is_found_looked_at_and_verified(world: World, tmp_path: Path) -> None:
    name = make(world)
    store = open_sqlite(f"sqlite://{tmp_path}/new.db", state_folder=str(tmp_path))
    other = World(store, world.host, world.environment)  # Fraisier's own database was lost
    other.clock.advance(10 * DAY)
    ending = other.perform("verify")
    assert (ending.status, ending.detail["verified"]) == (RunStatus.success, name)
    assert [copy.state for copy in other.copies()] == [CopyState.whole]
    store.close()


# ---------------------------------------------------------------------------------------------- watching


def test_an_environment_is_unhealthy_while_nothing_was_verified_within_its_period(world: World) -> None:
    world.store.note_copies(KEY, [])
    watch = WatchBackups(world.store, world.clock)
    make(world)
    watch([world.environment])
    assert world.alerts() == {}  # who has just begun has time
    world.clock.advance(8 * DAY)
    (alert,) = watch([world.environment])
    assert alert.message == "no backup was ever verified"
    assert watch([world.environment]) == []
    assert world.store.fraise_status("orders", "production")[0]["healthy"] is False
    world.perform("verify")
    assert world.alerts() == {}
    world.clock.advance(8 * DAY)
    (alert,) = watch([world.environment])
    assert alert.message == "no backup was verified for 9.0 days"
    make(world)
    world.perform("verify")
    watch([world.environment])
    assert world.alerts() == {}


def test_that_there_is_no_backup_is_told_however_often_workers_restart(world: World) -> None:
    for _ in range(9):
        assert WatchBackups(world.store, world.clock)([world.environment]) == []
        world.clock.advance(DAY)
    (alert,) = WatchBackups(world.store, world.clock)([world.environment])
    assert alert.message == "there is no backup"


def test_a_verified_backup_that_was_damaged_since_counts_no_more(world: World) -> None:
    name = make(world)
    world.perform("verify")
    for place in ("/kept", "/vault"):
        world.file(name, place=place).write_bytes(b"x")
    world.perform("verify")
    world.clock.advance(8 * DAY)
    (alert,) = WatchBackups(world.store, world.clock)([world.environment])
    assert alert.message == "no backup was ever verified"


def test_nobody_asks_where_nobody_has_to(world: World) -> None:
    with_spec(world, verified_within=0.0)
    make(world)
    world.clock.advance(100 * DAY)
    assert WatchBackups(world.store, world.clock)([world.environment]) == []
