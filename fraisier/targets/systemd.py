"""systemd as a target: the system's manager, or with `manager: user` that of Fraisier's own user."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fraisier.application.host_paths import at_home
from fraisier.application.ports import Host, Problem, UnitState
from fraisier.domain.acts import UnitCommand
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Cutover, Environment, TargetSpec
from fraisier.domain.plan import TargetActs
from fraisier.domain.release import Layout
from fraisier.domain.secret import Secret
from fraisier.targets import systemd_names as words
from fraisier.targets import systemd_units as units
from fraisier.targets.systemd_acts import instance_acts, plain_acts

_SHOWN = (
    "LoadState,LoadError,ActiveState,SubState,InvocationID,NRestarts,Result,ExecMainStatus,Type,"
    "RemainAfterExit,WorkingDirectory,ExecStart,UnitFileState,MainPID"
)
_ABSENT = ("System has not been booted with systemd", "Failed to connect to bus")


class Systemd:
    """A unit of systemd."""

    kind = "systemd"

    cutovers = frozenset(Cutover)

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        """The commands for this environment's unit; none where none is configured.

        Raises:
            StepFailed: preflight, if systemd would not accept the unit's name.
        """
        spec = environment.target
        if spec is None:
            return TargetActs()
        if environment.is_blue_green:
            return instance_acts(environment, self.instance(spec, posixpath.basename(release_folder)), spec)
        return plain_acts(environment, spec, release_folder)

    def instance(self, spec: TargetSpec, release: str) -> TargetSpec:
        """orders.service -> orders@12-0123456789.service."""
        return replace(spec, unit=f"{units.prefix_of(spec)}@{release}.service")

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
        if environment.is_blue_green:
            spec = self.instance(spec, "preflight")  # a template is known by any instance of it
        try:
            found = _show(spec, host)
            problems = [*_problems(environment, spec, found, host)]
            if environment.cutover is Cutover.socket and not environment.listen:
                problems += _own_socket(spec, host)
        except StepFailed as error:
            return (Problem(error.message, error.hint),)
        return tuple(problems)

    def logs(self, spec: TargetSpec, *, lines: int) -> UnitCommand:
        """The command that shows the end of the unit's journal."""
        which = "--user-unit" if words.is_user(spec) else "--unit"
        names = (words.unit_name(spec), f"{units.prefix_of(spec)}@*.service")
        of_units = (f"{which}={name}" for name in names)
        argv = ("journalctl", "--no-pager", "--output=short-iso", f"--lines={lines}", *of_units)
        return UnitCommand(argv=argv, timeout=words.QUICK)


def _show(spec: TargetSpec, host: Host) -> Mapping[str, str]:
    shown = host.inspect(
        (*words.systemctl(spec), "show", f"--property={_SHOWN}", "--", words.unit_name(spec))
    )
    if shown.code != 0:
        said = shown.stderr.decode("utf-8", "replace").strip()
        raise _silent(spec, host, said, missing=shown.code == 127)
    lines = shown.stdout.decode("utf-8", "replace").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _silent(spec: TargetSpec, host: Host, said: str, *, missing: bool) -> StepFailed:
    message = f"cannot ask systemd on {host.name} about {spec.unit}: {said}"
    if words.is_user(spec):
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
        pid=int(found.get("MainPID") or 0) if running else 0,
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
    unit, load = words.unit_name(spec).replace("@preflight", "@"), found.get("LoadState", "")
    brought = bool(environment.unit_file or environment.run)
    if load == "not-found" and not brought:
        hint = (
            f"Write {words.unit_folder(spec)}/{unit}, name the release's own with `unit_file:`, or say what"
            " it runs with `run:`"
        )
        yield Problem(f"cannot find the unit {unit} on {host.name}", hint)
    elif load == "masked":
        hint = " ".join((*words.systemctl(spec)[:-1], "unmask", unit))
        yield Problem(f"cannot start {unit}: it is masked", f"sudo {hint}")
    elif load not in {"loaded", "not-found"}:
        why = found.get("LoadError", "").strip() or load
        yield Problem(f"cannot load {unit}: {why}", f"systemd-analyze verify {unit}", fatal=not brought)
    elif load == "loaded" and not brought:
        yield from _elsewhere(environment, unit, found)
    if brought and not host.writable(at_home(host, words.unit_folder(spec))):
        message = f"cannot install {unit}: {words.unit_folder(spec)} is not writable for Fraisier"
        key = "run" if environment.run else "unit_file"
        path = f"{words.unit_folder(spec)}/{unit}"
        more = " (docs/zero-downtime.md shows one)" if environment.is_blue_green else ""
        hint = f"Run Fraisier as root, or install {path} yourself{more} and drop `{key}:`"
        yield Problem(message, hint)
    if environment.run and (secrets := _secret_names(environment)):
        message = f"{', '.join(secrets)} of `env:` are secrets, which are not written into a unit"
        yield Problem(message, "The service gets them from `env_file:`", fatal=False)
    yield from _forbidden(spec, unit, found, host)


def _secret_names(environment: Environment) -> list[str]:
    return [name for name, value in environment.env.items() if isinstance(value, Secret)]


def _elsewhere(environment: Environment, unit: str, found: Mapping[str, str]) -> Iterator[Problem]:
    """A unit that runs something else would not notice a deployment, or with instances notice it too soon."""
    layout = Layout(environment.app_path)
    wanted = f"{layout.releases}/" if environment.is_blue_green else layout.current
    places = f"{found.get('WorkingDirectory', '')} {found.get('ExecStart', '')}"
    if unit.endswith(".service") and wanted not in places:
        named = f"{wanted}%i" if environment.is_blue_green else wanted
        what = "an instance" if environment.is_blue_green else "a restart"
        message = f"{unit} does not mention {named}: {what} may not bring the new release"
        yield Problem(message, f"Set WorkingDirectory={named}, or start a program below it", fatal=False)
    if environment.is_blue_green and found.get("UnitFileState") == "static":
        message = f"{unit} has no [Install]: after a reboot nothing starts it"
        yield Problem(message, "Give it [Install] with WantedBy=multi-user.target", fatal=False)


def _own_socket(spec: TargetSpec, host: Host) -> Iterator[Problem]:
    socket = replace(spec, unit=f"{units.prefix_of(spec)}.socket")
    if _show(socket, host).get("LoadState") == "not-found":
        hint = f"Write {words.unit_folder(spec)}/{socket.unit}, or say where with `listen:`"
        yield Problem(f"cannot find the socket {socket.unit} on {host.name}", hint)


def _forbidden(spec: TargetSpec, unit: str, found: Mapping[str, str], host: Host) -> Iterator[Problem]:
    # Clearing a failure that is not there changes nothing, but asks polkit as a restart does.
    if found.get("LoadState") != "loaded" or found.get("ActiveState") == "failed":
        return
    asked = host.inspect((*words.systemctl(spec), "reset-failed", unit))
    said = asked.stderr.decode("utf-8", "replace").strip()
    if asked.code != 0 and ("ccess denied" in said or "authentication required" in said):
        hint = "Install the polkit rule that `fraisier init --service` prints"
        yield Problem(f"cannot restart {unit}: systemd does not let Fraisier ({said})", hint)
