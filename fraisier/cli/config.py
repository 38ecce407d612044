"""`fraisier config`: validate, show and schema."""

from __future__ import annotations

import click

from fraisier.cli.options import json_option
from fraisier.cli.screen import Screen, print_json
from fraisier.cli.session import Session


@click.group("config")
def command() -> None:
    """Check or show the configuration.

    \b
    Examples:
      fraisier config validate
      fraisier --config ci.yaml config validate
      fraisier config show
      fraisier config schema > fraises.schema.json
    """


@command.command("validate")
@json_option
@click.pass_obj
def validate(session: Session, *, as_json: bool) -> None:
    """Check the configuration and list everything that is wrong with it.

    Every problem is a line `file:line:column: what is wrong and what is allowed`; the exit status is
    then 2.

    \b
    Examples:
      fraisier config validate
    """
    configuration = session.configuration
    counts = {"fraises": len(configuration.fraises), "environments": len(configuration.environments)}
    if as_json:
        print_json({"path": configuration.path, "digest": configuration.digest, "valid": True, **counts})
        return
    screen = Screen.of_stdout()
    found = ", ".join(f"{n} {word if n != 1 else word[:-1]}" for word, n in counts.items())
    screen.say(f"{screen.style('✓', 'green')} {configuration.path} is valid: {found}")


@command.command("show")
@json_option
@click.pass_obj
def show(session: Session, *, as_json: bool) -> None:
    """Show the checked configuration with every default; secrets as the references that they are.

    \b
    Examples:
      fraisier config show
      fraisier config show --json | jq '.environments'
    """
    configuration = session.configuration
    environments = {str(key): dict(document) for key, document in configuration.documents.items()}
    document = {"path": configuration.path, "digest": configuration.digest, "environments": environments}
    if as_json:
        print_json(document)
        return
    import json

    import yaml

    plain = json.loads(json.dumps(document, default=str))
    Screen.of_stdout().say(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip())


@command.command("schema")
@click.pass_obj
def schema(_session: Session) -> None:
    """Print a JSON Schema of fraises.yaml, for editors.

    \b
    Examples:
      fraisier config schema > fraises.schema.json
    """
    from fraisier.config import json_schema

    print_json(json_schema())
