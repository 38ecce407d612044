"""The `fraisier` command. Starting costs little: a command's module is imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from fraisier import __version__

# What `fraisier --help` shows, and where each command lives; help and completion import none of them.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Set up": {
        "init": ("fraisier.cli.init", "Write a fraises.yaml that fits this folder."),
        "config": ("fraisier.cli.config", "Check or show the configuration."),
        "doctor": ("fraisier.cli.doctor", "Check every prerequisite and say how to mend it."),
        "bootstrap": ("fraisier.cli.bootstrap", "Set a host up that is reached over SSH."),
        "adopt": ("fraisier.cli.adopt", "Take over an environment that another installation owns."),
        "db": ("fraisier.cli.db", "Look at the database, migrate it, export it, import it."),
        "schema": ("fraisier.cli.schema", "Export the GraphQL schema of the PostgreSQL database."),
        "demo": ("fraisier.cli.demo", "Play a whole story on this machine: push, failure, way back, fix."),
    },
    "Deploy": {
        "plan": ("fraisier.cli.plan", "Show what a deployment would do, command by command."),
        "deploy": ("fraisier.cli.deploy", "Bring an environment to a commit."),
        "rollback": ("fraisier.cli.rollback", "Go back to an earlier release."),
        "run": ("fraisier.cli.run", "Run a job now: a pipeline, a scheduled command, a backup."),
        "cancel": ("fraisier.cli.cancel", "Cancel a waiting deployment or run, or stop a running one."),
        "promote": ("fraisier.cli.promote", "Deploy what is healthy in one environment to another."),
        "pause": ("fraisier.cli.pause", "Let nothing begin in an environment for a while."),
        "resume": ("fraisier.cli.resume", "Let deployments begin again."),
    },
    "Back up": {
        "backup": ("fraisier.cli.backup", "Make, list, verify, restore and prune backups."),
    },
    "Look": {
        "list": ("fraisier.cli.list", "List the fraises and their environments."),
        "status": ("fraisier.cli.status", "Show what runs where."),
        "history": ("fraisier.cli.history", "List deployments, newest first."),
        "runs": ("fraisier.cli.runs", "List runs of jobs, newest first."),
        "alerts": ("fraisier.cli.alerts", "List what a person should look at."),
        "stats": ("fraisier.cli.stats", "Count deployments and how they ended."),
        "show": ("fraisier.cli.show", "Show one deployment, step by step, or one run."),
        "logs": ("fraisier.cli.logs", "Show the output of a deployment or a run, also while it runs."),
        "webhooks": ("fraisier.cli.webhooks", "List received webhooks and what became of them."),
    },
    "Run": {
        "serve": ("fraisier.cli.serve", "Receive webhooks and perform deployments."),
        "worker": ("fraisier.cli.worker", "Perform deployments, receive nothing."),
    },
}
_MODULES = {name: module for section in COMMANDS.values() for name, (module, _) in section.items()}


class Fraisier(click.Group):
    """The group of all commands. Its `main` is the one boundary where errors become exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Every command, in the order of the table."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module and return its `command`."""
        if cmd_name not in _MODULES:
            return None
        command: click.Command = import_module(_MODULES[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with a suggestion where the name is unknown."""
        name = args[0]
        if name not in _MODULES and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches  # slow to import, and needed for mistakes only

            near = get_close_matches(name, _MODULES, n=1)
            suggestion = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no command {name!r}.{suggestion}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The table above, without importing anything."""
        width = max(map(len, _MODULES))
        for title, commands in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whoever reads our output may go away at any time."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            from fraisier.cli.boundary import OutputClosed

            raise OutputClosed from None
        return result

    def main(
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's own signature
        **extra: Any,
    ) -> Any:
        """Run, report what went wrong, and exit with one of the statuses of `domain.errors`."""
        given = list(sys.argv[1:] if args is None else args)

        def call() -> Any:
            return super(Fraisier, self).main(given, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return call()
        return _exit(call, given)


def _exit(call: Callable[[], Any], args: list[str]) -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no ✓ shows ? and goes on
    try:
        result = call()
        status = result if isinstance(result, int) else 0
    except Exception as error:  # noqa: BLE001 - the boundary
        from fraisier.cli.boundary import report

        status = report(error, as_json="--json" in args)
    if status:
        from fraisier.cli.boundary import flush

        flush()
    sys.exit(status)


@click.group(
    cls=Fraisier,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 a deployment ended otherwise than success, 2 usage or configuration, "
    "3 not found, 4 the store, a worker or a host cannot be reached, or the deployment is stored and held "
    "back (paused, outside of allowed times), 130 interrupted.",
)
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(),
    help="The configuration. Otherwise $FRAISIER_CONFIG, ./fraises.yaml or /etc/fraisier/fraises.yaml.",
)
@click.version_option(__version__, prog_name="fraisier", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, config_path: str | None) -> None:
    """A git push becomes a running release, or a clean return to the last good one.

    \b
    Examples:
      fraisier init                          write a fraises.yaml for this folder
      fraisier plan api production           what would a deployment do?
      fraisier deploy api production         do it, and watch
      fraisier --config ci.yaml status       another configuration
    """
    from fraisier.cli.session import Session

    ctx.obj = Session(config_path)


if __name__ == "__main__":
    main()
