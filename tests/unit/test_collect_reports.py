"""What runs that systemd started tell of themselves: their user writes it, and may write anything."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.application import read_reports
from fraisier.application.collect_reports import AT_ONCE, CollectReports
from fraisier.application.ports import Finished
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Environment, FraiseType
from fraisier.domain.job import Job, Keeper, Schedule
from fraisier.domain.release import Layout
from fraisier.domain.report import name_of_run, of_environment, read_report, runs_of
from fraisier.domain.run import Reported, RunStatus, RunTrigger
from fraisier.hosts.local import LocalHost
from tests.factories import KEY, environment
from tests.fakes import FakeClock

NOW = 1_800_000_000.0
INVOCATION = "0123456789abcdef" * 2
FILE = f"nightly.{INVOCATION}"
BEGUN = f"begin 1 {NOW - 60} scheduled 7-aaaaaaaaaa\n"
GOOD = f"{BEGUN}end 1 {NOW - 50} 0\nfinal {NOW - 49} success exited 0 1048576\n"
ABOUT = of_environment(KEY, "localhost", "nightly", INVOCATION)


def told(text: str, *, runs: bool = False) -> list[Reported]:
    report = read_report(text.encode(), now=NOW)
    return runs_of(report, ABOUT, runs=runs) if report else []


def test_a_run_that_ended_well() -> None:
    (run,) = told(GOOD)
    assert run.ending is not None
    assert (run.ending.status, run.ending.exit_code, run.ending.peak_memory) == (
        RunStatus.success,
        0,
        1048576,
    )
    assert (run.started_at, run.ended_at, run.release) == (NOW - 60, NOW - 49, "7-aaaaaaaaaa")
    assert (run.trigger, run.attempt) == (RunTrigger.scheduled, 1)


@pytest.mark.parametrize(
    ("lines", "status", "cause", "says"),
    [
        (f"end 1 {NOW} 3\nfinal {NOW} exit-code exited 3 0", RunStatus.failed, Cause.run, "exited with 3"),
        (f"end 1 {NOW} 124\nfinal {NOW} exit-code exited 124 0", RunStatus.failed, Cause.timeout, "timeout"),
        (f"final {NOW} timeout killed TERM 0", RunStatus.failed, Cause.timeout, "its `timeout`"),
        (f"stopped\nfinal {NOW} timeout killed TERM 0", RunStatus.failed, Cause.timeout, "its `timeout`"),
        (f"final {NOW} oom-kill killed KILL 0", RunStatus.failed, Cause.run, "memory"),
        (f"final {NOW} signal killed KILL 0", RunStatus.failed, Cause.run, "a signal (KILL)"),
        (f"stopped\nend 1 {NOW} 143\nfinal {NOW} exit-code exited 143 0", RunStatus.cancelled, Cause.cancelled, ""),
        (f"stopped\nfinal {NOW} success killed TERM 0", RunStatus.cancelled, Cause.cancelled, "stopped"),
        ("", RunStatus.failed, Cause.interrupted, "power"),
    ],
)  # fmt: skip
def test_how_a_run_ended(lines: str, status: RunStatus, cause: Cause, says: str) -> None:
    (run,) = told(BEGUN + lines + "\n")
    assert run.ending is not None
    assert (run.ending.status, run.ending.cause) == (status, cause)
    assert says in run.ending.error


def test_each_try_is_a_run_and_only_the_last_has_the_end_of_the_whole() -> None:
    text = f"{BEGUN}end 1 {NOW - 50} 1\nbegin 2 {NOW - 20} scheduled 7-aaaaaaaaaa\nend 2 {NOW - 10} 0\n"
    one, two = told(text + f"final {NOW - 9} success exited 0 99\n")
    assert one.ending is not None
    assert two.ending is not None
    assert [one.ending.status, two.ending.status] == [RunStatus.failed, RunStatus.success]
    assert (two.trigger, two.attempt, two.started_at) == (RunTrigger.retry, 2, NOW - 20)
    assert one.invocation != two.invocation
    assert (one.ending.peak_memory, two.ending.peak_memory) == (None, 99)


def test_what_is_under_way_has_no_end_even_where_its_last_line_is_there() -> None:
    """What follows it is still to be performed."""
    (run,) = told(GOOD, runs=True)
    assert (run.ending, run.ended_at) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        "", "\0\xff", "begin", "begin 1 x scheduled y", f"begin 2 {NOW} scheduled 7-aaaaaaaaaa",
        "begin 1 nan scheduled x", "begin 1 inf scheduled x", "begin 1 1e308 scheduled x", "begin 1 0 scheduled x",
        f"begin 1 {NOW + 3600} scheduled x", f"final {NOW} success exited 0 0", f"end 1 {NOW} 0",
    ],
)  # fmt: skip
def test_what_cannot_be_is_no_report(text: str) -> None:
    assert told(text) == []


def test_a_forged_report_names_no_other_release_trigger_or_time() -> None:
    (run,) = told(f"begin 1 {NOW} deploy ../../etc\nend 1 {NOW - 9999} 0\nfinal {NOW} x;y exited 0 -5\n")
    assert (run.release, run.trigger) == ("", RunTrigger.scheduled)
    assert run.ending is not None
    assert run.ending.cause is Cause.interrupted
    assert run.ending.peak_memory is None


@given(st.text(st.sampled_from("begin end final stopped 0123456789.-\n scheduled"), max_size=300))
def test_whatever_it_says_times_and_numbers_are_possible(text: str) -> None:
    for runs in (False, True):
        for run in told(BEGUN + text, runs=runs):
            assert 0 < run.started_at <= NOW + 60
            assert run.ended_at is None or run.ended_at >= run.started_at
            assert run.invocation.startswith(f"{KEY}/nightly:")
            if run.ending is not None:
                assert run.ending.exit_code is None or 0 <= run.ending.exit_code <= 999


def test_no_more_tries_are_believed_than_there_can_be() -> None:
    lines = "".join(f"begin {n} {NOW} scheduled x\n" for n in range(1, 300))
    assert len(told(lines)) <= 101


@pytest.mark.parametrize(
    "name",
    ["nightly", f"../x.{INVOCATION}", f"{FILE}.new", f"{FILE}\n", f"-x.{INVOCATION}", f"a b.{INVOCATION}"],
)
def test_a_file_of_another_name_is_none(name: str) -> None:
    assert name_of_run(name) is None


# --------------------------------------------------------------------------------------- collecting
REPORTS = environment(
    type=FraiseType.scheduled,
    user="orders",
    jobs={
        "nightly": Job(name="nightly", run="x", keeper=Keeper.systemd, schedule=Schedule(expression="daily")),
        "after": Job(name="after", run="y", depends_on="nightly", concurrency=2),
    },
)


UNITS = "/etc/systemd/system/"


@dataclass
class Machine:
    """A host with a folder of reports; `active` is the invocation of the service that is under way."""

    name: str = "localhost"
    files: dict[str, str] = field(default_factory=dict)
    active: str = ""
    printed: str = "it printed hunter2\n"
    reads: int = 0
    answers: bool = True
    others: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)  # by name, with a file

    @property
    def code(self) -> int:
        return 0 if self.answers else 1

    def inspect(self, argv: Any, **_: Any) -> Finished:
        if argv[0] == "systemctl":
            state = "activating" if self.active else "inactive"
            unit = "fraisier-orders-production-nightly.service"
            shown = f"Id={unit}\nInvocationID={self.active}\nActiveState={state}\n"
            for name, invocation in self.others.items():
                about = self.about.get(name, name)
                shown += (
                    f"\nId={name}\nDescription={about}\nInvocationID={invocation}\nActiveState=activating\n"
                )
                shown += f"FragmentPath={UNITS}{name}\n" if name in self.units else ""
            is_asked = any(fnmatch(unit, each) for each in argv)
            return _said(shown if self.answers and is_asked else "", self.code)
        if argv[2] == read_reports.LIST:
            return _said("\n".join(self.files))
        if argv[2] == read_reports.REMOVE_OLD:
            return _said("0")
        assert "journal" in argv
        assert INVOCATION in argv
        return _said(self.printed)

    def ask(self, command: Any) -> Finished:
        assert command.user == "orders"
        names = command.argv[5:]
        if command.argv[2] == read_reports.REMOVE:
            for name in names:
                del self.files[name]
            return _said("")
        self.reads += 1
        there = [name for name in names if name in self.files and self.answers]
        return _said("".join(f"\n/{name}\n{self.files[name]}" for name in there), self.code)

    def kind(self, _: str) -> str:
        return "missing"

    def list(self, _: str) -> list[str]:
        return list(self.units)

    def read(self, path: str) -> bytes | None:
        text = self.units.get(path.removeprefix(UNITS))
        return None if text is None else text.encode()


def _said(text: str, code: int = 0) -> Finished:
    return Finished(code=code, stdout=text.encode(), stderr=b"")


@dataclass
class World:
    """Everything that a collector needs, and what it stored and told."""

    machine: Machine = field(default_factory=Machine)
    stored: list[Reported] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    clock: FakeClock = field(default_factory=FakeClock)
    away: bool = False
    active: list[dict[str, Any]] = field(default_factory=list)
    environment: Environment = REPORTS
    deployed: tuple[str, ...] = ()  # jobs that there were

    def host(self, _: Any) -> Machine:
        return self.machine

    def report_run(self, reported: Reported) -> dict[str, Any]:
        if self.away:
            raise ConnectionError
        self.stored.append(reported)
        return {}

    def active_runs(self, _: Any) -> list[dict[str, Any]]:
        return self.active

    def resolved_since(self, attempt: int) -> list[dict[str, Any]]:
        return [{"attempt_pk": 1, "resolved": "before"}] if self.deployed and not attempt else []

    def load_place(self, _: str) -> Environment:
        job = REPORTS.jobs["nightly"]
        return replace(REPORTS, jobs={name: replace(job, name=name) for name in self.deployed})

    def secrets(self, _: Any, __: Any = None) -> list[str]:
        return ["hunter2"]

    def collector(self) -> CollectReports:
        return CollectReports(self, self, self, lambda event, _: self.told.append(event))  # type: ignore[arg-type]

    def __call__(self) -> int:
        return self.collector()([self.environment])


@pytest.fixture
def world() -> World:
    return World()


def test_what_ended_is_stored_with_what_it_printed_then_removed(world: World) -> None:
    world.machine.files[FILE] = GOOD
    assert world() == 1
    (run,) = world.stored
    assert run.environment == KEY
    assert run.output.startswith("it printed ")
    assert "hunter2" not in run.output
    assert world.machine.files == {}


def with_hook(world: World) -> None:
    nightly = replace(REPORTS.jobs["nightly"], on_failure=("mourn",))
    world.environment = replace(REPORTS, jobs={**REPORTS.jobs, "nightly": nightly})


@pytest.mark.parametrize("is_reported", [True, False])
def test_what_was_cut_off_is_left_to_a_worker_where_somebody_wants_to_be_told(
    world: World, is_reported: bool
) -> None:
    with_hook(world)
    if is_reported:
        world.machine.files[FILE] = BEGUN
    else:
        row = {"job": "nightly", "invocation": ABOUT.invocation, "host": "localhost"}
        world.active = [row]
    world()
    (run,) = world.stored
    assert (run.invocation, run.ending, run.left) == (ABOUT.invocation, None, True)
    assert world.machine.files == {}


def test_hooks_of_a_failure_that_its_unit_has_seen_are_the_units(world: World) -> None:
    with_hook(world)
    world.machine.files[FILE] = f"{BEGUN}end 1 {NOW - 50} 3\nfinal {NOW - 49} exit-code exited 3 0\n"
    world()
    assert world.stored[0].ending is not None
    assert (world.stored[0].ending.status, world.stored[0].left) == (RunStatus.failed, False)


def test_a_job_that_a_worker_starts_after_it_is_asked_for_with_its_end(world: World) -> None:
    world.machine.files[FILE] = GOOD
    world()
    assert world.stored[0].ending is not None
    assert [(wish.job, wish.trigger, wish.concurrency) for wish in world.stored[0].ending.then] == [
        ("after", RunTrigger.dependency, 2)
    ]


def test_what_could_not_be_stored_is_told_again(world: World) -> None:
    world.machine.files[FILE] = GOOD
    world.away = True
    world()
    assert FILE in world.machine.files
    world.away = False
    assert world() == 1


def test_what_is_under_way_is_stored_as_such_and_stays(world: World) -> None:
    world.machine.files[FILE] = BEGUN
    world.machine.active = INVOCATION
    assert world() == 0
    assert [run.ending for run in world.stored] == [None]
    assert FILE in world.machine.files


def test_what_a_worker_follows_is_that_workers_to_tell(world: World) -> None:
    world.machine.files[FILE] = GOOD.replace("scheduled", "manual")
    world.active = [{"job": "nightly", "invocation": ""}]
    assert world() == 0
    assert (world.stored, list(world.machine.files)) == ([], [FILE])
    world.active = []  # it died
    assert world() == 1
    assert world.stored[0].trigger is RunTrigger.manual


def test_the_report_of_another_environments_job_or_of_none_is_never_read(world: World) -> None:
    world.machine.files = {f"other.{INVOCATION}": GOOD, "README": "", "x" * 300: GOOD}
    assert world() == 0
    assert (world.stored, world.machine.reads) == ([], 0)


def test_one_that_nobody_understands_is_told_and_removed(world: World) -> None:
    world.machine.files[FILE] = "rm -rf /\n"
    assert world() == 1
    assert (world.stored, world.told, world.machine.files) == ([], ["report_not_understood"], {})


# ------------------------------------------------------------------------- what was stored as under way
STORED = {"job": "nightly", "host": "localhost", "invocation": f"{KEY}/nightly:{INVOCATION}.2"}


def test_a_run_whose_report_is_gone_is_ended_once_its_unit_has(world: World) -> None:
    """Its machine lost its power before the report was on the disk: nobody else would ever end it."""
    world.active = [STORED]
    world.machine.active = INVOCATION
    world()
    assert world.stored == []
    world.machine.active = "f" * 32  # the next one
    world()
    (run,) = world.stored
    assert (run.environment, run.invocation, run.host) == (KEY, STORED["invocation"], "localhost")
    assert run.ending is not None
    assert (run.ending.status, run.ending.cause) == (RunStatus.failed, Cause.interrupted)


def test_where_nobody_answers_nothing_has_ended(world: World) -> None:
    world.active = [STORED]
    world.machine.files[FILE] = BEGUN
    world.machine.answers = False
    assert world() == 0
    assert (world.stored, world.told) == ([], ["reports_not_collected"])
    assert FILE in world.machine.files


def test_a_report_that_is_there_is_found_behind_however_many_others(world: World) -> None:
    world.active = [STORED]
    others = {f"nightly.{number:032x}": "x" for number in range(AT_ONCE)}
    world.machine.files = {**others, FILE: GOOD}
    world()
    assert STORED["invocation"] not in [run.invocation for run in world.stored]


@pytest.mark.parametrize("keeper", [Keeper.worker, None])
def test_what_systemd_began_before_the_configuration_changed_is_collected(
    world: World, keeper: Keeper | None
) -> None:
    """Its job has gone, or is the worker's now, which would wait for its end for good."""
    job = replace(REPORTS.jobs["nightly"], keeper=keeper or Keeper.worker)
    world.environment = replace(REPORTS, jobs={"nightly": job} if keeper else {})
    world.active = [STORED | {"invocation": f"{KEY}/nightly:{INVOCATION}"}]
    world.machine.files[FILE] = BEGUN
    world.machine.active = INVOCATION
    world()
    assert [run.ending for run in world.stored] == [None]
    world.machine.files[FILE] = GOOD
    world.machine.active = ""
    assert world() == 1
    ending = world.stored[-1].ending
    assert ending is not None
    assert ending.status is RunStatus.success


