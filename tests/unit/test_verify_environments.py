"""What a verification makes of what it sees, also where releases run as instances, and while something happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.ports import Finished, UnitState
from fraisier.application.takeover import owner_of
from fraisier.application.verify_environments import Verdict, VerifyEnvironments
from fraisier.deployers.timer_units import timer_of
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Cutover, Environment, FraiseType, ProxySpec, TargetSpec
from fraisier.domain.job import Job, Keeper, Schedule
from fraisier.domain.rollout import Rollout
from fraisier.wiring import SystemClock
from tests import factories
from tests.factories import KEY, SHA_A, SHA_B
from tests.fake_repository import FakeRepository
from tests.fakes import FakeHost, FakeTarget
from tests.fleet import Fate, Fleet
from tests.unit.job_world import configuration_of

RELEASE, OTHER = "3-aaaaaaaaaa", "2-bbbbbbbbbb"


class Told:
    """As much of a store as is asked; `then` changes the row after a number of looks."""

    installation = "i-1"

    def __init__(self) -> None:
        self.row: dict[str, Any] = {
            "current_release": RELEASE,
            "current_commit": SHA_A,
            "running_deployment_id": None,
        }
        self.looks = 0
        self.then: Callable[[Told], None] = lambda _: None

    def resolved_since(self, attempt: int) -> list[dict[str, Any]]:
        return []

    def fraise_status(self, fraise: str, environment: str) -> list[dict[str, Any]]:
        self.looks += 1
        self.then(self)
        return [dict(self.row)]

    def token(self, key: object) -> int:
        return 7


class Beside(FakeTarget):
    """A target whose releases run side by side, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = {f"orders@{RELEASE}": True}

    def instance(self, spec: TargetSpec, release: str) -> TargetSpec:
        return TargetSpec(kind=spec.kind, unit=f"orders@{release}")

    def state(self, spec: TargetSpec, host: object) -> UnitState:
        running = self.runs.get(spec.unit, False)
        return UnitState(known=True, running=running, invocation="1" if running else "")


