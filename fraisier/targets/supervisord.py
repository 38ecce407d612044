"""supervisord as a target, for machines without systemd: http://supervisord.org/

Options: `config` (supervisord's file) or `server` (its socket's URL) say which one; `conf_d` is the folder
of its included programs, where a `unit_file` of the release is installed; `supervisorctl` is the client.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fraisier.application.ports import Host, Problem, UnitState
from fraisier.domain.acts import InstallFile, UnitCommand
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.extras import how_to_install
from fraisier.domain.fraise import Environment, TargetSpec
from fraisier.domain.plan import TargetActs
from fraisier.domain.release import Layout

_PROGRAM = re.compile(r"(?!-)[A-Za-z0-9_.\-]{1,200}(?::(?:\*|(?!-)[A-Za-z0-9_.\-]{1,200}))?\Z")
_LINE = re.compile(r"(?P<name>\S+)\s+(?P<state>[A-Z]+)(?:\s+(?P<detail>.*))?\Z")
_PID = re.compile(r"pid (\d+)")
_ANSWERS = {0, 3}  # all run; some do not. 4: no such program, or no supervisord
_UNSETTLED = {"STARTING", "BACKOFF", "STOPPING"}
_PATIENCE = 20.0  # seconds; supervisorctl is a Python program, and starts like one


@dataclass(frozen=True, slots=True)
class _Process:
    name: str
    state: str
    detail: str


class Supervisord:
    """A program, `group:program` or `group:*` of supervisord."""

    kind = "supervisord"

    def acts(self, environment: Environment, release_folder: str) -> TargetActs:
        """The commands for this environment's program; none where none is configured.

        Raises:
            StepFailed: preflight, if the program's name is none, or `unit_file` has no `conf_d` to go to.
        """
        spec = environment.target
        if spec is None:
            return TargetActs()
        control, program, patience = _control(spec), _program(spec), environment.restart_timeout
        return TargetActs(
            install=_install(environment, spec, release_folder),
            restart=(UnitCommand(argv=(*control, "restart", program), timeout=patience),),
            stop=(UnitCommand(argv=(*control, "stop", program), timeout=patience),),
        )

    def state(self, spec: TargetSpec, host: Host) -> UnitState:
        """What supervisord says now. It does not count restarts; each has another invocation.

        Raises:
            StepFailed: host, when it does not answer.
        """
        found = _status(spec, host)
        if not found:
            return UnitState(known=False, running=False, detail="supervisord knows no such program")
        running = all(each.state == "RUNNING" for each in found)
        return UnitState(
            known=True,
            running=running,
            settled=not any(each.state in _UNSETTLED for each in found),
            invocation=",".join(_invocation(each, host) for each in found) if running else "",
            detail="; ".join(f"{each.state} {each.detail}".strip() for each in found),
            pid=_pid(found[0]) if running and len(found) == 1 else 0,
        )

    def problems(self, environment: Environment, host: Host) -> Sequence[Problem]:
        """What would keep a deployment from working."""
        spec = environment.target
        if spec is None:
            return ()
        try:
            found = _status(spec, host)
        except StepFailed as error:
            return (Problem(error.message, error.hint),)
        return tuple(_problems(environment, spec, found, host))

    def logs(self, spec: TargetSpec, *, lines: int) -> UnitCommand:
        """The command that shows the end of the program's output; supervisord counts bytes."""
        argv = (*_control(spec), "tail", f"-{lines * 100}", _program(spec))
        return UnitCommand(argv=argv, timeout=_PATIENCE)


def _program(spec: TargetSpec) -> str:
    if not _PROGRAM.match(spec.unit):
        message = f"cannot use {spec.unit!r} as a program of supervisord: it cannot be a name there"
        raise StepFailed(Cause.preflight, message, "Name it as `supervisorctl status` does")
    return spec.unit


def _control(spec: TargetSpec) -> tuple[str, ...]:
    beside = Path(sys.executable).with_name("supervisorctl")
    client = spec.options.get("supervisorctl") or (str(beside) if beside.exists() else "supervisorctl")
    config, server = spec.options.get("config"), spec.options.get("server")
    return (client, *(("-c", config) if config else ()), *(("-s", server) if server else ()))


def _install(
    environment: Environment, spec: TargetSpec, release_folder: str
) -> tuple[InstallFile | UnitCommand, ...]:
    if not environment.unit_file:
        return ()
    group = _program(spec).partition(":")[0]
    source = posixpath.join(release_folder, environment.unit_file)
    destination = posixpath.join(_conf_d(spec), f"{group}.conf")
    return (
        InstallFile(source=source, destination=destination),
        # Rereads, and starts or restarts the group only where its part of the configuration changed.
        UnitCommand(argv=(*_control(spec), "update", group), timeout=environment.restart_timeout),
    )


def _conf_d(spec: TargetSpec) -> str:
    folder = spec.options.get("conf_d", "")
    if not folder:
        message = (
            f"cannot install the unit_file of {spec.unit}: where supervisord includes files is not known"
        )
        raise StepFailed(Cause.preflight, message, "Set the target's option `conf_d`, or drop `unit_file:`")
    return folder


def _status(spec: TargetSpec, host: Host) -> list[_Process]:
    shown = host.inspect((*_control(spec), "status", _program(spec)), timeout=_PATIENCE)
    said = (shown.stdout + shown.stderr).decode("utf-8", "replace").strip()
    if shown.code == 127:
        message = f"cannot find supervisorctl on {host.name}"
        raise StepFailed(Cause.host, message, how_to_install("supervisord"))
    if "no such process" in said or "no such group" in said:
        return []
    matches = [match for line in said.splitlines() if (match := _LINE.match(line))]
    if shown.code not in _ANSWERS or not matches:
        message = f"cannot ask supervisord on {host.name} about {spec.unit}: {said}"
        raise StepFailed(Cause.host, message, "Is it running, and does the target name its `config`?")
    return [_Process(match["name"], match["state"], match["detail"] or "") for match in matches]


def _pid(process: _Process) -> int:
    match = _PID.search(process.detail)
    return int(match[1]) if match else 0


def _invocation(process: _Process, host: Host) -> str:
    pid = _pid(process) or ""
    # proc(5), field 22: when it began. A pid alone may be given out again.
    stat = host.read(f"/proc/{pid}/stat") if pid else None
    began = stat.rpartition(b")")[2].split()[19].decode() if stat else ""
    return f"{pid}:{began}"


def _problems(
    environment: Environment, spec: TargetSpec, found: list[_Process], host: Host
) -> Iterator[Problem]:
    if not found and not environment.unit_file:
        hint = f"Add [program:{spec.unit}] with directory={Layout(environment.app_path).current}, and update"
        yield Problem(f"cannot find the program {spec.unit} in supervisord on {host.name}", hint)
    if not environment.unit_file:
        return
    try:
        folder = _conf_d(spec)
    except StepFailed as error:
        yield Problem(error.message, error.hint)
        return
    if not host.writable(folder):
        message = f"cannot install {environment.unit_file}: {folder} is not writable for Fraisier"
        yield Problem(message, "Run Fraisier as supervisord's user, or drop `unit_file:`")
