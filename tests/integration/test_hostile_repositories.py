"""Commits and builds that mean harm: they fail by themselves, and nothing outside of their release changes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fraisier.application.tools import Retries
from tests.integration.site import Site

RETRIES = Retries()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users may pass through, as pytest's own is not."""
    made = Path(tempfile.mkdtemp(prefix="fraisier-hostile-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def deployed(
    folder: Path,
    files: dict[str, str],
    extra: str,
    links: dict[str, str] | None = None,
    retries: Retries = RETRIES,
):
    """The site, and the row of the deployment once it has ended."""
    site = Site(folder, extra=extra, head="worker: {lease: 1s}")
    site.fraisier.tools = replace(site.fraisier.tools, retries=retries)
    try:
        for link, to in (links or {}).items():
            path = site.repository.work / link
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(to)
        site.push(files)
        with site.working():
            return site, site.deploy()
    finally:
        site.fraisier.store.close()


def test_names_that_look_like_options_or_commands_are_only_names(folder):
    files = {
        "-rf": "x",
        "a\nb": "x",
        "--help/x": "y",
        "$(touch pwned)": "z",
        ".fraisier/token": "99",
        "'q\"": "1",
    }
    site, row = deployed(folder, files, 'build: ["ls -la"]')
    assert row["status"] == "success", row
    for name, text in files.items():
        assert (site.app / "current" / name).read_text() == text
    assert (site.app / ".fraisier" / "token").read_text().strip() == "1"


def test_a_link_in_the_commit_does_not_lead_shared_folders_astray(folder):
    victim = folder / "victim" / "uploads"
    victim.mkdir(parents=True)
    _, row = deployed(folder, {"VERSION": "1"}, "shared: [d/uploads/]", {"d": str(victim.parent)})
    assert (row["status"], row["cause"]) == ("failed", "preflight"), row
    assert victim.is_dir()
    assert not victim.is_symlink()


@pytest.mark.parametrize("then", ["true", 'ln -s / \\"$D\\"'], ids=["removed", "replaced"])
def test_a_build_that_takes_its_release_away_is_to_blame_itself(folder, then):
    build = f'build: ["D=$PWD; cd ..; rm -rf \\"$D\\"; {then}"]'
    site, row = deployed(folder, {"VERSION": "1"}, build)
    assert (row["status"], row["cause"], row["attempts"]) == ("failed", "build", 1), row
    assert not (site.app / "current").is_symlink()


def test_a_build_that_destroys_what_is_fraisiers_does_not_run_for_ever(folder):
    """Without a user of its own a build may do so; each attempt is lost, but their number has an end."""
    retries = Retries(most_interruptions=2)
    _, row = deployed(folder, {"VERSION": "1"}, 'build: ["rm -rf ../../.fraisier"]', retries=retries)
    assert (row["status"], row["cause"]) == ("failed", "interrupted"), row


def test_a_flood_of_output_is_kept_bounded(folder):
    _, row = deployed(
        folder, {"VERSION": "1"}, 'build: ["yes | head -c 20000000", "printf \'\\\\000\\\\377\'"]'
    )
    assert row["status"] == "success", row
    assert (folder / "state" / "fraisier.db").stat().st_size < 8 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs commands as others")
def test_code_that_is_built_as_another_user_reads_and_changes_nothing_of_fraisiers(folder):
    places = "../../../state ../../../state/fraisier.db ../../../state/mirrors ../../.fraisier ../../.fraisier/lock"
    reading = f"for f in {places}; do cat $f && echo READ; ls $f && echo READ; touch $f/x && echo WROTE; done"
    changing = (
        "touch ../x && echo WROTE; touch ../../x && echo WROTE; ln -sfn /etc ../../current && echo WROTE"
    )
    extra = f'user: nobody\nshared: [uploads/]\nbuild: ["{reading}; {changing}; id -un > built-by"]'
    site, row = deployed(folder, {"VERSION": "1", "uploads/own": "x"}, extra)
    assert row["status"] == "success", row
    assert (site.app / "current" / "built-by").read_text().strip() == "nobody"
    assert (site.app / "current" / "uploads").readlink() == site.app / "shared" / "uploads"
    from tests.integration.outside import rows

    said = "".join(each["text"] for each in rows(site, "SELECT text FROM tb_step_output ORDER BY seq"))
    printed = said.partition("id -un > built-by\n")[2]
    assert printed
    assert "READ" not in printed
    assert "WROTE" not in printed