def test_a_schedule_that_a_reload_gives_to_systemd_is_looked_after_from_then_on(world: World) -> None:
    collect = world.collector()
    by_worker = {"nightly": replace(REPORTS.jobs["nightly"], keeper=Keeper.worker)}
    assert collect([replace(REPORTS, jobs=by_worker)]) == 0
    world.machine.files[FILE] = GOOD
    assert collect([REPORTS]) == 1
    assert collect([replace(REPORTS, jobs=by_worker)]) == 0
    assert len(world.stored) == 1


@pytest.mark.parametrize("jobs", [{}, {"after": REPORTS.jobs["after"]}])
def test_what_a_job_reported_that_is_gone_is_in_the_history_and_then_removed(
    world: World, jobs: dict[str, Job]
) -> None:
    """Nobody had heard of the run before its job left the configuration."""
    world.environment, world.deployed = replace(REPORTS, jobs=jobs), ("nightly",)
    world.machine.files[FILE] = GOOD
    assert world() == 1
    (run,) = world.stored
    assert (run.job, run.ending and run.ending.status) == ("nightly", RunStatus.success)
    assert world.machine.files == {}


def test_as_long_as_its_units_are_there_runs_of_a_job_that_is_gone_are_collected(world: World) -> None:
    """A configuration that was not deployed yet removes no unit."""
    world.environment, world.deployed = replace(REPORTS, jobs={}), ("nightly",)
    unit = "fraisier-orders-production-nightly.service"
    world.machine.units[unit] = "# Written by Fraisier for orders/production\n"
    collect = world.collector()
    assert collect([world.environment]) == 0
    world.machine.files[FILE] = GOOD
    assert collect([world.environment]) == 1
    del world.machine.units[unit]
    assert collect([world.environment]) == 0
    world.machine.files[FILE] = GOOD
    assert collect([world.environment]) == 0  # nobody looks any more, until the configuration changes
    assert collect([replace(world.environment)]) == 1


