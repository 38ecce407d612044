"""Where every error of a command becomes a message on stderr and an exit status."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from typing import IO, Any

import click

from fraisier.cli.text import printable
from fraisier.domain.errors import (
    EXIT_ENDED_OTHERWISE,
    EXIT_UNREACHABLE,
    FraisierError,
    InvalidConfig,
    exit_status,
)

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_OUTPUT_CLOSED = 141  # 128 + SIGPIPE


class OutputClosed(Exception):
    """Whoever read our output went away."""


def report(error: Exception, *, as_json: bool) -> int:
    """Print `error` on stderr, as one JSON document if asked for; returns the exit status."""
    if isinstance(error, OutputClosed | BrokenPipeError):
        _forget(sys.stdout)
        return EXIT_OUTPUT_CLOSED
    if isinstance(error, click.exceptions.Abort):
        return EXIT_INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if os.environ.get("FRAISIER_DEBUG"):
        traceback.print_exception(error)
    document, status = _describe(error)
    _print(document, as_json=as_json)
    return status


def _describe(error: Exception) -> tuple[dict[str, Any], int]:
    """The error as `{"code", "message", "hint"}`, and the exit status."""
    if isinstance(error, InvalidConfig):
        problems = [
            {"file": p.file, "line": p.line, "column": p.column, "message": p.message} for p in error.problems
        ]
        message = error.message.split("\n", 1)[0]
        document = {"code": error.code, "message": message, "hint": error.hint, "problems": problems}
        return document, exit_status(error)
    if isinstance(error, FraisierError):
        return {"code": error.code, "message": error.message, "hint": error.hint}, exit_status(error)
    if isinstance(error, click.ClickException):
        return _usage(error), error.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space(error), EXIT_UNREACHABLE
    return _unexpected(error), EXIT_ENDED_OTHERWISE


def _usage(error: click.ClickException) -> dict[str, Any]:
    command = getattr(error, "ctx", None)
    path = command.command_path if command is not None else "fraisier"
    message = f"cannot understand the command: {error.format_message()}"
    return {"code": "usage", "message": message, "hint": f"See `{path} --help`"}


def _no_space(error: OSError) -> dict[str, Any]:
    """Of the output, most likely: `> file` on a full disk. It says nothing of how a deployment ended."""
    message = f"cannot write what was to be printed: {error.strerror}"
    return {"code": "no_space", "message": message, "hint": "Free some space; see `fraisier history`"}


def _unexpected(error: Exception) -> dict[str, Any]:
    message = f"cannot go on: {type(error).__name__}: {error}"
    hint = "This was not expected. Set FRAISIER_DEBUG=1 to see the traceback"
    return {"code": "internal", "message": message, "hint": hint}


def _print(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": document}), err=True)
        return
    name = click.style("fraisier:", fg="red", bold=True) if _coloured() else "fraisier:"
    first, *more = printable(document["message"], keep="\n").splitlines() or [""]
    lines = [f"{name} {first}", *(f"  {line}" for line in more)]
    lines += [f"  {printable(_placed(problem))}" for problem in document.get("problems", ())]
    lines += [f"  {line}" for line in printable(document["hint"], keep="\n").splitlines()]
    click.echo("\n".join(lines), err=True, color=_coloured())


def _placed(problem: dict[str, Any]) -> str:
    place = ":".join(str(problem[part]) for part in ("file", "line", "column") if problem[part])
    return f"{place}: {problem['message']}"


def _coloured() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def flush() -> None:
    """Write what is still buffered, or forget it: an output that is gone must not change the exit status.

    Python would end with 120: https://docs.python.org/3/library/sys.html#sys.exit
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue  # closed before we began (2>&-)
        try:
            stream.flush()
        except (OSError, ValueError):
            _forget(stream)


def _forget(stream: IO[str]) -> None:
    """Send what is still buffered nowhere, or the interpreter complains when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return  # not a real file: nothing will be flushed to it
