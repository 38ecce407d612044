"""Where the store writes: into its own files, also when a batch is large."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="watches system calls: needs strace")

RECORD_MANY = """
import sys
from fraisier.database.sqlite import open_sqlite
from tests.unit.store_contract import PATIENCE, delivery, publish
from tests.factories import wish

folder = sys.argv[1]
store = open_sqlite(f"sqlite://{folder}/state/fraisier.db", state_folder=f"{folder}/state")
publish(store)
for round in range(20):
    found = [store.record(delivery(f"{round}-{number}", wish(f"{number + 1:040x}"))) for number in range(120)]
    for future in found:
        future.result(PATIENCE)
store.close()
"""


def test_nothing_is_written_outside_the_folder_of_the_database(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    watched = ["strace", "-f", "-q", "-e", "trace=open,openat,creat", "-e", "signal=none", "-o", str(trace)]
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
    script = [sys.executable, "-c", RECORD_MANY, str(tmp_path)]
    subprocess.run([*watched, *script], check=True, timeout=60, env=environment)
    made = re.findall(r'"([^"]+)", [^)]*O_CREAT', trace.read_text("latin-1"))
    assert made
    assert [path for path in made if not path.startswith(f"{tmp_path}/state/")] == []
