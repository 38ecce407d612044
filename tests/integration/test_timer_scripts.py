"""What a job's unit performs, by sh, beside systemctls of several versions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fraisier.deployers.timer_scripts import RUN

NEW, OLD = "systemd 252 (252.38-1~deb12u1)", "systemd 249 (249.11-0ubuntu3.12)"
AT, LATER, NEVER = "Mon 2026-11-23 14:30:00 UTC", "Mon 2026-11-23 14:30:07 UTC", ""


@pytest.mark.parametrize(
    ("version", "variables", "elapsed", "begun", "trigger"),
    [
        (NEW, {"TRIGGER_UNIT": "x.timer"}, AT, AT, "scheduled"),
        (NEW, {"MONITOR_UNIT": "y.service"}, AT, AT, "dependency"),
        (NEW, {}, AT, AT, "manual"),
        (OLD, {}, AT, AT, "scheduled"),
        (OLD, {}, AT, LATER, "manual"),
        (OLD, {}, NEVER, AT, "manual"),
        (OLD, {}, "n/a", "n/a", "manual"),
        ("", {}, AT, AT, "manual"),
    ],
)
def test_what_began_a_run_is_told_by_every_systemd(
    tmp_path: Path, version: str, variables: dict[str, str], elapsed: str, begun: str, trigger: str
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\ncase "$*" in --version) echo "{version}" ;; *LastTriggerUSec*.timer) echo "{elapsed}" ;;\n'
        f'*InactiveExitTimestamp*.service) echo "{begun}" ;; *) exit 1 ;; esac\n'
    )
    systemctl.chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FRAISIER_REPORTS": str(tmp_path),
        "FRAISIER_JOB": "nightly",
        "FRAISIER_RELEASE": "7-aaaaaaaaaa",
        "INVOCATION_ID": "0" * 32,
        "v": "theirs",
        **variables,
    }
    argv = ["/bin/sh", "-c", RUN, "sh", 'echo "$v"; exit 3', "0"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "theirs\n", "")
    begin, end = (tmp_path / f"nightly.{'0' * 32}").read_text().splitlines()
    assert (begin.split()[0], begin.split()[3:], end.split()[3]) == ("begin", [trigger, "7-aaaaaaaaaa"], "3")
