"""The units that Fraisier writes, what it tells systemd for each cut-over, and where an instance listens."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from fraisier.application.instances import choose_address, connections
from fraisier.config.codec import canonical
from fraisier.deployers.api import plan_deployment, plan_rollback
from fraisier.deployers.common import Parts, candidate
from fraisier.domain.acts import CheckHealth, UnitCommand, WriteFile
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Cutover, Environment, HealthCheck, TargetSpec
from fraisier.domain.plan import StepName, StepState
from fraisier.domain.recovery import Course, resume
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret
from fraisier.health.http import HttpProber
from fraisier.hosts.local import LocalHost
from fraisier.targets.systemd import Systemd
from tests.factories import SHA_A, environment
from tests.unit.test_recovery import Entry

NEW = "7-aaaaaaaaaa"


def shop(**changes: object) -> Environment:
    keys: dict[str, object] = {
        "target": TargetSpec(kind="systemd", unit="orders.service"),
        "user": "orders",
        "run": "bin/serve --uds $FRAISIER_SOCKET",
        "cutover": Cutover.blue_green,
        "drain_timeout": 12.0,
        "health_check": HealthCheck(url="http://orders.example.com/health"),
    }
    return environment(**keys | changes)


def parts(found: Environment, name: str = NEW) -> Parts:
    return Parts(target=Systemd().acts(found, Layout(found.app_path).release(name)))


def written(found: Environment) -> dict[str, str]:
    acts = Systemd().acts(found, Layout(found.app_path).release(NEW)).install
    return {act.destination: act.content for act in acts if isinstance(act, WriteFile)}


def commands(found: Environment, step: StepName) -> list[str]:
    plan = plan_deployment(found, candidate(found, NEW, SHA_A), parts(found))
    acts = next(each for each in plan.steps if each.name is step).acts
    return [" ".join(act.argv[2:]) for act in acts if isinstance(act, UnitCommand)]


def test_an_instance_runs_from_its_release_and_has_a_socket_of_its_own():
    (path, unit), *_ = written(shop(env={"COLOUR": 'a "b" $c %d', "TOKEN": Secret("hunter2")})).items()
    assert path == f"/etc/systemd/system/orders@{NEW}.service"
    lines = unit.splitlines()
    assert "WorkingDirectory=/var/www/orders/releases/%i" in lines
    assert "RuntimeDirectory=orders/%i" in lines
    assert "EnvironmentFile=/var/www/orders/.fraisier/instances/%i.env" in lines
    assert 'ExecStart=/bin/sh -c "exec bin/serve --uds $$FRAISIER_SOCKET"' in lines
    assert 'Environment="COLOUR=a \\"b\\" $c %%d"' in lines
    assert {"User=orders", "TimeoutStopSec=12", "StartLimitIntervalSec=0"} <= set(lines)
    assert "hunter2" not in unit
    assert "current" not in unit


def test_an_instance_is_started_before_it_is_enabled_and_the_others_end_last():
    assert commands(shop(), StepName.restart)[-1] == f"start orders@{NEW}.service"
    assert commands(shop(), StepName.activate) == [f"enable orders@{NEW}.service"]
    plan = plan_deployment(shop(), candidate(shop(), NEW, SHA_A), parts(shop()))
    names = [step.name.value for step in plan.steps]
    assert names[-4:] == ["restart", "check_health", "activate", "finish"]
    assert [step.name.value for step in plan.after(StepName.restart)] == names[-4:]


def test_a_socket_is_held_by_a_unit_that_the_service_requires():
    found = shop(cutover=Cutover.socket, listen=("127.0.0.1:8000", "/run/orders.sock"))
    files = written(found)
    assert (
        "ListenStream=127.0.0.1:8000\nListenStream=/run/orders.sock\nBacklog=4096"
        in files["/etc/systemd/system/orders.socket"]
    )
    service = files["/etc/systemd/system/orders.service"]
    assert "Requires=orders.socket\nAfter=orders.socket" in service
    assert "RuntimeDirectory" not in service
    assert commands(found, StepName.restart)[-3:] == [
        "stop orders.service",
        "start orders.socket",
        "restart orders.service",
    ]
    stop = [" ".join(act.argv[2:]) for act in parts(found).target.stop if isinstance(act, UnitCommand)]
    assert stop == ["stop orders.socket", "stop orders.service"], "or the socket starts it again"


def test_the_health_of_a_service_whose_socket_is_held_is_asked_for_in_line():
    def check(found: Environment) -> CheckHealth:
        plan = plan_deployment(found, candidate(found, NEW, SHA_A), parts(found))
        (act,) = next(each for each in plan.steps if each.name is StepName.check_health).acts
        assert isinstance(act, CheckHealth)
        return act

    held = shop(cutover=Cutover.socket, listen=("127.0.0.1:8000",))
    assert check(held).in_line
    assert "RestartSec=300ms" in written(held)["/etc/systemd/system/orders.service"], (
        "somebody waits for each start"
    )
    assert not check(shop()).in_line
    assert not check(shop(cutover=Cutover.restart)).in_line
    own = shop(cutover=Cutover.socket, health_check=HealthCheck(command="bin/check"))
    assert not check(own).in_line, "a command has a bound of its own"


def test_the_plain_unit_of_restart_has_the_same_socket_and_is_asked_there():
    listen = ("/run/orders/%i/service.sock",)
    found = shop(cutover=Cutover.restart, listen=listen)
    unit = written(found)["/etc/systemd/system/orders.service"]
    assert "WorkingDirectory=/var/www/orders/current" in unit
    assert "RuntimeDirectory=orders/current" in unit
    assert 'Environment="FRAISIER_SOCKET=/run/orders/current/service.sock"' in unit
    plan = plan_deployment(found, candidate(found, NEW, SHA_A), parts(found))
    checks = [act for step in plan.steps for act in step.acts if isinstance(act, CheckHealth)]
    assert [each.check.at for each in checks if each.check] == ["/run/orders/current/service.sock"]


def test_the_way_back_to_an_instance_gives_it_the_traffic_before_anything_else_ends():
    plan = plan_rollback(shop(), "6-bbbbbbbbbb", parts(shop(), "6-bbbbbbbbbb"), as_instance=True)
    assert [step.name.value for step in plan.steps] == ["restart", "check_health", "activate", "finish"]
    files = [act for act in plan.steps[0].acts if isinstance(act, WriteFile)]
    assert all(act.once for act in files), "what the unit was written from may have changed since"


BLUE_GREEN = [
    *(StepName(name) for name in ("preflight", "fetch", "prepare", "build")),
    *(StepName(name) for name in ("restart", "check_health", "activate", "finish")),
]


@pytest.mark.parametrize("last", BLUE_GREEN[4:])
@pytest.mark.parametrize("state", [StepState.running, StepState.failed])
def test_what_died_beside_the_old_release_has_not_switched_yet(last, state):
    before = BLUE_GREEN[: BLUE_GREEN.index(last)]
    resumption = resume([*map(Entry, before), Entry(last, state)], Cutover.blue_green)
    switched = last in (StepName.activate, StepName.finish)
    failed = Course.roll_back if switched else Course.conclude
    assert resumption.switched is switched
    assert resumption.course is (failed if state is StepState.failed else Course.go_on)


def test_a_second_death_does_not_forget_the_switch_of_the_first_attempt():
    first = [*map(Entry, BLUE_GREEN[:6]), Entry(StepName.activate, StepState.running)]
    resumption = resume([*first, Entry(StepName.restart, StepState.failed, attempt=2)], Cutover.blue_green)
    assert (resumption.course, resumption.switched) == (Course.roll_back, True)


def test_a_release_gets_a_port_that_nobody_listens_on(tmp_path):
    host, layout = LocalHost(), Layout(str(tmp_path))
    with socket.socket() as taken, socket.socket() as other:
        for each in (taken, other):
            each.bind(("127.0.0.1", 0))
        taken.listen()
        busy, free = (f"127.0.0.1:{each.getsockname()[1]}" for each in (taken, other))
        other.close()
        assert choose_address(host, layout, NEW, (busy, free)) == free
        with pytest.raises(StepFailed) as refused:
            choose_address(host, layout, NEW, (busy,))
    assert refused.value.cause is Cause.preflight
    assert "somebody else" in str(refused.value)


def test_a_port_of_another_instance_is_not_given_twice(tmp_path):
    layout = Layout(str(tmp_path))
    Path(layout.instances).mkdir(parents=True)
    Path(layout.instance("6-bbbbbbbbbb")).write_text("FRAISIER_ADDRESS=127.0.0.1:1\nPORT=1\n")
    assert choose_address(LocalHost(), layout, NEW, ("127.0.0.1:1", "127.0.0.1:2")) == "127.0.0.1:2"


def test_connections_are_counted_until_they_are_closed(tmp_path):
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        assert connections(LocalHost(), path) == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            assert connections(LocalHost(), path) == 1, "it waits to be accepted"
            accepted, _ = listening.accept()
            assert connections(LocalHost(), path) == 1
            accepted.close()
    assert connections(LocalHost(), path) == 0


def test_a_socket_is_asked_with_the_name_that_the_proxy_asks_with(tmp_path):
    path, asked = str(tmp_path / "s.sock"), []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            asked.append(connection.recv(4096).decode())
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        check = HealthCheck(url="https://orders.example.com/health?x=1", at=path)
        assert HttpProber().probe(check, shop(), "/", lambda _: 1, LocalHost().connect).passed
        thread.join()
    assert asked[0].startswith("GET /health?x=1 HTTP/1.1\r\n")
    assert "Host: orders.example.com" in asked[0]


def test_an_environment_without_the_new_keys_is_read_as_before():
    assert '"cutover":"restart"' in canonical(environment())
