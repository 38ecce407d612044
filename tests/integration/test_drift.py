"""`status --verify` on a real service: each kind of drift is found, nothing is changed, and deploy --force heals it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.verify_environments import Comparison, Verdict
from fraisier.hosts.local import LocalHost
from tests.integration.site import KEY, Site, service, until


class OnlyLooks(LocalHost):
    """This machine, as long as nobody wants to change it."""

    def _refuse(self, *args: Any, **named: Any) -> Any:
        raise AssertionError(f"changed something: {args} {named}")

    adopt = guard = make_folder = point = write = remove = sync = act = run = unpack = _refuse


Drift = Callable[["Drifting"], None]


class Drifting(Site):
    """A shop that serves "two", after "one"; and all that somebody can do to it by hand."""

    def verify(self) -> list[Comparison]:
        """What differs, looked at with nothing but looks."""
        tools = self.fraisier.tools
        self.fraisier.tools = replace(tools, hosts={"localhost": OnlyLooks()})
        before = self._as_it_is()
        try:
            return list(self.fraisier.verify([KEY]))
        finally:
            self.fraisier.tools = tools
            assert self._as_it_is() == before

    def _as_it_is(self) -> dict[str, tuple[int, int]]:
        """Every file and folder, with what tells that it was changed in any way."""
        paths = [self.app, *self.app.rglob("*")] if self.app.exists() else []
        found = {str(path): path.lstat() for path in paths if "__pycache__" not in path.parts}
        return {path: (each.st_ino, each.st_ctime_ns) for path, each in found.items()}

    def release(self, number: int) -> Path:
        (found,) = (self.app / "releases").glob(f"{number}-*")
        return found

    @property
    def newest(self) -> Path:
        return max((self.app / "releases").iterdir(), key=lambda each: int(each.name.partition("-")[0]))

    @property
    def current(self) -> Path:
        return self.app / "current"

    def control(self, verb: str) -> None:
        argv = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.folder / "supervisord.conf")]
        subprocess.run([*argv, verb, "shop"], check=True, capture_output=True)

    def point(self, to: str) -> None:
        self.current.unlink()
        self.current.symlink_to(to)

    def point_to_the_old_one(self) -> None:
        self.point(f"releases/{self.release(1).name}")

    def restart_into_the_old_one(self) -> None:
        """And tidy up after oneself, so that only the process is another."""
        newest = f"releases/{self.newest.name}"
        self.point_to_the_old_one()
        self.control("restart")
        until("the old version", lambda: self.answer() == (200, "one"))
        self.point(newest)

    def point_outside(self) -> None:
        shutil.copytree(self.newest, self.folder / "mine")
        self.point(str(self.folder / "mine"))

    def remove_current(self) -> None:
        self.current.unlink()

    def lose_the_release(self) -> None:
        shutil.rmtree(self.newest)

    def lose_the_marker(self) -> None:
        (self.app / ".fraisier" / "releases" / f"{self.newest.name}.json").unlink()

    def stop_the_unit(self) -> None:
        self.control("stop")

    def lose_everything(self) -> None:
        self.control("stop")
        shutil.rmtree(self.app)


def opened(made: Drifting) -> Iterator[Drifting]:
    with made.working():
        for version in ("one", "two"):
            made.push(service(version))
            row = made.deploy()
            assert row["status"] == "success", row
        assert [each.verdict for each in made.verify()] == [Verdict.same]
        yield made
    made.fraisier.store.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drifting]:
    """Files that are switched; nothing is restarted."""
    yield from opened(Drifting(tmp_path_factory.mktemp("drift")))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drifting]:
    """A service under supervisord."""
    made = Drifting(tmp_path_factory.mktemp("served"), supervised=True)
    with made.supervising():
        yield from opened(made)


def check_and_heal(shop: Drifting, drift: Drift, checks: set[str]) -> None:
    (before,) = shop.fraisier.store.fraise_status()
    drift(shop)
    found = shop.verify()
    assert {each.verdict for each in found} == {Verdict.drift}
    assert {each.check for each in found} == checks, found
    # The command is the same for each of these: the commit that the database says runs, deployed anew.
    assert {each.hint for each in found} == {
        f"fraisier deploy shop production --commit {before['current_commit']} --force"
    }
    row = shop.deploy(commit=before["current_commit"], force=True)
    assert row["status"] == "success", row
    assert shop.version == "two"
    assert row["release"] != before["current_release"], "a new folder, whatever is in the old one"
    assert [each.verdict for each in shop.verify()] == [Verdict.same]


OF_FILES: list[tuple[Drift, set[str]]] = [
    (Drifting.point_to_the_old_one, {"current"}),
    (Drifting.point_outside, {"current"}),
    (Drifting.remove_current, {"current"}),
    (Drifting.lose_the_release, {"release"}),
    (Drifting.lose_the_marker, {"release"}),
]
OF_UNITS: list[tuple[Drift, set[str]]] = [
    (Drifting.restart_into_the_old_one, {"unit"}),
    (Drifting.stop_the_unit, {"unit"}),
    (Drifting.lose_everything, {"owner", "current", "release", "unit"}),
]


@pytest.mark.parametrize(("drift", "checks"), OF_FILES, ids=[drift.__name__ for drift, _ in OF_FILES])
def test_a_drift_of_files_is_found_and_healed_by_the_command_that_is_named(
    shop: Drifting, drift: Drift, checks: set[str]
) -> None:
    check_and_heal(shop, drift, checks)


@pytest.mark.parametrize(("drift", "checks"), OF_UNITS, ids=[drift.__name__ for drift, _ in OF_UNITS])
def test_a_drift_of_a_unit_is_found_and_healed_by_the_command_that_is_named(
    served: Drifting, drift: Drift, checks: set[str]
) -> None:
    check_and_heal(served, drift, checks)
    assert served.answer() == (200, "two")


def test_another_installation_s_folder_is_told_and_healed_by_adopting(shop: Drifting) -> None:
    owner = shop.app / ".fraisier" / "owner"
    ours = owner.read_bytes()
    owner.write_bytes(ours.replace(shop.fraisier.store.installation.encode(), b"somebody-else"))
    (found,) = shop.verify()
    assert (found.verdict, found.check, found.hint) == (
        Verdict.drift,
        "owner",
        "fraisier adopt shop production",
    )
    shop.fraisier.adopt(KEY, by="anna")
    assert [each.verdict for each in shop.verify()] == [Verdict.same]


def test_a_restored_database_is_told_and_healed_by_adopting(shop: Drifting) -> None:
    token = shop.app / ".fraisier" / "token"
    token.write_text(f"{int(token.read_text()) + 5}")
    (found,) = shop.verify()
    assert (found.verdict, found.check, found.hint) == (
        Verdict.drift,
        "token",
        "fraisier adopt shop production",
    )
    shop.fraisier.adopt(KEY, by="anna")
    assert [each.verdict for each in shop.verify()] == [Verdict.same]


def test_what_is_in_the_way_of_the_link_comes_with_the_command_that_moves_it(shop: Drifting) -> None:
    (before,) = shop.fraisier.store.fraise_status()
    shop.current.unlink()
    shop.current.mkdir()
    (found,) = (each for each in shop.verify() if each.check == "current")
    move, _, deploy = found.hint.partition(" && ")
    assert deploy == f"fraisier deploy shop production --commit {before['current_commit']} --force"
    row = shop.deploy(force=True)
    assert (row["status"], row["cause"]) == ("failed", "preflight")
    subprocess.run(move, shell=True, check=True)
    row = shop.deploy(force=True)
    assert row["status"] == "success", row
    assert [each.verdict for each in shop.verify()] == [Verdict.same]


def test_the_command_exits_by_what_it_found(shop: Drifting) -> None:
    argv = [sys.executable, "-m", "fraisier", "--config", str(shop.config), "status", "--verify"]
    same = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (same.returncode, same.stderr) == (0, "")
    assert "as the database says" in same.stdout
    assert "No differences." in same.stdout
    link = shop.current.readlink()
    shop.current.unlink()
    try:
        drifted = subprocess.run([*argv, "shop", "production"], capture_output=True, text=True, check=False)
        as_json = subprocess.run([*argv, "--json"], capture_output=True, text=True, check=False)
    finally:
        shop.current.symlink_to(link)
    assert (drifted.returncode, as_json.returncode) == (1, 1)
    assert "current is gone" in drifted.stdout
    assert "--force" in drifted.stdout
    assert "1 difference." in drifted.stdout
    assert '"verdict": "drift"' in as_json.stdout or '"verdict":"drift"' in as_json.stdout


def test_while_a_deployment_is_under_way_nothing_is_called_a_drift(shop: Drifting) -> None:
    gate = shop.folder / "gate"
    gate.touch()
    shop.push({**service("two"), "health.txt": "x"})
    shop.write_config(f'build: ["while test -e {gate}; do sleep 0.05; done"]')
    from fraisier import wiring

    shop.fraisier.configuration = wiring.load(str(shop.config))
    shop.fraisier.publish()
    running = shop.request().deployment
    assert running is not None
    shop.waits_in(running.id, "build")
    try:
        (found,) = list(shop.fraisier.verify([KEY]))
        assert (found.verdict, found.check) == (Verdict.busy, "deployment")
    finally:
        gate.unlink()
    assert shop.ended(running.id)["status"] == "success"