def test_old_reports_of_jobs_that_nobody_knows_are_removed_and_no_others(tmp_path: Path) -> None:
    wanted = replace(REPORTS, app_path=str(tmp_path), user="")
    folder = Path(Layout(wanted.app_path).reports)
    folder.mkdir(parents=True)
    kept = {FILE, f"gone.{INVOCATION}", "README", f"new.{INVOCATION}", "x.y"}
    old = {f"stranger.{number:032x}" for number in range(20)} | {f"nightlyx.{INVOCATION}"}
    for name in kept | old:
        (folder / name).touch()
        if not name.startswith("new."):
            os.utime(folder / name, (1, 1))
    (folder / f"folder.{INVOCATION}").mkdir()
    reports = read_reports.Reports(wanted, LocalHost(), also=("gone",))
    assert reports.remove_strangers() == len(old)
    assert {each.name for each in folder.iterdir()} == kept | {f"folder.{INVOCATION}"}
    assert reports.remove_strangers() == 0


def test_what_has_ended_is_collected_before_however_many_are_under_way(world: World) -> None:
    jobs = {
        f"a{number:02}": replace(REPORTS.jobs["nightly"], name=f"a{number:02}") for number in range(AT_ONCE)
    }
    world.environment = replace(REPORTS, jobs=jobs | dict(REPORTS.jobs))
    running = {
        f"fraisier-orders-production-{job}.service": f"{number:032x}" for number, job in enumerate(jobs)
    }
    world.machine.others = running
    world.machine.files = {f"{job}.{number:032x}": BEGUN for number, job in enumerate(jobs)} | {FILE: GOOD}
    assert world() == 1
    assert FILE not in world.machine.files


