"""Acts about the units by which systemd keeps the schedules of `scheduled` fraises, as data.

What writes them is a small program with root's rights, `fraisier-units` (application/scripts/units.sh).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from fraisier.domain.secret import Secret

PROGRAM = "/usr/local/lib/fraisier/fraisier-units"


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit file: its name, and what is in it. No secret is."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteUnits:
    """Write down, beside a release, the units that keep its schedules: for now, and for the way back to it.

    `env` are the variables of its runs that are secrets: systemd reads them from a file that only root can.
    `reports` is the folder that runs report into.
    """

    destination: str
    units: tuple[Unit, ...]
    reports: str
    user: str
    env: Mapping[str, str | Secret] = field(default_factory=dict)

    def describe(self) -> str:
        """For `fraisier plan`."""
        names = " ".join(shlex.quote(unit.name) for unit in self.units) or "none"
        return f"cat > {shlex.quote(self.destination)}    # units: {names}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallUnits:
    """Have systemd keep the schedules of a release: install its units, and remove those of before.

    `name` is the environment's, see `deployers.timer_units.name_of`; `source` what `WriteUnits` wrote. Where
    it is not there, the release had none. The rest is what root's list says of the environment, for where
    Fraisier is root and needs no list.
    """

    name: str
    source: str
    user: str
    app_path: str
    env_file: str = ""
    log_file: str = ""

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"{PROGRAM} apply {self.name} < {shlex.quote(self.source)}    # verify, install, enable --now"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietUnits:
    """Have systemd begin no run until the units are installed again; wait for the one that is under way, or
    (`cancel`) end it.
    """

    name: str
    cancel: bool

    def describe(self) -> str:
        """For `fraisier plan`."""
        what = "stop" if self.cancel else "wait for"
        return f"{PROGRAM} pause {self.name}    # stop the timers, and {what} what runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveUnits:
    """Let systemd keep no schedule of an environment."""

    name: str

    def describe(self) -> str:
        """For `fraisier plan`."""
        return f"{PROGRAM} remove {self.name}    # where there are units of before"
