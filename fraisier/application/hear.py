"""Runs a command of Fraisier's own at a desk, and hears what it answers apart from its complaints."""

from __future__ import annotations

import posixpath
import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from fraisier.application.ask_database import Heard, framed
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment
from fraisier.domain.release import Layout

if TYPE_CHECKING:
    from fraisier.application.ports import Desk

# strerror() of the errors that are not the command's own, as programs print them in English.
_DISK = ("No space left on device", "Disk quota exceeded", "Disk full", "database or disk is full")
_NETWORK = (
    "Connection refused",
    "Connection timed out",
    "Connection reset by peer",
    "Could not resolve",
    "Name or service not known",
    "No route to host",
    "Network is unreachable",
    "Temporary failure in name resolution",
    "Operation timed out",
)
_ERROR = re.compile(r"error\b.*:", re.IGNORECASE)
_ENDED = {Cause.timeout: "it took too long and was ended", Cause.cancelled: "it was told to stop"}
_LONGEST = 300  # characters of a reason


def hear(desk: Desk, command: Command, *, doing: str, hint: str = "") -> str:
    """What `command` prints to stdout; what it prints to stderr goes to the run's output.

    `doing` is what cannot be done if it fails: "keep the backup … in …".

    Raises:
        StepFailed: disk, network or backup, with the last line of what it complained about; and as
            `Desk.run`.
    """
    mark = f"--{secrets.token_hex(12)}--"
    heard = Heard(mark)
    try:
        said = desk.run(in_english(framed(command, mark)), shown=False)
    except StepFailed as error:
        if error.cause not in _ENDED:
            raise
        raise StepFailed(error.cause, f"cannot {doing}: {_ENDED[error.cause]}", hint) from error
    heard(said.output)
    answer, complaints = heard.apart()
    for line in complaints.decode("utf-8", "replace").splitlines():
        desk.say(line)
    if said.code != 0:
        raise failure(doing, complaints, hint, code=said.code)
    return answer


def look(desk: Desk, command: Command) -> tuple[int, str, str]:
    """Run a command that changes nothing, without the rights of a run: its code, answer and complaints.

    In the folder of the present release, if there is one.

    Raises:
        StepFailed: as `Host.ask`.
    """
    mark = f"--{secrets.token_hex(12)}--"
    heard = Heard(mark)
    complete = filled(desk.environment, command)
    release = desk.host.read_link(Layout(desk.environment.app_path).current)
    folder = posixpath.join(desk.environment.app_path, release) if release else "/"
    if not release and not posixpath.isabs(complete.env_file):
        complete = replace(complete, env_file="")  # which comes with the first release
    finished = desk.host.ask(in_english(framed(replace(complete, cwd=complete.cwd or folder), mark)))
    heard(finished.stdout)
    answer, rest = heard.apart()
    return finished.code, answer, (finished.stderr + rest).decode("utf-8", "replace")


def filled(environment: Environment, command: Command) -> Command:
    """`command` as the environment's user, with its environment, where it says nothing else."""
    return replace(
        command,
        user=command.user or environment.user,
        env={**environment.env, **command.env},
        env_file=command.env_file or environment.env_file,
    )


def in_english(command: Command) -> Command:
    """The same; what it says is read by us."""
    return replace(command, env={"LC_ALL": "C.UTF-8", **command.env})


def failure(doing: str, complaints: bytes, hint: str = "", *, code: int = 1) -> StepFailed:
    """Why a command failed, by what it said last."""
    text = complaints.decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if any(map(str.isalpha, line))]
    lines = [line for line in lines if not line.startswith("rsync error:")] or lines  # a summary
    telling = [line for line in lines if _ERROR.search(line)] or lines
    why = telling[-1][:_LONGEST] if telling else f"it exited with {code}"
    if any(words in text for words in _DISK):
        return StepFailed(Cause.disk, f"cannot {doing}: the disk is full", hint)
    cause = Cause.network if any(words in text for words in _NETWORK) else Cause.backup
    return StepFailed(cause, f"cannot {doing}: {why}", hint)


def below(place: str, environment: Environment) -> str:
    """Where an environment's backups lie in a place that several may share."""
    return posixpath.join(place, environment.fraise, environment.name)
