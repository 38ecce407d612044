"""Backups that are encrypted before they leave the host: by age, as a person types it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.desks import open_path
from tests.integration.test_cli_backup import fraisier

__all__ = ["open_path"]


@pytest.fixture
def config(open_path: Path) -> Path:
    key = open_path / "key.txt"
    made = subprocess.run(["age-keygen", "-o", key], capture_output=True, text=True, check=True)
    recipient = re.search(r"age1\w+", made.stderr)
    assert recipient is not None
    data = open_path / "data"
    data.mkdir()
    (data / "letter").write_text("a secret letter " * 1000)
    written = open_path / "fraises.yaml"
    written.write_text(
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
        destinations: {{disk: {open_path}/disk}}
        encryption: {{recipients: {recipient[0]}, identity: {key}}}
"""
    )
    return written


def test_nothing_readable_leaves_and_everything_comes_back(config: Path) -> None:
    folder, place = config.parent, ("dumps", "production")
    code, said, told = fraisier(config, "backup", "run", *place)
    assert code == 0, said + told
    (kept,) = (folder / "disk" / "dumps" / "production").iterdir()
    assert {each.name for each in kept.iterdir()} == {"manifest.json", "data.tar.packed.age"}
    assert (kept / "data.tar.packed.age").read_bytes().startswith(b"age-encryption.org/v1")
    code, said, told = fraisier(config, "backup", "verify", *place)
    assert code == 0, said + told
    (folder / "data" / "letter").unlink()
    code, said, told = fraisier(config, "backup", "restore", *place, "--yes")
    assert (code, (folder / "data" / "letter").read_text()) == (0, "a secret letter " * 1000), said + told


def test_without_the_key_it_is_said_and_the_backup_is_not_to_blame(config: Path) -> None:
    folder, place = config.parent, ("dumps", "production")
    assert fraisier(config, "backup", "run", *place)[0] == 0
    (folder / "key.txt").unlink()
    code, said, told = fraisier(config, "backup", "verify", *place)
    assert code == 1
    assert "key.txt" in told
    (row,) = json.loads(fraisier(config, "backup", "list", *place, "--json")[1])
    assert (row["state"], row["flaw"], row["verified_at"]) == ("whole", "", None)
    code, said, told = fraisier(config, "doctor", *place, "--offline")
    assert "key.txt" in said
