"""Acts of a change of instances: where one listens, who gets the traffic, how the others end."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from fraisier.domain.fraise import HealthCheck


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
