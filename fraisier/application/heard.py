"""Running a long command and keeping what it printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fraisier.application.ports import Ground, Host, Job, Said
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, StepFailed

LONGEST = 16 << 20  # bytes of a command's output that are handed to whoever asked for it
_END = 1 << 16  # bytes that are kept of what is shown: there the tools say what went wrong


def run_heard(host: Host, ground: Ground, command: Command, job: Job, *, shown: bool) -> Said:
    """Run it; what it prints goes to `job.output` only if it is `shown`, and then only its end is kept.

    Raises:
        StepFailed, TokenOutdated: as `Host.run`; host, if it printed more than can be kept.
    """
    heard = bytearray()
    listening = replace(job, output=_both(job, heard) if shown else _all(heard))
    code = host.run(ground, command, listening)
    if len(heard) > LONGEST and not shown:
        message = f"cannot read what `{command.describe()}` printed: it is over {LONGEST >> 20} MiB"
        raise StepFailed(Cause.host, message)
    return Said(code, bytes(heard))


def _both(job: Job, heard: bytearray) -> Callable[[bytes], None]:
    def hear(chunk: bytes) -> None:
        job.output(chunk)
        heard.extend(chunk)
        del heard[:-_END]

    return hear


def _all(heard: bytearray) -> Callable[[bytes], None]:
    """Everything, up to what shows that it was too much."""

    def hear(chunk: bytes) -> None:
        if len(heard) <= LONGEST:
            heard.extend(chunk)

    return hear
