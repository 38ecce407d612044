"""A restic repository as a place for backups."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.backup_places.restic import Restic
from fraisier.domain.backup import Destination
from fraisier.domain.errors import StepFailed
from fraisier.domain.secret import Secret
from tests.desks import USER, desk, folder, open_path, theirs
from tests.integration.place_contract import NAMES, PlaceContract, World, spoil, stage
from tests.integration.source_contract import SECRET

__all__ = ["desk", "folder", "open_path"]
pytestmark = pytest.mark.skipif(
    not shutil.which("restic"), reason="needs restic (see tests/servers/packages)"
)


class Repository:
    """One on a disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.brand = Restic()
        self.place = Destination(
            name="vault",
            kind="restic",
            place=str(folder),
            options={"password": Secret(SECRET, "${PASSWORD}")},
        )
        self.wrong = replace(self.place, options={"password": "another"})

    def restic(self, *words: str) -> str:
        """What restic says, as root."""
        env = {**os.environ, "RESTIC_REPOSITORY": str(self.folder), "RESTIC_PASSWORD": SECRET}
        done = subprocess.run(
            ("restic", "--no-cache", *words), env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def own(self) -> None:
        """What root did there belongs to the environment's user."""
        if USER:
            subprocess.run(("chown", "-R", USER, self.folder), check=True)

    def damage(self, name: str, file: str, fault: str) -> bool:
        largest = max((self.folder / "data").glob("*/*"), key=lambda path: path.stat().st_size)
        largest.chmod(0o600)
        spoil(largest, fault)
        return True

    def close(self, name: str, file: str) -> bool:
        for path in (self.folder / "data").glob("*/*"):
            path.chmod(0)
        return bool(file)

    def leftovers(self) -> list[str]:
        """Locks; what no snapshot needs does no harm, and goes with the next prune."""
        return [path.name for path in (self.folder / "locks").iterdir() if "-tmp-" not in path.name]


class TestRestic(PlaceContract):
    @pytest.fixture
    def world(self, open_path: Path) -> World:
        made = Repository(theirs(open_path / "repository"))
        made.restic("init")
        made.own()
        return made

    def test_where_it_may_not_write_it_says_so(self, desk, world, staged):
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        with pytest.raises(StepFailed, match="wrong password"):
            world.brand.store(world.wrong, NAMES[1], str(staged), desk)
        (problem,) = world.brand.problems(world.wrong, desk)
        assert "wrong password" in problem.message
        with pytest.raises(StepFailed, match="wrong password"):
            world.brand.names(world.wrong, desk)

    def test_a_repository_that_is_not_there_is_made_by_the_first_backup_only(
        self, desk, world, staged, open_path
    ):
        """One whose disk is not mounted has not lost its backups: it cannot be listed."""
        new = replace(world.place, place=str(theirs(open_path / "new")))
        assert list(world.brand.problems(new, desk)) == []
        with pytest.raises(StepFailed, match="cannot list"):
            world.brand.names(new, desk)
        world.brand.store(new, NAMES[0], str(staged), desk)
        assert list(world.brand.names(new, desk)) == [NAMES[0]]

    def test_a_password_may_be_in_a_file(self, desk, world, staged, open_path):
        file = open_path / "password"
        file.write_text(SECRET)
        in_file = replace(world.place, options={"password_file": str(file)})
        world.brand.store(in_file, NAMES[0], str(staged), desk)
        assert list(world.brand.names(world.place, desk)) == [NAMES[0]]

    def test_snapshots_of_others_are_neither_listed_nor_forgotten(self, desk, world, staged):
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        world.restic("backup", "--tag", f"name={NAMES[1]}", str(staged))
        world.own()
        assert list(world.brand.names(world.place, desk)) == [NAMES[0]]
        world.brand.remove(world.place, [NAMES[0], NAMES[1]], desk)
        assert len(json.loads(world.restic("snapshots", "--json"))) == 1

    def test_a_lock_of_a_process_that_is_gone_does_not_stay(self, desk, world, staged, open_path):
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        env = {**os.environ, "RESTIC_REPOSITORY": str(world.folder), "RESTIC_PASSWORD": SECRET}
        process = subprocess.Popen(
            ("restic", "--no-cache", "backup", "--stdin"),
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            while not world.leftovers():
                assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        world.own()
        assert world.leftovers()
        world.brand.store(world.place, NAMES[1], str(staged), desk)
        world.brand.remove(world.place, [NAMES[0]], desk)
        assert list(world.brand.names(world.place, desk)) == [NAMES[1]]
        assert world.leftovers() == []

    def test_a_snapshot_that_lacks_a_file_is_none(self, desk, world, folder):
        if not USER:
            pytest.skip("needs root, to have files of others")
        staged = stage(folder, NAMES[0])
        shutil.chown(staged / "db.dump", "root")
        (staged / "db.dump").chmod(0o600)
        with pytest.raises(StepFailed, match=r"permission denied|could not be read"):
            world.brand.store(world.place, NAMES[0], str(staged), desk)
        assert list(world.brand.names(world.place, desk)) == []

    def test_a_look_may_read_more_of_the_repository(self, desk, world, staged):
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        all_of_it = replace(world.place, options={**world.place.options, "check_subset": "100%"})
        files = ["manifest.json"]
        assert "manifest.json" in world.brand.look(all_of_it, NAMES[0], files, desk)
        world.damage(NAMES[0], "db.dump", "flipped")
        assert "manifest.json" in world.brand.look(world.place, NAMES[0], files, desk)
        with pytest.raises(StepFailed, match="cannot look at"):
            world.brand.look(all_of_it, NAMES[0], files, desk)
