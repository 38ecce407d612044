"""A deployment as data: steps made of acts. Planned in `deployers/`, performed in `application/`.

An act says what is done and can describe itself as the shell command a person would type, so that
`fraisier plan` shows exactly what a deployment performs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fraisier.domain.fraise import Cutover, HealthCheck
from fraisier.domain.migration import WayDown
from fraisier.domain.secret import Secret


class StepName(StrEnum):
    """The steps of a deployment, in the order in which they are performed (see `BRING_IN` for the end)."""

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


# How a release that is whole is brought in, and from which step on it serves.
BRING_IN = {
    Cutover.restart: (StepName.activate, StepName.restart, StepName.check_health, StepName.finish),
    Cutover.socket: (StepName.activate, StepName.restart, StepName.check_health, StepName.finish),
    Cutover.blue_green: (StepName.restart, StepName.check_health, StepName.activate, StepName.finish),
}
SWITCHED = {how: steps[steps.index(StepName.activate) :] for how, steps in BRING_IN.items()}


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
    here: bool = False  # on Fraisier's own machine, where the release is built for its host

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
        where = f"in {self.cwd}" if self.cwd else ""
        where += (", " if where else "") + "on Fraisier's own machine" if self.here else ""
        return f"{prefix}{line}" + (f"    # {where}" if where else "")


def _path(path: str) -> str:
    """A path as typed by a person; '~/' is left for the shell."""
    home = "~/" if path.startswith("~/") else ""
    return home + shlex.quote(path.removeprefix(home))


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
    here: bool = False

    def describe(self) -> str:
        """For `fraisier plan`."""
        extra = "".join(f" with {w}" for w, on in (("submodules", self.submodules), ("LFS", self.lfs)) if on)
        return (
            f"git archive COMMIT{':' + self.root if self.root else ''} | tar -x -C {self.folder}{extra}"
            + ("    # on Fraisier's own machine" if self.here else "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A release that was built on Fraisier's own machine, sent to its host without what is shared there."""

    folder: str
    leave_out: tuple[str, ...]

    def describe(self) -> str:
        """For `fraisier plan`."""
        without = "".join(f" --exclude=./{name}" for name in self.leave_out)
        return f"tar -c{without} -C {self.folder} . | ssh HOST tar -x -C {self.folder}"


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
    """Point `current` at a release, atomically. `release` '' removes `current`.

    `restarts`: the unit is restarted next, and its health counts only for what starts then.
    """

    release: str
    current: str
    to: str
    restarts: bool = True

    def describe(self) -> str:
        """For `fraisier plan`."""
        if not self.release:
            return shlex.join(("rm", "-f", self.current))
        link = shlex.join(("ln", "-s", self.to, self.current + ".new"))
        return f"{link} && {shlex.join(('mv', '-T', self.current + '.new', self.current))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallFile:
    """Put a file of the release where the system looks for it, atomically.

    `once`: what is there already stays as it is. `needs` is a text without which it would be no use.
    """

    source: str
    destination: str
    once: bool = False
    needs: str = ""

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"{shlex.join(('install', '-m', '0644', self.source))} {_path(self.destination)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCommand:
    """A short command to the process manager, given under the environment's lock and token.

    Not where `unless`, a command that only looks, ends well.
    """

    argv: tuple[str, ...]
    allow_failure: bool = False
    timeout: float = 90.0
    unless: tuple[str, ...] = ()

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"{shlex.join(self.unless)} || " * bool(self.unless) + shlex.join(self.argv)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """Write a file that Fraisier makes itself, atomically; `before` is done first where it changes.

    `once`: what is there already stays as it is.
    """

    destination: str
    content: str
    before: tuple[UnitCommand, ...] = ()
    once: bool = False

    def describe(self) -> str:
        """For `fraisier plan`."""
        if not self.content:
            return f": > {_path(self.destination)}"
        return f"cat > {_path(self.destination)}    # {len(self.content.splitlines())} lines"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFile:
    """Remove what `WriteFile` or `InstallFile` put there; missing is fine."""

    destination: str

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"rm -f {_path(self.destination)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allot:
    """Choose where a release's instance listens, and write down what it is told."""

    release: str
    listen: tuple[str, ...]
    file: str

    def describe(self) -> str:
        """For `fraisier plan`."""
        where = self.listen[0] if len(self.listen) == 1 else f"a free one of {', '.join(self.listen)}"
        return f"cat > {shlex.quote(self.file)}    # the instance listens on {where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Send the traffic to a release's instance, or to the plain unit (`release` ''), or nowhere.

    `socket` is the plain unit's; '' where it listens on an address that does not change.
    """

    release: str
    link: str
    proxy: str = ""
    socket: str = ""

    def describe(self) -> str:
        """For `fraisier plan`."""
        if self.proxy:
            return f"tell {self.proxy} to send its traffic to {self.release or 'nothing'}"
        if not self.release and not self.socket:
            return shlex.join(("rm", "-f", self.link))
        to = self.socket or f"the socket of {self.release}"
        return f"ln -s … {self.link}.new && mv -T {self.link}.new {self.link}    # to {to}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bake:
    """Go on watching a release that serves, for some seconds: what fails late is rolled back too."""

    check: HealthCheck | None
    seconds: float
    release: str = ""  # the instance; '' = the plain unit

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"watch its health for {self.seconds:g} s more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """Stop whatever serves this environment besides one: instances of other releases, or the plain unit.

    `keep` is an instance's release; '' = the plain unit; None = the release that `current` points to, or
    that one's plain unit. What still has connections gets `drain` seconds to end them. `told`: what does
    not work is told and tried again later, for the release that stays is in good health.
    """

    keep: str | None
    drain: float = 0.0
    told: bool = False

    def describe(self) -> str:
        """For `fraisier plan`."""
        rest = {None: "what does not serve", "": "instances of releases"}.get(self.keep, "the others")
        wait = f", when their connections have ended, or after {self.drain:g} s" if self.drain else ""
        return f"stop and disable {rest}{wait}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetWork:
    """What only the target itself can do for a release, because it depends on what it finds on the host.

    `work` is the target's own word for it, `shown` the command as a person would type it. `brings_in`: what
    runs afterwards is the release's, even where nothing had to be started anew; as an `instance` of its own,
    or as the plain unit.
    """

    work: str
    release: str
    shown: str
    brings_in: bool = False
    instance: bool = False

    def describe(self) -> str:
        """For `fraisier plan`."""
        return self.shown


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckHealth:
    """Wait until the unit's new invocation runs and, where a check is configured, passes it.

    `release` is the instance that is asked, on its own socket or port; '' = the plain unit.
    """

    check: HealthCheck | None
    release: str = ""

    def describe(self) -> str:
        """For `fraisier plan`."""
        if self.check is None:
            return "wait until the unit runs"
        what = self.check.url or self.check.tcp or self.check.command
        if self.release and not self.check.command:
            what += " on its own address"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDatabase:
    """Wait until no other deployment works on the database called `name`, at most `timeout` seconds."""

    name: str
    timeout: float

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"lock the database {self.name}    # against other deployments' migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskDatabase:
    """Ask the framework for the revision and for what is pending, judge it, and note it before it begins.

    What it does not tell is None. `has_down`: there is a command that goes down. `way` is where a rollback
    takes the database, if it is at the revision `expected`; nothing is pending then.
    """

    current: Command | None
    pending: Command | None
    has_down: bool
    way: WayDown | None = None
    expected: str = ""

    def describe(self) -> str:
        """For `fraisier plan`."""
        asked = (self.current, self.pending)
        lines = [_asked(each) for each in asked if each is not None]
        if any("\n" in line for line in lines):  # a program of ours
            return "ask for the database's revision, and for what is pending"
        return "\n".join(lines) or "note that a migration begins; its framework does not tell the revision"


def _asked(command: Command) -> str:
    return command.describe().partition("    # in ")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackUp:
    """Dump the database into `file`, verify the dump, and remove all but the newest `keep` in its folder.

    `always`: whatever is pending; else only where the verdict asks for it. `brand` reads what the command
    prints.
    """

    brand: str
    file: str
    keep: int
    always: bool

    def describe(self) -> str:
        """For `fraisier plan`."""
        when = "" if self.always else ", if what is pending cannot be taken back"
        return f"back up the database to {self.file}    # {self.brand}; verified{when}; keep {self.keep}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRevision:
    """Note where the database is after the migration, and let go of its lock."""

    def describe(self) -> str:
        """For `fraisier plan`."""
        return "note the database's revision, and unlock it"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeDatabaseBack:
    """Take the database back to the revision `to` ('' = to where the way down leads).

    `only_from`: where this is not empty, only from one of these revisions (a way down that was interrupted).
    """

    to: str
    down: tuple[Act, ...]
    only_from: tuple[str, ...] = ()

    def describe(self) -> str:
        """For `fraisier plan`."""
        return "\n".join(act.describe() for act in self.down)


Act = (
    Preflight
    | Fetch
    | Unpack
    | Send
    | LinkShared
    | Command
    | Seal
    | Switch
    | InstallFile
    | WriteFile
    | RemoveFile
    | UnitCommand
    | Allot
    | TargetWork
    | CheckHealth
    | Route
    | Bake
    | Retire
    | Prove
    | Prune
    | LockDatabase
    | AskDatabase
    | BackUp
    | NoteRevision
    | TakeDatabaseBack
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
        names = [step.name for step in self.steps]
        return self.steps[names.index(name) :] if name in names else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetActs:
    """What a target brand does for one environment, as data.

    `build` ends a release's build, before it is sealed. `install` comes before `restart` when a unit file is
    configured. `release_failure` clears what a crash left behind (systemd: reset-failed) and comes before
    each restart. `start` does nothing to what runs. `keep` has it started at boot, and `forget` undoes `keep`
    and `install`. `retire` asks it to stop without waiting for that. `explain` shows why a release is not
    healthy, before the way back removes what could tell. `discard` removes what `build` made outside of the
    release's folder, before that goes. `listen` is where it may listen (see `Environment.listen`).
    """

    build: tuple[Act, ...] = ()
    install: tuple[Act, ...] = ()
    release_failure: tuple[Act, ...] = ()
    restart: tuple[Act, ...] = ()
    stop: tuple[Act, ...] = ()
    start: tuple[Act, ...] = ()
    keep: tuple[Act, ...] = ()
    forget: tuple[Act, ...] = ()
    retire: tuple[Act, ...] = ()
    explain: tuple[Act, ...] = ()
    discard: tuple[Act, ...] = ()
    listen: tuple[str, ...] = ()
