"""A claimed run, performed to its end, on a real store and a played host."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraisier.application.control import Control
from fraisier.application.perform_run import PerformRun
from fraisier.application.ports import Job as Listening
from fraisier.application.ports import Row, RunClaim, Serving
from fraisier.application.request_run import MOST_BYTES, RequestRun
from fraisier.application.run_command import run_command
from fraisier.application.tools import Retries, Tools
from fraisier.database.sqlite import open_sqlite
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, Conflict, NotFound, StepFailed, TokenOutdated, UsageError
from fraisier.domain.job import Job, JobKind, Keeper
from fraisier.domain.release import Layout
from fraisier.domain.secret import MASK, Secret
from fraisier.wiring import SystemClock
from tests.factories import KEY, SHA_A, environment, fraise
from tests.fake_repository import FakeRepository
from tests.fakes import FakeHost
from tests.migrated import lay_migrated
from tests.unit.store_contract import claimed, finished, wish
from tests.unit.test_run_deployment import Codec

RELEASE = f"1-{SHA_A[:10]}"
JOB = Job(name="main", run="load", timeout=60)


class World:
    """An environment with a job, whose release is there."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "app"
        self.host = FakeHost()
        lay_migrated(folder / "db" / "f.db")
        self.store = open_sqlite(f"sqlite://{folder}/db/f.db", state_folder=str(folder / "db"))
        self.environment = environment(
            app_path=str(self.app), user="orders", env={"TOKEN": Secret("hunter22"), "MODE": "full"}
        )
        self.with_job()
        self.store.register_worker("w", info={})
        self.store.request(wish())
        finished(
            self.store, claimed(self.store, "w"), serving=Serving(release=RELEASE, commit=SHA_A, healthy=True)
        )
        layout = Layout(str(self.app))
        Path(layout.release(RELEASE)).mkdir(parents=True)
        marker = {
            "release": RELEASE,
            "commit": SHA_A,
            "ref": "refs/heads/main",
            "deployment": "",
            "sealed_at": 1,
        }
        Path(layout.marker(RELEASE)).parent.mkdir(parents=True)
        Path(layout.marker(RELEASE)).write_text(json.dumps(marker))
        self.told: list[str] = []

    def with_job(self, *others: Job, **changes: Any) -> None:
        jobs = {each.name: each for each in (replace(JOB, **changes), *others)}
        self.environment = replace(self.environment, jobs=jobs)
        self.store.publish([fraise(self.environment)], digest=str(time.monotonic()), documents={})

    def ask(self, job: str = "", **parameters: str) -> Row:
        return RequestRun({KEY: self.environment}, self.store)(KEY, job, parameters=parameters, by="anna")

    def claim(self, worker: str = "w") -> RunClaim:
        claim = self.store.claim_run(worker, environments=[KEY])
        assert claim is not None
        return claim

    @property
    def perform(self) -> PerformRun:
        tools = Tools(
            hosts={"localhost": self.host},
            targets={},
            probers={},
            migrations={},
            repository=FakeRepository(),
            clock=SystemClock(),
            retries=Retries(first=0.01, longest=0.01),
        )
        return PerformRun(
            tools,
            self.store,
            Codec(),
            self.find,
            performers={JobKind.command: run_command},
            listener=self.listen,
        )

    def find(self, key: object) -> Any:
        if key not in self.store_keys:
            raise NotFound(f"cannot find {key}", "See `fraisier list`")
        return self.environment

    store_keys: tuple[object, ...] = (KEY,)

    def listen(self, event: str, fields: Mapping[str, Any]) -> None:
        self.told.append(event)

    def run(self, control: Control | None = None, **parameters: str) -> Row:
        self.ask(**parameters)
        row = self.perform(self.claim(), control or Control())
        assert row is not None
        return row

    def output(self, run: str) -> str:
        return "".join(text for _, text in self.store.run_output(run))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def test_a_run_is_the_jobs_line_in_the_folder_of_the_release(world: World) -> None:
    world.host.scripts["load"] = lambda command, job: job.output(b"3 rows\n") or job.used(7_000_000) or 0
    row = world.run()
    assert (row["status"], row["exit_code"], row["release"], row["commit"]) == ("success", 0, RELEASE, SHA_A)
    assert row["peak_memory_bytes"] == 7_000_000
    assert world.output(row["id"]) == "3 rows\n"
    (command,) = world.host.commands
    assert (command.user, command.cwd, command.timeout) == (
        "orders",
        str(world.app / "releases" / RELEASE),
        60,
    )
    told = {name: value for name, value in command.env.items() if name.startswith("FRAISIER_")}
    assert told == {
        "FRAISIER_COMMIT": SHA_A,
        "FRAISIER_REF": "refs/heads/main",
        "FRAISIER_RELEASE": RELEASE,
        "FRAISIER_RUN": row["id"],
        "FRAISIER_JOB": "main",
        "FRAISIER_ATTEMPT": "1",
    }
    assert command.env["MODE"] == "full"


