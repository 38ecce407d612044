"""What a deployment tells systemd, as data."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from fraisier.domain.acts import InstallFile, RemoveFile, UnitCommand, WriteFile
from fraisier.domain.fraise import Cutover, Environment, TargetSpec
from fraisier.domain.plan import Act, TargetActs
from fraisier.domain.release import Layout
from fraisier.targets import systemd_units as units
from fraisier.targets.systemd_names import QUICK, systemctl, unit_folder, unit_name

# What `systemctl stop` exits with where there is no such unit, as when a release failed before its unit was
# written: EXIT_NOTINSTALLED of https://github.com/systemd/systemd/blob/main/src/systemctl/systemctl-util.c
_UNKNOWN = 5


def plain_acts(environment: Environment, spec: TargetSpec, release_folder: str) -> TargetActs:
    """The commands for the unit that is restarted, and runs from `current`."""
    unit, ctl, patience = unit_name(spec), systemctl(spec), _patience(environment)
    stop = _stop(ctl, unit, timeout=patience)
    socket = f"{units.prefix_of(spec)}.socket"
    before: tuple[UnitCommand, ...] = ()
    close: tuple[UnitCommand, ...] = ()
    if environment.cutover is Cutover.socket:
        # systemd opens no socket for a service that runs without it.
        is_open = (*ctl, "is-active", "--quiet", socket)
        before = (replace(stop, unless=is_open), UnitCommand(argv=(*ctl, "start", socket)))
        close = (_stop(ctl, socket, timeout=QUICK),)  # or it starts the service again
    return TargetActs(
        install=_install(environment, spec, release_folder),
        release_failure=(_reset(ctl, unit),),
        restart=(*before, UnitCommand(argv=(*ctl, "restart", unit), timeout=patience, starts="")),
        stop=(*close, stop),
        start=(UnitCommand(argv=(*ctl, "start", unit), timeout=patience, starts=""),),
        keep=(UnitCommand(argv=(*ctl, "enable", unit), timeout=QUICK),),
        retire=(
            UnitCommand(argv=(*ctl, "stop", socket), allow_failure=True, timeout=QUICK),
            _stop(ctl, "--no-block", unit, timeout=QUICK),
        ),
        forget=(UnitCommand(argv=(*ctl, "disable", socket, unit), allow_failure=True, timeout=QUICK),),
        listen=units.plain_listen(environment),
    )


def instance_acts(environment: Environment, instance: TargetSpec, spec: TargetSpec) -> TargetActs:
    """Each instance has a unit file of its own, so that none ever runs by what another release brought."""
    unit, ctl = unit_name(instance), systemctl(spec)
    release = instance.unit.rpartition("@")[2].removesuffix(".service")
    path = posixpath.join(unit_folder(spec), unit)
    release_folder = Layout(environment.app_path).release(release)
    install: tuple[Act, ...] = ()
    if environment.run:
        install = (WriteFile(destination=path, content=units.service(environment, spec)),)
    elif environment.unit_file:
        source = posixpath.join(release_folder, environment.unit_file)
        install = (InstallFile(source=source, destination=path, needs="%i"),)
    reload = (UnitCommand(argv=(*ctl, "daemon-reload")),) if install else ()
    start = UnitCommand(argv=(*ctl, "start", unit), timeout=environment.restart_timeout, starts=release)
    return TargetActs(
        install=(*install, *reload),
        release_failure=(_reset(ctl, unit),),
        restart=(start,),
        start=(start,),
        stop=(_stop(ctl, unit, timeout=_patience(environment)),),
        keep=(UnitCommand(argv=(*ctl, "enable", unit), timeout=QUICK),),
        retire=(_stop(ctl, "--no-block", unit, timeout=QUICK),),
        forget=(
            UnitCommand(argv=(*ctl, "disable", unit), allow_failure=True, timeout=QUICK),
            _reset(ctl, unit),
            RemoveFile(destination=path),
        ),
        listen=units.listen_of(environment, spec),
    )


def _patience(environment: Environment) -> float:
    """Seconds that a unit has to stop (its requests in flight have `drain_timeout` of them) and to start."""
    return environment.restart_timeout + (environment.drain_timeout if environment.run else 0.0)


def _stop(ctl: tuple[str, ...], *words: str, timeout: float) -> UnitCommand:
    return UnitCommand(argv=(*ctl, "stop", *words), timeout=timeout, fine=(0, _UNKNOWN))


def _reset(ctl: tuple[str, ...], unit: str) -> UnitCommand:
    # Fails for a unit that systemd has never loaded, where nothing is to be cleared.
    return UnitCommand(argv=(*ctl, "reset-failed", unit), allow_failure=True, timeout=QUICK)


def _install(environment: Environment, spec: TargetSpec, release_folder: str) -> tuple[Act, ...]:
    unit, ctl = unit_name(spec), systemctl(spec)
    path = posixpath.join(unit_folder(spec), unit)
    files: tuple[Act, ...] = ()
    if environment.run:
        files = (WriteFile(destination=path, content=units.service(environment, spec)),)
    elif environment.unit_file:
        files = (InstallFile(source=posixpath.join(release_folder, environment.unit_file), destination=path),)
    enabled = (unit,) if files else ()
    if _writes_socket(environment):
        socket = f"{units.prefix_of(spec)}.socket"
        close = UnitCommand(argv=(*ctl, "stop", socket), allow_failure=True, timeout=_patience(environment))
        place = posixpath.join(unit_folder(spec), socket)
        # A socket that is open goes on listening on its old addresses.
        files += (WriteFile(destination=place, content=units.socket(environment), before=(close,)),)
        enabled = (socket, *enabled)
        if not environment.run:
            files += (WriteFile(destination=f"{path}.d/fraisier.conf", content=units.bound_to_socket(spec)),)
    if not files:
        return ()
    return (
        *files,
        UnitCommand(argv=(*ctl, "daemon-reload")),
        # So that they come back after a reboot; a unit without [Install] is left as it is.
        UnitCommand(argv=(*ctl, "enable", *enabled), timeout=QUICK),
    )


def _writes_socket(environment: Environment) -> bool:
    return environment.cutover is Cutover.socket and bool(environment.listen)
