"""What targets and migrations plan, and how they read their managers' words, without a manager."""

from __future__ import annotations

import pytest

from fraisier.application.ports import Finished, UnitState
from fraisier.domain.acts import Command, UnitCommand
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Database, TargetSpec
from fraisier.domain.migration import WayDown
from fraisier.domain.plan import TargetActs
from fraisier.migrations.command import CommandMigrations
from fraisier.targets.supervisord import Supervisord
from fraisier.targets.systemd import Systemd
from tests.factories import environment
from tests.fakes import FakeHost

FOLDER = "/var/www/orders/releases/1-aaaaaaa"
SYSTEMD = TargetSpec(kind="systemd", unit="orders.service")
SUPERVISORD = TargetSpec(kind="supervisord", unit="orders", options={"config": "/etc/supervisord.conf"})


class Speaking(FakeHost):
    """A host whose every inspection is answered with the same words."""

    def __init__(self, code: int, stdout: str, stderr: str = "") -> None:
        super().__init__()
        self.answer = Finished(code=code, stdout=stdout.encode(), stderr=stderr.encode())

    def inspect(self, argv: object, *, timeout: float = 10.0) -> Finished:
        return self.answer


def commands(acts: object) -> list[str]:
    assert isinstance(acts, tuple)
    return [act.describe() for act in acts]


def shown(**found: str) -> str:
    return "".join(f"{name}={value}\n" for name, value in found.items())


@pytest.mark.parametrize("target", [Systemd(), Supervisord()])
def test_without_a_target_nothing_is_restarted(target: Systemd | Supervisord) -> None:
    assert target.acts(environment(target=None), FOLDER) == TargetActs()
    assert target.problems(environment(target=None), FakeHost()) == ()


def test_systemd_clears_an_old_failure_before_it_restarts() -> None:
    acts = Systemd().acts(environment(target=SYSTEMD, restart_timeout=33), FOLDER)
    assert commands(acts.release_failure) == ["systemctl --no-ask-password reset-failed orders.service"]
    assert commands(acts.restart) == ["systemctl --no-ask-password restart orders.service"]
    assert commands(acts.stop) == ["systemctl --no-ask-password stop orders.service"]
    assert [act.timeout for act in acts.restart if isinstance(act, UnitCommand)] == [33]
    assert acts.install == ()


def test_a_unit_file_is_installed_loaded_and_enabled_in_this_order() -> None:
    acts = Systemd().acts(environment(target=SYSTEMD, unit_file="deploy/any.service"), FOLDER)
    assert commands(acts.install) == [
        f"install -m 0644 {FOLDER}/deploy/any.service /etc/systemd/system/orders.service",
        "systemctl --no-ask-password daemon-reload",
        "systemctl --no-ask-password enable orders.service",
    ]


def test_a_users_manager_is_asked_and_its_folder_used() -> None:
    spec = TargetSpec(kind="systemd", unit="orders", options={"manager": "user"})
    acts = Systemd().acts(environment(target=spec, unit_file="orders.service"), FOLDER)
    assert commands(acts.restart) == ["systemctl --user --no-ask-password restart orders.service"]
    assert commands(acts.install)[0].endswith(" ~/.config/systemd/user/orders.service")


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (
            {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "InvocationID": "i", "NRestarts": "0"},
            UnitState(known=True, running=True, invocation="i", detail="active (running)"),
        ),
        (
            {"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart", "InvocationID": "i", "NRestarts": "4", "Result": "exit-code", "ExecMainStatus": "1"},
            UnitState(known=True, running=False, settled=False, invocation="i", restarts=4, detail="activating (auto-restart, exit-code, exit status 1)"),
        ),
        (
            {"LoadState": "loaded", "ActiveState": "failed", "SubState": "failed", "InvocationID": "i", "Result": "start-limit-hit"},
            UnitState(known=True, running=False, detail="failed (failed, start-limit-hit)"),
        ),
        (
            {"LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead", "InvocationID": ""},
            UnitState(known=True, running=False, detail="inactive (dead)"),
        ),
        (
            {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"},
            UnitState(known=False, running=False, detail="systemd knows no such unit"),
        ),
    ],
)  # fmt: skip
def test_what_systemctl_shows_becomes_a_state(found: dict[str, str], state: UnitState) -> None:
    assert Systemd().state(SYSTEMD, Speaking(0, shown(**found))) == state


@pytest.mark.parametrize(
    ("code", "said"),
    [(127, "systemctl: not found"), (1, "System has not been booted with systemd as init system")],
)
def test_a_machine_without_systemd_is_told_what_to_use_instead(code: int, said: str) -> None:
    host = Speaking(code, "", said)
    with pytest.raises(StepFailed) as failed:
        Systemd().state(SYSTEMD, host)
    assert failed.value.cause is Cause.host
    (problem,) = Systemd().problems(environment(target=SYSTEMD), host)
    assert "supervisord_program:" in problem.hint


@pytest.mark.parametrize("unit", ["-x", "a b", "x;y", "", "orders:", "[x]", "a" * 300])
def test_a_name_that_is_no_program_never_becomes_an_argument(unit: str) -> None:
    with pytest.raises(StepFailed):
        Supervisord().acts(environment(target=TargetSpec(kind="supervisord", unit=unit)), FOLDER)


@pytest.mark.parametrize(
    ("line", "running", "settled"),
    [
        ("orders                           RUNNING   pid 1, uptime 0:00:05", True, True),
        ("orders                           STARTING", False, False),
        ("orders                           BACKOFF   Exited too quickly (process log may have details)", False, False),
        ("orders                           STOPPING", False, False),
        ("orders                           FATAL     Exited too quickly (process log may have details)", False, True),
        ("orders                           STOPPED   Not started", False, True),
        ("orders                           EXITED    Nov 22 10:00 PM", False, True),
        ("g:a  RUNNING   pid 1, uptime 1 day, 0:00:05\ng:b  STARTING", False, False),
    ],
)  # fmt: skip
def test_what_supervisorctl_says_becomes_a_state(line: str, running: bool, settled: bool) -> None:
    state = Supervisord().state(SUPERVISORD, Speaking(3, line + "\n"))
    assert (state.known, state.running, state.settled) == (True, running, settled)
    assert bool(state.invocation) is running


def test_a_unit_file_for_supervisord_needs_to_know_where_it_goes() -> None:
    place = environment(target=SUPERVISORD, unit_file="orders.conf")
    with pytest.raises(StepFailed, match="conf_d"):
        Supervisord().acts(place, FOLDER)
    problems = Supervisord().problems(place, Speaking(3, "orders  STOPPED  Not started\n"))
    assert ["conf_d" in problem.hint for problem in problems] == [True]


def test_migrations_are_the_lines_that_were_configured() -> None:
    database = Database(up="./migrate up", down="./migrate down", timeout=60)
    place = environment(database=database, user="orders", env_file="/etc/orders.env")
    (up,) = CommandMigrations().up(place, FOLDER, {"FRAISIER_COMMIT": "c"})
    assert up == Command.shell(
        "./migrate up",
        cwd=FOLDER,
        user="orders",
        env={"FRAISIER_COMMIT": "c"},
        env_file="/etc/orders.env",
        timeout=60,
    )
    (down,) = CommandMigrations().down(place, FOLDER, {}, WayDown(to="7"))
    assert (down.argv[-1], down.env) == ("./migrate down", {"FRAISIER_REVISION": "7"})


def test_what_was_not_declared_reversible_is_not_reversed() -> None:
    place = environment(database=Database(up="./migrate up"))
    assert CommandMigrations().down(place, FOLDER, {}, WayDown(to="")) == ()
