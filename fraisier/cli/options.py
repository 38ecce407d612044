"""Arguments and options that several commands share, with completion of names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from fraisier.cli.session import Session

Decorator = Callable[[Any], Any]

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
wait_option = click.option(
    "--wait/--no-wait", default=True, help="Watch until it has ended (the default), or only print its id."
)


def _use_labels(ctx: click.Context, _param: click.Parameter, labels: tuple[str, ...]) -> None:
    from fraisier.config import texts

    for label in labels:
        if wrong := texts.label(label):
            raise click.BadParameter(wrong)
    if isinstance(ctx.obj, Session):  # not where names are completed
        ctx.obj.labels = labels


label_option = click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="LABEL",
    expose_value=False,
    callback=_use_labels,
    help="What this machine is labelled, instead of `worker.labels`; may stand several times.",
)


def _session(ctx: click.Context) -> Session:
    return Session(ctx.find_root().params.get("config_path"))


def _fraises(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in _known(ctx) if name.startswith(incomplete)]


def _environments(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    names = _known(ctx).get(ctx.params.get("fraise") or "", ())
    return [name for name in names if name.startswith(incomplete)]


def _known(ctx: click.Context) -> Mapping[str, tuple[str, ...]]:
    """Environments by fraise. A configuration that cannot be read completes nothing."""
    from fraisier.domain.errors import FraisierError

    try:
        fraises = _session(ctx).configuration.fraises
    except FraisierError:
        return {}
    return {name: tuple(fraise.environments) for name, fraise in fraises.items()}


def not_empty(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Refuse '' where leaving the value out has a meaning: a script's unset $TAG is not the branch's tip."""
    if value == "" and param.name and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
        raise click.BadParameter("it is empty; give a value, or leave it out.", ctx, param)
    return value


def fraise_argument(*, required: bool = True) -> Decorator:
    """The FRAISE argument; '' where it may be left out and was."""
    return _name_argument("fraise", _fraises, required=required)


def environment_argument(*, required: bool = True) -> Decorator:
    """The ENVIRONMENT argument; '' where it may be left out and was."""
    return _name_argument("environment", _environments, required=required)


def other_environment(name: str, metavar: str) -> Decorator:
    """An environment's argument with another name than ENVIRONMENT."""
    return click.argument(name, metavar=metavar, shell_complete=_environments)


def _name_argument(name: str, complete: Callable[..., list[str]], *, required: bool) -> Decorator:
    if required:  # click takes even an explicit default of None for a value
        return click.argument(name, shell_complete=complete)
    return click.argument(name, required=False, default="", callback=not_empty, shell_complete=complete)


def commit_options(command: Any) -> Any:
    """`--commit SHA | --ref NAME`; `check_commit` refuses both."""
    ref = click.option(
        "--ref", default="", callback=not_empty, metavar="NAME", help="The tip of another branch or tag."
    )
    commit = click.option(
        "--commit", default="", callback=not_empty, metavar="SHA", help="This commit, in full."
    )
    return commit(ref(command))


def check_commit(commit: str, ref: str) -> None:
    """Refuse what cannot be meant.

    Raises:
        UsageError: both a commit and a ref, or a commit that is none. The ref is checked where it is used.
    """
    from fraisier.domain.push import is_sha

    if commit and ref:
        raise click.UsageError("--commit and --ref exclude each other.")
    if commit and not commit.strip("0"):
        raise click.BadParameter("zeros are what git has for no commit at all.", param_hint="--commit")
    if commit and not is_sha(commit):
        raise click.BadParameter(
            f"{commit!r} is no full object name (40 or 64 hexadecimal digits in lower case).",
            param_hint="--commit",
        )
