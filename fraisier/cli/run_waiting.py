"""What follows a request for a run: watch it to its end, or let go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fraisier.application.find_workers import FindWorkers, Lack
from fraisier.application.ports import LEFT
from fraisier.cli import times
from fraisier.cli.screen import print_json
from fraisier.cli.session import asker
from fraisier.cli.text import SHORT_ID, output_text
from fraisier.cli.waiting import EndedOtherwise, Performer, Waiting, nobody_begins
from fraisier.domain.errors import Conflict
from fraisier.domain.fraise import EnvironmentKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fraisier.application.ports import Row
    from fraisier.wiring import Fraisier
    from fraisier.worker import Worker


def run_job(
    fraisier: Fraisier,
    key: EnvironmentKey,
    job: str,
    parameters: Mapping[str, str],
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Ask for a run, and do what `--wait` or `--no-wait` promises.

    Raises:
        NotFound, UsageError, Conflict: see `application.request_run`.
        NoWorker: nobody lives who may perform it, and we were told not to wait, or may not either.
        EndedOtherwise: it ended otherwise than `success`.
    """
    row = _request(fraisier, key, job, parameters)
    if wait:
        RunWaiting(fraisier, row, as_json=as_json).to_the_end()
    else:
        _hand_over(fraisier, row, as_json=as_json)


def _request(fraisier: Fraisier, key: EnvironmentKey, job: str, parameters: Mapping[str, str]) -> Row:
    """What stands in its way because its worker died is ended first, if nobody else would."""
    try:
        return fraisier.request_run(key, job, parameters=parameters, by=asker())
    except Conflict:
        if FindWorkers(fraisier.store).lack(fraisier.environment(key).labels) is None:
            raise
    performer = Performer(fraisier, lambda worker: worker.perform_run(LEFT))
    performer.join()
    return fraisier.request_run(key, job, parameters=parameters, by=asker())


def _hand_over(fraisier: Fraisier, row: Row, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        click.echo(row["id"])
    if (lack := _lack(fraisier, _key(row))) is not None:
        raise nobody_begins("run", row["id"], lack)


def _lack(fraisier: Fraisier, key: EnvironmentKey) -> Lack | None:
    return FindWorkers(fraisier.store).lack(fraisier.environment(key).labels)


def _key(row: Row) -> EnvironmentKey:
    return EnvironmentKey(row["fraise_id"], row["environment"])


class RunWaiting(Waiting):
    """Watches one run, and performs it in this process where no worker that lives may take it."""

    what = "run"

    def __init__(self, fraisier: Fraisier, row: Row, *, as_json: bool) -> None:
        super().__init__(fraisier, row["id"], _key(row), as_json=as_json)

    def _lack(self) -> Lack | None:
        return _lack(self._fraisier, self._environment)

    def _perform(self, worker: Worker) -> None:
        worker.perform_run(self._id)

    def _cancel(self) -> None:
        self._fraisier.cancel_run(self._id, by=asker())

    def _row(self) -> Row:
        return self._fraisier.store.run(self._id)

    def _follow(self, attend: Callable[[], None], *, quiet: bool) -> Row:
        from fraisier.application.follow_run import FollowRun

        row: Row = {}
        at_line_start = True
        for glimpse in FollowRun(self._fraisier.store)(self._id, attend=attend):
            row = glimpse.run
            if glimpse.text and not quiet:
                text = output_text(glimpse.text, colour=self._screen.colour)
                click.echo(text, nl=False, color=self._screen.colour)
                at_line_start = text.endswith("\n") if text else at_line_start
        if not at_line_start:
            click.echo()
        return row

    def _tell_success(self, row: Row) -> None:
        mark = self._screen.style("✓", "green")
        took = times.duration(row["duration_seconds"])
        self._screen.note(f"{mark} {self._environment} {row['job']}: {took}, release {row['release'] or '-'}")

    def _ended_otherwise(self, row: Row) -> EndedOtherwise:
        why = row["error_message"] or "no reason was stored"
        hint = row["hint"] or f"See `fraisier show {row['id'][:SHORT_ID]}`"
        first = row["retry_of"] or row["id"]
        waiting = self._fraisier.store.runs(
            row["fraise_id"], row["environment"], job=row["job"], status="pending"
        )
        again = next((each["id"][:SHORT_ID] for each in waiting if each["retry_of"] == first), "")
        if again and self._lack() is None:
            hint = f"{hint}. A worker tries it again: see `fraisier runs`"
        elif again:
            hint = f"{hint}. Its next try waits for `fraisier serve`; to drop it: fraisier cancel {again}"
        message = f"cannot run {row['job']!r} of {self._environment} ({row['status']}):\n{why}"
        return EndedOtherwise(message, hint)
