"""`fraisier bootstrap`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fraisier.cli.session import Session
from fraisier.cli.text import printable
from fraisier.domain.errors import Cause, NotFound, StepFailed, UsageError

if TYPE_CHECKING:
    from fraisier.application.bootstrap_host import Needs
    from fraisier.application.settings import HostOptions

USER = "deploy"
_PUBLIC_KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")
_PATIENCE = 120.0  # seconds


@click.command("bootstrap")
@click.argument("host")
@click.option("--user", help=f"Whom Fraisier is to log in as.  [default: the configuration's, else {USER}]")
@click.option("--login", default="root", show_default=True, help="Who sets the host up: root, or a sudoer.")
@click.option(
    "--key", type=click.Path(dir_okay=False), help="The public key that logs in.  [default: the usual ones]"
)
@click.option("--print", "only_print", is_flag=True, help="Only show the script, and reach no host.")
@click.pass_obj
def command(
    session: Session, host: str, user: str | None, login: str, key: str | None, *, only_print: bool
) -> None:
    """Set HOST up for the environments that name it: a user who logs in by key, their folders and users,
    and a sudoers file for exactly the commands to their units. Once more changes nothing.

    \b
    Examples:
      fraisier bootstrap web1.example.com --print          what would it do?
      fraisier bootstrap web1.example.com                  do it, as root
      fraisier bootstrap web1.example.com --login admin    as somebody who may sudo without a password
    """
    needs = _needs(session, host, user, key)
    from fraisier.application.bootstrap_host import script

    text = script(needs)
    if only_print:
        click.echo(text, nl=False)
        return
    told = _run(session, needs, login, text)
    click.echo(f"{host} is set up: Fraisier may log in as {needs.user}.")
    for remark in needs.remarks:
        click.echo(f"Note: {remark}.")
    for line in told:
        click.echo(printable(line))
    if _options(session, host).user != needs.user:
        click.echo(f"Say so in {session.configuration.path}: hosts: {{{host}: {{user: {needs.user}}}}}")
    click.echo("Then: fraisier doctor")


def _needs(session: Session, host: str, user: str | None, key: str | None) -> Needs:
    from fraisier import wiring
    from fraisier.application.bootstrap_host import needs_of
    from fraisier.config import texts

    environments = list(session.configuration.environments.values())
    known = sorted({name for each in environments for name in each.hosts} - {"localhost"})
    if host not in known:
        names = ", ".join(known) or "none"
        raise NotFound(f"cannot set up {host!r}: no environment names it", f"Hosts of fraises.yaml: {names}")
    options = _options(session, host)
    user = user or options.user or USER
    if wrong := texts.user(user):
        raise UsageError(f"cannot set up {host}: {wrong}")
    targets = wiring.make(wiring.TARGETS, "fraisier.targets")
    return needs_of(host, user, _public_key(options, key), environments, targets)


def _options(session: Session, host: str) -> HostOptions:
    from fraisier.application.settings import HostOptions

    return session.configuration.settings.hosts.get(host, HostOptions())


def _public_key(options: HostOptions, key: str | None) -> str:
    usual = [str(Path.home() / ".ssh" / name) for name in _PUBLIC_KEYS]
    places = [key] if key else [f"{options.identity_file}.pub"] if options.identity_file else usual
    found = next((Path(place) for place in places if Path(place).is_file()), None)
    if found is None:
        message = f"cannot find the public key that Fraisier logs in with: there is no {' or '.join(places)}"
        raise UsageError(
            message, "Make one as Fraisier's user (ssh-keygen -t ed25519), or name it with --key"
        )
    return found.read_text(encoding="utf-8", errors="replace").strip()


def _run(session: Session, needs: Needs, login: str, text: str) -> list[str]:
    """What the script found to note."""
    from fraisier import wiring

    host = wiring.log_in(session.configuration, needs.host, login)
    words = ("sh", "-c", text) if login == "root" else ("sudo", "-n", "sh", "-c", text)
    done = host.act(words, timeout=_PATIENCE)
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    if done.code != 0:
        reason = said.splitlines()[-1] if said else f"exit code {done.code}"
        message = f"cannot set up {needs.host} as {login}: {printable(reason)}"
        raise StepFailed(Cause.host, message, f"Read it: fraisier bootstrap {needs.host} --print")
    return [line for line in said.splitlines() if line.startswith("Note: ")]
