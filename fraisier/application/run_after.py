"""Hooks: what follows the last try of a run, before it has ended."""

from __future__ import annotations

from fraisier.application.desk import RunDesk
from fraisier.application.journal import explain
from fraisier.domain.acts import Command
from fraisier.domain.errors import StoreUnavailable, TokenOutdated
from fraisier.domain.run import RunEnding, RunStatus

LONGEST_HOOK = 600.0  # seconds; a job's own `timeout`, where that is less


def run_hooks(desk: RunDesk, ending: RunEnding) -> None:
    """Run the lines that the job wants after an ending like this one; a bad end of theirs is only told.

    None after a try that another one follows, or after what somebody called off.
    """
    if ending.again is not None:
        return
    lines = {RunStatus.success: desk.job.on_success, RunStatus.failed: desk.job.on_failure}
    for line in lines.get(ending.status, ()):
        desk.say(f"$ {line}")
        try:
            code = desk.follow(_hook(desk, line, ending))
        except (TokenOutdated, StoreUnavailable):
            raise
        except Exception as failure:  # noqa: BLE001 - whatever it is: the run has ended as it has
            desk.say(explain(failure).message)
        else:
            if code:
                desk.say(f"[the hook ended with {code}]")


def _hook(desk: RunDesk, line: str, ending: RunEnding) -> Command:
    told = {
        "FRAISIER_STATUS": ending.status.value,
        "FRAISIER_EXIT_CODE": "" if ending.exit_code is None else str(ending.exit_code),
        "FRAISIER_ERROR": ending.error,
    }
    timeout = min(desk.job.timeout, LONGEST_HOOK)
    return Command.shell(line, cwd=desk.folder, env=told, timeout=timeout)
