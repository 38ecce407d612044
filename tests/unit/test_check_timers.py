"""Which of the units that systemd has a deployment would write otherwise by now."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application import check_timers, units_program
from fraisier.application.check_timers import changed_units, left_units, timer_problems
from fraisier.application.ports import Finished, Problem
from fraisier.deployers.common import candidate
from fraisier.deployers.scheduled import write
from fraisier.domain.fraise import Environment, EnvironmentKey, FraiseType
from fraisier.domain.job import Job, Keeper, Schedule
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret
from tests.factories import SHA_A, environment
from tests.fakes import FakeHost

RELEASE, REF = "7-aaaaaaaaaa", "refs/heads/main"
NIGHTLY = Job(name="nightly", run="bin/report", keeper=Keeper.systemd, schedule=Schedule(expression="daily"))
OTHER = replace(NIGHTLY, name="other")
REPORTS = environment(
    type=FraiseType.scheduled,
    user="reports",
    env={"TOKEN": Secret("hunter2"), "PLAIN": "1"},
    jobs={"nightly": NIGHTLY, "other": OTHER},
)
UNITS = "/etc/systemd/system/fraisier-orders-production-"


class Deployed:
    """A host on which REPORTS was deployed."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.host = FakeHost(root=str(folder))
        layout = Layout(REPORTS.app_path)
        act = write(REPORTS, candidate(REPORTS, RELEASE, SHA_A, REF))
        marker = {"release": RELEASE, "commit": SHA_A, "ref": REF, "deployment": "", "sealed_at": 1.0}
        self.put(layout.marker(RELEASE), json.dumps(marker))
        self.put(layout.units(RELEASE), units_program.bundle(act).decode())
        (folder / layout.release(RELEASE)[1:]).mkdir(parents=True)
        for unit in act.units:
            self.put(f"/etc/systemd/system/{unit.name}", unit.text)

    def put(self, path: str, text: str) -> None:
        place = self.root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def changed(self, wanted: Environment = REPORTS) -> list[str]:
        return [path.removeprefix(UNITS) for path in changed_units(wanted, self.host, RELEASE)]


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path)


def test_what_was_deployed_is_as_it_would_be_deployed(deployed: Deployed) -> None:
    assert deployed.changed() == []


def test_a_job_that_was_changed_in_the_configuration_is_told_of(deployed: Deployed) -> None:
    weekly = replace(NIGHTLY, schedule=Schedule(expression="weekly"))
    assert deployed.changed(replace(REPORTS, jobs={"nightly": weekly, "other": OTHER})) == ["nightly.timer"]
    longer = replace(NIGHTLY, timeout=7200.0)
    assert deployed.changed(replace(REPORTS, jobs={"nightly": longer, "other": OTHER})) == ["nightly.service"]


def test_jobs_that_are_new_or_gone_are_told_of(deployed: Deployed) -> None:
    new = replace(NIGHTLY, name="new")
    found = deployed.changed(replace(REPORTS, jobs={"nightly": NIGHTLY, "new": new}))
    assert sorted(found) == ["new.service", "new.timer", "other.service", "other.timer"]
    kept = {name: replace(job, keeper=Keeper.worker) for name, job in REPORTS.jobs.items()}
    assert len(deployed.changed(replace(REPORTS, jobs=kept))) == 4


def test_a_secret_that_was_changed_is_told_of_by_its_file(deployed: Deployed) -> None:
    wanted = replace(REPORTS, env={"TOKEN": Secret("changed"), "PLAIN": "1"})
    assert deployed.changed(wanted) == ["/etc/fraisier/timers/fraisier-orders-production.env"]


def test_a_unit_that_somebody_changed_on_the_host_is_told_of(deployed: Deployed) -> None:
    deployed.put(f"{UNITS}nightly.timer", "# Written by Fraisier for orders/production\n[Timer]\n")
    assert deployed.changed() == ["nightly.timer"]


def test_units_of_others_are_none_of_ours(deployed: Deployed) -> None:
    deployed.put(f"{UNITS}mine.service", "[Service]\n")
    deployed.put(f"{UNITS}nightly.timer.d/more.conf", "[Timer]\n")
    deployed.put("/etc/systemd/system/fraisier-orders-staging-x.timer", "# Written by Fraisier for x\n")
    assert deployed.changed() == []


