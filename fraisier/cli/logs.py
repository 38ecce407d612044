"""`fraisier logs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from fraisier.cli.either import deployment_or_run
from fraisier.cli.options import json_option, not_empty
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import Session
from fraisier.cli.show_run import print_run_output
from fraisier.cli.text import output_text
from fraisier.domain.errors import NotFound, UsageError
from fraisier.domain.fraise import EnvironmentKey

if TYPE_CHECKING:
    from fraisier.application.ports import Output, Row, Store

PAGE = 1000  # pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of `logs`."""

    follow: bool
    unit: bool
    lines: int
    job: str
    as_json: bool


@click.command("logs")
@click.argument("what", metavar="ID | FRAISE ENVIRONMENT", nargs=-1, required=True)
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended.")
@click.option("--unit", is_flag=True, help="The unit's own log instead of the deployment's output.")
@click.option(
    "-n", "--lines", type=click.IntRange(1), default=100, show_default=True, help="Of the unit's log."
)
@click.option("--job", default="", callback=not_empty, metavar="NAME", help="The newest run of this job.")
@json_option
@click.pass_obj
def command(session: Session, /, what: tuple[str, ...], **options: Any) -> None:
    """Show what the steps of a deployment, or a run of a job, printed: the one with this ID, or whatever was
    asked for last of FRAISE in ENVIRONMENT. --job shows the newest run of that job.

    \b
    Examples:
      fraisier logs 0d9f3a51
      fraisier logs -f api production               also while it runs, from any terminal
      fraisier logs nightly production --job main   its newest run
      fraisier logs --unit api production -n 50     what the service itself says
    """
    wanted = Wanted(**options)
    if len(what) > 2 or (len(what) == 1 and wanted.job):
        raise click.UsageError("Give one ID, or FRAISE and ENVIRONMENT.")
    if wanted.unit:
        if wanted.as_json or wanted.follow or wanted.job:
            raise click.UsageError("--unit goes with neither --json nor --follow nor --job.")
        _print_unit_log(session, what, wanted.lines)
        return
    with session.store() as store:
        deployment, run = _found(session, store, what, wanted.job)
        if run is not None:
            print_run_output(store, run, follow=wanted.follow, as_json=wanted.as_json)
        elif deployment is not None:
            _print_steps(store, deployment["id"], wanted)


def _print_steps(store: Store, deployment: str, wanted: Wanted) -> None:
    pieces = _followed(store, deployment) if wanted.follow else _stored(store, deployment)
    if wanted.as_json:
        print_json([_document(piece) for piece in pieces])
    else:
        _print(pieces, Screen.of_stdout())


def _found(session: Session, store: Store, what: tuple[str, ...], job: str) -> tuple[Row | None, Row | None]:
    """The deployment, or the run, that is meant."""
    if len(what) == 1:
        return deployment_or_run(store, what[0])
    run = _newest_run(store, EnvironmentKey(*what), job)
    deployment = None if job else next(iter(store.history(*what, limit=1)), None)
    if run is not None and (deployment is None or run["requested_at"] > deployment["requested_at"]):
        return None, run
    if deployment is not None:
        return deployment, None
    key = session.key(*what)
    if job:
        raise NotFound(f"cannot show what was printed: {job!r} of {key} was never run", "See `fraisier runs`")
    if not session.configuration.environments[key].deploys:
        message = f"cannot show what was printed: the backup of {key} was never run"
        raise NotFound(message, f"fraisier backup run {' '.join(what)}")
    message = f"cannot show what was printed: {key} was never deployed"
    raise NotFound(message, f"fraisier deploy {' '.join(what)}")


def _newest_run(store: Store, key: EnvironmentKey, job: str) -> Row | None:
    """Of those that have begun, or wait: however many were skipped since, they print nothing."""
    waiting = store.runs(key.fraise, key.environment, job=job, status="pending", limit=1)
    begun = [row for name, row in store.last_runs(key).items() if job in ("", name)]
    return max([*waiting, *begun], key=lambda row: row["requested_at"], default=None)


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
    with session.fraisier(readonly=True) as fraisier:
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
