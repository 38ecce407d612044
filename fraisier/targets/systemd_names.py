"""How systemd is spoken to, and what its units are called."""

from __future__ import annotations

import re

from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import TargetSpec

# systemd.unit(5): what a unit's name may consist of; a leading '-' would be an option of systemctl.
_UNIT = re.compile(
    r"(?!-)[A-Za-z0-9:_.@\\-]{1,240}\.(?:service|socket|timer|target|path|mount|slice|scope)\Z"
)
QUICK = 10.0  # seconds for a command that only changes systemd's mind


def is_user(spec: TargetSpec) -> bool:
    """Whether it is a unit of Fraisier's own user's manager."""
    return spec.options.get("manager", "system") == "user"


def systemctl(spec: TargetSpec) -> tuple[str, ...]:
    """The words before a verb."""
    return ("systemctl", *(("--user",) if is_user(spec) else ()), "--no-ask-password")


def unit_name(spec: TargetSpec) -> str:
    """The unit's whole name.

    Raises:
        StepFailed: preflight, if systemd would not accept it.
    """
    unit = spec.unit if "." in spec.unit else f"{spec.unit}.service"
    if not _UNIT.match(unit):
        message = f"cannot use {spec.unit!r} as a systemd unit: systemd knows no such name"
        raise StepFailed(Cause.preflight, message, "Name a unit as `systemctl list-units` shows it")
    return unit


def unit_folder(spec: TargetSpec) -> str:
    """Where units are installed; '~/' is the home on the host."""
    return "~/.config/systemd/user" if is_user(spec) else "/etc/systemd/system"
