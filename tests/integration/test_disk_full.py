"""A full disk is nobody's fault: what it stops is tried again, ends with a cause, or goes on with the space."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.disks import disk
from tests.integration.outside import Serve, all_ended, deployments, rows, serving
from tests.integration.site import Site, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts small disks")


def made(folder: Path, extra: str) -> Site:
    return Site(folder, extra=extra, head="worker: {lease: 2s}")


@contextmanager
def closing(site: Site) -> Iterator[Site]:
    try:
        yield site
    finally:
        site.fraisier.store.close()


def says_disk(site: Site, deployment: str) -> bool:
    row = site.fraisier.store.deployment(deployment)
    return bool(row["status"] == "pending" and row["cause"] == "disk")


BIG = {"data": os.urandom(2 << 20)}


@pytest.mark.parametrize(
    ("leave", "files", "build"),
    [
        (0, {"VERSION": "one"}, "true"),  # the very first folder, the token
        (1200 << 10, {"VERSION": "one", **BIG}, "true"),  # unpacking
        (2 << 20, {"VERSION": "one"}, "dd if=/dev/zero of=filling bs=64k count=48"),  # building
    ],
    ids=["first-folder", "unpack", "build"],
)
def test_a_full_disk_of_the_service_is_waited_for(tmp_path, leave, files, build):
    with (
        disk(tmp_path / "app") as app,
        closing(made(tmp_path, f'build: ["{build}"]\nretry_for: 60s')) as site,
    ):
        site.push(files)
        app.fill(leave)
        with site.working():
            deployment = site.request().deployment.id
            until("the disk to be blamed", lambda: says_disk(site, deployment))
            app.free()
            row = site.ended(deployment)
        assert row["status"] == "success", row
        assert row["attempts"] > 1
        assert site.version == "one"


def test_a_disk_that_stays_full_ends_the_deployment_without_blaming_the_commit(tmp_path):
    with disk(tmp_path / "app") as app, closing(made(tmp_path, "retry_for: 3s")) as site:
        with site.working():
            site.push({"VERSION": "one"})
            assert site.deploy()["status"] == "success"
            commit = site.push({"VERSION": "two", **BIG})
            app.fill(128 << 10)
            row = site.deploy(commit=commit)
            assert (row["status"], row["cause"]) == ("failed", "disk"), row
            assert row["attempts"] > 1
            assert row["hint"]
            assert site.version == "one"
            app.free()
            assert site.deploy(commit=commit)["status"] == "success", "it is not quarantined"
        assert site.version == "two"


def test_a_disk_that_fills_up_behind_the_switch_takes_nothing_away(tmp_path):
    """The health check fills the disk: neither the proof nor a tidy folder is worth a service."""
    extra = f'health_check: {{command: "dd if=/dev/zero of={tmp_path}/app/ballast bs=4k || true", passes: 1}}'
    with disk(tmp_path / "app"), closing(made(tmp_path, extra)) as site, site.working():
        site.push({"VERSION": "one"})
        row = site.deploy()
        assert row["status"] == "success", row
        assert site.version == "one"


def counts(site: Site) -> tuple[int, int]:
    (row,) = rows(
        site,
        "SELECT (SELECT count(*) FROM tb_webhook_events) AS events,"
        " (SELECT count(*) FROM tb_deployments) AS deployments",
    )
    return row["events"], row["deployments"]


def until_refused(serve: Serve, site: Site) -> None:
    """Deliver until the last page is full: the answer is 503, and nothing of it is stored."""
    for number in range(200):
        before = counts(site)
        status, answer = serve.webhook(f"{number:040x}")
        if status == 503:
            assert answer["error"]["code"] == "store_unavailable"
            assert answer["error"]["hint"]
            assert counts(site) == before, "half written"
            return
        assert status in (200, 202), answer
    raise AssertionError("the disk never was full")


def test_a_full_disk_of_the_database_refuses_webhooks_and_goes_on_by_itself(tmp_path):
    with disk(tmp_path / "state") as state, closing(made(tmp_path, "retry_for: 3s")) as site:
        commit = site.push({"VERSION": "one"})
        with serving(site) as serve:
            serve.start()
            state.fill()
            until_refused(serve, site)
            assert serve.get("/ready")[0] == 503
            assert serve.get("/health")[0] == 200
            state.free()
            until("serve to be ready again", lambda: serve.get("/ready")[0] == 200)
            status, answer = serve.webhook(commit)
            assert status == 202, answer
            all_ended(site)
            assert site.version == "one"
            assert serve.process is not None
            assert serve.process.poll() is None, "it lived through all of it"


def test_a_database_disk_that_fills_up_in_a_build_only_delays_its_end(tmp_path):
    extra = f'build: ["touch {tmp_path}/began; while test -e {tmp_path}/hold; do sleep 0.05; done"]'
    (tmp_path / "hold").touch()
    with disk(tmp_path / "state") as state, closing(made(tmp_path, extra)) as site:
        commit = site.push({"VERSION": "one"})
        with serving(site) as serve:
            serve.start()
            _, answer = serve.webhook(commit)
            until("the build", (tmp_path / "began").exists)
            state.fill()
            until_refused(serve, site)
            (tmp_path / "hold").unlink()
            until("the lease to end", lambda: serve.get("/ready")[0] == 503)
            state.free()
            (row,) = [each for each in all_ended(site) if each["id"] == answer["deployments"][0]["id"]]
            # Newer pushes, of commits that nobody has, may have taken its place while it could not end.
            assert row["status"] in ("success", "superseded"), row
            assert all(each["cause"] or each["status"] == "success" for each in deployments(site))
            assert serve.process is not None
            assert serve.process.poll() is None
