"""`fraisier backup`: run, list, verify, restore and prune."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fraisier.cli import tables
from fraisier.cli.options import (
    environment_argument,
    fraise_argument,
    json_option,
    label_option,
    not_empty,
    wait_option,
)
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session
from fraisier.domain.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fraisier.application.ports import Row
    from fraisier.domain.backup import BackupSpec, Source
    from fraisier.domain.fraise import EnvironmentKey

_UNITS = ("B", "KB", "MB", "GB", "TB")


def _size(row: Row, _screen: Screen) -> str:
    size = float(row["bytes"])
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def _wrong(row: Row, _screen: Screen) -> str:
    gone = "removed" if row["pruned_at"] else ""
    return str(row["detail"] or row["flaw"] or gone or ("safety copy" if row["safety"] else ""))


COLUMNS = (
    tables.text("Fraise", "fraise_id", spare=True),
    tables.text("Environment", "environment", spare=True),
    tables.text("Backup", "name"),
    tables.text("Destination", "destination"),
    tables.moment("Made", "made_at"),
    tables.Column("Size", _size, right=True),
    tables.status("State", "state"),
    tables.moment("Looked at", "looked_at"),
    tables.moment("Verified", "verified_at"),
    tables.Column("Note", _wrong, flexible=True),
)


@click.group("backup")
def command() -> None:
    """Make, list, verify, restore and prune backups of fraises of type backup.

    \b
    Examples:
      fraisier backup run dumps production
      fraisier backup list dumps production
      fraisier backup verify dumps production
      fraisier backup restore dumps production --to orders_of_yesterday
    """


@command.command("run", short_help="Make a backup now.")
@fraise_argument()
@environment_argument()
@wait_option
@json_option
@label_option
@click.pass_obj
def run(session: Session, fraise: str, environment: str, *, wait: bool, as_json: bool) -> None:
    """Make a backup now, keep it at every destination, look at it there, and remove what is too old.

    Exit status 1 where a source could not be dumped, or a destination has it not, or not whole.

    \b
    Examples:
      fraisier backup run dumps production
      fraisier backup run dumps production --no-wait      print the run's id, and go
    """
    _perform(session, _key(session, fraise, environment), "main", {}, wait=wait, as_json=as_json)


@command.command("verify", short_help="Look at every backup, and try the newest.")
@fraise_argument()
@environment_argument()
@wait_option
@json_option
@label_option
@click.pass_obj
def verify(session: Session, fraise: str, environment: str, *, wait: bool, as_json: bool) -> None:
    """Compare every backup at every destination with its manifest, and bring the newest back in a place of
    its own, where rows are counted and your query is asked. What is there stays as it is.

    Exit status 1 where any backup is damaged, missing, unreadable, or cannot be restored: an alert says so
    until a later verification finds everything well. Backups that only the destinations know are found.

    \b
    Examples:
      fraisier backup verify dumps production
    """
    _perform(session, _key(session, fraise, environment), "verify", {}, wait=wait, as_json=as_json)


@command.command("prune", short_help="Remove what the retention does not keep.")
@fraise_argument()
@environment_argument()
@click.option("--damaged", is_flag=True, help="Also what is damaged, and forget what is gone.")
@click.option("--safety", is_flag=True, help="Also safety copies older than the newest verified backup.")
@wait_option
@json_option
@label_option
@click.pass_obj
def prune(
    session: Session, fraise: str, environment: str, *, damaged: bool, safety: bool, wait: bool, as_json: bool
) -> None:
    """Remove the backups that no rule of `retention` keeps, at every destination.

    Nothing goes where the newest backup is not whole; the last one that was verified never goes, and no
    safety copy of a restore does unless --safety says so.

    \b
    Examples:
      fraisier backup prune dumps production
      fraisier backup prune dumps production --damaged
    """
    parameters = {name: "yes" for name, wanted in (("damaged", damaged), ("safety", safety)) if wanted}
    _perform(session, _key(session, fraise, environment), "prune", parameters, wait=wait, as_json=as_json)


@command.command("list", short_help="List the backups that are known.")
@fraise_argument(required=False)
@environment_argument(required=False)
@click.option("--all", "with_pruned", is_flag=True, help="Also those that were removed.")
@click.option("-n", "--limit", type=click.IntRange(1), default=200, show_default=True, help="How many.")
@json_option
@click.pass_obj
def list_backups(
    session: Session, fraise: str, environment: str, *, with_pruned: bool, limit: int, as_json: bool
) -> None:
    """List the backups of all environments, or of FRAISE, or of ENVIRONMENT, newest first: one line for each
    destination. --json has the rows of the view `v_backups`.

    STATE is what was found when somebody last looked: whole, damaged, gone, or unknown, where nobody has
    looked yet, or it could not be read: NOTE says why. VERIFIED is when it was last brought back and found
    good. It asks no destination; `fraisier backup verify` does.

    \b
    Examples:
      fraisier backup list
      fraisier backup list dumps production --json | jq -r '.[] | select(.state != "whole") | .name'
    """
    with session.store() as store:
        rows = store.backups(fraise, environment, with_pruned=with_pruned, limit=limit)
    if not rows:
        session.keys(fraise, environment)  # what left the configuration keeps its rows
    if as_json:
        print_rows(rows)
    elif rows:
        tables.print_table(Screen.of_stdout(), COLUMNS, rows)
    else:
        Screen.of_stdout().note("There are no such backups.")


@command.command("restore", short_help="Bring a backup back.")
@fraise_argument()
@environment_argument()
@click.option(
    "--backup",
    "name",
    default="",
    callback=not_empty,
    metavar="NAME",
    help="This one; otherwise the newest that was verified.",
)
@click.option("--source", default="", callback=not_empty, metavar="NAME", help="Only this source.")
@click.option(
    "--destination",
    default="",
    callback=not_empty,
    metavar="NAME",
    help="From there; otherwise the first that has it.",
)
@click.option(
    "--to",
    default="",
    callback=not_empty,
    metavar="PLACE",
    help="A database or folder that does not exist yet.",
)
@click.option("--force", is_flag=True, help="Replace what is there, after a safety copy of it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@wait_option
@json_option
@label_option
@click.pass_obj
def restore(session: Session, /, **options: Any) -> None:
    """Bring a backup back to where it came from, or, with --to, somewhere else.

    Where something is there already, nothing happens without --force. With it, what is there is dumped first,
    kept at the destinations as a backup that no rule removes, and named. Then the backup replaces it: a
    PostgreSQL database in one transaction, a folder when all of it is unpacked beside it. The rows are
    compared with the backup's. It asks before it begins; where nobody can be asked it needs --yes.

    \b
    Examples:
      fraisier backup restore dumps production --source orders --to orders_of_yesterday
      fraisier backup restore dumps production --source uploads --to /srv/brought-back
      fraisier backup restore dumps production --force
      fraisier backup restore dumps production --backup 20261123T013000Z-1a2b3c4d --force --yes
    """
    wanted = {key: options[key] for key in ("source", "destination", "to")}
    key = _key(session, options["fraise"], options["environment"])
    if wanted["to"] and options["force"]:
        raise click.UsageError("--force is of no use with --to: what is there is never replaced then.")
    with session.store() as store:
        name = options["name"] or _newest(store.copies(key))
    lines = _what_happens(session, key, name, wanted, force=options["force"])
    _ask(lines, yes=options["yes"], quiet=options["as_json"])
    parameters = {**wanted, "backup": name, "force": "yes" if options["force"] else ""}
    _perform(session, key, "restore", parameters, wait=options["wait"], as_json=options["as_json"])


def _key(session: Session, fraise: str, environment: str) -> EnvironmentKey:
    key = session.key(fraise, environment)
    _spec(session, key)
    return key


def _spec(session: Session, key: EnvironmentKey) -> BackupSpec:
    environment = session.configuration.environments[key]
    if environment.backup is None:
        message = f"cannot find backups of {key}: it is of type {environment.type.value}"
        raise NotFound(message, "Backups are made by fraises of type backup; see `fraisier list`")
    return environment.backup


def _perform(
    session: Session,
    key: EnvironmentKey,
    job: str,
    parameters: Mapping[str, str],
    *,
    wait: bool,
    as_json: bool,
) -> None:
    with session.fraisier() as fraisier:
        from fraisier.cli.run_waiting import run_job

        run_job(fraisier, key, job, parameters, wait=wait, as_json=as_json)


def _newest(copies: Any) -> str:
    """The newest backup that was verified, or else the newest that is whole; '' = none is known."""
    from fraisier.domain.retention import newest_verified

    whole = [copy.name for copy in copies if copy.is_good and not copy.safety]
    return newest_verified([copy for copy in copies if not copy.safety]) or max(whole, default="")


def _what_happens(
    session: Session, key: EnvironmentKey, name: str, wanted: Mapping[str, str], *, force: bool
) -> list[str]:
    """What a person should know before it begins.

    Raises:
        NotFound: there is no such source or destination.
    """
    spec = _spec(session, key)
    chosen = [source for source in spec.sources if wanted["source"] in ("", source.name)]
    if not chosen:
        known = ", ".join(source.name for source in spec.sources)
        raise NotFound(f"cannot find the source {wanted['source']!r} of {key}", f"It has: {known}")
    if wanted["destination"] not in ("", *(place.name for place in spec.destinations)):
        known = ", ".join(place.name for place in spec.destinations)
        raise NotFound(f"cannot find the destination {wanted['destination']!r} of {key}", f"It has: {known}")
    if wanted["to"] and len(chosen) > 1:
        known = ", ".join(source.name for source in spec.sources)
        raise UsageError(f"cannot restore {len(chosen)} sources to one place", f"Name one: --source {known}")
    lines = [f"Restore {name or 'the newest backup that is found'} of {key}:"]
    for source in chosen:
        if wanted["to"]:
            lines.append(f"  {source.name} ({source.kind}) to {wanted['to']}, which must not exist yet")
        elif force:
            lines.append(f"  {source.name}: REPLACES {_where(source)}, after a safety copy of it")
        else:
            lines.append(f"  {source.name} to {_where(source)}, if nothing is there")
    return lines


def _where(source: Source) -> str:
    """A source's place, as far as it may be shown."""
    from fraisier.domain.secret import Secret

    if source.path or source.command:
        return source.path or "what its command restores"
    if isinstance(source.url, Secret):
        return f"the database of {source.url.reference.removeprefix('config:')}"
    return source.url or "the database of its environment"


def _ask(lines: list[str], *, yes: bool, quiet: bool) -> None:
    if not quiet:
        click.echo("\n".join(lines), err=True)
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or quiet:
        raise UsageError("cannot restore without being told to: nobody can be asked here", "Say --yes")
    click.confirm("Go on?", abort=True, err=True)