def test_parameters_are_data(world: World) -> None:
    world.with_job(parameters={"day": None, "mode": "fast"})
    hostile = "$(touch /tmp/x)'; rm -rf / #\n"
    row = world.run(day=hostile)
    assert row["parameters"] == {"day": hostile, "mode": "fast"}
    (command,) = world.host.commands
    assert command.argv == ("/bin/sh", "-c", "load")
    assert command.env["FRAISIER_PARAM_DAY"] == hostile
    assert command.env["FRAISIER_PARAM_MODE"] == "fast"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "without the parameter 'day'"),
        ({"day": "1", "x": "2"}, "no such one"),
        ({"day": "\0"}, "NUL"),
        ({"day": os.fsdecode(b"caf\xe9")}, "UTF-8"),
        ({"day": "x" * (MOST_BYTES + 1)}, "bytes"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(world: World, given: dict[str, str], said: str) -> None:
    world.with_job(parameters={"day": None})
    with pytest.raises(UsageError, match=said):
        world.ask(**given)
    assert world.store.runs() == []


def test_which_job_is_meant_has_to_be_said_where_there_are_several(world: World) -> None:
    world.with_job(Job(name="report", run="report"))
    with pytest.raises(UsageError, match="which job"):
        world.ask()
    assert world.ask("report")["job"] == "report"
    with pytest.raises(NotFound, match="nothing"):
        world.ask("nothing")
    world.environment = replace(world.environment, jobs={})
    with pytest.raises(NotFound, match="no jobs"):
        world.ask()


def test_a_run_too_many_is_refused(world: World) -> None:
    world.ask()
    with pytest.raises(Conflict):
        world.ask()


def test_a_line_that_fails_is_told_with_its_exit_code(world: World) -> None:
    world.host.scripts["load"] = 3
    row = world.run()
    assert (row["status"], row["cause"], row["exit_code"]) == ("failed", "run", 3)
    assert "exit code 3" in row["error_message"]
    assert "fraisier logs" in row["hint"]
    assert world.store.runs(status="pending") == []


def test_secrets_are_in_no_output_and_no_error(world: World) -> None:
    def leak(command: Command, job: Listening) -> int:
        job.output(b"the token is hunt")
        job.output(b"er22\n")
        raise StepFailed(Cause.host, "cannot reach db:hunter22@host", "See db:hunter22@host")

    world.with_job(on_failure=("mourn",))
    world.host.scripts["load"] = leak
    row = world.run()
    assert world.output(row["id"]).startswith(f"the token is {MASK}\n")
    mourn = world.host.commands[-1]
    for text in (row["error_message"], row["hint"], mourn.env["FRAISIER_ERROR"]):
        assert MASK in str(text)
        assert "hunter22" not in str(text)


def test_a_failure_is_tried_again_after_a_pause_that_doubles(world: World) -> None:
    world.with_job(retries=2, retry_delay=100, on_failure=("mourn",), concurrency=1)
    world.host.scripts["load"] = 1
    before = time.time()
    first = world.run()
    (second,) = world.store.runs(status="pending")
    assert (second["attempt"], second["retry_of"], second["trigger"]) == (2, first["id"], "retry")
    assert second["requested_by"] == "anna"
    due = world.store.next_run_due()
    assert due is not None
    assert 90 < due <= time.time() - before + 100
    assert [command.argv[2] for command in world.host.commands] == ["load"], "hooks follow the last try only"


def test_the_last_try_is_followed_by_hooks_whose_end_changes_nothing(world: World) -> None:
    world.with_job(retries=1, retry_delay=0.0, on_failure=("mourn", "exit 9"), on_success=("cheer",))
    world.host.scripts["load"] = 1
    world.run()
    last = world.perform(world.claim(), Control())
    assert last is not None
    assert (last["attempt"], last["status"]) == (2, "failed")
    assert world.store.runs(status="pending") == []
    assert [command.argv[2] for command in world.host.commands] == ["load", "load", "mourn", "exit 9"]
    hook = world.host.commands[2]
    assert (hook.env["FRAISIER_STATUS"], hook.env["FRAISIER_EXIT_CODE"]) == ("failed", "1")
    assert "$ mourn" in world.output(last["id"])
    assert "ended with 9" in world.output(last["id"])


def test_a_success_is_followed_by_its_hooks_and_by_what_depends_on_it(world: World) -> None:
    after = Job(name="after", run="after", depends_on="main", parameters={"x": "1"})
    world.with_job(after, Job(name="alone", run="alone"), on_success=("cheer",))
    world.host.scripts["cheer"] = StepFailed(Cause.timeout, "cannot finish `cheer`")
    world.ask("main")
    row = world.perform(world.claim(), Control())
    assert row is not None
    assert row["status"] == "success"
    assert "cannot finish `cheer`" in world.output(row["id"])
    (waiting,) = world.store.runs(status="pending")
    assert (waiting["job"], waiting["trigger"], waiting["parameters"]) == ("after", "dependency", {"x": "1"})


def test_a_timeout_is_a_failure(world: World) -> None:
    world.with_job(timeout=0.05, run="sleep 30")
    row = world.run()
    assert (row["status"], row["cause"], row["exit_code"]) == ("failed", "timeout", None)


def test_what_somebody_cancels_ends_as_cancelled_and_is_not_tried_again(world: World) -> None:
    world.with_job(run="sleep 30", retries=3, on_failure=("mourn",))
    control = Control()
    threading.Timer(0.05, control.cancel, ["bert"]).start()
    row = world.run(control)
    assert (row["status"], row["cause"]) == ("cancelled", "cancelled")
    assert "bert" in row["error_message"]
    assert world.store.runs(status="pending") == []
    assert [command.argv[2] for command in world.host.commands] == ["sleep 30"]


def test_a_worker_that_is_stopped_leaves_another_try_behind(world: World) -> None:
    world.with_job(run="sleep 30", retries=1, retry_delay=0.0)
    control = Control()
    threading.Timer(0.05, control.shut_down).start()
    row = world.run(control)
    assert (row["status"], row["cause"]) == ("failed", "interrupted")
    assert [each["attempt"] for each in world.store.runs(status="pending")] == [2]


def test_who_lost_the_run_touches_nothing(world: World) -> None:
    world.with_job(run="sleep 30")
    world.ask()
    claim, control = world.claim(), Control()
    threading.Timer(0.05, control.lose).start()
    assert world.perform(claim, control) is None
    assert world.store.run(claim.id)["status"] == "running"


def test_what_a_dead_worker_left_is_ended_on_its_host_and_tried_again(world: World) -> None:
    world.with_job(retries=1, retry_delay=0.0)
    world.ask()
    left = world.claim()
    ground = f"{world.app}/.fraisier/jobs/main-0"
    world.host.scopes[ground] = 1
    world.store.retire_worker("w")
    world.store.register_worker("w2", info={})
    row = world.perform(world.claim("w2"), Control())
    assert row is not None
    assert (row["id"], row["status"], row["cause"]) == (left.id, "failed", "interrupted")
    assert world.host.scopes == {}, "an adoption with a higher token ends what is there"
    assert world.host.commands == []
    assert world.claim("w2").attempt == 2
    with pytest.raises(TokenOutdated):
        world.perform(left, Control())


def test_what_a_units_worker_left_is_not_tried_again_by_another(world: World) -> None:
    """The unit goes on, and has its tries itself."""
    world.with_job(retries=1, retry_delay=0.0, keeper=Keeper.systemd)
    world.ask()
    world.claim()
    world.store.retire_worker("w")
    world.store.register_worker("w2", info={})
    row = world.perform(world.claim("w2"), Control())
    assert row is not None
    assert (row["cause"], world.store.runs(status="pending")) == ("interrupted", [])


def test_what_a_dead_worker_left_and_somebody_cancelled_is_cancelled(world: World) -> None:
    world.with_job(retries=1)
    world.ask()
    claim = world.claim()
    world.store.cancel_run(claim.id, by="bert")
    world.store.retire_worker("w")
    world.store.register_worker("w2", info={})
    row = world.perform(world.claim("w2"), Control())
    assert row is not None
    assert (row["status"], world.store.runs(status="pending")) == ("cancelled", [])


def test_nothing_runs_where_nothing_was_deployed(world: World) -> None:
    world.with_job(retries=5)
    Path(Layout(str(world.app)).marker(RELEASE)).unlink()
    row = world.run()
    assert (row["status"], row["cause"]) == ("failed", "preflight")
    assert "fraisier deploy" in row["hint"]
    assert world.store.runs(status="pending") == []


def test_a_job_or_environment_that_is_gone_is_called_off(world: World) -> None:
    world.ask()
    claim = world.claim()
    world.environment = replace(world.environment, jobs={})
    row = world.perform(claim, Control())
    assert row is not None
    assert row["status"] == "cancelled"
    world.with_job()
    world.ask()
    world.store_keys = ()
    row = world.perform(world.claim(), Control())
    assert row is not None
    assert (row["status"], row["cause"]) == ("cancelled", "preflight")


def test_a_success_is_one_though_its_environment_left_the_configuration_meanwhile(world: World) -> None:
    def run(_: Command, __: Listening) -> int:
        world.store_keys = ()
        return 0

    world.with_job(on_success=("cheer",))
    world.host.scripts["load"] = run
    assert world.run()["status"] == "success"
    assert [command.argv[2] for command in world.host.commands] == ["load", "cheer"]


def test_files_that_a_run_made_are_listed_by_their_paths(world: World) -> None:
    world.with_job(artefacts=("out/*.csv", "/data/day.parquet"))

    def run(command: Command, job: Listening) -> int:
        if command.argv[2] != "load":
            assert command.argv[5:] == ("out/*.csv", "/data/day.parquet")
            job.output(b"out/b.csv\0out/a.csv\0/data/day.parquet\0")
        return 0

    world.host.run = lambda ground, command, job: run(command, job)  # type: ignore[method-assign]
    folder = world.app / "releases" / RELEASE
    row = world.run()
    assert row["artefacts"] == ["/data/day.parquet", f"{folder}/out/a.csv", f"{folder}/out/b.csv"]


@pytest.mark.parametrize("cause", [Cause.timeout, Cause.host, Cause.cancelled])
def test_a_run_that_did_its_work_is_a_success_though_nobody_can_list_its_files(
    world: World, cause: Cause
) -> None:
    """It would be tried again, and do its work twice."""
    world.with_job(artefacts=("out/*",), retries=1)
    played = world.host.run

    def run(ground: Any, command: Command, job: Listening) -> int:
        if command.argv[2] != "load":
            raise StepFailed(cause, "cannot finish `sh`: it took too long")
        return played(ground, command, job)

    world.host.run = run  # type: ignore[method-assign]
    row = world.run()
    assert (row["status"], row["exit_code"], row["artefacts"]) == ("success", 0, [])
    assert "it took too long" in world.output(row["id"])
    assert world.store.runs(status="pending") == []


def test_runs_of_one_job_have_grounds_of_their_own(world: World) -> None:
    world.with_job(concurrency=2)
    seen: list[str] = []
    adopt = world.host.adopt
    world.host.adopt = lambda ground, force=False: seen.append(ground.app_path) or adopt(ground)  # type: ignore
    for _ in range(2):
        world.ask()
    claims = [world.claim(), world.claim()]
    for claim in claims:
        world.perform(claim, Control())
    assert seen == [f"{world.app}/.fraisier/jobs/main-0", f"{world.app}/.fraisier/jobs/main-1"]


class Death(BaseException):
    """kill -9, as far as one thread can play it."""


POINTS = [
    (where, name, when)
    for where, name in (
        ("host", "adopt"),
        ("host", "run"),
        ("store", "write_run_output"),
        ("store", "finish_run"),
    )
    for when in ("before", "after")
]


@pytest.mark.parametrize(("where", "name", "when"), POINTS)
@pytest.mark.parametrize("code", [0, 1])
def test_a_death_at_any_point_leaves_one_end_and_one_more_try_at_the_most(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str, name: str, when: str, code: int
) -> None:
    world.with_job(retries=1, retry_delay=0.0, on_success=("echo cheer",))
    world.host.scripts["load"] = lambda _, job: job.output(b"x" * 20_000) or code
    target = world.host if where == "host" else world.store
    act = getattr(target, name)

    def dies(*args: Any, **options: Any) -> Any:
        if when == "after":
            act(*args, **options)
        raise Death

    world.ask()
    first = world.claim()
    with monkeypatch.context() as patched:
        patched.setattr(target, name, dies)
        with pytest.raises(Death):
            world.perform(first, Control())
    world.store.retire_worker("w")
    world.store.register_worker("w2", info={})
    again = world.store.claim_run("w2", environments=[KEY])
    ended = (name, when) == ("finish_run", "after")
    if not ended:
        assert again is not None
        assert (again.id, again.interrupted) == (first.id, True)
        world.perform(again, Control())
        again = world.store.claim_run("w2", environments=[KEY])
    row = world.store.run(first.id)
    succeeded = ended and code == 0
    assert (row["status"], row["cause"]) == (
        ("success", None) if succeeded else ("failed", "run" if ended else "interrupted")
    )
    assert (again is None) == succeeded, "a failure has its other try, whoever stored it"
    if again is not None:
        assert (again.attempt, again.retry_of, again.interrupted) == (2, first.id, False)
    assert world.store.claim_run("w2", environments=[KEY]) is None
