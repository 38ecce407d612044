"""From a request to a running release and back, with real git, a real worker and real processes."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from fraisier.domain.deployment import Trigger
from tests.integration.site import KEY, Site, service, until
from tests.processes import alive


@contextmanager
def closing(site):
    try:
        yield site
    finally:
        site.fraisier.store.close()


@pytest.fixture
def site(tmp_path):
    """Files only: nothing is restarted."""
    with closing(Site(tmp_path)) as made, made.working():
        yield made


@pytest.fixture
def shop(tmp_path):
    """A web service under supervisord."""
    with closing(Site(tmp_path, supervised=True)) as made, made.supervising(), made.working():
        yield made


def reconfigured(site, extra):
    """The same site with other lines in its environment."""
    site.write_config(extra)
    from fraisier import wiring

    site.fraisier.configuration = wiring.load(str(site.config))
    site.fraisier.publish()


def test_a_commit_becomes_a_running_service_and_a_bad_one_does_not(shop):
    good = shop.push(service("one"))
    row = shop.deploy()
    assert (row["status"], row["commit"]) == ("success", good), row
    assert shop.answer() == (200, "one")

    shop.push(service("two", health=503))
    row = shop.deploy()
    assert (row["status"], row["cause"]) == ("rolled_back", "unhealthy"), row
    assert "503" in row["error_message"]
    assert shop.answer() == (200, "one")
    assert shop.version == "one"

    fixed = shop.push(service("three"))
    row = shop.deploy()
    assert (row["status"], row["commit"]) == ("success", fixed), row
    assert shop.answer() == (200, "three")


def test_a_service_that_does_not_start_is_rolled_back(shop):
    shop.push(service("one"))
    assert shop.deploy()["status"] == "success"
    shop.push({"service.py": "raise SystemExit(3)"})
    row = shop.deploy()
    assert row["status"] == "rolled_back", row
    assert shop.answer() == (200, "one")


def test_a_first_deployment_that_fails_leaves_nothing_running(shop):
    shop.push(service("one", health=500))
    row = shop.deploy()
    assert row["status"] == "failed", row
    assert shop.answer()[0] == 0
    assert not (shop.app / "current").exists()


def test_a_person_rolls_back_to_the_release_before(shop):
    for version in ("one", "two"):
        shop.push(service(version))
        assert shop.deploy()["status"] == "success"
    requested = shop.fraisier.roll_back(KEY, by="alice")
    assert requested.deployment is not None
    row = shop.ended(requested.deployment.id)
    assert (row["status"], row["trigger"]) == ("success", "rollback"), row
    assert shop.answer() == (200, "one")


def test_a_release_that_failed_is_never_gone_back_to(shop):
    for version, health in (("one", 200), ("bad", 503), ("two", 200)):
        shop.push(service(version, health=health))
        shop.deploy()
    assert shop.answer() == (200, "two")
    row = shop.ended(shop.fraisier.roll_back(KEY, by="alice").deployment.id)
    assert row["status"] == "success", row
    assert shop.answer() == (200, "one")


def test_the_commit_that_was_asked_for_runs_whatever_the_branch_is_now(site):
    first = site.push({"VERSION": "one"})
    site.push({"VERSION": "two"})
    row = site.deploy(commit=first)
    assert (row["status"], row["commit"]) == ("success", first)
    assert site.version == "one"


def test_a_build_runs_in_the_release_with_a_clean_environment(site, monkeypatch):
    monkeypatch.setenv("OUR_OWN_SECRET", "not-for-builds")
    reconfigured(
        site,
        'env: {COLOUR: red, API_TOKEN: "s3cr3t-value-1"}\n'
        'build: ["env | sort", "pwd", "echo token $API_TOKEN", "echo built > built.txt"]',
    )
    site.push({"VERSION": "one"})
    row = site.deploy()
    assert row["status"] == "success", row
    output = site.output(row["id"])
    release = (site.app / "current").readlink().name
    assert "COLOUR=red" in output
    assert f"FRAISIER_COMMIT={row['commit']}" in output
    assert f"FRAISIER_RELEASE={release}" in output
    assert str(site.app / "releases" / release) in output
    assert "OUR_OWN_SECRET" not in output
    assert "s3cr3t-value-1" not in output
    assert (site.app / "current" / "built.txt").exists()


def test_output_can_be_followed_while_the_step_runs(site):
    reconfigured(site, 'build: ["echo first line; sleep 30"]')
    site.push({"VERSION": "one"})
    deployment = site.request().deployment.id
    until("the first line", lambda: "first line" in site.output(deployment))
    assert site.fraisier.store.deployment(deployment)["status"] == "running"
    site.fraisier.cancel(deployment, by="bob")
    assert site.ended(deployment)["status"] == "cancelled"


def test_a_cancel_ends_the_whole_process_tree(site, tmp_path):
    note = tmp_path / "pids"
    line = f"(setsid sh -c 'echo $$ >> {note}; sleep 300' &) ; echo $$ >> {note}; sleep 300"
    reconfigured(
        site, f"build: [{line!r}]".replace("'", '"').replace('sh -c "', "sh -c '").replace('300" &', "300' &")
    )
    site.push({"VERSION": "one"})
    deployment = site.request().deployment.id
    until("both processes", lambda: note.exists() and len(note.read_text().split()) == 2)
    begun = time.monotonic()
    site.fraisier.cancel(deployment, by="bob")
    row = site.ended(deployment)
    assert row["status"] == "cancelled"
    assert "bob" in row["error_message"]
    assert time.monotonic() - begun < 10
    for pid in map(int, note.read_text().split()):
        until(f"the end of {pid}", lambda pid=pid: not alive(pid))


def test_a_build_that_takes_too_long_is_ended(site):
    reconfigured(site, 'build: [{run: "sleep 60", timeout: 0.5}]')
    site.push({"VERSION": "one"})
    row = site.deploy()
    assert (row["status"], row["cause"]) == ("failed", "timeout"), row
    assert row["error_message"].startswith("cannot")


def test_a_failed_build_is_quarantined_until_it_is_forced(site):
    reconfigured(site, 'build: ["test -e allowed"]')
    commit = site.push({"VERSION": "one"})
    assert site.deploy()["status"] == "failed"
    status = site.fraisier.store.fraise_status()[0]
    assert commit in str(status)
    site.fraisier.request_deployment(KEY, by="hook", commit=commit, trigger=Trigger.webhook)
    reconfigured(site, "")
    row = site.deploy(commit=commit, force=True)
    assert row["status"] == "success", row


def test_shared_files_outlive_releases(site):
    site.push({"VERSION": "one", "uploads/from-git.txt": "x"})
    assert site.deploy()["status"] == "success"
    (site.app / "shared" / ".env").write_text("A=1")
    reconfigured(site, "shared: [.env, uploads/]")
    site.push({"VERSION": "two"})
    row = site.deploy()
    assert row["status"] == "success", row
    current = site.app / "current"
    assert (current / ".env").read_text() == "A=1"
    (current / "uploads" / "kept.txt").write_text("kept")
    site.push({"VERSION": "three"})
    assert site.deploy()["status"] == "success"
    assert (current / "uploads" / "kept.txt").read_text() == "kept"


def test_only_the_root_folder_is_deployed(site):
    reconfigured(site, "root: services/shop")
    site.push({"services/shop/VERSION": "one", "services/other/VERSION": "no"})
    assert site.deploy()["status"] == "success"
    assert site.version == "one"
    assert not (site.app / "current" / "services").exists()


def test_a_push_that_leaves_the_root_alone_deploys_nothing(site):
    reconfigured(site, "root: services/shop")
    site.push({"services/shop/VERSION": "one"})
    assert site.deploy()["status"] == "success"
    commit = site.push({"README": "words"})
    requested = site.request(commit=commit, ref="main", trigger=Trigger.webhook)
    row = site.ended(requested.deployment.id)
    assert (row["status"], row["cause"]) == ("cancelled", "paths_unchanged"), row


def test_a_migration_pair_goes_up_and_back(tmp_path):
    state = tmp_path / "schema"
    state.write_text("0")
    extra = f'database: {{framework: command, up: "echo 1 > {state}", down: "echo 0 > {state}"}}\n'
    with (
        closing(
            Site(
                tmp_path, extra=extra + 'health_check: {command: "test ! -e bad", timeout: 1, interval: 0.1}'
            )
        ) as site,
        site.working(),
    ):
        site.push({"VERSION": "one"})
        assert site.deploy()["status"] == "success"
        assert state.read_text().strip() == "1"
        site.push({"VERSION": "two", "bad": ""})
        row = site.deploy()
    assert row["status"] == "rolled_back", row
    assert state.read_text().strip() == "0"
    assert site.version == "one"


def test_a_repository_that_is_gone_is_retried_then_said_clearly(site):
    reconfigured(site, "retry_for: 1s")
    site.push({"VERSION": "one"})
    site.repository.bare.rename(site.repository.bare.with_name("moved.git"))
    row = site.deploy()
    assert row["status"] == "failed"
    assert row["cause"] in ("network", "repository")
    assert row["hint"]


def test_an_app_path_with_other_files_is_left_alone(site):
    site.app.mkdir()
    (site.app / "index.html").write_text("mine")
    site.push({"VERSION": "one"})
    row = site.deploy()
    assert (row["status"], row["cause"]) == ("failed", "preflight"), row
    assert [path.name for path in site.app.iterdir()] == ["index.html"]
