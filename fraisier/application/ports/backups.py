"""Backups: kinds of things that are backed up, places where backups are kept, and where both are worked on.

What runs on a host runs as the environment's user, in the run's scope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from fraisier.application.ports.host import Host
from fraisier.application.ports.runs import RunClaim
from fraisier.application.ports.target import Problem
from fraisier.application.ports.workplace import Said
from fraisier.domain.acts import Command
from fraisier.domain.backup import Destination, Encryption, Source
from fraisier.domain.fraise import Environment
from fraisier.domain.job import Job
from fraisier.domain.run import RunEnding
from fraisier.domain.secret import Secret


class Desk(Protocol):
    """One run, as whoever performs it sees it: its host, and what may be done there."""

    host: Host
    environment: Environment
    job: Job
    claim: RunClaim

    @property
    def is_let_go(self) -> bool:
        """Whether its worker ends, or has lost it: what goes on without a worker had better do so."""
        ...

    def say(self, text: str) -> None:
        """A line of the run's output; redacted."""
        ...

    def run(self, command: Command, *, shown: bool = True) -> Said:
        """Run a long command; what it prints is part of the run's output only if it is `shown`.

        `user`, `env` and `env_file` of the environment are filled in where the command has none.

        Raises:
            StepFailed, TokenOutdated: as `Host.run`.
        """
        ...

    def wait(self, seconds: float) -> None:
        """Let some time pass.

        Raises:
            StepFailed: cancelled, when the run is to stop.
        """
        ...

    def guard(self) -> AbstractContextManager[None]:
        """The right to change something on the host, for short acts: `Host.guard`."""
        ...


class Performer(Protocol):
    """Performs the runs of one kind of job."""

    def __call__(self, desk: Desk) -> RunEnding:
        """Do it; an error that is a StepFailed ends the run as `failed`, and its cause says why."""
        ...


class Dumper(Protocol):
    """One kind of thing that is backed up. Says what to run, as data.

    The command runs as the environment's user, writes the dump to `file` (or not at all: it is put in place
    when it has been verified and is on disk), and prints one line to stdout:
    `{"bytes": …, "sha256": "…", "entries": …}`, or `{"nothing": "why"}` where there is nothing to dump.
    """

    suffix: str

    def dump(self, url: str | Secret, file: str, *, timeout: float) -> Command:
        """Dump the database at `url` into `file`; the URL, or its password, is no argument of any process."""
        ...


class SourceBrand(Protocol):
    """A kind of source: a `Dumper` that can also bring back what it has dumped, and ask it."""

    kind: str
    suffix: str

    def dump_source(self, source: Source, file: str, *, timeout: float) -> Command:
        """As `Dumper.dump`; the line may have more:

        `tables: {name: rows}`, counted in what was dumped;
        `more: [{"suffix": ".roles.sql", "bytes": …, "sha256": "…"}]`, further files, `file` with a suffix:
        artefacts of the same source, which are kept, encrypted and brought back beside it;
        `told: [lines]`, what a person should know, e.g. files that changed while they were read.
        """
        ...

    def restore(self, source: Source, file: str, to: str, *, timeout: float) -> Command:
        """Bring `file` back into `to`: '' = where it came from, replacing what is there; else a scratch
        place that `scratch` named, after `make_scratch`. Fails as a whole where any of it cannot be brought
        back. What else belongs to it (`more`) lies beside `file`.

        Raises:
            StepFailed: backup, where this source cannot be brought back there at all.
        """
        ...

    def scratch(self, source: Source, folder: str, run: str) -> str:
        """A place of its own for one verification: a database's name, or a path below `folder`."""
        ...

    def make_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """Make it, empty. Where `scratch` named it, those that earlier verifications of the same source left
        outside of its `folder` are removed.
        """
        ...

    def drop_scratch(self, source: Source, to: str, *, timeout: float) -> Command:
        """Remove it; one that is not there is fine."""
        ...

    def count(self, source: Source, to: str, *, timeout: float) -> Command | None:
        """Print `{"tables": {name: rows}}` of what is at `to`; None where the kind has nothing to count."""
        ...

    def beside(self, source: Source, to: str, *, timeout: float) -> Command | None:
        """Print `{"beside": {kind: number}}` of what is at `to`, and would be removed by a restore, but is
        nothing that `count` counts: `{"views": 2}`. None where the kind has nothing of the sort.
        """
        ...

    def ask(self, source: Source, to: str, *, timeout: float) -> Command:
        """Ask `source.query` of what is at `to`, and print the answer, and nothing else where it succeeds."""
        ...

    def problems(self, source: Source, desk: Desk) -> Sequence[Problem]:
        """What would keep it from being dumped: a missing program, a database that does not answer.

        Only looks: of the desk it uses no more than `host` and `environment`.
        """
        ...


class Cipher(Protocol):
    """Encrypts the files of a backup for recipients, and reads them with a key. Says what to run, as data.

    Each writes `to` as `Dumper` writes its dump, removes `file` where it has succeeded, and prints one line
    to stdout: `{"bytes": …, "sha256": "…"}` of `to`.
    """

    suffix: str

    def encrypt(self, encryption: Encryption, file: str, to: str, *, timeout: float) -> Command: ...
    def decrypt(self, encryption: Encryption, file: str, to: str, *, timeout: float) -> Command: ...
    def problems(self, encryption: Encryption, desk: Desk) -> Sequence[Problem]:
        """A missing program, a key that cannot be read; looks as `SourceBrand.problems` does."""
        ...


class DestinationBrand(Protocol):
    """A kind of place where backups are kept: folders by name, each with artefacts and a manifest.

    They raise StepFailed: backup, disk, network, or what `Desk.run` raises.
    """

    kind: str

    def store(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """Bring `folder`'s files (flat, the manifest among them) there as the backup `name`.

        One that did not come whole is not among `names`, and is removed by the next `store`.
        """
        ...

    def names(self, place: Destination, desk: Desk) -> Sequence[str]:
        """Every whole backup of this environment that is there, oldest first, and what may be one but lets
        nobody look into it.
        """
        ...

    def read(self, place: Destination, name: str, file: str, desk: Desk) -> bytes:
        """A small file of a backup (its manifest)."""
        ...

    def look(
        self, place: Destination, name: str, files: Sequence[str], desk: Desk
    ) -> Mapping[str, tuple[int, str]]:
        """Read the files of a backup again, there or on their way back: bytes and sha256 of each that is
        there. One that is left out is missing, for certain.

        Raises:
            StepFailed: one that may be there cannot be read now; for want of a better cause, backup.
        """
        ...

    def fetch(self, place: Destination, name: str, folder: str, desk: Desk) -> None:
        """Bring a backup's files into an empty folder on the environment's host."""
        ...

    def remove(self, place: Destination, names: Sequence[str], desk: Desk) -> None: ...
    def problems(self, place: Destination, desk: Desk) -> Sequence[Problem]:
        """What would keep backups from being kept there: an unknown host, a wrong key, no room.

        Looks as `SourceBrand.problems` does.
        """
        ...
