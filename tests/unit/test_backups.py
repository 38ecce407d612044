"""Backups are made whole or not at all, and never removed before there is something better."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraisier.domain.backup import CopyState, Destination, Encryption, Retention
from fraisier.domain.errors import Cause, StepFailed, TokenOutdated
from fraisier.domain.run import RunStatus
from tests.backup_world import Killed, World, die_at, make, opened, points, with_spec
from tests.factories import KEY

DAY = 86400.0


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with opened(tmp_path, **getattr(request, "param", {})) as found:
        yield found


# ------------------------------------------------------------------------------------------------ making


def test_a_backup_is_whole_at_every_destination(world: World) -> None:
    ending = world.perform("main")
    name = ending.detail["backup"]
    assert ending.status is RunStatus.success
    assert ending.detail["destinations"] == {"disk": "whole", "vault": "whole"}
    for destination in ("disk", "vault"):
        assert world.on(destination) == [name]
        (copy,) = world.copies(destination)
        assert (copy.state, copy.looked_at is not None, copy.bytes > 0) == (CopyState.whole, True, True)
    assert sorted(each.name for each in (world.shelf.at("/kept") / name).iterdir()) == [
        "manifest.json",
        "orders.shop",
    ]
    assert world.staged() == []


@pytest.mark.parametrize(
    "world", [{"encryption": Encryption(recipients=("r",), identity="/key")}], indirect=True
)
def test_what_is_kept_is_encrypted_and_comes_back(world: World) -> None:
    name = make(world)
    assert not world.file(name).exists()
    assert b"items" not in world.file(name, "orders.shop.rot").read_bytes()
    assert world.perform("verify").detail["verified"] == name


def test_a_destination_that_fails_does_not_keep_the_others_from_it(world: World) -> None:
    world.shelf.broken["disk"] = StepFailed(Cause.network, "cannot reach disk: no route")
    ending = world.perform("main")
    assert ending.status is RunStatus.failed
    assert ending.cause is Cause.backup
    assert "at disk: cannot reach disk: no route" in ending.error
    assert "whole at vault" in ending.hint
    assert (len(world.on("vault")), world.on("disk")) == (1, [])
    assert world.copies("disk") == []


def test_a_copy_that_did_not_come_whole_is_found_at_once(world: World) -> None:
    world.shelf.spoil["vault"] = lambda folder: (folder / "orders.shop").write_bytes(b"")
    ending = world.perform("main")
    assert ending.status is RunStatus.failed
    assert "orders.shop is empty" in ending.error
    (copy,) = world.copies("vault")
    assert (copy.state, copy.detail) == (CopyState.damaged, "orders.shop is empty")
    assert world.copies("disk")[0].state is CopyState.whole


def test_a_source_that_cannot_be_dumped_leaves_nothing_behind(world: World) -> None:
    (world.databases / "orders").unlink()
    with pytest.raises(StepFailed, match="cannot back up orders: cannot connect: there is no such database"):
        world.perform("main")
    assert (world.on("disk"), world.copies("disk"), world.staged()) == ([], [], [])


def test_a_full_disk_says_so_and_leaves_nothing_behind(world: World) -> None:
    real = world._dump

    def full(database: str, file: str) -> tuple[int, str]:
        real(database, file)
        return 1, "pg_dump: error: could not write: No space left on device\n"

    world._dump = full  # type: ignore[method-assign]
    with pytest.raises(StepFailed, match="cannot back up orders: the disk is full") as error:
        world.perform("main")
    assert error.value.cause is Cause.disk
    assert world.staged() == []


@pytest.mark.parametrize(
    "told", ['{"bytes": 0, "sha256": "' + "a" * 64 + '"}', '{"bytes": 5}', "{}", '{"bytes": ', ""]
)
def test_a_dump_that_tells_nothing_is_none(world: World, told: str) -> None:
    world._dump = lambda database, file: (0, told)  # type: ignore[method-assign]
    with pytest.raises(StepFailed, match="cannot back up orders") as error:
        world.perform("main")
    assert error.value.cause is Cause.backup
    assert world.on("disk") == []


def test_whenever_it_dies_nothing_half_is_listed_and_the_next_run_cleans_up(world: World) -> None:
    make(world)
    for point in range(points(world, "main")):
        before = {copy.name for copy in world.copies("disk")}
        die_at(world, point)
        with pytest.raises(Killed):
            world.perform("main")
        for copy in world.copies("disk"):
            assert copy.state is CopyState.whole
            assert world.file(copy.name).exists()
        world.before = lambda _: None
        name = make(world)
        assert world.staged() == []
        assert world.copy(name).state is CopyState.whole
        assert before & {copy.name for copy in world.copies("disk")}
    assert world.perform("verify").status is RunStatus.success


def test_whoever_was_replaced_removes_nothing(world: World) -> None:
    def replaced(words: tuple[str, ...]) -> None:
        if words[:2] == ("shop", "dump") or replaced.done:  # type: ignore[attr-defined]
            replaced.done = True  # type: ignore[attr-defined]
            raise TokenOutdated("cannot go on: another worker has taken over", "")

    replaced.done = False  # type: ignore[attr-defined]
    world.before = replaced
    with pytest.raises(TokenOutdated):
        world.perform("main")
    assert world.staged() != []


def test_a_cancel_stops_it_at_once(world: World) -> None:
    world.shelf.broken["disk"] = StepFailed(Cause.cancelled, "cannot go on: it was cancelled")
    with pytest.raises(StepFailed, match="it was cancelled"):
        world.perform("main")
    assert (world.on("vault"), world.staged()) == ([], [])


# --------------------------------------------------------------------------------------------- retention


def test_what_is_too_old_goes_at_each_destination(world: World) -> None:
    names = [make(world) for _ in range(5)]
    assert world.on("disk") == world.on("vault") == names[2:]
    assert [copy.name for copy in world.copies("disk")] == names[2:]
    assert set(world.store.pruned_copies(KEY, "disk")) == set(names[:2])


@pytest.mark.parametrize("world", [{"retention": Retention(last=1)}], indirect=True)
def test_the_last_verified_one_is_never_removed(world: World) -> None:
    verified = make(world)
    world.perform("verify")
    names = [make(world) for _ in range(3)]
    assert world.on("disk") == [verified, names[-1]]
    world.perform("verify")
    newest = make(world)
    assert world.on("disk") == [names[-1], newest]


@pytest.mark.parametrize("world", [{"retention": Retention(last=1)}], indirect=True)
def test_nothing_goes_where_the_new_one_did_not_arrive(world: World) -> None:
    old = make(world)
    world.shelf.spoil["disk"] = lambda folder: (folder / "orders.shop").write_bytes(b"x")
    assert world.perform("main").status is RunStatus.failed
    assert old in world.on("disk")
    assert world.on("vault") != [old]


def test_a_removal_that_was_cut_off_is_done_the_next_time(world: World) -> None:
    names = [make(world) for _ in range(3)]
    world.shelf.broken["disk.remove"] = StepFailed(Cause.network, "cannot remove: the line is dead")
    ending = world.perform("main")
    assert ending.status is RunStatus.failed
    assert ending.error == "cannot prune at disk: cannot remove: the line is dead"
    assert ending.detail["pruned"] == {"vault": names[:1]}  # the others go on
    assert f"{ending.detail['backup']} is whole at disk, vault" in ending.hint
    del world.shelf.broken["disk.remove"]
    assert names[0] in world.on("disk")
    assert names[0] not in [copy.name for copy in world.copies("disk")]
    make(world)  # it is found again, and nobody knows what it is like
    assert world.copy(names[0]).state is CopyState.unknown
    world.perform("verify")
    make(world)
    assert names[0] not in world.on("disk")
    assert len(world.on("disk")) == 3


def test_what_somebody_else_removed_is_gone_and_forgotten_when_it_would_have_gone(world: World) -> None:
    names = [make(world) for _ in range(2)]
    world.shelf.remove(Destination(name="disk", kind="shelf", place="/kept"), names[:1], world.desk)  # type: ignore[arg-type]
    ending = world.perform("verify")
    assert ending.status is RunStatus.failed
    assert "not there any more, and Fraisier did not remove it" in ending.error
    assert world.copy(names[0]).state is CopyState.gone
    assert "cannot be relied on" in world.alerts()["backup"]
    for _ in range(2):
        make(world)
    assert names[0] not in [copy.name for copy in world.copies("disk")]
    assert world.perform("verify").status is RunStatus.success
    assert world.alerts() == {}


def test_a_disk_that_is_not_mounted_has_not_lost_its_backups_and_gets_no_new_one(world: World) -> None:
    """Its mount point is a folder, and empty."""
    names = [make(world) for _ in range(2)]
    shelf, aside = world.shelf.at("/kept"), world.shelf.at("/aside")
    shelf.rename(aside)
    shelf.mkdir()
    ending = world.perform("main")
    assert "cannot see any of the 2 backups that should be in /kept: is it mounted" in ending.error
    assert (list(shelf.iterdir()), len(world.on("vault"))) == ([], 3)
    for job in ("verify", "prune"):
        ending = world.perform(job)
        assert (ending.status, "is it mounted" in ending.error) == (RunStatus.failed, True)
    assert {world.copy(name).state for name in names} == {CopyState.whole}
    shelf.rmdir()
    aside.rename(shelf)
    make(world)
    assert world.perform("verify").status is RunStatus.success


def test_a_person_says_that_all_of_a_destinations_backups_are_lost(world: World) -> None:
    make(world)
    shutil.rmtree(world.shelf.at("/kept"))
    assert world.perform("main").status is RunStatus.failed
    assert world.perform("prune", damaged="yes").status is RunStatus.success
    make(world)
    assert len(world.on("disk")) == 1


def test_prune_looks_before_it_removes(world: World) -> None:
    names = [make(world) for _ in range(3)]
    with_spec(world, retention=Retention(last=1))
    world.file(names[-1]).write_bytes(b"spoilt")
    ending = world.perform("prune")
    assert ending.detail["pruned"] == {"disk": [], "vault": names[:2]}
    assert world.on("disk") == names


def test_prune_looks_at_the_newest_that_is_no_safety_copy(world: World) -> None:
    names = [make(world) for _ in range(3)]
    safety = str(world.perform("restore", force="yes").detail["safety"])
    with_spec(world, retention=Retention(last=1))
    world.file(names[-1]).write_bytes(b"spoilt")
    assert world.perform("prune").detail["pruned"] == {"disk": [], "vault": names[:2]}
    assert world.on("disk") == [*names, safety]


def test_prune_gives_up_what_is_damaged_only_when_asked(world: World) -> None:
    names = [make(world) for _ in range(2)]
    world.file(names[0]).write_bytes(b"spoilt")
    world.perform("verify")
    assert world.perform("prune").detail["pruned"]["disk"] == []  # type: ignore[index]
    assert world.perform("prune", damaged="yes").detail["pruned"]["disk"] == [names[0]]  # type: ignore[index]
    assert world.perform("verify").status is RunStatus.success


def test_prune_goes_on_at_other_destinations(world: World) -> None:
    make(world)
    world.shelf.broken["disk.names"] = StepFailed(Cause.network, "cannot list: the credentials have expired")
    ending = world.perform("prune")
    assert ending.status is RunStatus.failed
    assert "at disk: cannot list: the credentials have expired" in ending.error
