"""With every webhook blocked a push is live all the same; real git, a real worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraisier import wiring
from fraisier.domain.push import is_sha
from fraisier.worker import Worker
from tests.integration.outside import serving
from tests.integration.site import KEY, Site, until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, sweep=1)
    yield made
    made.fraisier.store.close()


def live(site: Site, version: str) -> dict[str, Any]:
    """The newest deployment, once `version` is what `current` has and it has ended."""

    def look() -> dict[str, Any] | None:
        newest = dict(site.fraisier.store.history(limit=1)[0]) if site.version == version else {}
        return newest if newest.get("completed_at") else None

    return until(f"version {version}", look)  # type: ignore[no-any-return]


def noted(site: Site) -> None:
    """Return when a sweep has looked where the branch is."""
    until("a sweep", lambda: is_sha(site.fraisier.store.fraise_status()[0]["seen_tip"]))


def test_a_push_is_live_without_any_webhook(site):
    with site.working():
        for version in ("one", "two"):
            commit = site.push({"VERSION": version})
            row = live(site, version)
            assert (row["status"], row["trigger"], row["commit"]) == ("success", "sweep", commit)


def test_what_was_pushed_while_nothing_ran_is_live_after_the_start(site):
    with site.working():
        site.push({"VERSION": "one"})
        live(site, "one")
    site.sweep = 3600
    site.write_config()
    site.fraisier.configuration = wiring.load(str(site.config))
    site.fraisier.publish()
    site.push({"VERSION": "two"})
    with site.working():
        assert live(site, "two")["trigger"] == "sweep"


def test_a_rollback_stands_until_the_next_push(site):
    with site.working():
        for version in ("one", "two"):
            site.push({"VERSION": version})
            live(site, version)
        back = site.fraisier.roll_back(KEY, by="bob").deployment
        assert site.ended(back.id)["status"] == "success"
        noted(site)
        assert site.version == "one"
        site.push({"VERSION": "three"})
        live(site, "three")
    triggers = [row["trigger"] for row in site.fraisier.store.history()]
    assert triggers == ["sweep", "rollback", "sweep", "sweep"]


def test_a_rollback_that_a_command_performs_alone_stands_until_the_next_push(site):
    with site.working():
        for version in ("one", "two"):
            site.push({"VERSION": version})
            live(site, version)
    site.push({"VERSION": "three"})  # nobody knows of it
    back = site.fraisier.roll_back(KEY, by="bob").deployment
    Worker(site.fraisier).perform(back.id)
    noted(site)
    assert site.version == "one"
    site.push({"VERSION": "four"})
    with site.working():
        live(site, "four")
    triggers = [row["trigger"] for row in site.fraisier.store.history()]
    assert triggers == ["sweep", "rollback", "sweep", "sweep"]


def test_a_repository_that_cannot_be_reached_is_told_of_and_asked_again(site):
    bare, aside = site.repository.bare, site.folder / "aside"
    shutil.move(bare, aside)
    with site.working():
        until("the failure", lambda: any(event == "sweep_failed" for event, _ in site.events))
        shutil.move(aside, bare)
        site.push({"VERSION": "one"})
        live(site, "one")


def test_an_eldest_worker_that_waits_for_its_restart_after_an_upgrade_keeps_nobody_from_sweeping(
    site, monkeypatch
):
    with site.working() as eldest, serving(site, command=("worker",)) as younger:
        site.push({"VERSION": "one"})
        live(site, "one")
        younger.start(ready=False)
        monkeypatch.setattr(eldest._version, "has_changed", lambda: True)
        until("the eldest to step back", lambda: eldest.idle_because)
        commit = site.push({"VERSION": "two"})
        assert live(site, "two")["commit"] == commit


def test_an_eldest_worker_with_an_old_configuration_keeps_nobody_from_sweeping(site):
    with site.working() as eldest, serving(site, command=("worker",)) as younger:
        site.push({"VERSION": "one"})
        live(site, "one")
        site.write_config('build: ["true"]')
        younger.start(ready=False)
        until("the eldest to step back", lambda: eldest.idle_because)
        commit = site.push({"VERSION": "two"})
        assert live(site, "two")["commit"] == commit
