"""What the verbs need from outside, as Protocols. Adapters fill them; `wiring.py` chooses which.

All of these block, except where a Future is returned: a deployment is performed by a thread of its own,
and the receiver's event loop only ever waits for `Store.record`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fraisier.application.settings import Configuration as Configuration
from fraisier.application.settings import ForgeInstance as ForgeInstance
from fraisier.application.settings import Settings as Settings
from fraisier.domain.deployment import Deployment, Status, Wish
from fraisier.domain.errors import Cause
from fraisier.domain.fraise import Environment, EnvironmentKey, Fraise, HealthCheck, Source, TargetSpec
from fraisier.domain.plan import Act, Command, Phase, StepName, StepState, TargetActs, UnitCommand
from fraisier.domain.push import Push
from fraisier.domain.secret import Secret

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from asyncio import Future as AsyncFuture
    from concurrent.futures import Future  # imports logging: 5 ms of every command's start

Row = Mapping[str, Any]  # a row of a view: JSON types only, keys as in the view


# ---------------------------------------------------------------------------------------------- forges


Headers = Mapping[str, tuple[bytes, ...]]  # lower-case name -> every value that was sent, in order


class Forge(Protocol):
    """One brand of git forge: recognise, verify, parse. Pure functions of bytes; no I/O but `now`."""

    kind: str

    def recognises(self, headers: Headers) -> bool:
        """Whether a delivery with these headers comes from this brand."""
        ...

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes], *, now: float) -> None:
        """Return if any of `secrets` signed the raw `body`. `now` is Unix time, seconds.

        Raises:
            BadSignature: none did, or there is none, or the header is missing, doubled or no ASCII.
        """
        ...

    def parse(self, headers: Headers, body: bytes) -> Push:
        """The delivery in our words. Called only after `verify`.

        Raises:
            MalformedDelivery: it is not what the vendor documents.
            UnsupportedMediaType: the content type is none that the vendor sends.
        """
        ...


# ----------------------------------------------------------------------------------------------- store


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An authentic delivery on its way to the store. `received_at` is Unix time in seconds."""

    push: Push
    payload: bytes
    received_at: float
    remote: str = ""
    wishes: tuple[Wish, ...] = ()  # one per environment that follows one of the refs
    reason: str = ""  # why it asks for nothing, where `wishes` is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What became of a delivery, on disk. `status`: accepted, ignored, duplicate or pong."""

    event_id: str
    status: str
    reason: str = ""
    deployments: tuple[Deployment, ...] = ()
    superseded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """What became of one wish. `deployment` is None if nothing was to do, for `reason`."""

    deployment: Deployment | None
    reason: str = ""
    superseded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledStep:
    """A step of an attempt as the journal has it. Times are Unix seconds.

    `retried`: its attempt ended by itself, and the deployment waited to be tried again.
    """

    id: int
    attempt: int
    phase: Phase
    name: StepName
    state: StepState
    started_at: float
    ended_at: float | None = None
    release: str = ""  # the release that the attempt was bringing in when the step began
    error: str = ""
    retried: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to change one environment, until the lease ends or a higher token is given out.

    `current_release` and `current_commit` are what the database says is running ('' = nothing yet).
    `journal` has the steps of all earlier attempts of this deployment, oldest first; `resolved` is the
    environment as the last attempt stored it ('' = none). `attempts` counts earlier ones, `interruptions`
    those of them that ended with their worker. `first_try_at` is the Unix time of the first attempt's
    start, None before it.
    """

    environment: EnvironmentKey
    token: int
    worker: str
    deployment: Deployment
    current_release: str = ""
    current_commit: str = ""
    current_deployment: str = ""
    journal: tuple[JournaledStep, ...] = ()
    resolved: str = ""
    attempts: int = 0
    interruptions: int = 0
    quarantined: frozenset[str] = frozenset()  # commits that only `--force` brings again
    first_try_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What an environment runs after a deployment has ended; release '' = nothing."""

    release: str
    commit: str
    healthy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The last transaction of a deployment: its status, why, what runs now, and whether to quarantine."""

    status: Status
    cause: Cause | None = None
    error: str = ""
    hint: str = ""
    serving: Serving | None = None  # None: unchanged
    quarantine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A piece of a step's output. `seq` grows within a deployment; `text` is redacted UTF-8."""

    seq: int
    step: StepName
    phase: Phase
    attempt: int
    text: str


