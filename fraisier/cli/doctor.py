"""`fraisier doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fraisier.cli.options import environment_argument, fraise_argument, json_option, label_option
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session
from fraisier.cli.text import printable
from fraisier.domain.errors import EXIT_ENDED_OTHERWISE

if TYPE_CHECKING:
    from fraisier.application.findings import Finding

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


@click.command("doctor")
@fraise_argument(required=False)
@environment_argument(required=False)
@click.option("--offline", is_flag=True, help="Ask no repository.")
@json_option
@label_option
@click.pass_obj
def command(session: Session, fraise: str, environment: str, *, offline: bool, as_json: bool) -> None:
    """Check what deployments need, everywhere or for one environment, and say how to mend what is
    missing. Changes nothing. Exit status 1 if there is a problem; warnings (!) are none.

    \b
    Examples:
      fraisier doctor
      fraisier doctor api production
      fraisier doctor --json --offline
    """
    keys = session.keys(fraise, environment)
    with session.fraisier(readonly=True) as fraisier:
        from fraisier.application.check_environments import CheckEnvironments

        tools = fraisier.tools
        here = tools.hosts["localhost"]
        check = CheckEnvironments(fraisier.configuration, tools, fraisier.store, fraisier.codec, here)
        findings = check(keys, offline=offline)
        found = list(findings) if as_json else _printed(findings, Screen.of_stdout())
    if as_json:
        print_rows([asdict(finding) for finding in found])
    if any(finding.verdict == "problem" for finding in found):
        raise click.exceptions.Exit(EXIT_ENDED_OTHERWISE)


def _printed(findings: Iterable[Finding], screen: Screen) -> list[Finding]:
    """Print each as it comes: asking a repository may take a while."""
    shown: list[Finding] = []
    for finding in findings:
        if not shown or shown[-1].subject != finding.subject:
            screen.say(screen.style(finding.subject, bold=True))
        mark, colour = MARKS[finding.verdict]
        screen.say(f"  {screen.style(mark, colour)} {finding.check}: {printable(finding.message)}")
        if finding.hint:
            screen.say(f"      {printable(finding.hint)}")
        shown.append(finding)
    problems = sum(finding.verdict == "problem" for finding in shown)
    screen.say(f"{problems} problem{'s' if problems != 1 else ''}." if problems else "All is well.")
    return shown
