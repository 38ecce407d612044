"""Releases side by side: who serves, who ever gets a request, and what a death at any act leaves behind."""

from __future__ import annotations

import errno
import time

import pytest

from fraisier.application.control import Control
from fraisier.application.tools import Retries
from fraisier.domain.deployment import Status, Trigger
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Cutover, Database, HealthCheck, TargetSpec
from tests.factories import SHA_A, SHA_B, SHA_C
from tests.fake_instances import Death, InstanceTarget, Manager, MortalHost
from tests.unit.test_run_deployment import Death as Killed
from tests.unit.test_run_deployment import World

ONE, TWO, THREE = "1-aaaaaaaaaa", "2-bbbbbbbbbb", "3-cccccccccc"


class Street(World):
    """A world whose releases run as instances, and in which nobody ever dials what does not run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.manager = Manager()
        self.host = MortalHost(units=self.manager)
        self.host.look_after = self.look
        self.units_folder = str(self.folder / "units")
        (self.folder / "units").mkdir()
        self.target = InstanceTarget(self.manager, self.units_folder)
        self.dialled: list[str] = []
        self.configure(target=TargetSpec(kind="fake", unit="orders"), cutover=Cutover.blue_green, bake=0.0)

    @property
    def link(self) -> str:
        link = self.app / "current.sock"
        return link.readlink().name.removesuffix(".sock") if link.is_symlink() else ""

    def look(self) -> None:
        """Whoever dials the link right now, after whatever was done, finds somebody."""
        if self.link:
            self.dialled.append(self.link)
            assert self.unit_of(self.link) in self.manager.running, "the link leads to nobody"

    def unit_of(self, release: str) -> str:
        return "orders" if release == "plain" else f"orders@{release}"

    def has_one_serving(self) -> str:
        """The release that serves, after everything was checked that it has, and that no other has any."""
        serving = self.current
        wanted = {f"orders@{serving}"} if serving else set()
        assert set(self.manager.running) == wanted
        assert self.manager.enabled == wanted
        assert self.link == serving
        folder = self.app / ".fraisier/instances"
        records = {each.name for each in folder.iterdir()} if folder.exists() else set()
        assert records == ({f"{serving}.env"} if serving else set())
        files = {each.name for each in (self.folder / "units").iterdir() if "@" in each.name}
        assert files == {f"{unit}.unit" for unit in wanted}
        return serving

    def go_on(self, deployment: str) -> Status:
        """The next worker, until the deployment has ended."""
        while (status := Status(self.store.deployment(deployment)["status"])) is not None:
            if status.is_final:
                return status
            self.run(self.claim(), Control())
        raise AssertionError


@pytest.fixture
def street(tmp_path):
    made = Street(tmp_path)
    for sha in (SHA_A, SHA_B, SHA_C):
        made.repository.commit(sha)
    yield made
    made.store.close()


def test_a_release_starts_beside_the_old_one_and_only_then_gets_requests(street):
    street.deploy(SHA_A)
    ended = street.deploy(SHA_B)
    assert ended.status is Status.success
    assert street.has_one_serving() == TWO
    names = [name for _, name, _ in street.steps(ended.id)]
    assert names == [
        "preflight",
        "fetch",
        "prepare",
        "build",
        "restart",
        "check_health",
        "activate",
        "finish",
    ]


@pytest.mark.parametrize("fault", ["sick", "dead"])
def test_a_release_that_fails_its_check_never_gets_a_request(street, fault):
    street.deploy(SHA_A)
    street.dialled.clear()
    (street.prober.unhealthy if fault == "sick" else street.manager.dead).add(TWO)
    ended = street.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.failed, Cause.unhealthy)
    assert set(street.dialled) <= {ONE}
    assert street.has_one_serving() == ONE
    assert street.store.fraise_status()[0]["quarantined_commits"] == [SHA_B]


def test_a_first_release_that_fails_leaves_nothing(street):
    street.prober.unhealthy = {ONE}
    assert street.deploy(SHA_A).status is Status.failed
    assert street.has_one_serving() == ""
    assert not street.dialled


def test_a_cancel_before_the_switch_ends_cancelled_and_one_after_it_goes_back(street):
    street.deploy(SHA_A)
    for step, status in (("check_health", Status.cancelled), ("finish", Status.rolled_back)):
        control = Control()
        street.on_step = lambda name, phase, at=step, by=control: by.cancel("ada") if name == at else None
        street.configure(bake=5.0)
        street.wish(SHA_B, trigger=Trigger.manual)
        ended = street.run(street.claim(), control)
        assert (ended.status, ended.cause) == (status, Cause.cancelled)
        assert street.has_one_serving() == ONE


def test_a_crash_before_an_instance_was_started_does_not_count_in_its_bake_either(street):
    """As systemd counts it: of what crash-looped and was started once more after its counter was reset."""
    street.deploy(SHA_A)
    street.configure(bake=0.2)
    street.manager.restarts[f"orders@{TWO}"] = 1
    assert street.deploy(SHA_B).status is Status.success
    assert street.has_one_serving() == TWO


def test_a_crash_in_its_bake_is_gone_back_from(street):
    street.deploy(SHA_A)
    street.configure(bake=5.0)

    def crash(name, phase):
        if name == "finish":
            street.manager.restarts[f"orders@{TWO}"] = 1

    street.on_step = crash
    assert street.deploy(SHA_B).status is Status.rolled_back
    assert street.has_one_serving() == ONE


def test_a_migration_is_taken_back_after_the_traffic_is(street):
    street.configure(database=Database(up="echo up", down="echo down"))
    street.deploy(SHA_A)
    street.configure(bake=5.0)
    street.on_step = lambda name, phase: street.prober.unhealthy.add(TWO) if name == "finish" else None
    ended = street.deploy(SHA_B)
    assert (ended.status, ended.cause) == (Status.rolled_back, Cause.unhealthy)
    back = [name for phase, name, _ in street.steps(ended.id) if phase == "rollback"]
    assert back == ["restart", "check_health", "activate", "migrate", "finish"]
    assert street.has_one_serving() == ONE
    assert street.store.fraise_status()[0]["quarantined_commits"] == [SHA_B]


def test_an_instance_is_gone_back_to_also_after_it_was_stopped(street):
    street.deploy(SHA_A)
    asked = street.wish(SHA_B)
    record = street.app / f".fraisier/instances/{ONE}.env"

    def die() -> None:
        if not record.exists():
            street.host.look_after = street.look
            raise Death

    street.host.look_after = die
    claim = street.claim()
    with pytest.raises(Death):
        street.run(claim, Control())
    street.store.hand_back(claim)
    street.prober.unhealthy = {TWO}
    assert street.go_on(asked) is Status.rolled_back
    assert street.has_one_serving() == ONE


def test_a_person_goes_back_beside_too(street):
    street.deploy(SHA_A)
    street.deploy(SHA_B)
    back = street.deploy(SHA_A, trigger=Trigger.rollback, release=ONE)
    assert back.status is Status.success
    assert street.has_one_serving() == ONE
    assert street.manager.starts == 3


def test_what_will_not_stop_is_told_and_ended_by_the_next_deployment(street):
    street.deploy(SHA_A)
    street.manager.deaf = {f"orders@{ONE}"}
    check = HealthCheck(url="http://x/", interval=0.01, timeout=1e6)
    street.configure(drain_timeout=0.0, health_check=check)
    street.clock = Hasty()
    assert street.deploy(SHA_B).status is Status.success
    assert f"orders@{ONE}" in street.manager.running
    street.manager.deaf = set()
    assert street.deploy(SHA_C).status is Status.success
    assert street.has_one_serving() == THREE


class Hasty:
    """A clock of which each look takes a minute."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        self.seconds += 60
        return self.seconds


