"""Kinds of places where backups are kept, each a real one: stored, listed, damaged, interrupted, brought back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.backup_places.folder import FolderPlace
from fraisier.domain.backup import Destination
from fraisier.domain.errors import Cause, StepFailed
from tests.desks import desk, folder, open_path, theirs
from tests.disks import disk
from tests.integration.place_contract import NAMES, PlaceContract, World, spoil, stage

__all__ = ["desk", "folder", "open_path"]


# -------------------------------------------------------------------------------------------------------- folder
class Shelf:
    """A folder on a disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = theirs(folder)
        self.brand = FolderPlace()
        self.place = Destination(name="disk", kind="folder", place=str(folder))
        closed = folder.parent / "closed"
        closed.mkdir()
        self.wrong = replace(self.place, place=str(closed))

    def damage(self, name: str, file: str, fault: str) -> bool:
        spoil(self.folder / "orders/production" / name / file, fault)
        return True

    def close(self, name: str, file: str) -> bool:
        (self.folder / "orders/production" / name / file).chmod(0)
        return True

    def leftovers(self) -> list[str]:
        ours = self.folder / "orders/production"
        return [path.name for path in ours.iterdir() if not (path / "manifest.json").exists()]


class TestFolder(PlaceContract):
    @pytest.fixture
    def world(self, open_path: Path) -> World:
        return Shelf(open_path / "shelf")

    def test_a_disk_that_is_not_mounted_has_not_lost_its_backups(self, desk, world, staged):
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        away = replace(world.place, place=world.place.place + "/not/mounted")
        with pytest.raises(StepFailed, match="there is no folder"):
            world.brand.names(away, desk)

    def test_a_backup_without_its_manifest_is_none(self, desk, world, staged):
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        world.damage(NAMES[0], "manifest.json", "empty")
        assert list(world.brand.names(world.place, desk)) == []

    def test_others_may_not_read_it(self, desk, world, staged):
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        for path in (world.folder / "orders").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0

    def test_a_full_disk_is_told_before_and_leaves_nothing(self, desk, world, folder):
        staged = stage(folder, NAMES[0], size=8 << 20)
        with disk(world.folder / "orders"):  # of 6 MiB
            theirs(world.folder / "orders")
            with pytest.raises(StepFailed) as caught:
                world.brand.store(world.place, NAMES[0], str(staged), desk)
            assert caught.value.cause is Cause.disk
            assert "the disk is full" in str(caught.value)
            assert world.leftovers() == []

    def test_a_disk_that_fills_up_meanwhile_leaves_nothing(self, desk, world, folder, open_path):
        """df is one that tells of room that is not there."""
        programs = theirs(open_path / "bin")
        (programs / "df").write_text("#!/bin/sh\necho; echo x x x 99999999\n")
        (programs / "df").chmod(0o755)
        desk.environment = replace(desk.environment, env={"PATH": f"{programs}:/usr/bin:/bin"})
        staged = stage(folder, NAMES[0], size=8 << 20)
        with disk(world.folder / "orders"):
            theirs(world.folder / "orders")
            with pytest.raises(StepFailed) as caught:
                world.brand.store(world.place, NAMES[0], str(staged), desk)
            assert caught.value.cause is Cause.disk
            assert world.leftovers() == []
