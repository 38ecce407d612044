"""`fraisier db`: status, migrate, export and import."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from fraisier.cli.options import json_option
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import Session, asker
from fraisier.domain.errors import EXIT_DONE, EXIT_ENDED_OTHERWISE, EXIT_UNREACHABLE, NotFound, UsageError

if TYPE_CHECKING:
    from fraisier.application.ports import Copied, DatabaseStatus

STATES = {  # exit status, and what to say
    "current": (EXIT_DONE, "up to date"),
    "older": (
        EXIT_ENDED_OTHERWISE,
        "migrations are pending: `fraisier db migrate`, or the next serve, applies them",
    ),
    "empty": (EXIT_ENDED_OTHERWISE, "empty: `fraisier db migrate`, or the next serve, makes the tables"),
    "missing": (EXIT_ENDED_OTHERWISE, "not there yet: `fraisier db migrate`, or the next serve, makes it"),
    "newer": (EXIT_UNREACHABLE, "of a newer Fraisier: upgrade this one"),
    "changed": (EXIT_UNREACHABLE, "migrated by another version: its migrations are not those we have"),
}
_UNITS = ("bytes", "KB", "MB", "GB", "TB")


@click.group("db")
def command() -> None:
    """Look at the database, migrate it, export it, import it. docs/database.md tells how to move from
    SQLite to PostgreSQL.

    \b
    Examples:
      fraisier db status
      fraisier db export backup.jsonl.gz
      fraisier --config new.yaml db import backup.jsonl.gz
    """


@command.command("status", short_help="Show what the database is and holds.")
@json_option
@click.pass_obj
def status(session: Session, *, as_json: bool) -> None:
    """Show which database is used, its migrations, what it holds and who works on it. Changes nothing.

    Exit status 0 where every migration is applied, 1 where some are pending, 4 where the database cannot
    be used by this Fraisier, or not be reached.

    \b
    Examples:
      fraisier db status
      fraisier db status --json | jq '.rows.tb_deployments'
    """
    from dataclasses import asdict

    with session.database() as database:
        found = database.status()
    if as_json:
        print_json(asdict(found))
    else:
        _print_status(Screen.of_stdout(), found)
    raise click.exceptions.Exit(STATES[found.state][0])


def _print_status(screen: Screen, found: DatabaseStatus) -> None:
    from fraisier.cli import tables

    migrations = (
        tables.Column("Migration", lambda row, _: f"{row['number']:04d}_{row['name']}"),
        tables.status("State", "state"),
        tables.moment("Applied", "applied_at"),
    )
    rows = (
        tables.text("Table", "table"),
        tables.Column("Rows", lambda row, _: f"{row['rows']:,}", right=True),
    )
    workers = [f"{each['id']} (pid {each['pid']} on {each['host']})" for each in found.workers]
    tables.print_fields(
        screen,
        [
            ("Database", found.url),
            ("Server", found.server),
            ("Schema", f"{found.schema} of {found.newest}: {STATES[found.state][1]}"),
            ("Installation", found.installation),
            ("Size", _size(found.size_bytes)),
            ("Workers", ", ".join(workers) or "none lives"),
        ],
    )
    screen.say()
    listed = [
        {"number": m.number, "name": m.name, "state": m.state, "applied_at": m.applied_at}
        for m in found.migrations
    ]
    tables.print_table(screen, migrations, listed)
    if found.rows:
        screen.say()
        tables.print_table(screen, rows, [{"table": name, "rows": n} for name, n in found.rows.items()])


@command.command("migrate", short_help="Apply the pending migrations.")
@click.option("--dry-run", is_flag=True, help="Only say which migrations are pending.")
@json_option
@click.pass_obj
def migrate(session: Session, *, dry_run: bool, as_json: bool) -> None:
    """Apply the migrations that the database lacks, as serve and worker do when they start.

    \b
    Examples:
      fraisier db migrate --dry-run
      fraisier db migrate
    """
    with session.database() as database:
        names = database.migrate(dry_run=dry_run)
    if as_json:
        print_json({"pending" if dry_run else "applied": list(names)})
        return
    screen = Screen.of_stdout()
    for name in names:
        screen.say(f"{name} is pending" if dry_run else f"{screen.style('✓', 'green')} {name}")
    if not names:
        screen.say("The database is up to date.")


@command.command("export", short_help="Write the whole database to a file.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.pass_obj
def export(session: Session, file: Path) -> None:
    """Write all that the database holds to FILE (- is stdout), as it is at this moment.

    FILE is compressed, for its owner alone, and fits either kind of database; it replaces an earlier one
    only when it is whole. As a backup it can be made while Fraisier runs. To move to another
    database, stop Fraisier first: what comes after the export is not in it.

    \b
    Examples:
      fraisier db export /var/backups/fraisier.jsonl.gz
      fraisier db export - | ssh backup 'cat > fraisier.jsonl.gz'
    """
    with session.database() as database, _output(file) as output:
        copied = database.export_to(output, told=_Progress("exported"))
    if copied.workers:
        who = "a worker lives" if copied.workers == 1 else f"{copied.workers} workers live"
        click.echo(
            f"fraisier: {who} on this database: what is received and deployed from now on is not in this"
            " export.\n  As a backup it is fine. To move, stop Fraisier and export again.",
            err=True,
        )
    size = "" if str(file) == "-" else f" ({_size(file.stat().st_size)})"
    _conclude(f"{file}: {_counted(copied)}{size}", err=str(file) == "-")


@command.command("import", short_help="Fill an empty database from such a file.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.pass_obj
def import_(session: Session, file: Path) -> None:
    """Fill an empty database with what `fraisier db export` wrote to FILE (- is stdin).

    All of it comes, or nothing. The database must have no events and no deployments, and no worker may
    live on it. Deployments that were running end by themselves when Fraisier starts, as after a crash.

    \b
    Examples:
      fraisier db import /var/backups/fraisier.jsonl.gz
      fraisier --config new.yaml db import move.jsonl.gz
    """
    with session.database() as database, _input(file) as given:
        copied = database.import_from(given, by=asker(), told=_Progress("imported"))
    _conclude(f"imported {_counted(copied)}", err=False)


@contextmanager
def _output(file: Path) -> Iterator[BinaryIO]:
    from fraisier.cli.whole_file import whole_file

    if str(file) != "-":
        with whole_file(file) as output:
            yield output
        return
    if sys.stdout.isatty():
        raise UsageError("cannot write an export to a terminal", "Name a file, or pipe it into a command")
    output = sys.stdout.buffer
    yield output
    output.flush()


@contextmanager
def _input(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = file.open("rb")
    except FileNotFoundError as error:
        raise NotFound(f"cannot find {file}", "Name a file that `fraisier db export` wrote") from error
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", "Name a file of your own") from error
    with opened:
        yield opened


class _Progress:
    """Shows on a terminal how many rows were copied; elsewhere nothing."""

    def __init__(self, done: str) -> None:
        self._done = done
        self._shown = sys.stderr.isatty()

    def __call__(self, table: str, rows: int) -> None:
        """Replace the line that was shown last."""
        if self._shown:
            click.echo(f"\r\x1b[K{self._done} {rows:,} of {table}", err=True, nl=False)


def _conclude(text: str, *, err: bool) -> None:
    screen = Screen.of_stdout()
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    if err:
        screen.note(text)
    else:
        screen.say(f"{screen.style('✓', 'green')} {text}")


def _counted(copied: Copied) -> str:
    rows: Mapping[str, int] = copied.rows
    kinds = (
        ("environment", "tb_environments"),
        ("deployment", "tb_deployments"),
        ("event", "tb_webhook_events"),
    )
    listed = ", ".join(_number(rows.get(table, 0), kind) for kind, table in kinds)
    return f"{listed}; {_number(sum(rows.values()), 'row')} in all"


def _number(count: int, word: str) -> str:
    return f"{count:,} {word if count == 1 else word + 's'}"


def _size(size: int) -> str:
    """`1.2 MB`; counted in thousands."""
    amount, unit = float(size), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 or amount >= 99.5 else f"{amount:.1f} {_UNITS[unit]}"
