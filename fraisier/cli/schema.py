"""`fraisier schema`: the GraphQL schema of the read views and functions."""

from __future__ import annotations

import click


@click.group("schema")
def command() -> None:
    """Export the GraphQL schema that fraiseql-server serves from Fraisier's PostgreSQL database.

    \b
    Examples:
      fraisier schema export
      fraisier schema export --output api/schema.json
    """


@command.command("export")
@click.option(
    "--output",
    default="schema.json",
    show_default=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="The file to write; - is stdout.",
)
def export(output: str) -> None:
    """Write schema.json, the input of `fraiseql-cli compile`.

    It needs the package fraiseql (`pip install '.[graphql-schema]'` in the clone), no configuration and no
    database. docs/schema.md tells how to serve it.

    \b
    Examples:
      fraisier schema export
      fraisier schema export --output - | jq '.queries[].name'
    """
    import json
    from pathlib import Path

    from fraisier.cli.schema_authoring import authored_schema
    from fraisier.cli.screen import Screen
    from fraisier.domain.errors import UsageError

    schema = authored_schema()
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if output == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"cannot write {output}: {error.strerror}"
        raise UsageError(message, "Choose another file with --output") from error
    counts = ", ".join(f"{len(schema[kind])} {kind}" for kind in ("types", "queries", "mutations"))
    screen = Screen.of_stdout()
    screen.say(
        f"{screen.style('✓', 'green')} {output}: {counts}, {len(schema['subscriptions'])} subscriptions"
    )