class Store(Protocol):
    """State and history. Every method is one transaction, durable when it returns.

    Methods that take a `Claim` raise TokenOutdated when the environment has a higher token. Every method
    raises StoreUnavailable when the database does not answer in time.
    """

    installation: str

    def close(self) -> None:
        """Finish what was handed over, then let go of everything."""
        ...

    # -- receiving and requesting
    def record(self, delivery: Delivery) -> Future[Received]:
        """Store the event and the deployments it asks for; resolves after the commit."""
        ...

    def record_async(self, delivery: Delivery, loop: AbstractEventLoop) -> AsyncFuture[Received]:
        """`record` for an event loop, called in its thread: all of one commit are answered together."""
        ...

    def request(self, wish: Wish) -> Requested:
        """Decide on one wish (`domain.deployment.decide`) and store what follows. Wakes the workers.

        Raises:
            NotFound: no such environment was published.
        """
        ...

    def cancel(self, deployment: str, *, by: str) -> Deployment:
        """Cancel a pending deployment at once; ask the worker of a running one to stop it.

        Raises:
            NotFound: no such deployment.
            Conflict: it has ended.
        """
        ...

    # -- claims
    def claim(self, worker: str, *, lease: float, environments: Collection[EnvironmentKey]) -> Claim | None:
        """The next deployment that may be performed: of a free environment, rollbacks first, then oldest.

        Raises the environment's token by one. A running deployment whose lease has ended is claimed
        again (takeover), before pending ones. What was asked for in environments that are no longer
        published comes too, so that it ends. None: nothing to do now.
        """
        ...

    def raise_token(self, environment: EnvironmentKey, *, above: int, by: str) -> int:
        """Raise the environment's token over its own and `above` (`fraisier adopt`); returns it.

        Raises:
            Conflict: a worker holds the environment.
            NotFound: no such environment was published.
        """
        ...

    def next_due(self) -> float | None:
        """Seconds until a waiting retry is due or a foreign lease ends; None: nothing waits."""
        ...

    def renew(self, worker: str, claims: Sequence[Claim], *, lease: float) -> Collection[EnvironmentKey]:
        """Prolong the leases; returns those that are still ours. Also the worker's sign of life."""
        ...

    def cancel_requests(self, worker: str) -> Mapping[str, str]:
        """Running deployments of this worker that someone asked to cancel: id -> who."""
        ...

    # -- the journal of one attempt
    def begin_attempt(self, claim: Claim, *, resolved: str) -> int:
        """A new attempt with its resolved environment; steps left running become `interrupted`."""
        ...

    def next_release_number(self, claim: Claim) -> int:
        """A number that no release of the environment had."""
        ...

    def pin(self, claim: Claim, *, commit: str, seen_tip: str = "") -> None:
        """Fix the deployment's commit, for good, and remember the tip that was decided on."""
        ...

    def set_release(self, claim: Claim, *, release: str, previous: str) -> None:
        """Which release the deployment brings in, and which it would go back to."""
        ...

    def begin_step(self, claim: Claim, attempt: int, *, phase: Phase, name: StepName, release: str) -> int:
        """Journal that a step begins; returns its id. Durable before it returns."""
        ...

    def end_step(self, claim: Claim, step: int, *, state: StepState, tail: str, error: str = "") -> None:
        """Journal how it ended, with the end of its output."""
        ...

    def write_output(self, claim: Claim, step: int, text: str) -> None:
        """Append redacted output; what exceeds the step's bound is counted, not kept."""
        ...

    def finish(self, claim: Claim, attempt: int, ending: Ending) -> Deployment:
        """End attempt and deployment, note what runs, release the lease: one transaction."""
        ...

    def retry_later(
        self, claim: Claim, attempt: int, *, delay: float, cause: Cause, error: str, hint: str = ""
    ) -> Deployment:
        """End the attempt; the deployment waits `delay` seconds as pending. A newer wish may supersede it."""
        ...

    def hand_back(self, claim: Claim) -> None:
        """Give up the lease and leave the deployment as it is (shutdown): the next worker resumes it."""
        ...

    # -- configuration and workers
    def publish(
        self, fraises: Sequence[Fraise], *, digest: str, documents: Mapping[EnvironmentKey, Row]
    ) -> None:
        """Replace what is published: names, types and the checked configuration without secrets."""
        ...

    def published_digest(self) -> str:
        """The digest of what is published; '' before the first time."""
        ...

    def register_worker(self, worker: str, *, info: Row) -> None:
        """A worker begins."""
        ...

    def retire_worker(self, worker: str) -> None:
        """A worker ends."""
        ...

    def live_workers(self) -> Sequence[Row]:
        """Workers that gave a sign of life within their lease: id, host, pid, version, started_at."""
        ...

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` (from any thread) when something was requested, cancelled or ended, by any process.

        Returns what ends the subscription.
        """
        ...

    # -- reading: rows of the views; filters that are '' or None do not filter
    def fraises(self, fraise: str = "") -> Sequence[Row]: ...
    def fraise_status(self, fraise: str = "", environment: str = "") -> Sequence[Row]: ...
    def history(
        self, fraise: str = "", environment: str = "", *, status: str = "", limit: int = 20, offset: int = 0
    ) -> Sequence[Row]: ...
    def stats(self, fraise: str = "", environment: str = "", *, days: int = 30) -> Sequence[Row]: ...
    def events(self, *, limit: int = 20, verdict: str = "") -> Sequence[Row]: ...
    def deployment(self, id_or_prefix: str) -> Row:
        """One row of v_deployment_history.

        Raises:
            NotFound: none, or more than one, begins with this.
        """
        ...

    def steps(self, deployment: str) -> Sequence[Row]: ...
    def output(self, deployment: str, *, after: int = 0, limit: int = 1000) -> Sequence[Output]: ...
    def counts(self) -> Mapping[str, int]:
        """Deployments per status and events per verdict, for metrics: 'deployments.success' -> n."""
        ...

    # -- keeping house
    def audit(self, *, actor: str, action: str, subject: str, detail: Row) -> None: ...
    def prune(self, *, retention: float) -> Mapping[str, int]:
        """Drop payloads and output older than `retention` seconds; returns how many of each."""
        ...

    def ping(self) -> None:
        """Return if the database can be written."""
        ...


# ------------------------------------------------------------------------------------------ repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a fetch found: the pinned commit, the ref's present tip ('' if the ref is gone)."""

    commit: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a commit needs besides git: submodules, LFS objects."""

    submodules: bool
    lfs: bool


class Repository(Protocol):
    """Bare mirrors of the configured repositories, locked against each other's fetches."""

    def fetch(self, source: Source, *, ref: str, commit: str, job: Job) -> Fetched:
        """Bring the mirror up to date and resolve what is to be deployed.

        `ref` is full, or '' for a bare commit; `commit` '' = the ref's tip. A tag's object is peeled.

        Raises:
            StepFailed: network (retried), repository (credentials, not found), commit_not_found,
                commit_not_on_ref.
        """
        ...

    def is_ancestor(self, source: Source, ancestor: str, descendant: str) -> bool:
        """Whether `ancestor` is reachable from `descendant`; False where either is unknown."""
        ...

    def changed_paths(self, source: Source, old: str, new: str) -> Sequence[str] | None:
        """Paths that differ between two commits; None where `old` is unknown."""
        ...

    def contents(self, source: Source, commit: str, root: str) -> Contents:
        """What the commit uses."""
        ...

    def has_path(self, source: Source, commit: str, path: str) -> bool:
        """Whether the commit has a file or folder there."""
        ...

    def unpack(self, source: Source, commit: str, unpack: Unpacking, job: Job) -> None:
        """Write the commit's files into a new folder on the host.

        Raises:
            StepFailed: disk, repository, network.
        """
        ...

    def tips(self, source: Source, refs: Sequence[str]) -> Mapping[str, str]:
        """`git ls-remote`: ref -> commit (tags peeled, as in `Fetched.tip`), for those that exist.

        `refs` are full names or patterns of fnmatch over full names, e.g. `refs/tags/v*`.

        Raises:
            StepFailed: network or repository.
        """
        ...

    def prune(self, keep: Collection[Source], *, older_than: float) -> int:
        """Remove mirrors that no fraise uses and that were not fetched for `older_than` seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacking:
    """Where a release's files go. `folder` does not exist yet; `user` '' = Fraisier's own."""

    host: Host
    folder: str
    root: str = ""
    user: str = ""
    submodules: bool = False
    lfs: bool = False


# ------------------------------------------------------------------------------------------------ host


@dataclass(frozen=True, slots=True)
class Job:
    """What something long reports to while it runs: where output goes, and whether to stop.

    `stop` is set by a cancel, a lost lease or a shutdown; whoever waits must look at it often (within
    0.2 s) and end what it started. `output` takes raw bytes; it redacts by itself.
    """

    stop: threading.Event
    output: Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The part of a host that one environment owns, and the right under which it is changed."""

    app_path: str
    owner: Mapping[str, str]  # installation, fraise, environment
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A short command that ended."""

    code: int
    stdout: bytes
    stderr: bytes


class Host(Protocol):
    """A machine where releases run. Local today; the same over SSH."""

    name: str

    # -- looking; changes nothing
    def read_link(self, path: str) -> str | None:
        """What a symbolic link contains; None where there is none."""
        ...

    def kind(self, path: str) -> str:
        """'missing', 'file', 'folder', 'link' or 'other'; links are not followed."""
        ...

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes | None:
        """A file's content, at most `limit` bytes; None where there is none."""
        ...

    def list(self, folder: str) -> Sequence[str]:
        """Names in a folder; empty where there is none."""
        ...

    def free_bytes(self, path: str) -> int:
        """Free space for us on the file system of `path`, or of its nearest parent that exists."""
        ...

    def user_exists(self, user: str) -> bool: ...
    def can_run_as(self, user: str) -> str:
        """'' if commands can be run as `user`, else why not and what to do."""
        ...

    def writable(self, path: str) -> bool:
        """Whether we may create things in `path`, or in its nearest parent that exists."""
        ...

    def inspect(self, argv: Sequence[str], *, timeout: float = 10.0) -> Finished:
        """Run a short command that changes nothing; code 127 where the program is missing."""
        ...

    def is_going_down(self) -> bool:
        """Whether the machine is shutting down: what fails now is nobody's fault."""
        ...

    # -- the right to change
    def adopt(self, ground: Ground, *, force: bool = False) -> None:
        """Take the environment over: lock, check the owner, raise the token, end all older scopes.

        Returns only when no older scope is left. Writes the owner where there is none. `force` takes
        over from another owner and from a higher token (`fraisier adopt`).

        Raises:
            ForeignOwner: another owner, or a host token above ours.
        """
        ...

    def guard(self, ground: Ground) -> AbstractContextManager[None]:
        """Hold the environment's lock with a token that is still the newest, for short acts.

        Raises:
            TokenOutdated: another worker has taken over.
        """
        ...

    # -- short acts; only inside `guard`
    def make_folder(self, path: str, *, user: str = "", mode: int = 0o755) -> None:
        """Create a folder and its parents; the last one belongs to `user`."""
        ...

    def point(self, link: str, to: str) -> None:
        """Make `link` a symbolic link to `to`: atomic, and on disk when it returns."""
        ...

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write a file: atomic, and on disk when it returns."""
        ...

    def remove(self, path: str, *, user: str = "") -> None:
        """Remove a link, a file, or a whole folder (as `user`, where it belongs to one). Missing is fine."""
        ...

    def sync(self, folder: str) -> None:
        """Everything written below `folder` is on disk when it returns."""
        ...

    def act(self, argv: Sequence[str], *, timeout: float) -> Finished:
        """Run a short command that changes something (systemctl …)."""
        ...

    # -- long commands
    def run(self, ground: Ground, command: Command, job: Job) -> int:
        """Run in a recorded scope outside our own cgroup; returns the exit code (negative: a signal).

        On stop or timeout the whole scope is killed before this returns or raises.

        Raises:
            StepFailed: timeout, cancelled (when `job.stop` was set), host.
        """
        ...

    def unpack(self, archive: Iterator[bytes], folder: str, *, user: str, job: Job) -> None:
        """Write a tar stream into `folder`, as `user`.

        Raises:
            StepFailed: disk or host.
        """
        ...


# ----------------------------------------------------------------------------------- Fraisier's own tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A tool that Fraisier runs for itself (git, ssh): not a command of a fraise.

    `argv` goes to the system as it is, never through a shell. `env` is the whole environment. `inherit`
    names open file descriptors that the program keeps. `timeout` in seconds.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = "/"
    stdin: bytes = b""
    timeout: float = 60.0
    inherit: tuple[int, ...] = ()


class Processes(Protocol):
    """Runs Fraisier's own tools, each in a process group of its own that never outlives the call.

    All of them look at `stop` at least every 0.1 s. A missing program ends with code 127.
    """

    def run(self, program: Program, job: Job) -> int:
        """Run to the end; stdout and stderr go to `job.output`. Returns the exit code (negative: a signal).

        Raises:
            StepFailed: cancelled or timeout; the whole group is gone then.
        """
        ...

    def capture(self, program: Program, stop: threading.Event | None = None) -> Finished:
        """Run to the end and return what it wrote.

        Raises:
            StepFailed: as `run`.
        """
        ...

    def stream(self, program: Program, job: Job) -> AbstractContextManager[Iterator[bytes]]:
        """Read stdout while the program runs; stderr goes to `job.output`.

        The iterator ends only after exit code 0. Leaving the context ends the program.

        Raises:
            StepFailed: host, where it exits with another code; cancelled or timeout as `run`.
        """
        ...


# ------------------------------------------------------------------------------------ targets and health


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """What a process manager says of a unit.

    `invocation` differs between any two starts; '' = not running. `settled` is False while it is starting or
    stopping. `restarts` counts restarts that the manager did by itself.
    """

    known: bool
    running: bool
    settled: bool = True
    invocation: str = ""
    restarts: int = 0
    detail: str = ""


class Target(Protocol):
    """One brand of process manager. Says what to do as data; looks, but never changes, by itself."""

    kind: str

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        """The commands for this environment's unit."""
        ...

    def state(self, spec: TargetSpec, host: Host) -> UnitState:
        """What the manager says now.

        Raises:
            StepFailed: host, when the manager does not answer.
        """
        ...

    def problems(self, environment: Environment, host: Host) -> Sequence[Problem]:
        """What would keep a deployment from working: no manager, an unknown unit, no permission."""
        ...

    def logs(self, spec: TargetSpec, *, lines: int) -> UnitCommand:
        """The command that shows the unit's own log."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and how to mend it (a command where possible)."""

    message: str
    hint: str = ""
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """The result of one probe."""

    passed: bool
    detail: str


class Prober(Protocol):
    """One kind of health check: a single probe, bounded by the check's `request_timeout`."""

    def probe(self, check: HealthCheck, environment: Environment, release_folder: str, run: Runner) -> Health:
        """Look once."""
        ...


CommandEnv = Mapping[str, str | Secret]  # deployers.common.command_env(...)
Runner = Callable[[Command], int]  # runs a command as the environment's user; its output is kept


class Migrations(Protocol):
    """One migration framework: the commands, as data, that move a database."""

    def up(self, environment: Environment, release_folder: str, env: CommandEnv) -> Sequence[Act]:
        """Bring the database to what the release wants."""
        ...

    def down(self, environment: Environment, release_folder: str, env: CommandEnv) -> Sequence[Act]:
        """Bring it back; empty where that was not declared possible."""
        ...


class EnvironmentCodec(Protocol):
    """An environment as text for the journal: secrets as references, resolved again when read."""

    def dump(self, environment: Environment) -> str: ...
    def load(self, text: str) -> Environment:
        """Raises: UsageError: a reference can no longer be resolved."""
        ...

    def secrets(self, environment: Environment) -> Sequence[str]:
        """Every value that must never be written, for redaction (config, env and env_file)."""
        ...


class Clock(Protocol):
    """Time, for verbs that must be tested without waiting."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...


Listener = Callable[[str, Mapping[str, Any]], None]  # an event's name and fields, for logs and the terminal