def test_where_no_release_runs_nothing_is_otherwise(deployed: Deployed) -> None:
    assert list(changed_units(REPORTS, deployed.host, "")) == []


# ------------------------------------------------------------------------------ units of somebody else
class Systemd(FakeHost):
    """A host with systemd, whose folder of units is a real one; `loaded` are units from other folders."""

    def __init__(self, folder: Path) -> None:
        super().__init__(root=str(folder))
        self.loaded: dict[str, str] = {}

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        if argv[0] == "systemctl":
            shown = "249" if "--property=Version" in argv else "\n".join(map(self._shown, argv[4:]))
            return Finished(code=0, stdout=shown.encode(), stderr=b"")
        if argv[2] != check_timers.FOREIGN:
            return Finished(code=0, stdout=b"", stderr=b"")
        places = (f"{self.root}{each}" for each in argv[5:])
        done = subprocess.run([*argv[:5], *places], capture_output=True, check=True)
        return Finished(code=0, stdout=done.stdout.replace(self.root.encode(), b""), stderr=b"")

    def _shown(self, unit: str) -> str:
        return f"Id={unit}\nFragmentPath={self.loaded.get(unit, '')}\n"


def problems_of(deployed: Deployed, **loaded: str) -> list[Problem]:
    host = Systemd(deployed.root)
    host.loaded = {f"fraisier-orders-production-{name}.service": path for name, path in loaded.items()}
    return [*timer_problems(REPORTS, host)]


def test_units_that_fraisier_wrote_are_no_hindrance(deployed: Deployed) -> None:
    assert problems_of(deployed, nightly=f"{UNITS}nightly.service") == []


@pytest.mark.parametrize(
    "text", ["[Service]\n", "# Written by Fraisier for orders/staging\n[Timer]\n", "", "link"]
)
def test_a_job_with_the_name_of_somebody_elses_unit_is_refused(deployed: Deployed, text: str) -> None:
    if text == "link":
        (deployed.root / f"{UNITS}other.timer"[1:]).unlink()
        (deployed.root / f"{UNITS}other.timer"[1:]).symlink_to("/dev/null")
    else:
        deployed.put(f"{UNITS}other.timer", text)
    (problem,) = problems_of(deployed)
    assert problem.fatal
    assert f"{UNITS}other.timer, which Fraisier did not write" in problem.message
    assert "Rename the job" in problem.hint


def test_so_is_one_that_would_hide_a_unit_of_another_folder(deployed: Deployed) -> None:
    theirs = "/usr/lib/systemd/system/fraisier-orders-production-nightly.service"
    (problem,) = problems_of(deployed, nightly=theirs)
    assert problem.fatal
    assert theirs in problem.message


# ------------------------------------------------------------------------------------ units that are left
def test_units_that_are_left_come_with_a_command_that_names_each_and_nobody_elses(tmp_path: Path) -> None:
    """`fraisier-a-b-*` would be those of a/b-c, too, and somebody else's."""
    names = [
        "fraisier-a-b-x.service",
        "fraisier-a-b-x.timer",
        "fraisier-a-b--c-y.timer",
        "fraisier-d-e-z.timer",
    ]
    host = FakeHost("web1", root=str(tmp_path))
    command = ("sh", "-c", check_timers.WRITTEN.format(folder=check_timers.FOLDER, head=check_timers.HEAD))
    host.answers[command] = Finished(code=0, stdout="\n".join(names).encode(), stderr=b"")
    found = {each.message.split()[7]: each for each in left_units(host, [EnvironmentKey("d", "e")])}
    assert sorted(found) == ["a/b,", "a/b-c,"]
    problem = found["a/b,"]
    assert not problem.fatal
    assert "disable --now fraisier-a-b-x.timer && " in problem.hint
    for path in (f"{check_timers.FOLDER}/fraisier-a-b-x.service", "/etc/fraisier/timers/fraisier-a-b.env"):
        assert f" {path} " in problem.hint
    assert "*" not in problem.hint
    assert "b--c" not in problem.hint
