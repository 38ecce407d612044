"""`docs/cli.md`, made from the commands themselves: `python -m fraisier.cli.reference > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from fraisier.cli.main import COMMANDS, main
from fraisier.domain.errors import (
    EXIT_DONE,
    EXIT_ENDED_OTHERWISE,
    EXIT_NOT_FOUND,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
)

_INTRODUCTION = """\
# The command line

<!-- Made by `python -m fraisier.cli.reference > docs/cli.md` from the commands' own help. -->

`fraisier COMMAND --help` shows the same. `--config FILE` stands before the command. Everything that lists
takes `--json`: one document on stdout, keys as in the views; errors are then `{"error": {"code", "message",
"hint"}}` on stderr. On a terminal times are relative or local, ids and commits are abbreviated; in a pipe
times are UTC (ISO 8601) and everything is whole. `NO_COLOR=1` turns colours off, `FRAISIER_DEBUG=1` shows the
traceback of an unexpected error.

Variables that the configuration names and the environment lacks are looked for in `secrets.env` beside it.

Completion: `eval "$(_FRAISIER_COMPLETE=bash_source fraisier)"` (or `zsh_source`, `fish_source`).
"""

_STATUSES = (
    (EXIT_DONE, "done"),
    (EXIT_ENDED_OTHERWISE, "the deployment ended otherwise than `success`, or the state does not allow it"),
    (EXIT_USAGE, "usage or configuration"),
    (EXIT_NOT_FOUND, "not found"),
    (EXIT_UNREACHABLE, "the store, a worker or a host cannot be reached"),
    (130, "interrupted by Ctrl-C (143: by SIGTERM, 129: its terminal was closed)"),
    (141, "whoever read the output went away"),
)


def reference() -> str:
    """The whole page."""
    lines = [_INTRODUCTION, "| exit status | means |", "|---|---|"]
    lines += [f"| {number} | {meaning} |" for number, meaning in _STATUSES]
    lines.append("")
    with click.Context(main, info_name="fraisier", max_content_width=96) as root:
        for section, commands in COMMANDS.items():
            lines.append(f"## {section}\n")
            for name in commands:
                command = main.get_command(root, name)
                if command is not None:
                    lines += _pages(command, root, name)
    return "\n".join(lines)


def _pages(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    with click.Context(command, info_name=name, parent=parent, terminal_width=96) as ctx:
        yield f"### {ctx.command_path}\n"
        yield f"```text\n{command.get_help(ctx)}\n```\n"
        if isinstance(command, click.Group):
            for each in command.list_commands(ctx):
                found = command.get_command(ctx, each)
                if found is not None:
                    yield from _pages(found, ctx, each)


if __name__ == "__main__":
    click.echo(reference(), nl=False)
