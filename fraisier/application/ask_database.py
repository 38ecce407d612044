"""Asks a migration framework where a database is: runs its question on the host, and reads the answer."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from fraisier.application.ports import Answer, CannotTell, Finished, Job, Migrations
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment
from fraisier.domain.migration import Pending

# The question's stdout comes between two marks, which no other output can know, when it has ended; its stderr
# goes where a step's output goes.
_FRAME = 'answer=$("$@"); code=$?; printf "\\n%s\\n%s\\n%s\\n" "$0" "$answer" "$0"; exit $code'
_LARGEST = 1 << 22  # bytes of an answer

Run = Callable[[Command, Job], int]


def framed(command: Command, mark: str) -> Command:
    """`command`, its stdout set apart by `mark`."""
    return replace(command, argv=("/bin/sh", "-c", _FRAME, mark, *command.argv))


class Heard:
    """What a question printed: collected, and then told apart."""

    def __init__(self, mark: str) -> None:
        self._mark = f"\n{mark}\n".encode()
        self._said = bytearray()

    def __call__(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._said.extend(chunk[: _LARGEST - len(self._said)])

    def apart(self) -> tuple[str, bytes]:
        """The answer, and whatever else was said."""
        before, _, rest = bytes(self._said).partition(self._mark)
        answer, _, after = rest.partition(self._mark)
        return answer.decode("utf-8", "replace"), before.strip(b"\n") + after


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks one framework for one environment."""

    environment: Environment
    framework: Migrations
    run: Run

    def current(self, command: Command, stop: threading.Event, tell: Callable[[bytes], None]) -> str:
        """The revision that the database is at.

        Raises:
            StepFailed: database, where it cannot be reached; migration, where its answer cannot be
            understood.
        """
        try:
            return self.framework.read_current(self.answer(command, stop, tell))
        except CannotTell as error:
            raise _failed(error, command, "the database's revision") from error

    def pending(
        self, command: Command, stop: threading.Event, tell: Callable[[bytes], None]
    ) -> tuple[Pending, ...]:
        """What the release has and the database has not; raises as `current`."""
        try:
            answer = self.answer(command, stop, tell)
            return tuple(self.framework.read_pending(answer))
        except CannotTell as error:
            raise _failed(error, command, "which migrations are pending") from error

    def both(
        self, command: Command, stop: threading.Event, tell: Callable[[bytes], None]
    ) -> tuple[str, tuple[Pending, ...]]:
        """The revision and what is pending, of a framework that is asked once; raises as `current`."""
        try:
            answer = self.answer(command, stop, tell)
            return self.framework.read_current(answer), tuple(self.framework.read_pending(answer))
        except CannotTell as error:
            raise _failed(error, command, "where the database is, and what is pending") from error

    def answer(self, command: Command, stop: threading.Event, tell: Callable[[bytes], None]) -> Answer:
        """What a question printed to stdout; the rest is handed to `tell`."""
        mark = f"--{secrets.token_hex(12)}--"
        heard = Heard(mark)
        code = self.run(framed(command, mark), Job(stop=stop, output=heard))
        text, rest = heard.apart()
        if rest:
            tell(rest if rest.endswith(b"\n") else rest + b"\n")
        return Answer(code=code, text=text)


def answer_of(finished: Finished, mark: str) -> Answer:
    """The same of a command that was run by `Host.ask`."""
    heard = Heard(mark)
    heard(finished.stdout)
    return Answer(code=finished.code, text=heard.apart()[0])


def _failed(error: CannotTell, command: Command, what: str) -> StepFailed:
    message = f"cannot tell {what}: {error}"
    if error.unreachable:
        return StepFailed(Cause.database, message)
    line = command.describe().partition("    # in ")[0]
    hint = "See the output: `fraisier logs`"
    if "\n" not in line:
        hint += f". Run it by hand in {command.cwd}: {line}"
    return StepFailed(Cause.migration, message, hint)


def in_words(pending: tuple[Pending, ...] | None) -> str:
    """What is pending, for people."""
    if pending is None:
        return "its framework does not tell what is pending"
    if not pending:
        return "nothing is pending"
    names = ", ".join(each.name for each in pending[:12])
    more = f" and {len(pending) - 12} more" if len(pending) > 12 else ""
    return f"pending: {names}{more}"
