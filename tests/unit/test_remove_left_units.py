"""Units of environments that left the configuration, or moved: removed where that is certain, runs heard to the end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from fraisier.application.collect_reports import CollectReports
from fraisier.application.left_places import LeftPlaces
from fraisier.application.ports import Finished, Serving
from fraisier.application.remove_left_units import LATER, RemoveLeftUnits
from fraisier.application.takeover import owner_of
from fraisier.application.tools import Tools
from fraisier.application.verify_environments import VerifyEnvironments
from fraisier.config.codec import Codec
from fraisier.database.sqlite import open_sqlite
from fraisier.deployers.common import candidate
from fraisier.deployers.timer_units import service_of, timer_of, units_of
from fraisier.domain.acts import Command
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment, FraiseType
from fraisier.domain.job import Job, Keeper, Schedule
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret
from tests import factories
from tests.factories import KEY, SHA_A, environment
from tests.fakes import FakeClock, FakeHost
from tests.migrated import lay_migrated
from tests.unit.job_world import configuration_of
from tests.unit.store_contract import claimed, wish

UNITS = "/etc/systemd/system/"
INVOCATION = "0123456789abcdef" * 2
REPORT = f"nightly.{INVOCATION}"
NIGHTLY = Job(name="nightly", run="bin/x", keeper=Keeper.systemd, schedule=Schedule(expression="daily"))
REPORTS = environment(
    type=FraiseType.scheduled,
    user="orders",
    env={"TOKEN": Secret("hunter2", "config:fraises.orders.token")},
    jobs={"nightly": NIGHTLY},
)
OURS = [service_of(KEY, "nightly"), timer_of(KEY, "nightly")]
FOREIGN = "fraisier-orders-production-foreign.service"


class Machine(FakeHost):
    """A host with systemd, which runs the unit with the invocation `active`."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, root=str(folder / name))
        self.active, self.away, self.removed = "", False, 0
        self.verbs: list[str] = []

    def put(self, path: str, text: str) -> None:
        place = self._at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def names(self) -> list[str]:
        return list(self.list(UNITS))

    def reports(self) -> list[str]:
        return list(self.list(Layout(REPORTS.app_path).reports))

    def list(self, folder: str) -> Sequence[str]:
        if self.away:
            raise StepFailed(Cause.host, f"cannot reach {self.name}")
        return super().list(folder)

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        if argv[0] == "systemctl":
            shown = (
                f"Id={OURS[0]}\nInvocationID={self.active}\nActiveState={'active' if self.active else ''}\n"
            )
            return Finished(code=0, stdout=shown.encode(), stderr=b"")
        return self._really(argv, {})

    def ask(self, command: Command) -> Finished:
        return self._really(command.argv, command.env)

    def _really(self, argv: Sequence[str], env: Any) -> Finished:
        words = [f"{self.root}{word}" if word.startswith("/var/www") else word for word in argv]
        done = subprocess.run(words, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, check=False)
        return Finished(code=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        self.verbs.append("pause" if "pause" in argv else "remove")
        if "pause" in argv:
            return Finished(code=0, stdout=b"", stderr=b"")
        if "remove" in self.units_failing:
            return Finished(code=1, stdout=b"", stderr=b"cannot write units: this needs root\n")
        self.removed += 1
        for name in self.names():
            if b"Written by Fraisier for orders/production\n" in (self.read(UNITS + name) or b""):
                self._at(UNITS + name).unlink()
        return Finished(code=0, stdout=b"", stderr=b"")

    units_failing: frozenset[str] = frozenset()


class World:
    """A store, two hosts, and REPORTS as it was deployed to the first."""

    def __init__(self, folder: Path) -> None:
        lay_migrated(folder / "db" / "f.db")
        self.store = open_sqlite(f"sqlite://{folder}/db/f.db", state_folder=str(folder / "db"))
        self.store.register_worker("w1", info={"host": "here", "pid": 4_000_000})
        self.hosts = {name: Machine(name, folder) for name in ("localhost", "web1", "web2")}
        self.clock, self.events = FakeClock(), []
        nothing: Any = {}
        self.tools = Tools(
            hosts=self.hosts, targets=nothing, probers=nothing, migrations=nothing, repository=nothing, clock=self.clock
        )  # fmt: skip
        self.now(REPORTS)
        self.number = 0
        self.deploy(REPORTS)
        codec = Codec({}, configuration_of())
        self.remove = RemoveLeftUnits(
            self.tools, self.store, codec, lambda event, told: self.events.append((event, told))
        )

    @property
    def host(self) -> Machine:
        return self.hosts["localhost"]

    def now(self, *wanted: Environment) -> None:
        """What the configuration has now."""
        self.configuration = configuration_of(*wanted)
        found = [factories.fraise(each) for each in wanted]
        digest = f"d-{wanted}"
        self.store.publish(found, digest=digest, documents={each.key: {} for each in wanted})

    def deploy(self, wanted: Environment) -> None:
        self.number += 1
        self.store.request(wish(f"{self.number:040x}"))
        claim = claimed(self.store, "w1", KEY)
        attempt = self.store.begin_attempt(claim, resolved=Codec({}, configuration_of(wanted)).dump(wanted))
        release = f"{self.number}-aaaaaaaaaa"
        serving = Serving(release=release, commit=SHA_A, healthy=True)
        from fraisier.application.ports import Ending

        self.store.finish(claim, attempt, Ending(status=Status.success, serving=serving))
        host, layout = self.hosts[wanted.hosts[0]], Layout(wanted.app_path)
        host.put(f"{layout.own}/owner", json.dumps(owner_of(self.store, wanted)))
        for unit in units_of(wanted, candidate(wanted, release, SHA_A, "refs/heads/main")):
            host.put(UNITS + unit.name, unit.text)
        host.put(UNITS + FOREIGN, "[Service]\n")

    def looks(self, seconds: float = 0.0) -> list[str]:
        self.events.clear()
        self.clock.advance(seconds)
        self.remove(self.configuration, Event())
        return [event for event, _ in self.events]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def report(*lines: str) -> str:
    began = f"begin 1 {1_800_000_000 - 60} scheduled 1-aaaaaaaaaa"
    return "\n".join((began, *lines)) + "\n"


GOOD = report(f"end 1 {1_800_000_000 - 50} 0", f"final {1_800_000_000 - 50} success exited 0 1")


def test_what_is_where_it_was_deployed_is_left_alone(world: World) -> None:
    assert world.looks() == []
    assert world.host.names() == sorted([*OURS, FOREIGN])


def test_units_of_an_environment_that_left_the_configuration_go_and_nobody_elses(world: World) -> None:
    world.now()
    assert world.looks() == ["units_removed"]
    assert world.host.names() == [FOREIGN]
    assert world.looks(LATER) == []
    assert world.host.removed == 1


def test_what_this_worker_has_not_read_of_yet_is_left_alone(world: World) -> None:
    """Its file is older than the one that is published, by which another worker has deployed."""
    world.configuration = configuration_of()
    assert world.looks() == []
    assert set(OURS) < set(world.host.names())


def test_a_run_goes_on_with_its_unit_until_its_end_is_in_the_history(world: World) -> None:
    """Removed before, the unit would not perform what its job does at the end."""
    world.host.put(f"{Layout(REPORTS.app_path).reports}/{REPORT}", report())
    world.host.active = INVOCATION
    world.now()
    assert world.looks() + world.looks(10) == []
    assert [row["status"] for row in world.store.runs()] == ["running"]
    assert world.host.verbs == ["pause"]
    world.host.put(f"{Layout(REPORTS.app_path).reports}/{REPORT}", GOOD)
    world.host.active = ""
    assert world.looks(10) == ["units_removed"]
    (run,) = world.store.runs()
    assert (run["status"], run["exit_code"], run["job"]) == ("success", 0, "nightly")
    assert (world.host.reports(), world.host.names()) == ([], [FOREIGN])


def test_a_run_of_a_host_that_never_answers_again_ends_as_interrupted(world: World) -> None:
    world.host.put(f"{Layout(REPORTS.app_path).reports}/{REPORT}", report())
    world.host.active = INVOCATION
    world.now()
    world.looks()
    world.host.away = True
    assert world.looks(60) == []
    assert world.looks(60) == ["units_not_removed"]
    assert [row["status"] for row in world.store.runs()] == ["running"]
    assert world.looks(3 * 86400) == []  # it is told once
    assert [(row["status"], row["cause"]) for row in world.store.runs()] == [("failed", "interrupted")]


def test_what_somebody_else_owns_by_now_is_told_and_left(world: World) -> None:
    owner = {"installation": "another", "fraise": "orders", "environment": "production"}
    world.host.put(f"{Layout(REPORTS.app_path).own}/owner", json.dumps(owner))
    world.now()
    world.looks()
    assert world.looks(60) == ["units_not_removed"]
    assert set(OURS) < set(world.host.names())


def test_where_root_does_not_let_us_it_is_told_with_what_removes_them(world: World) -> None:
    world.host.units_failing = frozenset({"remove"})
    world.now()
    world.looks()
    assert world.looks(60) == ["units_not_removed"]
    assert "this needs root" in world.events[0][1]["error"]


def test_while_it_is_deployed_nothing_is_removed(world: World) -> None:
    world.store.request(wish("f" * 40))
    claimed(world.store, "w1", KEY)
    world.now()
    world.looks()
    assert world.looks(60) == ["units_not_removed"]
    assert set(OURS) < set(world.host.names())


def test_of_two_workers_one_removes_them_and_the_other_has_nothing_to_tell(world: World) -> None:
    adopt, host = world.host.adopt, world.host

    def overtaken(ground: Any, *, force: bool = False) -> None:
        host.adopt = adopt  # type: ignore[method-assign]
        other = RemoveLeftUnits(world.tools, world.store, Codec({}, configuration_of()), lambda *_: None)
        other(world.configuration, Event())
        adopt(ground, force=force)

    host.adopt = overtaken  # type: ignore[method-assign]
    world.now()
    assert world.looks() == []
    assert world.looks(60) == []
    assert (world.host.names(), world.host.removed) == ([FOREIGN], 1)


def test_units_of_a_host_that_it_moved_from_go_once_it_was_deployed_to_the_new_one(world: World) -> None:
    moved = replace(REPORTS, hosts=("web2",))
    world.now(moved)
    assert world.looks() == []
    assert set(OURS) < set(world.host.names())
    world.deploy(moved)
    assert world.looks(LATER) == ["units_removed"]
    assert world.host.names() == [FOREIGN]
    assert set(OURS) < set(world.hosts["web2"].names())


def test_a_host_that_has_another_name_now_keeps_what_runs_there(world: World) -> None:
    renamed = replace(REPORTS, hosts=("web1",))
    world.hosts["web1"].root = world.host.root
    world.now(renamed)
    world.deploy(renamed)
    assert world.looks() == []
    assert set(OURS) < set(world.host.names())


@pytest.mark.parametrize("kind", [FraiseType.api, FraiseType.backup])
def test_units_go_with_a_type_that_has_none(world: World, kind: FraiseType) -> None:
    other = replace(REPORTS, type=kind, jobs={})
    world.now(other)
    assert world.looks() == []
    world.deploy(other)
    assert world.looks(LATER) == ["units_removed"]
    assert world.host.names() == [FOREIGN]


def test_reports_in_a_folder_of_before_are_collected_and_its_units_are_the_deployments_to_replace(
    world: World,
) -> None:
    moved = replace(REPORTS, app_path="/var/www/elsewhere")
    world.host.put(f"{Layout(REPORTS.app_path).reports}/{REPORT}", GOOD)
    world.now(moved)
    world.looks()
    assert [row["status"] for row in world.store.runs()] == ["success"]
    assert set(OURS) < set(world.host.names())


def test_verify_tells_what_is_left_elsewhere_with_the_command_that_removes_it(world: World) -> None:
    moved = replace(REPORTS, hosts=("web2",))
    world.now(moved)
    world.deploy(moved)
    codec = Codec({}, configuration_of())
    verify = VerifyEnvironments(world.configuration, world.tools, world.store, codec)
    (found,) = [each for each in verify([KEY]) if each.check == "units"]
    assert (found.host, found.message) == (
        "localhost",
        "systemd still runs jobs of orders/production, which is deployed to web2 now",
    )
    assert f"systemctl disable --now {OURS[1]}" in found.hint
    assert FOREIGN not in found.hint
    assert "*" not in found.hint


def test_a_run_on_the_host_of_before_has_not_ended_because_the_new_one_does_not_know_it(world: World) -> None:
    world.host.put(f"{Layout(REPORTS.app_path).reports}/{REPORT}", report())
    world.host.active = INVOCATION
    codec: Any = Codec({}, configuration_of())
    collect = CollectReports(world.tools, world.store, codec, lambda *_: None)
    collect([REPORTS])
    moved = replace(REPORTS, hosts=("web2",))
    world.now(moved)
    collect([moved])
    assert [row["status"] for row in world.store.runs()] == ["running"]


def test_a_run_in_the_folder_of_now_has_not_ended_because_that_of_before_has_no_report(world: World) -> None:
    moved = replace(REPORTS, app_path="/var/www/elsewhere")
    world.now(moved)
    world.deploy(moved)
    world.host.put(f"{Layout(moved.app_path).reports}/{REPORT}", report())
    world.host.active = INVOCATION
    codec: Any = Codec({}, configuration_of())
    CollectReports(world.tools, world.store, codec, lambda *_: None)([moved])
    world.host.active = ""
    world.looks(LATER)
    assert [row["status"] for row in world.store.runs()] == ["running"]


def test_what_another_version_stored_is_passed_over(world: World) -> None:
    world.store.request(wish("e" * 40))
    claim = claimed(world.store, "w1", KEY)
    world.store.begin_attempt(claim, resolved='{"type": "of tomorrow"}')
    world.now()
    codec = Codec({}, configuration_of())
    assert [left.environment.jobs.keys() for left in LeftPlaces(world.store, codec)(world.configuration)] == [
        {"nightly"}
    ]
