"""`fraisier status --verify`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import click

from fraisier.application.verify_environments import Comparison, Verdict
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session
from fraisier.cli.text import printable
from fraisier.domain.errors import EXIT_ENDED_OTHERWISE, EXIT_UNREACHABLE
from fraisier.domain.fraise import EnvironmentKey

MARKS = {
    Verdict.same: ("✓", "green"),
    Verdict.drift: ("✗", "red"),
    Verdict.busy: ("…", "cyan"),
    Verdict.unknown: ("?", "yellow"),
}


def verify_and_exit(session: Session, keys: Sequence[EnvironmentKey], *, as_json: bool) -> None:
    """Print what differs on each host, with the command that heals it; exit accordingly."""
    with session.fraisier(readonly=True) as fraisier:
        comparisons = fraisier.verify(keys)
        found = list(comparisons) if as_json else _printed(comparisons, Screen.of_stdout())
    if as_json:
        print_rows([asdict(each) for each in found])
    verdicts = {each.verdict for each in found}
    if Verdict.drift in verdicts:
        raise click.exceptions.Exit(EXIT_ENDED_OTHERWISE)
    if Verdict.unknown in verdicts:
        raise click.exceptions.Exit(EXIT_UNREACHABLE)


def _printed(comparisons: Iterable[Comparison], screen: Screen) -> list[Comparison]:
    """Print each as it comes: a host may take its time."""
    shown: list[Comparison] = []
    for each in comparisons:
        subject = (each.fraise_id, each.environment, each.host)
        if not shown or subject != (shown[-1].fraise_id, shown[-1].environment, shown[-1].host):
            title = f"{each.fraise_id}/{each.environment}"
            screen.say(f"{screen.style(title, bold=True)} on {each.host}")
        mark, colour = MARKS[each.verdict]
        screen.say(f"  {screen.style(mark, colour)} {printable(each.message)}")
        if each.hint:
            screen.say(f"      {printable(each.hint)}")
        shown.append(each)
    differ = sum(each.verdict is Verdict.drift for each in shown)
    unseen = sum(each.verdict is Verdict.unknown for each in shown)
    screen.say(f"{differ} difference{'s' if differ != 1 else ''}." if differ else "No differences.")
    if unseen:
        screen.say(f"{unseen} host{'s' if unseen != 1 else ''} could not be looked at.")
    return shown
