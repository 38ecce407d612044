"""What fraises of type etl, scheduled and backup are told, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fraisier.config import job_keys
from fraisier.config.codec import Codec
from fraisier.config.load import load_configuration
from fraisier.domain.errors import InvalidConfig
from fraisier.domain.fraise import BuildCommand, Environment, EnvironmentKey
from fraisier.domain.job import Job, JobKind, Keeper, OnRunning, Schedule
from tests.unit.good_config import in_environment, in_fraise

KEY = EnvironmentKey("api", "production")


def text_of(kind: str, *lines: str) -> str:
    """GOOD as a fraise of this type; the lines of its environment stand from line 10 on, in column 9."""
    more = ("sources: {uploads: /srv/uploads}", "destinations: {disk: /srv/kept}") if kind == "backup" else ()
    return in_fraise(f"type: {kind}", text=in_environment(*lines, *more))


def read(folder: Path, text: str, *, systemd: bool = False) -> Environment:
    file = folder / "fraises.yaml"
    file.write_text(text)
    return load_configuration(str(file), environ={}, systemd=systemd).environments[KEY]


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as error:
        read(folder, text)
    return [f"{each.line}:{each.column} {each.message}" for each in error.value.problems]


# ------------------------------------------------------------------------------------------------ etl


def test_an_etl_fraise_has_one_job_whose_keys_stand_flat(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        text_of(
            "etl",
            "command: bin/load --all",
            "schedule: '30  2 * * 1-5'",
            "timezone: Europe/Berlin",
            "jitter: 2m",
            "persistent: false",
            "grace: 15m",
            "timeout: 2h",
            "retries: 2",
            "retry_delay: 1m",
            "concurrency: 3",
            "on_success: bin/tell",
            "on_failure: [bin/tell, bin/mail]",
            "parameters: {day: yesterday, full: no, limit: 10}",
            "artefacts: [out/*.csv, /srv/reports/*.pdf]",
            "smoke: {run: bin/check, timeout: 5m}",
            "run_on_deploy: true",
            "on_running: cancel",
        ),
    )
    assert found.jobs == {
        "main": Job(
            name="main",
            run="bin/load --all",
            schedule=Schedule(
                expression="30 2 * * 1-5",
                timezone="Europe/Berlin",
                jitter=120.0,
                persistent=False,
                grace=900.0,
            ),
            timeout=7200.0,
            retries=2,
            retry_delay=60.0,
            concurrency=3,
            on_success=("bin/tell",),
            on_failure=("bin/tell", "bin/mail"),
            parameters={"day": "yesterday", "full": "no", "limit": "10"},
            artefacts=("out/*.csv", "/srv/reports/*.pdf"),
        )
    }
    assert found.smoke == BuildCommand(run="bin/check", timeout=300.0)
    assert found.run_on_deploy
    assert found.on_running is OnRunning.cancel


def test_what_is_left_out_has_the_defaults_of_the_domain(tmp_path: Path) -> None:
    found = read(tmp_path, text_of("etl", "command: bin/load", "schedule: daily"))
    assert found.jobs == {"main": Job(name="main", run="bin/load", schedule=Schedule(expression="daily"))}
    assert (found.smoke, found.run_on_deploy, found.on_running) == (None, False, OnRunning.wait)


def test_a_parameter_without_a_value_has_to_be_given(tmp_path: Path) -> None:
    found = read(tmp_path, text_of("etl", "command: x", "parameters: {day: , all: ''}"))
    assert found.jobs["main"].parameters == {"day": None, "all": ""}


def test_a_dry_run_is_the_line_of_the_job_with_an_option_more(tmp_path: Path) -> None:
    found = read(tmp_path, text_of("etl", "command: bin/load --all", "dry_run: true", "timeout: 3m"))
    assert found.smoke == BuildCommand(run="bin/load --all --dry-run", timeout=180.0)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("etl/load.py", "python3 etl/load.py"),
        ("load.sh", "sh load.sh"),
        ("bin/load", "./bin/load"),
        ("bin/my load.py", "python3 'bin/my load.py'"),
    ],
)
def test_the_script_of_an_older_file_is_run_as_its_ending_says(tmp_path: Path, path: str, line: str) -> None:
    assert read(tmp_path, text_of("etl", f"script_path: {path}")).jobs["main"].run == line


# ------------------------------------------------------------------------------------------ scheduled


def test_a_scheduled_fraise_has_jobs_by_name_and_what_stands_beside_is_their_default(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        text_of(
            "scheduled",
            "timezone: Europe/Paris",
            "retries: 1",
            "on_failure: bin/mail",
            "jobs:",
            "  nightly: {run: bin/nightly, schedule: '*-*-* 02:00:00', retries: 4}",
            "  hourly: {command: bin/hourly, schedule: hourly, timezone: UTC}",
            "  report: {run: bin/report, depends_on: nightly}",
        ),
        systemd=True,
    )
    nightly, hourly, report = (found.jobs[name] for name in ("nightly", "hourly", "report"))
    assert nightly.schedule == Schedule(expression="*-*-* 02:00:00", timezone="Europe/Paris")
    assert (nightly.retries, hourly.retries) == (4, 1)
    assert hourly.schedule == Schedule(expression="hourly", timezone="UTC")
    assert (report.schedule, report.depends_on, report.on_failure) == (None, "nightly", ("bin/mail",))
    # What follows a run that systemd starts needs no worker either.
    assert {job.keeper for job in (nightly, hourly, report)} == {Keeper.systemd}


@pytest.mark.parametrize(
    ("kind", "lines", "systemd", "keeper"),
    [
        ("scheduled", (), True, Keeper.systemd),
        ("scheduled", (), False, Keeper.worker),
        ("scheduled", ("hosts: web1.example.com",), False, Keeper.systemd),
        ("scheduled", ("keeper: worker",), True, Keeper.worker),
        ("scheduled", ("keeper: systemd",), False, Keeper.systemd),
        ("scheduled", ("concurrency: 2",), True, Keeper.worker),
        ("etl", (), True, Keeper.worker),
        ("etl", ("keeper: systemd",), True, Keeper.systemd),
    ],
)
def test_who_keeps_a_schedule(
    tmp_path: Path, kind: str, lines: tuple[str, ...], systemd: bool, keeper: Keeper
) -> None:
    text = text_of(kind, "command: bin/x", "schedule: daily", *lines)
    assert read(tmp_path, text, systemd=systemd).jobs["main"].keeper is keeper


def test_the_worker_keeps_what_a_timer_cannot_name(tmp_path: Path) -> None:
    text = text_of("scheduled", "jobs: {a: {run: x, schedule: 0 0 */2 * MON#1}}")
    assert read(tmp_path, text, systemd=True).jobs["a"].keeper is Keeper.worker


@pytest.mark.parametrize(
    "lines",
    [("command: x", "schedule: daily", "keeper: worker"), ("jobs: {a: {run: x}}",)],
)
def test_runs_of_several_hosts_are_begun_by_the_worker(tmp_path: Path, lines: tuple[str, ...]) -> None:
    found = read(tmp_path, text_of("scheduled", "hosts: [a, b]", *lines))
    assert {job.keeper for job in found.jobs.values()} == {Keeper.worker}


@pytest.mark.parametrize("lines", [("systemd_timer: stats",), ("jobs: {x: {systemd_timer: stats.timer}}",)])
def test_a_timer_of_the_users_own_is_what_a_deployment_starts(tmp_path: Path, lines: tuple[str, ...]) -> None:
    found = read(tmp_path, text_of("scheduled", *lines))
    assert found.target is not None
    assert (found.target.kind, found.target.unit) == ("systemd", "stats.timer")
    assert not found.jobs  # what it runs, its own service knows
    found = read(tmp_path, text_of("scheduled", "systemd_manager: user", *lines))
    assert found.target is not None
    assert (found.target.options["manager"], found.target.unit) == ("user", "stats.timer")


def test_an_older_file_names_the_service_beside_its_timer_and_the_script(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        text_of(
            "scheduled",
            "systemd_service: stats.service",
            "systemd_timer: stats.timer",
            "script_path: bin/stats.py",
            "notifications:",
            "  on_success: bin/tell",
            "  on_failure: [{type: script, script: bin/mail}, {command: bin/page}]",
        ),
    )
    assert found.target is not None
    assert found.target.unit == "stats.timer"
    job = found.jobs["main"]
    assert (job.run, job.schedule) == ("python3 bin/stats.py", None)
    assert (job.on_success, job.on_failure) == (("bin/tell",), ("bin/mail", "bin/page"))


# --------------------------------------------------------------------------------------------- backup


def test_a_backup_needs_no_repository_and_has_a_schedule_to_be_made_and_one_to_be_tried(
    tmp_path: Path,
) -> None:
    lines = ("schedule: daily", "timezone: UTC", "retries: 1", "verify: {schedule: weekly, grace: 1h}")
    text = text_of("backup", *lines).replace("    repository: acme/orders\n", "")
    found = read(tmp_path, text.replace("        branch: main\n", ""))
    assert found.jobs["main"] == Job(
        name="main",
        kind=JobKind.backup,
        retries=1,
        schedule=Schedule(expression="daily", timezone="UTC"),
    )
    assert found.jobs["verify"] == Job(
        name="verify",
        kind=JobKind.verify,
        schedule=Schedule(expression="weekly", timezone="UTC", grace=3600.0),
    )
    assert found.source.clone_url == ""


# --------------------------------------------------------------------------------------------- codec


def test_jobs_are_stored_with_an_attempt_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "fraises.yaml"
    file.write_text(
        text_of(
            "scheduled",
            "smoke: bin/check",
            "on_running: new_release_next",
            "jobs:",
            "  a: {run: x, schedule: daily, parameters: {p: 1}, artefacts: out/*, on_failure: y}",
            "  b: {run: x, depends_on: a}",
        )
    )
    configuration = load_configuration(str(file), environ={}, systemd=True)
    codec = Codec({}, configuration)
    stored = configuration.environments[KEY]
    assert codec.load(codec.dump(stored)) == stored


# ------------------------------------------------------------------------------------------- problems

LINE_CASES = [
    # type, lines, where, words
    ("scheduled", "jobs: {a: {run: x, schedule: 61 * * * *}}", "10:38", "'61' is no minute of '61 * * * *'"),
    (
        "scheduled",
        "jobs: {a: {run: x, schedule: noon}}",
        "10:38",
        "is neither a day of the week nor a known name",
    ),
    (
        "scheduled",
        "jobs: {a: {run: x, schedule: daily UTC, timezone: Europe/Berlin}}",
        "10:49",
        "stands beside a schedule that names UTC; keep one of them",
    ),
    (
        "scheduled",
        "jobs: {a: {run: x, schedule: 0 0 */2 * MON#1, keeper: systemd}}",
        "10:38",
        "has days that a timer of systemd cannot name together",
    ),
    ("backup", "verify: {schedule: weakly}", "10:28", "is neither a day of the week nor a known name"),
    (
        "api",
        "smoke: bin/check",
        "10:9",
        "belongs to fraises of type etl or scheduled or backup; this one is of type api",
    ),
    ("api", "jobs: {a: {run: x}}", "10:9", "belongs to fraises of type etl or scheduled"),
    ("api", "schedule: daily", "10:9", "type etl or scheduled or backup; this one is of type api"),
    ("backup", "command: x", "10:9", "belongs to fraises of type etl or scheduled"),
    (
        "etl",
        "command: x\n        verify: {schedule: daily}",
        "11:9",
        "belongs to fraises of type backup; this one is of type etl",
    ),
    ("etl", "keep_releases: 3", "7:7", "has nothing to run; expected command: LINE"),
    ("scheduled", "keep_releases: 3", "7:7", "has nothing to run; expected jobs: {NAME: {schedule: …"),
    ("scheduled", "jobs: {}", "10:15", "is empty; expected at least one"),
    ("scheduled", "jobs: {a: {schedule: daily}}", "10:16", "has nothing to run; expected run: LINE"),
    ("scheduled", "jobs: {a: {run: x, command: y}}", "10:28", "stands beside run; a job has one line"),
    ("scheduled", "jobs: {a: {run: x, grace: 5m}}", "10:28", "has no meaning without schedule"),
    ("scheduled", "jobs: {a: {run: x, retry_delay: 5m}}", "10:28", "has no meaning without retries"),
    (
        "scheduled",
        "jobs: {a: {run: x, depends_on: b}}",
        "10:40",
        "there is no job 'b' here; there is: no other",
    ),
    ("scheduled", "jobs: {a: {run: x, depends_on: a}}", "10:40", "never begins: a waits for a"),
    ("scheduled", "jobs: {a b: {run: x}}", "10:16", "'a b' is no name"),
    ("scheduled", "jobs: {a: {run: x, cron: daily}}", "10:28", "is no key that Fraisier knows here"),
    (
        "scheduled",
        "jobs: {a: {run: x, timezone: Mars/X, schedule: daily}}",
        "10:38",
        "no time zone that this",
    ),
    ("scheduled", "jobs: {a: {run: x, schedule: daily, keeper: cron}}", "10:53", "expected systemd, worker"),
    (
        "scheduled",
        "jobs: {a: {run: x, schedule: daily, concurrency: 2, keeper: systemd}}",
        "10:45",
        "more than a timer of systemd can keep; with concurrency, say keeper: worker",
    ),
    (
        "scheduled",
        "jobs: {a: {systemd_timer: x, schedule: daily}}",
        "10:38",
        "a timer of your own that has its",
    ),
    (
        "scheduled",
        "jobs: {a: {systemd_timer: x}, b: {systemd_timer: y}}",
        "10:43",
        "is another timer than before",
    ),
    (
        "scheduled",
        "jobs: {a: {run: x, parameters: {b: , B: 1}}}",
        "10:46",
        "FRAISIER_PARAM_B for the job, as b",
    ),
    ("scheduled", "jobs: {a: {run: x, parameters: {b-c: 1}}}", "10:41", "is no name of a variable"),
    (
        "scheduled",
        "jobs: {a: {run: x, schedule: daily, parameters: {b: }}}",
        "10:58",
        "nobody gives it to a run",
    ),
    ("scheduled", "jobs: {a: {run: x, artefacts: ../x}}", "10:39", "is no pattern of files"),
    ("scheduled", "jobs: {a: {run: x, notifications: {on_success: slack}}}", "10:56", "'slack' tells people"),
    (
        "scheduled",
        "jobs: {a: {run: x, notifications: {on_failure: [{type: slack}]}}}",
        "10:64",
        "slack is not performed by this version of Fraisier; it performs: command, script",
    ),
    (
        "scheduled",
        "jobs: {a: {run: x, notifications: {on_rollback: x}}}",
        "10:44",
        "not performed by this version",
    ),
]


@pytest.mark.parametrize(
    ("kind", "line", "where", "words"),
    LINE_CASES,
    ids=[f"{case[0]} {case[1]}" for case in LINE_CASES],
)
def test_a_wrong_line_is_told_where_and_why(
    tmp_path: Path, kind: str, line: str, where: str, words: str
) -> None:
    found = problems(tmp_path, text_of(kind, line))
    assert len(found) == 1, found
    assert found[0].startswith(where + " ")
    assert words in found[0]


@pytest.mark.parametrize(
    ("kind", "lines", "words"),
    [
        ("etl", ("command: x", "run: y"), "a job's line is called command"),
        (
            "etl",
            ("command: x", "health_check: {tcp: 'a:1'}"),
            "smoke tries a release before it is switched to",
        ),
        ("etl", ("command: x", "systemd_service: y"), "is about something that serves"),
        (
            "scheduled",
            ("systemd_manager: user", "jobs: {a: {run: x, schedule: daily}}"),
            "timers that Fraisier writes are the system manager's and run their jobs as `user`",
        ),
        (
            "scheduled",
            ("hosts: [a, b]", "jobs: {by-hand: {run: y}, a: {run: x, schedule: daily}}"),
            "has several, and timers of systemd on each of them would run a as often",
        ),
        (
            "etl",
            ("hosts: [a, b]", "command: x", "schedule: daily", "keeper: systemd"),
            "say keeper: worker, then runs are on the first one",
        ),
        ("etl", ("command: x", "drain_timeout: 5s"), "a fraise of type etl does not"),
        ("scheduled", ("command: x", "run_on_deploy: true"), "belongs to fraises of type etl; this one"),
        (
            "scheduled",
            ("command: x", "jobs: {a: {run: y}}"),
            "stands beside jobs; it belongs into one of them",
        ),
        ("etl", ("jobs: {a: {run: x}, b: {run: x}}",), "has several; an etl fraise has one"),
        ("etl", ("command: x", "script_path: y.py"), "stands beside command; a job has one line"),
        ("etl", ("command: x", "smoke: y", "dry_run: true"), "stands beside smoke"),
        ("etl", ('command: "x\\ny"', "dry_run: true"), "which has several; say smoke: LINE instead"),
        ("scheduled", ("dry_run: true", "jobs: {a: {run: x}, b: {run: x}}"), "needs one job with a line"),
        ("etl", ("command: x", "run_on_deploy: true", "parameters: {a: }"), "one of them has to be"),
    ],
)
def test_lines_that_do_not_go_together(tmp_path: Path, kind: str, lines: tuple[str, ...], words: str) -> None:
    found = problems(tmp_path, text_of(kind, *lines))
    assert len(found) == 1, found
    assert words in found[0]


def test_a_circle_of_jobs_is_told_once_for_each_of_them(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        text_of("scheduled", "jobs:", "  a: {run: x, depends_on: b}", "  b: {run: x, depends_on: a}"),
    )
    assert [re.sub(r"^\S+ \S+ ", "", each) for each in found] == [
        "never begins: a waits for b waits for a",
        "never begins: b waits for a waits for b",
    ]


def test_a_type_that_is_none_is_told_alone(tmp_path: Path) -> None:
    assert len(problems(tmp_path, text_of("elt", "command: x"))) == 1


def test_whoever_is_no_backup_needs_a_repository(tmp_path: Path) -> None:
    text = text_of("etl", "command: x").replace("    repository: acme/orders\n", "")
    assert problems(tmp_path, text) == [
        "3:3 fraises.api: repository is missing: its path on the forge, e.g. acme/orders"
    ]


def test_two_environments_cannot_share_a_timer(tmp_path: Path) -> None:
    text = text_of("scheduled", "systemd_timer: stats")
    other = "      staging: {branch: dev, app_path: /var/www/other, systemd_timer: stats.timer}\n"
    assert "stats.timer runs api/production already" in problems(tmp_path, text + other)[0]


def test_every_key_of_a_job_can_stand_flat_in_its_environment() -> None:
    assert set(job_keys.JOB.keys) - set(job_keys.FLAT) == {"run", "systemd_service"}