class Place:
    """A host on which RELEASE is served as the database says."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "app"
        self.host, self.target, self.store = FakeHost(), Beside(), Told()
        self.proxy: object = None
        own = self.app / ".fraisier"
        (own / "releases").mkdir(parents=True)
        (own / "instances").mkdir()
        (self.app / "releases" / RELEASE).mkdir(parents=True)
        owner = {"installation": "i-1", "fraise": KEY.fraise, "environment": KEY.environment}
        (own / "owner").write_text(json.dumps(owner))
        (own / "token").write_text("7")
        marker = {"release": RELEASE, "commit": SHA_A, "ref": "", "deployment": "", "sealed_at": 1.0}
        (own / "releases" / f"{RELEASE}.json").write_text(json.dumps(marker))
        (self.app / "current").symlink_to(f"releases/{RELEASE}")
        self.serve(RELEASE)
        (self.app / "current.sock").symlink_to(f"/run/{RELEASE}.sock")

    def serve(self, release: str) -> None:
        (self.app / ".fraisier" / "instances" / f"{release}.env").write_text(
            f"FRAISIER_ADDRESS=/run/{release}.sock\n"
        )

    def found(self, **changes: Any) -> list[tuple[Verdict, str]]:
        target = TargetSpec(kind="fake", unit="orders")
        made: Environment = factories.environment(
            app_path=str(self.app), target=target, cutover=Cutover.blue_green, **changes
        )
        from fraisier.application.tools import Tools

        tools = Tools(
            hosts={"localhost": self.host},
            targets={"fake": self.target},
            probers={},
            migrations={},
            proxies={"haproxy": self.proxy} if self.proxy else {},  # type: ignore[dict-item]
            repository=FakeRepository(),
            clock=SystemClock(),
        )
        verify = VerifyEnvironments(configuration_of(made), tools, self.store, None)  # type: ignore[arg-type]
        return [(each.verdict, each.check) for each in verify([KEY])]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_instance_that_serves_is_as_the_database_says(place: Place) -> None:
    assert place.found() == [(Verdict.same, "all")]


def test_an_instance_that_does_not_run_is_a_drift(place: Place) -> None:
    place.target.runs.clear()
    assert place.found() == [(Verdict.drift, "unit")]


def test_units_of_jobs_that_a_deployment_would_write_otherwise_are_a_drift(place: Place) -> None:
    job = Job(name="nightly", run="x", keeper=Keeper.systemd, schedule=Schedule(expression="daily"))
    assert place.found(type=FraiseType.etl, jobs={"nightly": job}) == [(Verdict.drift, "file")] * 2


def test_timers_that_are_stopped_are_a_drift(place: Place) -> None:
    jobs = {
        name: Job(name=name, run="x", keeper=Keeper.systemd, schedule=Schedule(expression="daily"))
        for name in ("nightly", "new", "weekly")
    }
    timers = [timer_of(KEY, name) for name in jobs]
    states = (("loaded", "inactive"), ("not-found", "inactive"), ("loaded", "active"))
    shown = (
        f"Id={timer}\nLoadState={there}\nActiveState={runs}\n"
        for timer, (there, runs) in zip(timers, states, strict=True)
    )
    words = ("systemctl", "show", "--property=Id,LoadState,ActiveState", "--", *timers)
    place.host.answers[words] = Finished(code=0, stdout="\n".join(shown).encode(), stderr=b"")
    assert [each for each in place.found(type=FraiseType.etl, jobs=jobs) if each[1] != "file"] == [
        (Verdict.drift, "timer")
    ]


def test_traffic_that_goes_elsewhere_is_a_drift(place: Place) -> None:
    (place.app / "current.sock").unlink()
    assert place.found() == [(Verdict.drift, "traffic")]
    (place.app / "current.sock").symlink_to("/run/other.sock")
    assert place.found() == [(Verdict.drift, "traffic")]


class Sending:
    """A proxy that tells where it sends traffic; None: it does not answer."""

    kind = "haproxy"

    def __init__(self, *places: str, answers: bool = True) -> None:
        self.places, self.answers = places, answers

    def point(self, environment: Environment, address: str) -> None:
        raise AssertionError("to look changes nothing")

    def problems(self, environment: Environment) -> list[Any]:
        return []

    def points_to(self, environment: Environment) -> tuple[str, ...]:
        if not self.answers:
            raise StepFailed(Cause.host, "cannot reach HAProxy")
        return self.places


def _by_port(place: Place, proxy: object) -> list[tuple[Verdict, str]]:
    (place.app / ".fraisier" / "instances" / f"{RELEASE}.env").write_text("FRAISIER_ADDRESS=127.0.0.1:8001\n")
    place.proxy = proxy
    listen = ("127.0.0.1:8001", "127.0.0.1:8002")
    return place.found(proxy=ProxySpec(kind="haproxy"), listen=listen)


@pytest.mark.parametrize(
    ("places", "is_right"),
    [
        (("127.0.0.1:8001",), True),
        (("127.0.0.1:8002",), False),
        (("127.0.0.1:8001", "127.0.0.1:8002"), False),
        ((), False),
    ],
)
def test_a_proxy_that_is_told_is_asked_where_it_sends_traffic(
    place: Place, places: tuple[str, ...], is_right: bool
) -> None:
    found = _by_port(place, Sending(*places))
    assert found == [(Verdict.same, "all") if is_right else (Verdict.drift, "traffic")]


def test_a_proxy_that_does_not_answer_is_no_drift_but_unknown(place: Place) -> None:
    assert _by_port(place, Sending(answers=False)) == [(Verdict.unknown, "host")]


def test_a_proxy_of_somebody_elses_that_does_not_tell_is_not_asked(place: Place) -> None:
    class Mute:
        kind = "haproxy"

    assert _by_port(place, Mute()) == [(Verdict.same, "all")]


def test_another_release_that_still_runs_is_a_drift_and_one_that_does_not_is_none(place: Place) -> None:
    place.serve(OTHER)
    assert place.found() == [(Verdict.same, "all")]
    place.target.runs[f"orders@{OTHER}"] = True
    assert place.found() == [(Verdict.drift, "instance")]


def test_what_was_deployed_before_there_were_instances_is_looked_for_as_the_plain_unit(place: Place) -> None:
    (place.app / ".fraisier" / "instances" / f"{RELEASE}.env").unlink()
    place.target.runs = {"orders": True}
    assert place.found() == [(Verdict.same, "all")]


def test_while_a_deployment_runs_nothing_is_compared(place: Place) -> None:
    place.store.row["running_deployment_id"] = "d1"
    assert place.found() == [(Verdict.busy, "deployment")]


def test_a_deployment_that_ends_meanwhile_is_no_drift(place: Place) -> None:
    """The host was looked at before, the database after it: they are compared once more."""
    place.store.row["current_release"] = OTHER

    def ends(store: Told) -> None:
        if store.looks == 2:
            store.row["current_release"] = RELEASE

    place.store.then = ends
    assert place.found() == [(Verdict.same, "all")]


def test_a_host_that_cannot_be_looked_at_is_unknown(place: Place) -> None:
    def silent(*_: object) -> UnitState:
        raise StepFailed(Cause.host, "cannot ask systemd on localhost")

    place.target.state = silent  # type: ignore[method-assign]
    assert place.found() == [(Verdict.unknown, "host")]


def test_an_environment_of_another_machine_is_unknown_here(place: Place) -> None:
    assert place.found(labels=("web1",)) == [(Verdict.unknown, "host")]


def verification(fleet: Fleet) -> VerifyEnvironments:
    for host in fleet.hosts.values():
        Path(f"{host.root}/srv/orders/.fraisier").mkdir(parents=True, exist_ok=True)
        host.write(
            "/srv/orders/.fraisier/owner", json.dumps(owner_of(fleet.store, fleet.environment)).encode()
        )
    return VerifyEnvironments(
        configuration_of(fleet.environment), fleet.tools_of(Fate()), fleet.store, fleet.codec
    )


def test_each_of_several_hosts_is_compared_with_what_it_is_said_to_run_itself(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, rollout=Rollout(max_failures=1))
    fleet.repository.commit(SHA_A)
    fleet.repository.commit(SHA_B)
    old = fleet.deploy(SHA_A).release
    fleet[3].unhealthy = {"b"}
    new = fleet.deploy(SHA_B).release
    verify = verification(fleet)
    found = [(each.host, each.verdict, each.message.split()[1]) for each in verify([KEY])]
    same = Verdict.same
    assert found == [("web1", same, f"{new},"), ("web2", same, f"{new},"), ("web3", same, f"{old},")]

    fleet[2].point("/srv/orders/current", f"releases/{old}")
    assert [each.host for each in verify([KEY]) if each.verdict is Verdict.drift] == ["web2"]
    fleet.close()


def test_a_host_that_had_no_others_is_known_by_what_the_environment_runs(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, size=1)
    fleet.repository.commit(SHA_A)
    release = fleet.deploy(SHA_A).release
    fleet.add_host("web2")
    verify = verification(fleet)
    found = [(each.host, each.message) for each in verify([KEY])]
    assert found == [("web1", f"runs {release}, as the database says"), ("web2", "nothing was deployed")]
    fleet.close()