def test_a_job_that_has_left_the_configuration_may_still_run() -> None:
    gone, alike, foreign = (
        f"fraisier-orders-production-{name}.service" for name in ("gone", "-x-theirs", "foreign")
    )
    machine = Machine(
        others=dict.fromkeys((gone, alike, foreign), INVOCATION),
        about={
            gone: "orders/production: gone, by Fraisier",
            alike: "orders/production-x: theirs, by Fraisier",
        },
    )
    reports = read_reports.Reports(REPORTS, machine)  # type: ignore[arg-type]
    assert reports.under_way() == {gone: INVOCATION}


@pytest.mark.parametrize(
    ("text", "is_ours"),
    [
        ("# Written by Fraisier for orders/production\n[Service]\n", True),
        ("# Written by Fraisier for orders/production-x\n[Service]\n", False),
        ("[Service]\nExecStart=/bin/sleep infinity\n", False),
    ],
)
def test_somebody_elses_unit_with_a_jobs_name_is_no_run_of_ours(text: str, is_ours: bool) -> None:
    """A deployment would wait for its end, which may never come."""
    name = "fraisier-orders-production-load.service"
    machine = Machine(others={name: INVOCATION}, about={name: "something"}, units={name: text})
    reports = read_reports.Reports(REPORTS, machine, also=("load",))  # type: ignore[arg-type]
    assert (name in reports.under_way()) is is_ours


def test_reports_of_a_job_that_is_gone_hide_no_others(tmp_path: Path) -> None:
    wanted = replace(REPORTS, app_path=str(tmp_path))
    folder = Path(Layout(wanted.app_path).reports)
    folder.mkdir(parents=True)
    for number in range(600):
        (folder / f"gone.{number:032x}").touch()
    ours = {FILE, f"a.b-c.{INVOCATION}"}
    for name in (*ours, f"axb-c.{INVOCATION}", f"{FILE}0", "nightly.x"):
        (folder / name).touch()
    (folder / os.fsdecode(b"gone\xff")).touch()
    reports = read_reports.Reports(wanted, LocalHost(), also=("a.b-c",))
    assert set(reports.names()) == ours
