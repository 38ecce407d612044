"""systemd as a target: the system's manager, or with `manager: user` that of Fraisier's own user."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fraisier.application.ports import Host, Problem, UnitState
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment, TargetSpec
from fraisier.domain.plan import InstallFile, TargetActs, UnitCommand
from fraisier.domain.release import Layout

# systemd.unit(5): what a unit's name may consist of; a leading '-' would be an option of systemctl.
_UNIT = re.compile(
    r"(?!-)[A-Za-z0-9:_.@\\-]{1,240}\.(?:service|socket|timer|target|path|mount|slice|scope)\Z"
)
_SHOWN = (
    "LoadState,LoadError,ActiveState,SubState,InvocationID,NRestarts,Result,ExecMainStatus,Type,"
    "RemainAfterExit,WorkingDirectory,ExecStart"
)
_QUICK = 10.0  # seconds for a command that only changes systemd's mind
_ABSENT = ("System has not been booted with systemd", "Failed to connect to bus")


class Systemd:
    """A unit of systemd."""

    kind = "systemd"

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        """The commands for this environment's unit; none where none is configured.

        Raises:
            StepFailed: preflight, if systemd would not accept the unit's name.
        """
        spec = environment.target
        if spec is None:
            return TargetActs()
        unit, systemctl = _unit(spec), _systemctl(spec)
        return TargetActs(
            install=self._install(environment, spec, release_folder),
            # Fails for a unit that systemd has never loaded, where nothing is to be cleared.
            release_failure=(
                UnitCommand(argv=(*systemctl, "reset-failed", unit), allow_failure=True, timeout=_QUICK),
            ),
            restart=(UnitCommand(argv=(*systemctl, "restart", unit), timeout=environment.restart_timeout),),
            stop=(UnitCommand(argv=(*systemctl, "stop", unit), timeout=environment.restart_timeout),),
        )

    def _install(
        self, environment: Environment, spec: TargetSpec, release_folder: str
    ) -> tuple[InstallFile | UnitCommand, ...]:
        if not environment.unit_file:
            return ()
        unit, systemctl = _unit(spec), _systemctl(spec)
        return (
            InstallFile(
                source=posixpath.join(release_folder, environment.unit_file),
                destination=posixpath.join(_unit_folder(spec), unit),
            ),
            UnitCommand(argv=(*systemctl, "daemon-reload")),
            # So that the service comes back after a reboot; a unit without [Install] is left as it is.
            UnitCommand(argv=(*systemctl, "enable", unit), timeout=_QUICK),
        )

    def state(self, spec: TargetSpec, host: Host) -> UnitState:
        """What systemd says now.

        Raises:
            StepFailed: host, when it does not answer.
        """
        return _state(_show(spec, host))

    def problems(self, environment: Environment, host: Host) -> Sequence[Problem]:
        """What would keep a deployment from working, and what may be meant otherwise."""
        spec = environment.target
        if spec is None:
            return ()
        try:
            found = _show(spec, host)
        except StepFailed as error:
            return (Problem(error.message, error.hint),)
        return tuple(_problems(environment, spec, found, host))

    def logs(self, spec: TargetSpec, *, lines: int) -> UnitCommand:
        """The command that shows the end of the unit's journal."""
        which = "--user-unit" if _is_user(spec) else "--unit"
        argv = (
            "journalctl",
            "--no-pager",
            "--output=short-iso",
            f"--lines={lines}",
            f"{which}={_unit(spec)}",
        )
        return UnitCommand(argv=argv, timeout=_QUICK)


def _is_user(spec: TargetSpec) -> bool:
    return spec.options.get("manager", "system") == "user"


def _systemctl(spec: TargetSpec) -> tuple[str, ...]:
    return ("systemctl", *(("--user",) if _is_user(spec) else ()), "--no-ask-password")


def _unit(spec: TargetSpec) -> str:
    unit = spec.unit if "." in spec.unit else f"{spec.unit}.service"
    if not _UNIT.match(unit):
        message = f"cannot use {spec.unit!r} as a systemd unit: systemd knows no such name"
        raise StepFailed(Cause.preflight, message, "Name a unit as `systemctl list-units` shows it")
    return unit


def _unit_folder(spec: TargetSpec) -> str:
    return str(Path.home() / ".config/systemd/user") if _is_user(spec) else "/etc/systemd/system"


