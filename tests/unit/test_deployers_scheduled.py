"""What the deployment of scheduled commands consists of: their units go with the release."""

from dataclasses import replace

import pytest

from fraisier.deployers import by_type
from fraisier.deployers.common import Parts, candidate
from fraisier.deployers.scheduled import plan_deployment, plan_return, plan_rollback
from fraisier.deployers.timer_units import key_of, name_of, service_of, timer_of, units_of
from fraisier.domain.acts import UnitCommand
from fraisier.domain.errors import StepFailed
from fraisier.domain.fraise import Cutover, EnvironmentKey, FraiseType
from fraisier.domain.job import Job, Keeper, OnRunning, Schedule
from fraisier.domain.job_acts import HoldRuns
from fraisier.domain.plan import StepName
from fraisier.domain.rollout_plan import of_once
from fraisier.domain.secret import Secret
from fraisier.domain.timer_acts import InstallUnits, QuietUnits, RemoveUnits, WriteUnits
from tests.factories import SHA_A, environment

NIGHTLY = Job(
    name="nightly", run="bin/report", keeper=Keeper.systemd, schedule=Schedule(expression="0 2 * * *")
)
REPORTS = environment(
    type=FraiseType.scheduled,
    cutover=Cutover.trial,
    user="reports",
    env={"TOKEN": Secret("hunter2"), "PLAIN": "a $b %c"},
    jobs={"nightly": NIGHTLY},
)
RELEASE = candidate(REPORTS, "7-aaaaaaaaaa", SHA_A, "refs/heads/main")


def acts_of(plan, name):
    return [act for step in plan.steps if step.name is name for act in step.acts]


def text_of(job=NIGHTLY, suffix="service", **changes):
    wanted = replace(REPORTS, jobs={job.name: job}, **changes)
    return next(unit.text for unit in units_of(wanted, RELEASE) if unit.name.endswith(suffix))


def test_units_are_written_beside_the_release_then_installed_then_looked_at():
    plan = plan_deployment(REPORTS, RELEASE, Parts())
    assert [step.name for step in plan.steps][-3:] == [StepName.activate, StepName.restart, StepName.finish]
    write, install, look = acts_of(plan, StepName.restart)
    assert isinstance(write, WriteUnits)
    assert isinstance(install, InstallUnits)
    assert isinstance(look, UnitCommand)
    assert write.destination == install.source == "/var/www/orders/.fraisier/timers/7-aaaaaaaaaa"
    assert look.argv == ("systemctl", "is-active", "--quiet", "fraisier-orders-production-nightly.timer")


@pytest.mark.parametrize("how", OnRunning)
def test_nothing_runs_as_it_is_switched_unless_that_is_wanted(how):
    plan = plan_deployment(replace(REPORTS, on_running=how), RELEASE, Parts())
    quiet = [act for act in acts_of(plan, StepName.activate) if isinstance(act, QuietUnits)]
    assert [act.cancel for act in quiet] == {"wait": [False], "cancel": [True], "new_release_next": []}[how]


def test_nothing_runs_as_the_database_is_migrated_and_timers_of_one_host_of_several_wait_for_its_turn():
    up = UnitCommand(argv=("up",), timeout=1)
    plan = plan_deployment(REPORTS, RELEASE, Parts(migrate_up=(up,)))
    hold, quiet = acts_of(plan, StepName.backup)
    assert isinstance(hold, HoldRuns)
    assert quiet == QuietUnits(name=name_of(REPORTS.key), cancel=False)
    assert [act for step in of_once(plan) for act in step.acts] == [hold, up]


def test_the_last_job_of_systemd_is_minded_as_it_goes():
    kept = replace(REPORTS, jobs={"nightly": replace(NIGHTLY, keeper=Keeper.worker)})
    for plan in (plan_deployment(kept, RELEASE, Parts()), plan_return(kept, RELEASE, Parts())):
        assert acts_of(plan, StepName.activate)[0] == QuietUnits(name=name_of(REPORTS.key), cancel=False)


def test_the_plan_shows_each_command_and_no_secret():
    shown = "\n".join(
        act.describe() for act in acts_of(plan_deployment(REPORTS, RELEASE, Parts()), StepName.restart)
    )
    assert "fraisier-units apply fraisier-orders-production < /var/www" in shown
    assert "fraisier-orders-production-nightly.timer" in shown
    assert "hunter2" not in shown


def test_a_secret_is_in_no_unit():
    (write, *_) = acts_of(plan_deployment(REPORTS, RELEASE, Parts()), StepName.restart)
    assert not [unit for unit in write.units if "hunter2" in unit.text or "TOKEN" in unit.text]
    assert write.env == {"TOKEN": Secret("hunter2")}
    assert "EnvironmentFile=/etc/fraisier/timers/fraisier-orders-production.env\n" in text_of()


def test_the_way_back_installs_what_was_written_down_with_the_old_release():
    (install,) = acts_of(plan_rollback(REPORTS, "6-bbbbbbbbbb", Parts()), StepName.restart)
    assert install.source.endswith("/timers/6-bbbbbbbbbb")


def test_the_way_back_from_a_first_deployment_removes_the_units_before_the_link():
    plan = plan_rollback(REPORTS, "", Parts())
    assert [step.name for step in plan.steps] == [StepName.restart, StepName.activate]
    assert acts_of(plan, StepName.restart) == [RemoveUnits(name="fraisier-orders-production")]


def test_a_person_goes_back_with_the_schedules_of_now():
    write, install, _ = acts_of(plan_return(REPORTS, RELEASE, Parts()), StepName.restart)
    assert (write.destination, install.source) == (install.source, write.destination)


