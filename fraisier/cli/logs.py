"""`fraisier logs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from fraisier.cli.options import json_option
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import Session
from fraisier.cli.text import output_text
from fraisier.domain.errors import NotFound, UsageError
from fraisier.domain.fraise import EnvironmentKey

if TYPE_CHECKING:
    from fraisier.application.ports import Output, Store

PAGE = 1000  # pieces


@click.command("logs")
@click.argument("what", metavar="ID | FRAISE ENVIRONMENT", nargs=-1, required=True)
@click.option("-f", "--follow", is_flag=True, help="Go on until the deployment has ended.")
@click.option("--unit", is_flag=True, help="The unit's own log instead of the deployment's output.")
@click.option(
    "-n", "--lines", type=click.IntRange(1), default=100, show_default=True, help="Of the unit's log."
)
@json_option
@click.pass_obj
def command(
    session: Session, what: tuple[str, ...], *, follow: bool, unit: bool, lines: int, as_json: bool
) -> None:
    """Show what the steps of a deployment printed: of the one with this ID, or of the newest one of
    FRAISE in ENVIRONMENT.

    \b
    Examples:
      fraisier logs 0d9f3a51
      fraisier logs -f api production               also while it runs, from any terminal
      fraisier logs --unit api production -n 50     what the service itself says
    """
    if len(what) > 2:
        raise click.UsageError("Give one ID, or FRAISE and ENVIRONMENT.")
    if unit:
        if as_json or follow:
            raise click.UsageError("--unit goes with neither --json nor --follow.")
        _print_unit_log(session, what, lines)
        return
    with session.store() as store:
        deployment = _deployment(session, store, what)
        pieces = _followed(store, deployment) if follow else _stored(store, deployment)
        if as_json:
            print_json([_document(piece) for piece in pieces])
        else:
            _print(pieces, Screen.of_stdout())


def _deployment(session: Session, store: Store, what: tuple[str, ...]) -> str:
    if len(what) == 1:
        return str(store.deployment(what[0])["id"])
    rows = store.history(*what, limit=1)
    if not rows:
        key = session.key(*what)
        raise NotFound(
            f"cannot show what was printed: {key} was never deployed", f"fraisier deploy {' '.join(what)}"
        )
    return str(rows[0]["id"])


def _stored(store: Store, deployment: str) -> Iterator[Output]:
    after = 0
    while page := store.output(deployment, after=after, limit=PAGE):
        yield from page
        after = page[-1].seq


def _followed(store: Store, deployment: str) -> Iterator[Output]:
    from fraisier.application.follow_deployment import FollowDeployment

    for glimpse in FollowDeployment(store)(deployment):
        yield from glimpse.output


def _document(piece: Output) -> dict[str, object]:
    return {
        "seq": piece.seq,
        "attempt": piece.attempt,
        "phase": piece.phase,
        "step": piece.step,
        "text": piece.text,
    }


def _print(pieces: Iterable[Output], screen: Screen) -> None:
    """Each step's output under its name, as it comes."""
    shown: tuple[object, ...] = ()
    at_line_start = True
    for piece in pieces:
        step = (piece.attempt, piece.phase, piece.step, piece.host)
        if step != shown:
            shown = step
            back = " (roll back)" if piece.phase == "rollback" else ""
            click.echo("" if at_line_start else "\n", nl=False)
            on = f" on {piece.host}" if piece.host else ""
            screen.say(screen.style(f"── {piece.step}{on}{back}, attempt {piece.attempt}", dim=True))
        text = output_text(piece.text, colour=screen.colour)
        click.echo(text, nl=False, color=screen.colour)
        at_line_start = text.endswith("\n") if text else at_line_start
    click.echo("" if at_line_start else "\n", nl=False)


def _print_unit_log(session: Session, what: tuple[str, ...], lines: int) -> None:
    if len(what) != 2:
        raise click.UsageError("--unit needs FRAISE and ENVIRONMENT.")
    key = session.key(*what)
    environment = session.configuration.environments[key]
    if environment.target is None:
        raise UsageError(f"cannot show a unit's log: {key} has no unit", "Name one with `systemd_service:`")
    with session.fraisier() as fraisier:
        log = fraisier.tools.targets[environment.target.kind].logs(environment.target, lines=lines)
        for name in environment.hosts:
            finished = fraisier.tools.host(environment.on(name)).inspect(log.argv, timeout=log.timeout)
            if len(environment.hosts) > 1:
                click.echo(f"── {name}")
            text = (finished.stdout or finished.stderr).decode("utf-8", "replace")
            click.echo(output_text(text, colour=Screen.of_stdout().colour), nl=False)
            if finished.code != 0:
                raise _no_log(key, finished.code)


def _no_log(key: EnvironmentKey, code: int) -> NotFound:
    return NotFound(
        f"cannot show the unit's log of {key}: the command ended with {code}", "See `fraisier doctor`"
    )
