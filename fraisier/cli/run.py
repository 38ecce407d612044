"""`fraisier run`."""

from __future__ import annotations

import click

from fraisier.cli.options import (
    environment_argument,
    fraise_argument,
    json_option,
    label_option,
    not_empty,
    wait_option,
)
from fraisier.cli.session import Session


@click.command("run")
@fraise_argument()
@environment_argument()
@click.argument("job", required=False, default="", callback=not_empty)
@click.option(
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the job; the run sees $FRAISIER_PARAM_NAME. May stand several times.",
)
@wait_option
@json_option
@label_option
@click.pass_obj
def command(
    session: Session,
    fraise: str,
    environment: str,
    job: str,
    *,
    parameters: tuple[str, ...],
    wait: bool,
    as_json: bool,
) -> None:
    """Run a job of FRAISE in ENVIRONMENT now, and show what it prints until it has ended.

    JOB may be left out where there is only one. It runs in the folder of the present release, as the
    environment's user. Where no worker lives that may take it, this process performs it itself; else Ctrl-C
    lets it go on. Values of parameters are handed over as they are, never through a shell.

    \b
    Examples:
      fraisier run nightly production
      fraisier run nightly production --param day=2026-11-23
      fraisier run reports production weekly --no-wait    print the id, and go
    """
    key = session.key(fraise, environment)
    given = _pairs(parameters)
    with session.fraisier() as fraisier:
        from fraisier.cli.run_waiting import run_job

        run_job(fraisier, key, job, given, wait=wait, as_json=as_json)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint="--param")
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice.", param_hint="--param")
        found[name] = value
    return found