def test_where_a_worker_keeps_all_schedules_units_of_before_go():
    kept = replace(REPORTS, jobs={"nightly": replace(NIGHTLY, keeper=Keeper.worker)})
    assert acts_of(plan_deployment(kept, RELEASE, Parts()), StepName.restart) == [
        RemoveUnits(name="fraisier-orders-production")
    ]


def test_a_pipelines_units_of_before_go_with_its_schedule_and_come_back_with_its_release():
    etl = replace(REPORTS, type=FraiseType.etl, jobs={"main": replace(NIGHTLY, keeper=Keeper.worker)})
    deployer = by_type.deployer_of(etl)
    for wanted in (etl, replace(etl, jobs={})):
        plan = deployer.plan_deployment(wanted, RELEASE, Parts())
        assert acts_of(plan, StepName.activate)[0] == QuietUnits(name=name_of(etl.key), cancel=False)
        assert acts_of(plan, StepName.restart) == [RemoveUnits(name=name_of(etl.key))]
        (back,) = acts_of(deployer.plan_rollback(wanted, "6-bbbbbbbbbb", Parts()), StepName.restart)
        assert back.source.endswith("/timers/6-bbbbbbbbbb")
    etl = replace(etl, jobs={"main": NIGHTLY})
    assert isinstance(
        acts_of(deployer.plan_deployment(etl, RELEASE, Parts()), StepName.restart)[0], WriteUnits
    )


def test_a_timer_says_when_where_and_whether_missed_runs_count():
    schedule = Schedule(
        expression="Mon *-*-* 02:30:00", timezone="Europe/Berlin", jitter=90.0, persistent=False
    )
    lines = text_of(replace(NIGHTLY, schedule=schedule), "timer").splitlines()
    assert lines[lines.index("[Timer]") + 1 : lines.index("[Install]") - 1] == [
        "OnCalendar=Mon *-*-* 02:30:00 Europe/Berlin",
        "RandomizedDelaySec=90",
        "AccuracySec=1",
        "Persistent=false",
        "Unit=fraisier-orders-production-nightly.service",
    ]


def test_what_follows_a_job_is_started_by_systemd():
    after = Job(name="after", run="true", keeper=Keeper.systemd, depends_on="nightly")
    units = {
        u.name: u.text for u in units_of(replace(REPORTS, jobs={"nightly": NIGHTLY, "after": after}), RELEASE)
    }
    assert (
        "OnSuccess=fraisier-orders-production-after.service\n"
        in units["fraisier-orders-production-nightly.service"]
    )
    assert "fraisier-orders-production-after.timer" not in units


def test_the_time_of_a_unit_is_that_of_all_its_tries():
    assert "TimeoutStartSec=3600\n" in text_of()
    tries = replace(NIGHTLY, timeout=60.0, retries=2, retry_delay=5.0)
    assert f"TimeoutStartSec={3 * (60 + 10) + 5 + 10}\n" in text_of(tries)
    assert text_of(tries).count('"bin/report" 60 5 10\n') == 1


def test_text_means_in_a_unit_what_it_means_in_the_configuration():
    assert '\nEnvironment="PLAIN=a $b %%c"\n' in text_of()
    assert r'sh "echo \"$$HOME\" \\ %%\n\tdone" 0' in text_of(
        replace(NIGHTLY, run='echo "$HOME" \\ %\n\tdone')
    )


@pytest.mark.parametrize(
    "changes", [{"app_path": "/srv/a b"}, {"user": 'x"'}, {"env_file": "/etc/%h"}, {"log_file": "/x\\"}]
)
def test_what_a_unit_could_take_otherwise_is_refused(changes):
    with pytest.raises(StepFailed, match="has characters that none has"):
        text_of(**changes)


def test_a_control_character_is_refused():
    with pytest.raises(StepFailed, match="control character"):
        text_of(replace(NIGHTLY, run="echo \x1b[1m"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a-b", "c", "d"), ("a", "b-c", "d")),
        (("a", "b", "c-d"), ("a", "b-c", "d")),
        (("a-", "b", "c"), ("a", "b", "c")),
        (("a--b", "c", "d"), ("a", "b-c", "d")),
    ],
)
def test_no_two_jobs_have_a_unit_of_the_same_name(one, other):
    names = [service_of(EnvironmentKey(fraise, name), job) for fraise, name, job in (one, other)]
    assert names[0] != names[1]


@pytest.mark.parametrize("key", [("a-b", "c"), ("a", "b-c"), ("x--y-", "z.1_")])
def test_a_name_tells_whose_it_is(key):
    wanted = EnvironmentKey(*key)
    assert key_of(name_of(wanted)) == key_of(timer_of(wanted, "j-1")) == wanted
    assert key_of("ssh.service") is None


def test_what_systemd_has_no_words_for_is_refused():
    with pytest.raises(StepFailed, match="cannot have systemd keep a schedule"):
        text_of(replace(NIGHTLY, schedule=Schedule(expression="never ever")), "timer")


def test_cron_takes_a_day_if_either_field_names_it():
    lines = text_of(replace(NIGHTLY, schedule=Schedule(expression="0 0 13 * 5", timezone="UTC")), "timer")
    assert lines.count("OnCalendar=") == 2


def test_env_wins_over_the_env_file_as_everywhere():
    """systemd has files win over a unit, and later files over earlier ones."""
    text = text_of(env_file="/etc/reports.env")
    assert "PLAIN=" not in text
    own = "EnvironmentFile=/etc/fraisier/timers/fraisier-orders-production.env"
    assert text.index("EnvironmentFile=/etc/reports.env\n") < text.index(own)
