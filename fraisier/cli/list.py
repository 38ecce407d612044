"""`fraisier list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fraisier.cli import tables
from fraisier.cli.options import json_option
from fraisier.cli.screen import Screen, print_rows
from fraisier.cli.session import Session

if TYPE_CHECKING:
    from fraisier.domain.fraise import Environment, Fraise

COLUMNS = (
    tables.text("Fraise", "fraise_id"),
    tables.text("Environment", "environment"),
    tables.text("Type", "type"),
    tables.text("Follows", "follows", flexible=True),
    tables.text("Repository", "repository", flexible=True),
    tables.text("Hosts", "hosts", flexible=True, spare=True),
    tables.text("Labels", "labels", flexible=True, spare=True),
    tables.text("Allowed", "allowed", flexible=True, spare=True),
    tables.text("Description", "description", flexible=True, spare=True),
)


@click.command("list")
@json_option
@click.pass_obj
def command(session: Session, *, as_json: bool) -> None:
    """List the fraises of the configuration and their environments.

    With --json one object per fraise, with the keys of the view `v_fraise`; what runs where is in
    `fraisier status`.

    \b
    Examples:
      fraisier list
      fraisier list --json | jq -r '.[].fraise_id'
    """
    fraises = session.configuration.fraises.values()
    if as_json:
        print_rows([_fraise(fraise) for fraise in fraises])
        return
    rows = [_environment(fraise, each) for fraise in fraises for each in fraise.environments.values()]
    tables.print_table(Screen.of_stdout(), COLUMNS, rows)


def _fraise(fraise: Fraise) -> dict[str, Any]:
    return {
        "fraise_id": fraise.name,
        "type": fraise.type,
        "description": fraise.description,
        "forge": fraise.source.forge,
        "repository": fraise.source.repository,
        "environments": sorted(fraise.environments),
    }


def _environment(fraise: Fraise, environment: Environment) -> dict[str, str]:
    return {
        "fraise_id": fraise.name,
        "environment": environment.name,
        "type": fraise.type,
        "follows": environment.branch or (f"tag {environment.tag}" if environment.tag else ""),
        "repository": fraise.source.repository,
        "hosts": ", ".join(environment.hosts),
        "labels": ", ".join(environment.labels),
        "allowed": ", ".join(map(str, environment.allowed)),
        "description": fraise.description,
    }
