"""A deployment as data: steps made of acts. Planned in `deployers/`, performed in `application/`.

An act says what is done and can describe itself as the shell command a person would type, so that
`fraisier plan` shows exactly what a deployment performs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fraisier.domain.fraise import HealthCheck
from fraisier.domain.secret import Secret


class StepName(StrEnum):
    """The steps of a deployment, in the order in which they are performed."""

    preflight = "preflight"
    fetch = "fetch"
    prepare = "prepare"
    link_shared = "link_shared"
    build = "build"
    backup = "backup"
    migrate = "migrate"
    activate = "activate"
    restart = "restart"
    check_health = "check_health"
    finish = "finish"


class Phase(StrEnum):
    """Whether a step brings the new release in, or the old one back."""

    deploy = "deploy"
    rollback = "rollback"


class StepState(StrEnum):
    """What became of a step of one attempt. `interrupted`: its worker died, or lost the environment."""

    running = "running"
    success = "success"
    failed = "failed"
    cancelled = "cancelled"
    interrupted = "interrupted"


# A timeout in these steps quarantines the commit, as their other failures do by their causes: it will not be
# deployed again by itself.
QUARANTINING = frozenset({StepName.build, StepName.migrate, StepName.restart, StepName.check_health})


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that may take long: run in a scope of its own, killed whole, its output kept.

    `argv` goes to the system as it is; a user's shell line is `Command.shell(...)`. `user` '' = Fraisier's
    own. `env` is the whole environment of the process besides PATH, HOME and LANG. `timeout` in seconds.
    One in the `background` leaves the processor to whatever else wants it: services, and Fraisier itself.
    """

    argv: tuple[str, ...]
    cwd: str = ""
    user: str = ""
    env: Mapping[str, str | Secret] = field(default_factory=dict)
    env_file: str = ""
    timeout: float | None = None
    background: bool = False

    @classmethod
    def shell(
        cls,
        line: str,
        *,
        cwd: str,
        user: str = "",
        env: Mapping[str, str | Secret] | None = None,
        env_file: str = "",
        timeout: float | None = None,
    ) -> Command:
        """A line that the user wrote in `fraises.yaml`, for sh."""
        argv = ("/bin/sh", "-c", line)
        return cls(argv=argv, cwd=cwd, user=user, env=env or {}, env_file=env_file, timeout=timeout)

    def describe(self) -> str:
        """The command as typed by a person, without values of the environment."""
        line = self.argv[2] if self.argv[:2] == ("/bin/sh", "-c") else shlex.join(self.argv)
        prefix = f"sudo -u {self.user} " if self.user else ""
        return f"{prefix}{line}" + (f"    # in {self.cwd}" if self.cwd else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """Look whether the deployment can work at all, then take the environment over on its host."""

    def describe(self) -> str:
        """For `fraisier plan`."""
        return "check user, paths, disk space, shared files, env_file and unit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Bring the mirror up to date and pin the commit."""

    clone_url: str
    ref: str
    commit: str

    def describe(self) -> str:
        """For `fraisier plan`."""
        wanted = self.ref or self.commit
        return f"git fetch {self.clone_url} {wanted}    # pin {self.commit[:12] or 'the tip'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpack:
    """A new release folder with the commit's files, owned by the environment's user."""

    release: str
    folder: str
    root: str
    submodules: bool
    lfs: bool

    def describe(self) -> str:
        """For `fraisier plan`."""
        extra = "".join(f" with {w}" for w, on in (("submodules", self.submodules), ("LFS", self.lfs)) if on)
        return f"git archive COMMIT{':' + self.root if self.root else ''} | tar -x -C {self.folder}{extra}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkShared:
    """A link in the release to a file or folder that all releases share."""

    name: str  # as in the config: 'uploads/' is a folder, '.env' a file
    shared: str
    link: str

    def describe(self) -> str:
        """For `fraisier plan`."""
        return shlex.join(("ln", "-sfn", self.shared, self.link))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """Sync the release's files to disk and write its marker: from here on it is whole."""

    release: str
    folder: str

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"sync -f {shlex.quote(self.folder)}    # then mark release {self.release} as whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Point `current` at a release, atomically. `release` '' removes `current`."""

    release: str
    current: str
    to: str

    def describe(self) -> str:
        """For `fraisier plan`."""
        if not self.release:
            return shlex.join(("rm", "-f", self.current))
        link = shlex.join(("ln", "-s", self.to, self.current + ".new"))
        return f"{link} && {shlex.join(('mv', '-T', self.current + '.new', self.current))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallFile:
    """Put a file of the release where the system looks for it, atomically."""

    source: str
    destination: str

    def describe(self) -> str:
        """For `fraisier plan`."""
        return shlex.join(("install", "-m", "0644", self.source, self.destination))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCommand:
    """A short command to the process manager, given under the environment's lock and token."""

    argv: tuple[str, ...]
    allow_failure: bool = False
    timeout: float = 90.0

    def describe(self) -> str:
        """For `fraisier plan`."""
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckHealth:
    """Wait until the unit's new invocation runs and, where a check is configured, passes it."""

    check: HealthCheck | None

    def describe(self) -> str:
        """For `fraisier plan`."""
        if self.check is None:
            return "wait until the unit runs"
        what = self.check.url or self.check.tcp or self.check.command
        return (
            f"{self.check.kind} {what}    # {self.check.passes} passes in a row in {self.check.timeout:g} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """Note that a release has served in good health: only such a one is gone back to."""

    release: str

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"note that release {self.release} is good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Remove failed releases, and good ones beyond the newest `keep`; never what runs or ran before."""

    folder: str
    keep: int

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"rm -rf failed releases and those beyond the newest {self.keep} in {self.folder}"


Act = (
    Preflight
    | Fetch
    | Unpack
    | LinkShared
    | Command
    | Seal
    | Switch
    | InstallFile
    | UnitCommand
    | CheckHealth
    | Prove
    | Prune
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step and the acts that it consists of."""

    name: StepName
    acts: tuple[Act, ...]
    phase: Phase = Phase.deploy


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a deployment, or a way back, performs."""

    release: str
    steps: tuple[Step, ...]

    def after(self, name: StepName) -> tuple[Step, ...]:
        """The steps from `name` on."""
        order = list(StepName)
        return tuple(s for s in self.steps if order.index(s.name) >= order.index(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetActs:
    """What a target brand does for one environment, as data.

    `install` comes before `restart` when a unit file is configured. `release_failure` clears what a
    crash left behind (systemd: reset-failed) and comes before each restart.
    """

    install: tuple[Act, ...] = ()
    release_failure: tuple[Act, ...] = ()
    restart: tuple[Act, ...] = ()
    stop: tuple[Act, ...] = ()
