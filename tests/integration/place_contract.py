"""What every kind of place promises. A subclass gives `world`: a real one."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from fraisier.application.ports import DestinationBrand
from fraisier.domain.backup import Destination
from fraisier.domain.errors import Cause, FraisierError, StepFailed
from tests.desks import RealDesk, theirs
from tests.integration.source_contract import SECRET, arguments_while

NAMES = [f"2026112{day}T101500Z-0000000{day}" for day in range(4)]
MANIFEST = "manifest.json"
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class World(Protocol):
    """A place that can be damaged."""

    brand: DestinationBrand
    place: Destination
    wrong: Destination  # the same with a credential that is refused, or where nobody may write

    def damage(self, name: str, file: str, fault: str) -> bool:
        """Truncate it, flip bits of it, or remove it, behind the brand's back; False: it cannot happen."""
        ...

    def close(self, name: str, file: str) -> bool:
        """Let nobody read a file, or, '', look into the backup; False: it cannot happen."""
        ...

    def leftovers(self) -> list[str]:
        """What is there that belongs to no whole backup."""
        ...


class PlaceContract:
    """The tests; pytest collects them through subclasses named Test…."""

    @pytest.fixture
    def staged(self, folder: Path) -> Path:
        """A backup as it is made: flat files, the manifest among them."""
        return stage(folder, NAMES[1])

    @pytest.fixture
    def init(self) -> Iterator[None]:
        """This process is init to what its children leave behind.

        That of a container may never reap them, and restic takes a zombie for a process that holds its lock.
        """
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        yield
        prctl(_PR_SET_CHILD_SUBREAPER, 0)

    def test_what_was_stored_is_listed_and_comes_back(
        self, desk: RealDesk, world: World, staged: Path
    ) -> None:
        brand, place = world.brand, world.place
        assert list(brand.names(place, desk)) == []
        brand.store(place, NAMES[1], str(staged), desk)
        assert list(brand.names(place, desk)) == [NAMES[1]]
        assert brand.read(place, NAMES[1], MANIFEST, desk) == (staged / MANIFEST).read_bytes()
        back = staged.parent / "back"
        new_folder(back)
        brand.fetch(place, NAMES[1], str(back), desk)
        assert content(back) == content(staged)

    def test_backups_are_listed_oldest_first_and_removed_alone(
        self, desk: RealDesk, world: World, staged: Path
    ) -> None:
        for name in (NAMES[2], NAMES[0], NAMES[1]):
            world.brand.store(world.place, name, str(staged), desk)
        assert list(world.brand.names(world.place, desk)) == NAMES[:3]
        world.brand.remove(world.place, [NAMES[0], NAMES[2]], desk)
        assert list(world.brand.names(world.place, desk)) == [NAMES[1]]
        assert world.leftovers() == []
        back = staged.parent / "back"
        new_folder(back)
        world.brand.fetch(world.place, NAMES[1], str(back), desk)
        assert content(back) == content(staged)

    def test_environments_that_share_a_place_do_not_see_each_other(
        self, desk: RealDesk, world: World, staged: Path
    ) -> None:
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        desk.environment = replace(desk.environment, name="staging")
        assert list(world.brand.names(world.place, desk)) == []
        world.brand.store(world.place, NAMES[1], str(staged), desk)
        desk.environment = replace(desk.environment, name="production")
        assert list(world.brand.names(world.place, desk)) == [NAMES[0]]

    def test_a_look_reads_what_is_there(self, desk: RealDesk, world: World, staged: Path) -> None:
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        files = [*content(staged), "missing"]
        found = world.brand.look(world.place, NAMES[0], files, desk)
        assert dict(found) == {
            name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in content(staged).items()
        }

    @pytest.mark.parametrize("fault", ["empty", "truncated", "flipped", "missing"])
    def test_a_look_finds_what_was_damaged(
        self, desk: RealDesk, world: World, staged: Path, fault: str
    ) -> None:
        """It tells another size or checksum, or nothing of the file."""
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        data = content(staged)["db.dump"]
        if not world.damage(NAMES[0], "db.dump", fault):
            pytest.skip("cannot happen there")
        found = world.brand.look(world.place, NAMES[0], ["db.dump"], desk)
        assert found.get("db.dump") != (len(data), hashlib.sha256(data).hexdigest())

    @pytest.mark.parametrize("file", ["db.dump", ""])
    def test_what_nobody_may_read_now_is_neither_missing_nor_damaged(
        self, desk: RealDesk, world: World, staged: Path, file: str
    ) -> None:
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        if not world.close(NAMES[0], file):
            pytest.skip("cannot happen there")
        with pytest.raises(StepFailed, match=f"cannot look at {NAMES[0]}.*ermission denied"):
            world.brand.look(world.place, NAMES[0], ["missing", "db.dump", MANIFEST], desk)
        assert list(world.brand.names(world.place, desk)) == [NAMES[0]]

    def test_a_name_that_is_none_is_never_removed(self, desk: RealDesk, world: World) -> None:
        for name in ("..", "", "production", "*"):
            with pytest.raises(ValueError, match="not the name of a backup"):
                world.brand.remove(world.place, [name], desk)

    def test_a_backup_that_is_not_there_cannot_be_fetched_or_read(
        self, desk: RealDesk, world: World, staged: Path
    ) -> None:
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        back = staged.parent / "back"
        new_folder(back)
        with pytest.raises(StepFailed, match="cannot fetch"):
            world.brand.fetch(world.place, NAMES[3], str(back), desk)
        with pytest.raises(StepFailed, match="cannot read"):
            world.brand.read(world.place, NAMES[3], MANIFEST, desk)

    def test_where_it_may_not_write_it_says_so(self, desk: RealDesk, world: World, staged: Path) -> None:
        with pytest.raises(StepFailed, match=f"cannot keep {NAMES[0]}") as caught:
            world.brand.store(world.wrong, NAMES[0], str(staged), desk)
        assert caught.value.cause in (Cause.backup, Cause.network)
        (problem, *_) = world.brand.problems(world.wrong, desk)
        assert problem.message.startswith("cannot keep backups in")
        assert SECRET not in str(caught.value) + problem.message + "".join(desk.said)

    def test_it_has_no_problems(self, desk: RealDesk, world: World) -> None:
        found = list(world.brand.problems(world.place, desk))
        assert found == [], found

    def test_a_store_that_was_interrupted_is_not_listed_and_is_cleaned_up(
        self, desk: RealDesk, world: World, folder: Path, init: None
    ) -> None:
        """Cancelled at moments that a short wait comes upon: the host ends all of it by kill -9."""
        staged = stage(folder, NAMES[1], size=60 << 20)
        slow_down(desk, theirs(folder.parent / "slow"))
        interrupted = 0
        for delay in (0.05, 0.15, 0.3, 0.6):
            timer = threading.Timer(delay, desk.stop.set)
            timer.start()
            try:
                world.brand.store(world.place, NAMES[1], str(staged), desk)
            except FraisierError:
                interrupted += 1
            timer.cancel()
            timer.join()
            desk.stop.clear()
            reap()
            if listed := list(world.brand.names(world.place, desk)):
                found = world.brand.look(world.place, NAMES[1], ["db.dump"], desk)
                assert found["db.dump"][1] == hashlib.sha256((staged / "db.dump").read_bytes()).hexdigest()
                world.brand.remove(world.place, listed, desk)
        assert interrupted, "none of them came in time"
        reap()
        shutil.rmtree(staged)
        world.brand.store(world.place, NAMES[2], str(stage(folder, NAMES[2])), desk)
        assert list(world.brand.names(world.place, desk)) == [NAMES[2]]
        assert world.leftovers() == []

    def test_no_secret_is_an_argument_or_printed(self, desk: RealDesk, world: World, staged: Path) -> None:
        seen = arguments_while(lambda: world.brand.store(world.place, NAMES[0], str(staged), desk))
        assert not [words for words in seen if SECRET in words]
        assert SECRET not in "\n".join(desk.said)
        for command in desk.commands:
            assert SECRET not in " ".join(command.argv)


