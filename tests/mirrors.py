"""What tests of the git mirror share: mirrors with an empty home, a job, a host that only unpacks."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from fraisier.application.ports import Host, Job, Unpacking
from fraisier.domain.errors import StepFailed
from fraisier.domain.fraise import Source
from fraisier.git.mirror import Patience
from fraisier.git.repository import Mirrors
from fraisier.hosts.processes import LocalProcesses

MAIN = "refs/heads/main"


@dataclass
class Listening:
    """A job whose output can be read."""

    stop: threading.Event = field(default_factory=threading.Event)
    chunks: list[bytes] = field(default_factory=list)

    @property
    def job(self) -> Job:
        return Job(stop=self.stop, output=self.chunks.append)

    @property
    def text(self) -> str:
        return b"".join(self.chunks).decode()


class TarHost:
    """Unpacks like a host does, and nothing else."""

    def unpack(self, archive: Iterator[bytes], folder: str, *, user: str, job: Job) -> None:
        Path(folder).mkdir(parents=True)
        tar = subprocess.Popen(
            ["tar", "-xp", "--no-same-owner", "-f", "-", "-C", folder], stdin=subprocess.PIPE
        )
        assert tar.stdin
        try:
            for chunk in archive:
                tar.stdin.write(chunk)
        finally:
            tar.stdin.close()
            code = tar.wait()
        assert code == 0


def mirrors(folder: Path, **changes: Any) -> Mirrors:
    """Mirrors as on a fresh machine: an empty home, no settings of a user, nothing on disk."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_DIR": "/nonexistent",
        **changes.pop("environ", {}),
    }
    changes = {"patience": Patience(pauses=(0.05, 0.05)), **changes}
    return Mirrors(folder / "state" / "mirrors", LocalProcesses(), environ=environ, **changes)


def source_of(url: str | Path, **changes: Any) -> Source:
    return Source(forge="github", repository="acme/orders", clone_url=str(url), **changes)


def only_mirror(folder: Path) -> Path:
    """The one mirror below `mirrors(folder)`."""
    (found,) = (folder / "state" / "mirrors").glob("*.git")
    return found


def refusal(
    repository: Mirrors,
    source: Source,
    *,
    ref: str = MAIN,
    commit: str = "",
    listening: Listening | None = None,
) -> StepFailed:
    """How a fetch fails; it says what cannot be done, and what to do."""
    with pytest.raises(StepFailed) as caught:
        repository.fetch(source, ref=ref, commit=commit, job=(listening or Listening()).job)
    assert caught.value.message.startswith("cannot")
    assert caught.value.hint
    return caught.value


def unpack(repository: Mirrors, source: Source, commit: str, folder: Path, **changes: Any) -> dict[str, str]:
    """Unpack a commit; returns path -> content of the files."""
    unpacking = Unpacking(host=cast("Host", TarHost()), folder=str(folder), **changes)
    repository.unpack(source, commit, unpacking, Listening().job)
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_symlink())
    return {str(path.relative_to(folder)): _content(path) for path in files}


def _content(path: Path) -> str:
    return f"-> {path.readlink()}" if path.is_symlink() else path.read_text(errors="replace")
