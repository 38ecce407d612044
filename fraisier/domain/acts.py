"""Acts that deployments of every kind consist of: what is done, as data, and how a person would type it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from fraisier.domain.fraise import HealthCheck
from fraisier.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that may take long: run in a scope of its own, killed whole, its output kept.

    `argv` goes to the system as it is; a user's shell line is `Command.shell(...)`. `user` '' = Fraisier's
    own. `env` is the whole environment of the process besides PATH, HOME and LANG. `timeout` in seconds.
    One in the `background` leaves the processor to whatever else wants it: services, and Fraisier itself.
    `shown` stands for what nobody would read, as a program of ours.
    """

    argv: tuple[str, ...]
    cwd: str = ""
    user: str = ""
    env: Mapping[str, str | Secret] = field(default_factory=dict)
    env_file: str = ""
    timeout: float | None = None
    background: bool = False
    here: bool = False  # on Fraisier's own machine, where the release is built for its host
    shown: str = ""

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
        line = self.shown or line
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

    Not where `unless`, a command that only looks, ends well. `fine`: exit codes that say it is as wanted.
    `starts` is the release whose instance it starts, '' for the plain unit: crashes before it are not that
    release's.
    """

    argv: tuple[str, ...]
    allow_failure: bool = False
    fine: tuple[int, ...] = (0,)
    timeout: float = 90.0
    unless: tuple[str, ...] = ()
    starts: str | None = None

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

    `release` is the instance that is asked, on its own socket or port; '' = the plain unit. With `in_line`
    whoever connects waits until the unit has started and has served those who came before.
    """

    check: HealthCheck | None
    release: str = ""
    in_line: bool = False

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
