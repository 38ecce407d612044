"""`fraisier init`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fraisier.application.ports import Configuration
from fraisier.cli.screen import Screen
from fraisier.cli.session import Session
from fraisier.domain.errors import UsageError

NAME = "fraises.yaml"


@click.command("init")
@click.argument("path", type=click.Path(path_type=Path), default=Path())
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@click.option(
    "--service", is_flag=True, help="Print what Fraisier needs to run as a systemd service instead."
)
@click.option(
    "--proxy", type=click.Choice(["nginx", "caddy", "haproxy"]), help="Print the proxy's lines instead."
)
@click.pass_obj
def command(session: Session, path: Path, *, force: bool, service: bool, proxy: str | None) -> None:
    """Write a commented fraises.yaml that fits the project in PATH (this folder, unless told otherwise).

    PATH is the project's folder, or the file to write. Forge, repository, branch, build commands,
    migrations and the unit come from what is found there.

    With --service print, for the configuration that there is, the commands that make Fraisier's user and
    folders, its systemd unit and a polkit rule; nothing is written. With --proxy print the few lines that
    nginx, Caddy or HAProxy needs in front of environments with `cutover: blue_green`.

    \b
    Examples:
      fraisier init
      fraisier init ~/src/orders
      fraisier --config /etc/fraisier/fraises.yaml init --service
      fraisier init --proxy nginx
    """
    if proxy:
        _print_proxy(session, proxy)
        return
    if service:
        _print_service(session)
        return
    target = path / NAME if path.is_dir() else path
    folder = target.parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {target}: there is no folder {folder}", "Name a folder that exists")
    if os.path.lexists(target) and not force:
        raise UsageError(f"cannot write {target}: it exists already", "Replace it with --force")
    _write(target, folder)


def _write(target: Path, folder: Path) -> None:
    from fraisier.cli.starter import SECRET, configuration_for
    from fraisier.cli.surroundings import look_around

    found = look_around(folder, _ask)
    try:
        target.write_text(configuration_for(found), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write {target}: {error.strerror}", "Name a place that you may write"
        ) from None
    screen = Screen.of_stdout()
    screen.say(f"Wrote {target} for {found.name} ({found.remote.repository} on {found.remote.forge}).")
    screen.say()
    screen.say("Next:")
    screen.say(f'  export {SECRET}="$(openssl rand -hex 32)"    # the forge gets the same secret')
    screen.say(f"  fraisier --config {target} config validate")
    screen.say(f"  fraisier --config {target} doctor")
    screen.say(f"  fraisier --config {target} deploy {found.name} production")


def _ask(argv: Sequence[str]) -> str:
    from fraisier.hosts.short import run_short

    finished = run_short(argv, timeout=10)
    return finished.stdout.decode("utf-8", "replace").strip() if finished.code == 0 else ""


def _whatever_the_secrets(session: Session) -> tuple[Configuration, Path]:
    """The configuration, also before its variables have values: what is printed tells how to make them."""
    from fraisier import wiring
    from fraisier.cli.secrets_file import variables_of
    from fraisier.config.locate import find_config

    path = Path(find_config(session.path)).resolve()
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    unset = dict.fromkeys(variables_of(text), "not-yet-known")
    return wiring.load(str(path), environ={**unset, **os.environ}), path


def _print_proxy(session: Session, brand: str) -> None:
    from fraisier.cli.proxy_lines import lines_for

    configuration, path = _whatever_the_secrets(session)
    found = [each for each in configuration.environments.values() if each.is_blue_green]
    if not found:
        message = f"cannot print lines for {brand}: no environment in {path} has `cutover: blue_green`"
        raise UsageError(message, "Set it first: see docs/zero-downtime.md")
    screen = Screen.of_stdout()
    for environment in found:
        screen.say(screen.style(f"# ---- {environment.key} ----", bold=True))
        screen.say(lines_for(brand, environment))


def _print_service(session: Session) -> None:
    from fraisier.cli import service_files
    from fraisier.cli.secrets_file import variables_of

    configuration, path = _whatever_the_secrets(session)
    program = shutil.which("fraisier") or str(Path(sys.executable).with_name("fraisier"))
    service = service_files.service_of(
        configuration,
        program=program,
        path=str(path),
        variables=variables_of(path.read_text(encoding="utf-8")),
    )
    screen = Screen.of_stdout()
    units = service_files.units_program(service)
    blocks = (
        ("1. User, folders and secrets: run this once", service_files.setup_commands(service)),
        ("2. /etc/systemd/system/fraisier.service", service_files.unit_file(service)),
        ("3. /etc/polkit-1/rules.d/50-fraisier.rules", service_files.polkit_rule(service)),
        *((("4. What writes the timers of jobs: run this once", units),) if units else ()),
        (
            f"{5 if units else 4}. Start it",
            "sudo systemctl daemon-reload\nsudo systemctl enable --now fraisier\n",
        ),
    )
    for title, text in blocks:
        screen.say(screen.style(f"# ---- {title} ----", bold=True))
        screen.say(text)