def slow_down(desk: RealDesk, programs: Path) -> None:
    """What copies begins later by more than the host needs to see that it is to stop, on any machine."""
    for name in ("cp", "rsync", "sync", "restic"):
        (programs / name).write_text(f'#!/bin/sh\nsleep 0.25\nexec /usr/bin/{name} "$@"\n')
        (programs / name).chmod(0o755)
    desk.environment = replace(desk.environment, env={"PATH": f"{programs}:/usr/bin:/bin"})


def reap() -> None:
    """Each child that has ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def new_folder(path: Path) -> None:
    """One of the environment's user."""
    path.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(path, path.parent.owner())


def stage(folder: Path, name: str, size: int = 300_000) -> Path:
    """A folder with a backup in it."""
    made = folder / name
    new_folder(made)
    for file, data in {
        "db.dump": os.urandom(size),
        "db.dump.roles.sql": b"CREATE ROLE x;\n",
        "files.tar.packed": os.urandom(1000),
        MANIFEST: b'{"name": "%s"}\n' % name.encode(),
    }.items():
        (made / file).write_bytes(data)
        if os.geteuid() == 0:
            shutil.chown(made / file, folder.owner())
    return made


def content(folder: Path) -> dict[str, bytes]:
    """Every file in a flat folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def spoil(file: Path, fault: str) -> None:
    """What disks do to files."""
    from tests.integration.source_contract import damage

    if fault == "missing":
        file.unlink()
    else:
        damage(file, fault)
