"""Git as a program: started with a clean environment and settings that no other file can change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from fraisier.application.ports import Finished, Job, Processes, Program
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Source
from fraisier.git.credentials import access, missing_files, redactor
from fraisier.git.failures import Damaged, Unexplained, explain, is_damage

READ_TIMEOUT = 300.0  # seconds for a command that only looks into a mirror
STREAM_TIMEOUT = 3600.0
STDERR_KEPT = 1 << 16  # bytes
NOT_FOUND = 127  # what a shell answers for a missing program

# Of Fraisier's own environment git sees only these: a GIT_DIR of a calling hook would lead it astray.
_PASSED_ON = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    *(
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ),
)

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "gc.auto=0",  # mirrors are tidied by `Mirrors.prune`, not in the middle of a deployment
    "maintenance.auto=false",
    "fetch.prune=false",
    "fetch.pruneTags=false",
    "fetch.recurseSubmodules=false",
    "http.lowSpeedLimit=1",  # bytes/s; servers that are busy counting send 1 B/s to say that they live
    "http.lowSpeedTime=30",
    "tar.umask=0022",
    # LFS objects are fetched and put in where `lfs: true` says so, never by chance (`lfs.py`).
    "filter.lfs.process=",
    "filter.lfs.smudge=",
    "filter.lfs.required=false",
)


@dataclass(frozen=True, slots=True)
class Git:
    """Runs git for the mirrors in `folder`. `environ` is Fraisier's own environment."""

    processes: Processes
    folder: Path
    environ: Mapping[str, str]

    def read(self, mirror: Path, *args: str, stdin: bytes = b"", settings: Sequence[str] = ()) -> Finished:
        """Look into a mirror, offline.

        Raises:
            StepFailed: preflight, where git is missing; timeout.
        """
        argv = (f"--git-dir={mirror}", *_options(settings), *args)
        done = self.processes.capture(self._program(argv, stdin=stdin, timeout=READ_TIMEOUT))
        if done.code == NOT_FOUND:
            hint = "Install it, e.g. `apt install git`"
            raise StepFailed(Cause.preflight, "cannot look into the mirror: git is not installed", hint)
        return done

    def ask(self, source: Source, *args: str, timeout: float, stop: Event | None = None) -> bytes:
        """Ask a remote something that needs no mirror; returns what git printed.

        Raises:
            StepFailed: as `fetch`.
        """
        with access(source) as granted:
            program = self._program(
                (*granted.options, *args), env=granted.env, timeout=timeout, inherit=granted.inherit
            )
            with _network_is_slow(source, timeout):
                done = self.processes.capture(program, stop)
        if done.code:
            raise explain(redactor(source).text(text(done.stderr)), source, doing="ask")
        return done.stdout

    def fetch(self, source: Source, args: Sequence[str], job: Job, *, timeout: float, lock: int) -> str:
        """Talk to a remote for long; returns what git said, which also goes to the job.

        `lock` is the mirror's locked file: git and its children hold it too, so that the lock outlives a
        Fraisier that was killed for exactly as long as something still writes to the mirror.

        Raises:
            Damaged: the mirror is broken.
            StepFailed: network, repository, disk, preflight, cancelled.
        """
        heard = _Heard(source, job)
        with access(source) as granted, _network_is_slow(source, timeout):
            program = self._program(
                (*granted.options, *args),
                env=granted.env,
                timeout=timeout,
                inherit=(*granted.inherit, lock),
            )
            code = self.processes.run(program, heard.job)
        heard.end()
        if code:
            raise _failure(heard.text, source)
        return heard.text

    def stream(
        self, mirror: Path, args: Sequence[str], job: Job, *, settings: Sequence[str]
    ) -> AbstractContextManager[Iterator[bytes]]:
        """What a reading command prints, as it comes. See `Processes.stream`."""
        argv = (f"--git-dir={mirror}", *_options(settings), *args)
        return self.processes.stream(self._program(argv, timeout=STREAM_TIMEOUT), job)

    def _program(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float,
        inherit: tuple[int, ...] = (),
    ) -> Program:
        return Program(
            argv=("git", *_options(_SETTINGS), *argv),
            env=self._environment() | dict(env or {}),
            # Who only asks a forge may do so before there is a folder.
            cwd=str(self.folder if self.folder.is_dir() else self.folder.anchor),
            stdin=stdin,
            timeout=timeout,
            inherit=inherit,
        )

    def _environment(self) -> dict[str, str]:
        passed = {name: self.environ[name] for name in _PASSED_ON if name in self.environ}
        return passed | {
            "LC_ALL": "C",  # failures are told apart by their words
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_CEILING_DIRECTORIES": str(self.folder.parent),
        }


class _Heard:
    """What a program says: redacted on its way to the job, its end kept for explaining a failure."""

    def __init__(self, source: Source, job: Job) -> None:
        self._stream = redactor(source).stream()
        self._output = job.output
        self._kept = b""
        self.job = Job(stop=job.stop, output=self._hear)

    def _hear(self, chunk: bytes) -> None:
        self._pass_on(self._stream.feed(chunk))

    def end(self) -> None:
        self._pass_on(self._stream.end())

    def _pass_on(self, safe: bytes) -> None:
        if safe:
            self._kept = (self._kept + safe)[-STDERR_KEPT:]
            self._output(safe)

    @property
    def text(self) -> str:
        return text(self._kept)


def text(data: bytes) -> str:
    """What git printed, readable whatever it contains."""
    return data.decode("utf-8", "replace")


def _options(settings: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for setting in settings for word in ("-c", setting))


def _failure(stderr: str, source: Source) -> Exception:
    """Damage comes first: a git that breaks in the middle also makes the remote hang up."""
    failed = explain(stderr, source)
    if failed.cause is not Cause.disk and is_damage(stderr):
        return Damaged(stderr)
    missing = missing_files(source)
    if missing and (isinstance(failed, Unexplained) or failed.cause is Cause.repository):
        return StepFailed(failed.cause, failed.message, f"Fraisier cannot read {missing}")
    return failed


@contextmanager
def _network_is_slow(source: Source, timeout: float) -> Iterator[None]:
    """A remote that takes too long is a matter of the network, and tried again."""
    try:
        yield
    except StepFailed as failed:
        if failed.cause is not Cause.timeout:
            raise
        message = f"cannot fetch {source.repository}: no end within {timeout:g} s"
        raise StepFailed(Cause.network, message, "Is the forge up?") from failed
