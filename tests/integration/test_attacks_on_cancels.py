"""`fraisier cancel` from another process, in each step: the status is what was promised, and nothing runs on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.outside import Serve, processes_below, rows
from tests.integration.site import Site, until

# Where the commit says so, a step begins and would not end for minutes; its children left its session.
STUCK = "test ! -e stuck-{step} || {{ setsid sleep 301 & (setsid setsid sleep 302 &) ; touch {folder}/stuck; sleep 300; }}"
CONFIG = """
build: ["{build}"]
shared: [log/]
database: {{framework: command, up: "{migrate}"}}
health_check: {{command: "{check_health}", interval: 0.05, timeout: 120}}
"""


class Held:
    """A listener that keeps a deployment at the beginning of one step until it is let go."""

    def __init__(self) -> None:
        self.step = ""
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, event: str, fields: Any) -> None:
        """Follow the journal."""
        if event == "step_started" and fields["step"] == self.step and fields["phase"] == "deploy":
            self.step = ""
            self.reached.set()
            self.go_on.wait(30)

    def at(self, step: str) -> None:
        """Hold the next deployment there."""
        self.reached.clear()
        self.go_on.clear()
        self.step = step


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One on which `good` runs, and a worker works."""
    folder = tmp_path_factory.mktemp("cancels")
    steps = {step: STUCK.format(step=step, folder=folder) for step in ("build", "migrate", "check_health")}
    made = Site(folder, extra=CONFIG.format(**steps).strip(), head="worker: {lease: 2s}")
    made.fraisier.listener = Held()
    try:
        with made.working():
            made.push({"VERSION": "good"})
            assert made.deploy()["status"] == "success"
            yield made
    finally:
        made.fraisier.store.close()


def cancelled(site: Site, deployment: str) -> dict[str, Any]:
    """Cancel as a person does; what became of the deployment, once the command had worked."""
    done = Serve(site).cli("cancel", deployment)
    assert done.returncode == 0, done.stderr
    asked = "SELECT 1 FROM tb_deployments WHERE id = ? AND cancel_requested_by <> ''"
    assert rows(site, asked, deployment)
    held = site.fraisier.listener
    assert isinstance(held, Held)
    held.go_on.set()
    return site.ended(deployment)


def check(site: Site, row: dict[str, Any], status: str, version: str) -> None:
    """As DESIGN says, and the old release, `version`, serves."""
    assert (row["status"], row["cause"]) == (status, "cancelled"), row
    assert "cancelled by" in row["error_message"]
    assert site.version == version
    assert not processes_below(site.app)
    assert not list((site.app / ".fraisier" / "scopes").iterdir())
    assert not rows(site, "SELECT 1 FROM tb_environments WHERE quarantine <> '{}' OR lease_worker <> ''")


ENDS = {
    **dict.fromkeys(("preflight", "fetch", "prepare", "link_shared", "build", "migrate"), "cancelled"),
    **dict.fromkeys(("activate", "check_health"), "rolled_back"),
}


@pytest.mark.parametrize("step", ENDS)
def test_a_cancel_at_the_beginning_of_a_step_ends_as_promised(site, step):
    held = site.fraisier.listener
    held.at(step)
    before = site.version
    site.push({"VERSION": f"cancelled in {step}"})
    deployment = site.request().deployment.id
    until(f"step {step}", held.reached.is_set)
    check(site, cancelled(site, deployment), ENDS[step], before)


@pytest.mark.parametrize("step", ["build", "migrate", "check_health"])
def test_a_cancel_ends_the_whole_tree_of_what_a_step_runs(site, step):
    note = site.folder / "stuck"
    note.unlink(missing_ok=True)
    before = site.version
    site.push({"VERSION": f"stuck in {step}", f"stuck-{step}": "x"})
    deployment = site.request().deployment.id
    until(f"the {step}", note.exists)
    until("its tree", lambda: len([each for each in processes_below(site.app) if "sleep 30" in each]) >= 3)
    try:
        row = cancelled(site, deployment)
    finally:
        (site.repository.work / f"stuck-{step}").unlink()
    check(site, row, ENDS[step], before)
    between = "the database may be between two states" in row["error_message"]
    assert between == (step == "migrate"), row["error_message"]


def test_a_cancel_in_the_last_step_comes_too_late_and_says_so(site):
    """The release serves in good health by then; what is told is what is."""
    held = site.fraisier.listener
    held.at("finish")
    site.push({"VERSION": "late"})
    deployment = site.request().deployment.id
    until("the last step", held.reached.is_set)
    row = cancelled(site, deployment)
    assert (row["status"], site.version) == ("success", "late"), row
    assert Serve(site).cli("cancel", deployment).returncode == 1
