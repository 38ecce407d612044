"""What Fraisier needs to run as a service: its user and folders, its unit, its polkit rule."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fraisier.application.unit_setup import set_up_units, unit_rows
from fraisier.domain.fraise import Cutover

if TYPE_CHECKING:
    from fraisier.application.ports import Configuration
    from fraisier.domain.fraise import Environment
    from fraisier.domain.timer_acts import InstallUnits

USER = "fraisier"
SECRETS = "/etc/fraisier/secrets.env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the service's files are about. Paths are absolute, `units` are systemd's of the system manager."""

    program: str
    configuration: str
    state_folder: str
    variables: tuple[str, ...]
    units: tuple[str, ...]
    templates: tuple[str, ...]  # of instances: orders@
    users: tuple[str, ...]
    app_paths: tuple[str, ...]
    installs_units: bool
    grace: float
    units_of_jobs: tuple[InstallUnits, ...] = ()


def service_of(configuration: Configuration, *, program: str, path: str, variables: Iterable[str]) -> Service:
    """The service that performs this configuration."""
    environments = list(configuration.environments.values())
    managed = [each for each in environments if _is_of_the_system(each)]
    return Service(
        program=program,
        configuration=path,
        state_folder=configuration.settings.state_folder,
        variables=tuple(variables),
        units=tuple(sorted({unit for each in managed for unit in _units(each)})),
        templates=tuple(sorted({_template(each) for each in managed if each.is_blue_green})),
        users=tuple(sorted({each.user for each in environments if each.user not in ("", USER)})),
        app_paths=tuple(sorted({each.app_path for each in environments})),
        installs_units=any(each.unit_file or each.run or each.listen for each in managed),
        grace=configuration.settings.shutdown_grace,
        units_of_jobs=unit_rows(each for each in environments if each.hosts[0] == "localhost"),
    )


def _is_of_the_system(environment: Environment) -> bool:
    target = environment.target
    return (
        target is not None and target.kind == "systemd" and target.options.get("manager", "system") != "user"
    )


def _units(environment: Environment) -> Iterable[str]:
    if environment.target is not None:
        yield environment.target.unit
        if environment.cutover is Cutover.socket:
            yield environment.target.unit.removesuffix(".service") + ".socket"


def _template(environment: Environment) -> str:
    unit = environment.target.unit if environment.target else ""
    return unit.removesuffix(".service") + "@"


def setup_commands(service: Service) -> str:
    """The commands that make the user, the folders and the secrets' file."""
    lines = [
        f"# {SECRETS} lies beside fraises.yaml: there the command line finds it too.",
        f"sudo useradd --system --home-dir {service.state_folder} --shell /usr/sbin/nologin {USER}",
        f"sudo install -d -o {USER} -g {USER} -m 0700 {service.state_folder}",
        *(
            f"id {user} >/dev/null 2>&1 || sudo useradd --system --create-home {user}"
            for user in service.users
        ),
        *(f"sudo install -d -o {USER} -g {USER} -m 0755 {path}" for path in service.app_paths),
        f"sudo install -d -o root -g {USER} -m 0750 {SECRETS.rpartition('/')[0]}",
        f"sudo install -o root -g {USER} -m 0640 /dev/null {SECRETS}",
        *(
            f'echo "{name}=$(openssl rand -hex 32)" | sudo tee -a {SECRETS} >/dev/null'
            for name in service.variables
        ),
    ]
    return "\n".join(lines) + "\n"


def units_program(service: Service) -> str:
    """A script for root: the program that writes the timers of jobs, and its list; '' where there are none.

    systemd starts it for Fraisier (`systemd-run`), which the polkit rule allows: a unit with
    NoNewPrivileges= may not call sudo.
    """
    if not service.units_of_jobs:
        return ""
    return f"sudo sh <<'AS_ROOT'\nset -eu\n{set_up_units(service.units_of_jobs, 'root')}AS_ROOT\n"


def unit_file(service: Service) -> str:
    """Fraisier's own unit. What is built and restarted runs in units of its own, outside this one."""
    writable = "ReadWritePaths=/etc/systemd/system\n" if service.installs_units else ""
    home = (
        ""
        if any(path.startswith(("/home/", "/root/")) for path in service.app_paths)
        else "ProtectHome=true\n"
    )
    return f"""\
[Unit]
Description=Fraisier: a git push becomes a running release
Wants=network-online.target
After=network-online.target

[Service]
User={USER}
Group={USER}
EnvironmentFile={SECRETS}
ExecStart={service.program} --config {service.configuration} serve
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2
# The running step may end (shutdown_grace), the next start resumes the rest.
KillMode=mixed
TimeoutStopSec={round(service.grace) + 15}

# Builds and health commands run in units of their own, as their own users: nothing here holds for them.
NoNewPrivileges=true
CapabilityBoundingSet=
ProtectSystem=full
{writable}{home}PrivateTmp=true
PrivateDevices=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectClock=true
ProtectHostname=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def polkit_rule(service: Service) -> str:
    """The rights that Fraisier needs of systemd, and no more than systemd can tell apart."""
    reload = _RELOAD if service.installs_units else ""
    enable = _ENABLE if service.templates else ""
    instances = _INSTANCES.format(templates=_list(service.templates)) if service.templates else ""
    known = "(units.indexOf(unit) >= 0 || isInstance)" if service.templates else "units.indexOf(unit) >= 0"
    return f"""\
// Lets the user "{USER}" manage the units of fraises.yaml, and run commands in units of their own.
//
// Be aware: whoever may start a transient unit as another user is as powerful as that user, and systemd
// before version 258 tells polkit neither the unit's name nor its user when one is started. There, this
// rule makes "{USER}" as powerful as root. Guard its account, its key and its database accordingly.
polkit.addRule(function (action, subject) {{
    if (subject.user !== "{USER}") {{
        return polkit.Result.NOT_HANDLED;
    }}
    var units = {_list(service.units)};
    var verbs = ["start", "stop", "restart", "reload-or-restart", "reset-failed", "kill"];
    if (action.id === "org.freedesktop.systemd1.manage-units") {{
        var unit = action.lookup("unit");
        if (!unit || /^(fraisier-[0-9a-f]+|run-[A-Za-z0-9-]+)\\.service$/.test(unit)) {{
            return polkit.Result.YES;  // a command of a deployment
        }}
{instances}        if ({known} && verbs.indexOf(action.lookup("verb")) >= 0) {{
            return polkit.Result.YES;
        }}
    }}
{reload}{enable}    return polkit.Result.NOT_HANDLED;
}});
"""


_RELOAD = """\
    if (action.id === "org.freedesktop.systemd1.reload-daemon") {
        return polkit.Result.YES;  // after a unit_file was installed
    }
"""


_ENABLE = """\
    if (action.id === "org.freedesktop.systemd1.manage-unit-files") {
        return polkit.Result.YES;  // the serving instance starts at boot; systemd tells no unit's name here
    }
"""


_INSTANCES = """\
        var parts = /^(.*@)[0-9]+-[0-9a-f]+\\.service$/.exec(unit);  // of a release: orders@12-0123456789
        var isInstance = parts !== null && {templates}.indexOf(parts[1]) >= 0;
"""


def _list(names: Sequence[str]) -> str:
    return json.dumps(list(names))