def test_an_environment_changes_to_blue_green_and_back(street):
    street.configure(cutover=Cutover.restart, listen=("/run/plain.sock",), run="serve")
    street.deploy(SHA_A)
    assert (set(street.manager.running), street.link) == ({"orders"}, "plain")
    street.configure(cutover=Cutover.blue_green)
    assert street.deploy(SHA_B).status is Status.success
    assert street.has_one_serving() == TWO
    street.configure(cutover=Cutover.restart)
    assert street.deploy(SHA_C).status is Status.success
    assert (set(street.manager.running), street.link) == ({"orders"}, "plain")
    assert street.manager.enabled == {"orders"}


@pytest.mark.parametrize("dies_when", ["step_ended", "step_started"])
def test_a_full_disk_beside_is_tried_again_although_the_worker_died(street, dies_when):
    """Right after the instance could not be started, or while it is stopped for the next try."""
    street.retries = Retries(first=0.01, longest=0.02)
    street.deploy(SHA_A)
    deployment = street.wish(SHA_B)

    def fill() -> None:
        street.host.look_after, street.dies = street.look, (dies_when, "restart")
        raise OSError(errno.ENOSPC, "No space left on device")

    def begins(step: str, phase: str) -> None:
        if (step, phase) == ("restart", "deploy"):
            street.host.look_after, street.on_step = fill, lambda *_: None

    street.on_step = begins
    claim = street.claim()
    with pytest.raises(Killed):
        street.run(claim, Control())
    street.dies = ("", "")
    street.store.hand_back(claim)
    assert street.run(street.claim(), Control()).cause is Cause.disk
    assert street.has_one_serving() == ONE
    time.sleep(0.1)
    assert street.go_on(deployment) is Status.success
    assert street.has_one_serving().endswith(SHA_B[:10])


@pytest.mark.parametrize("to", [Cutover.blue_green, Cutover.restart])
def test_a_change_that_fails_goes_back_to_what_was(street, to):
    former = Cutover.restart if to is Cutover.blue_green else Cutover.blue_green
    street.configure(cutover=former, listen=("/run/plain.sock",), run="serve")
    street.deploy(SHA_A)
    street.configure(cutover=to, bake=5.0)
    street.on_step = lambda name, phase: street.prober.unhealthy.add(TWO) if name == "finish" else None
    assert street.deploy(SHA_B).status is Status.rolled_back
    if former is Cutover.blue_green:
        assert street.has_one_serving() == ONE
    else:
        assert (set(street.manager.running), street.link) == ({"orders"}, "plain")
