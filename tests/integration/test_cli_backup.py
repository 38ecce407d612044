"""`fraisier backup` as a person types it, where no worker lives: the command performs what it asks for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.desks import open_path

__all__ = ["open_path"]


def fraisier(config: Path, *words: str) -> tuple[int, str, str]:
    argv = [sys.executable, "-m", "fraisier", "--config", str(config), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs commands as somebody else")
def test_the_environments_user_makes_keeps_and_tries_it(open_path: Path) -> None:
    """Everything is the user's: root's own files are beyond his reach, and he needs no other."""
    data, kept, config = open_path / "data", open_path / "kept", open_path / "fraises.yaml"
    for folder in (data, kept):
        folder.mkdir(mode=0o700)
    (data / "a").write_text("first")
    for path in (data, kept, data / "a"):
        shutil.chown(path, "nobody")
    config.write_text(
        f"""
database: {{url: "sqlite://{open_path}/state/fraisier.db"}}
fraises:
  dumps:
    type: backup
    environments:
      production:
        app_path: {open_path}/app
        user: nobody
        min_free_disk: 1MB
        sources: {{data: {data}}}
        destinations: {{disk: {kept}}}
        on_success: id -un > {kept}/who
"""
    )
    for verb in ("run", "verify"):
        code, said, told = fraisier(config, "backup", verb, "dumps", "production")
        assert code == 0, said + told
    (data / "a").write_text("second")
    code, said, told = fraisier(config, "backup", "restore", "dumps", "production", "--yes", "--force")
    assert (code, (data / "a").read_text()) == (0, "first"), said + told
    assert {path.owner() for path in kept.rglob("*")} == {"nobody"}
    assert (kept / "who").read_text() == "nobody\n"
    files = [path for path in kept.rglob("*") if path.is_file() and path.name != "who"]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


def test_a_folder_is_backed_up_verified_lost_and_brought_back(open_path: Path) -> None:
    data, config = open_path / "data", open_path / "fraises.yaml"
    data.mkdir()
    (data / "a").write_text("first")
    config.write_text(
        f"""
database: {{url: "sqlite://{open_path}/state/fraisier.db"}}
fraises:
  dumps:
    type: backup
    environments:
      production:
        app_path: {open_path}/app
        min_free_disk: 1MB
        sources: {{data: {data}}}
        destinations: {{disk: {open_path}/disk, other: {open_path}/other}}
"""
    )
    place = ("dumps", "production")
    assert fraisier(config, "backup", "list", *place)[0] == 0
    code, said, told = fraisier(config, "backup", "run", *place)
    assert code == 0, told
    assert "disk: " in said
    code, said, told = fraisier(config, "backup", "verify", *place)
    assert (code, "was brought back, and is good" in said) == (0, True), told
    rows = json.loads(fraisier(config, "backup", "list", *place, "--json")[1])
    assert [(row["state"], row["verified_at"] is not None) for row in rows] == [("whole", True)] * 2
    (data / "a").write_text("second")
    code, said, told = fraisier(config, "backup", "restore", *place, "--yes")
    assert (code, "cannot restore over what is there" in told) == (1, True), told
    assert (data / "a").read_text() == "second"
    code, said, told = fraisier(config, "backup", "restore", *place, "--yes", "--force")
    assert (code, (data / "a").read_text()) == (0, "first"), told
    name = rows[0]["name"]
    (open_path / "disk" / "dumps" / "production" / name / "data.tar.packed").write_bytes(b"")
    code, said, told = fraisier(config, "backup", "verify", *place)
    assert (code, f"{name} at disk: data.tar.packed is empty" in told) == (1, True), told
    status = json.loads(fraisier(config, "status", *place, "--json")[1])
    assert (status[0]["healthy"], status[0]["alerts"] >= 1) == (False, True)
    assert fraisier(config, "backup", "prune", *place, "--damaged")[0] == 0
    assert fraisier(config, "backup", "verify", *place)[0] == 0
    status = json.loads(fraisier(config, "status", *place, "--json")[1])
    assert status[0]["alerts"] == 0
    code, said, told = fraisier(config, "doctor", *place, "--offline")
    assert "every source and every destination can be used" in said
    assert fraisier(config, "logs", *place)[0] == 0