def _show(spec: TargetSpec, host: Host) -> Mapping[str, str]:
    shown = host.inspect((*_systemctl(spec), "show", f"--property={_SHOWN}", "--", _unit(spec)))
    if shown.code != 0:
        said = shown.stderr.decode("utf-8", "replace").strip()
        raise _silent(spec, host, said, missing=shown.code == 127)
    lines = shown.stdout.decode("utf-8", "replace").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _silent(spec: TargetSpec, host: Host, said: str, *, missing: bool) -> StepFailed:
    message = f"cannot ask systemd on {host.name} about {spec.unit}: {said}"
    if _is_user(spec):
        hint = "Is a user manager running for Fraisier's user? loginctl enable-linger"
    elif missing or any(text in said for text in _ABSENT):
        hint = "This machine runs without systemd: use supervisord (`supervisord_program:`)"
    else:
        hint = "See `systemctl status`"
    return StepFailed(Cause.host, message, hint)


def _state(found: Mapping[str, str]) -> UnitState:
    active, sub = found.get("ActiveState", ""), found.get("SubState", "")
    running = active in {"active", "reloading"}
    return UnitState(
        known=found.get("LoadState") not in {"not-found", "", None},
        running=running,
        settled=active not in {"activating", "deactivating"},
        invocation=found.get("InvocationID", "") if running or active == "activating" else "",
        restarts=int(found.get("NRestarts") or 0),
        detail=_detail(found, active, sub),
    )


def _detail(found: Mapping[str, str], active: str, sub: str) -> str:
    if found.get("LoadState") == "not-found":
        return "systemd knows no such unit"
    why, status = found.get("Result", "success"), found.get("ExecMainStatus", "0")
    ended = f", {why}" if why not in {"success", ""} else ""
    ended += f", exit status {status}" if status not in {"0", ""} else ""
    return f"{active} ({sub}{ended})"


def _problems(
    environment: Environment, spec: TargetSpec, found: Mapping[str, str], host: Host
) -> Iterator[Problem]:
    unit, load = _unit(spec), found.get("LoadState", "")
    brought = bool(environment.unit_file)
    if load == "not-found" and not brought:
        hint = f"Write {_unit_folder(spec)}/{unit}, or name the release's own with `unit_file:`"
        yield Problem(f"cannot find the unit {unit} on {host.name}", hint)
    elif load == "masked":
        hint = " ".join((*_systemctl(spec)[:-1], "unmask", unit))
        yield Problem(f"cannot start {unit}: it is masked", f"sudo {hint}")
    elif load not in {"loaded", "not-found"}:
        why = found.get("LoadError", "").strip() or load
        yield Problem(f"cannot load {unit}: {why}", f"systemd-analyze verify {unit}", fatal=not brought)
    elif load == "loaded" and not brought:
        yield from _elsewhere(environment, unit, found)
    if brought and not host.writable(_unit_folder(spec)):
        message = f"cannot install {unit}: {_unit_folder(spec)} is not writable for Fraisier"
        yield Problem(message, "Run Fraisier as root, or install the unit yourself and drop `unit_file:`")
    yield from _forbidden(spec, unit, found, host)


def _elsewhere(environment: Environment, unit: str, found: Mapping[str, str]) -> Iterator[Problem]:
    """A unit that runs something else than `current` would not notice a deployment."""
    current = Layout(environment.app_path).current
    places = f"{found.get('WorkingDirectory', '')} {found.get('ExecStart', '')}"
    if unit.endswith(".service") and current not in places:
        message = f"{unit} does not mention {current}: a restart may not bring the new release"
        yield Problem(message, f"Set WorkingDirectory={current}, or start a program below it", fatal=False)


def _forbidden(spec: TargetSpec, unit: str, found: Mapping[str, str], host: Host) -> Iterator[Problem]:
    # Clearing a failure that is not there changes nothing, but asks polkit as a restart does.
    if found.get("LoadState") != "loaded" or found.get("ActiveState") == "failed":
        return
    asked = host.inspect((*_systemctl(spec), "reset-failed", unit))
    said = asked.stderr.decode("utf-8", "replace").strip()
    if asked.code != 0 and ("ccess denied" in said or "authentication required" in said):
        hint = "Install the polkit rule that `fraisier init --service` prints"
        yield Problem(f"cannot restart {unit}: systemd does not let Fraisier ({said})", hint)
