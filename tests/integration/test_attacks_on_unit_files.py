"""A commit brings a unit file that is anything but one: it is read bounded, or not at all."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier import wiring
from fraisier.application.ports import Host, Problem, UnitState
from fraisier.domain.acts import InstallFile, UnitCommand
from fraisier.domain.fraise import Environment, TargetSpec
from fraisier.domain.plan import TargetActs
from tests.integration.site import Site

MIB = 1 << 20


class Installing:
    """A target of which only the unit file is real."""

    kind = "supervisord"

    def __init__(self, folder: Path) -> None:
        self.installed = folder / "installed.conf"
        self._starts = folder / "starts"

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        source = f"{release_folder}/{environment.unit_file}"
        started = UnitCommand(argv=("/bin/sh", "-c", f"echo >> {self._starts}"))
        return TargetActs(
            install=(InstallFile(source=source, destination=str(self.installed)),), restart=(started,)
        )

    def state(self, spec: TargetSpec, host: Host) -> UnitState:
        starts = self._starts.stat().st_size if self._starts.exists() else 0
        return UnitState(known=True, running=bool(starts), invocation=str(starts))

    def problems(self, environment: Environment, host: Host) -> list[Problem]:
        return []

    def logs(self, spec: TargetSpec, *, lines: int) -> UnitCommand:
        return UnitCommand(argv=("true",))


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users may pass through, as pytest's own is not."""
    made = Path(tempfile.mkdtemp(prefix="fraisier-units-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    """One whose good release has installed its unit file."""
    target = f"target: {{type: supervisord, unit: shop, conf_d: {folder}}}\nunit_file: unit.conf"
    health = 'health_check: {command: "true", interval: 0.05, timeout: 5}'
    made = Site(folder, extra=f"{target}\n{health}", head="worker: {lease: 2s}")
    made.fraisier.tools = replace(made.fraisier.tools, targets={"supervisord": Installing(folder)})
    try:
        made.push({"VERSION": "good", "unit.conf": "good"})
        with made.working():
            assert made.deploy()["status"] == "success"
            yield made
    finally:
        made.fraisier.store.close()


def refused(site: Site) -> str:
    """Deploy what was pushed; why its unit file was not installed."""
    row = site.deploy()
    assert (row["status"], row["cause"], site.version) == ("rolled_back", "restart", "good"), row
    assert (site.folder / "installed.conf").read_text() == "good"
    assert row["hint"]
    return str(row["error_message"])


def test_the_unit_file_of_the_release_is_installed(site):
    site.push({"VERSION": "next", "unit.conf": "x" * MIB})
    assert site.deploy()["status"] == "success"
    assert (site.folder / "installed.conf").stat().st_size == MIB


def test_a_huge_unit_file_is_not_installed(site):
    site.push({"VERSION": "huge", "unit.conf": "x" * (MIB + 1)})
    assert "larger than 1024 KiB" in refused(site)


def test_a_unit_file_that_links_to_an_endless_device_is_not_read_for_ever(site):
    (site.repository.work / "unit.conf").unlink()
    (site.repository.work / "unit.conf").symlink_to("/dev/zero")
    site.push({"VERSION": "endless"})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "larger than 1024 KiB" in refused(site)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_unit_file_that_is_none_is_not_installed(site, kind):
    (site.repository.work / "unit.conf").unlink()
    site.push({"VERSION": kind, **({"unit.conf/inner": "x"} if kind == "folder" else {})})
    assert "cannot install" in refused(site)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs commands as others")
def test_a_unit_file_that_links_to_a_secret_is_read_as_the_environments_user(site):
    secret = site.folder / "secret"
    secret.write_text("never to be installed")
    secret.chmod(0o600)
    (site.repository.work / "unit.conf").unlink()
    (site.repository.work / "unit.conf").symlink_to(secret)
    site.push({"VERSION": "thief"})
    text = site.config.read_text().replace("        unit_file:", "        user: nobody\n        unit_file:")
    site.config.write_text(text)
    site.fraisier.configuration = wiring.load(str(site.config))
    site.fraisier.publish()
    assert "cannot install" in refused(site)
