"""What a run that systemd started tells of itself: the file that `deployers.timer_scripts` writes.

Its user writes it, and may write anything: what is taken from it are numbers, times that can be, and words of
ours. Nothing in it is a path, and it is about a job of its own environment alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fraisier.domain.errors import Cause
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.release import is_release_name
from fraisier.domain.run import Reported, RunEnding, RunStatus, RunTrigger

LONGEST = 1 << 14  # bytes that are read of a report
MOST_TRIES = 101
INVOCATION = re.compile(r"[0-9a-f]{32}\Z")  # systemd's name of one run of a unit
_FILE = re.compile(r"(?P<job>[A-Za-z0-9][A-Za-z0-9_.-]{0,62})\.(?P<invocation>[0-9a-f]{32})\Z")
_TRIGGERS = {each.value: each for each in (RunTrigger.manual, RunTrigger.scheduled, RunTrigger.dependency)}
_PATIENT = 5.0  # seconds by which two looks at one clock may differ
_OF_TIMEOUT = 124  # what timeout(1) exits with
# systemd.exec(5), $SERVICE_RESULT
_RESULTS = {
    "timeout": (Cause.timeout, "it ran for longer than its `timeout` and was ended"),
    "oom-kill": (Cause.run, "the kernel ended it, as memory ran out"),
    "core-dump": (Cause.run, "it crashed, and left a core dump"),
    "watchdog": (Cause.run, "its watchdog ended it"),
    "resources": (Cause.host, "systemd could not start it: resources were missing"),
    "exec-condition": (Cause.run, "systemd did not start it"),
    "protocol": (Cause.run, "systemd and it did not understand one another"),
}


@dataclass(slots=True)
class Try:
    """One try. `ended_at` None: it is under way, or nobody could say more."""

    started_at: float
    ended_at: float | None = None
    code: int | None = None


@dataclass(slots=True)
class Report:
    """What was read. `result` is systemd's word for the whole, '' before its end."""

    trigger: RunTrigger = RunTrigger.scheduled
    release: str = ""
    tries: list[Try] = field(default_factory=list)
    stopped: bool = False
    ended_at: float = 0.0
    result: str = ""
    code: str = ""
    status: str = ""
    peak: int | None = None


def name_of_run(file: str) -> tuple[str, str] | None:
    """Job and invocation of a report's file; None: it is none."""
    match = _FILE.match(file)
    return (match["job"], match["invocation"]) if match else None


def read_report(data: bytes, *, now: float) -> Report | None:
    """What a report says; None: nothing that could be. What is not understood in it is left out."""
    report = Report()
    for line in data[:LONGEST].decode("ascii", "replace").splitlines():
        words = line.split()
        take = _LINES.get((words[0], len(words))) if words else None
        if take is not None:
            take(report, words, now)
    return report if report.tries else None


def _begin(report: Report, words: list[str], now: float) -> None:
    at = _time(words[2], now)
    if at is None or words[1] != str(len(report.tries) + 1) or len(report.tries) >= MOST_TRIES:
        return
    if not report.tries:
        report.trigger = _TRIGGERS.get(words[3], RunTrigger.scheduled)
        report.release = words[4] if is_release_name(words[4]) else ""
    report.tries.append(Try(at))


def _end(report: Report, words: list[str], now: float) -> None:
    at = _time(words[2], now)
    if at is None or words[1] != str(len(report.tries)) or not words[3].isdecimal():
        return
    last = report.tries[-1]
    if last.ended_at is None and at >= last.started_at - _PATIENT and len(words[3]) <= 3:
        last.ended_at, last.code = max(at, last.started_at), int(words[3])


def _stopped(report: Report, _: list[str], __: float) -> None:
    report.stopped = True


def _final(report: Report, words: list[str], now: float) -> None:
    at = _time(words[1], now)
    if at is not None and not report.result and re.match(r"[a-z-]{1,20}\Z", words[2]):
        report.ended_at, report.result, report.code, report.status = at, words[2], words[3], words[4]
        report.peak = int(words[5]) if re.match(r"[1-9]\d{0,14}\Z", words[5]) else None


_LINES: Mapping[tuple[str, int], Callable[[Report, list[str], float], None]] = {
    ("begin", 5): _begin,
    ("end", 4): _end,
    ("stopped", 1): _stopped,
    ("final", 6): _final,
}


def _time(text: str, now: float) -> float | None:
    try:
        at = float(text)
    except ValueError:
        return None
    return at if math.isfinite(at) and 1_000_000_000 < at < now + 60 else None


def runs_of(report: Report, about: Reported, *, runs: bool) -> list[Reported]:
    """A report's tries as runs. `about` says whose; `runs`: systemd says that it is still under way."""
    found = []
    for number, each in enumerate(report.tries, 1):
        is_last = number == len(report.tries)
        ended_at = each.ended_at
        ending: RunEnding | None = _of_try(each) if ended_at is not None else None
        if is_last and runs:
            ending = ended_at = None
        elif is_last or ending is None:
            ending = _of_whole(report, each) if is_last else lost()
            ended_at = (report.ended_at if is_last else 0.0) or each.ended_at or each.started_at
        found.append(
            replace(
                about,
                invocation=about.invocation + (f".{number}" if number > 1 else ""),
                started_at=each.started_at,
                trigger=report.trigger if number == 1 else RunTrigger.retry,
                attempt=number,
                first=about.invocation if number > 1 else "",
                release=report.release,
                ended_at=max(ended_at, each.started_at) if ended_at is not None else None,
                ending=ending,
            )
        )
    return found


def of_environment(key: EnvironmentKey, host: str, job: str, invocation: str) -> Reported:
    """Whose run it is. Nobody can complete another environment's run by its invocation."""
    name = f"{key}/{job}:{invocation}"
    return Reported(environment=key, host=host, job=job, invocation=name, started_at=0.0)


def file_of(job: str, name: str) -> str:
    """The file of the report of a run of `job` that is stored under this name: the inverse of `runs_of`."""
    return f"{job}.{invocation_in(name)}"


def invocation_in(name: str) -> str:
    """Systemd's own name of a run, which stands behind ours; a further try has its number behind that."""
    return name.rpartition(":")[2].partition(".")[0]


def _of_try(each: Try) -> RunEnding:
    if each.code == 0:
        return RunEnding(status=RunStatus.success, exit_code=0)
    if each.code == _OF_TIMEOUT:
        error = "it ran for longer than its `timeout` and was ended"
        return _failed(Cause.timeout, error, code=None)
    return _failed(Cause.run, f"it exited with {each.code}", code=each.code)


def _of_whole(report: Report, last: Try) -> RunEnding:
    ending = _of_result(report, last)
    return replace(ending, peak_memory=report.peak)


def _of_result(report: Report, last: Try) -> RunEnding:
    if report.stopped and report.result not in _RESULTS:
        error = "its unit was stopped, or its machine shut down"
        return RunEnding(status=RunStatus.cancelled, cause=Cause.cancelled, error=error)
    if not report.result and last.ended_at is None:
        return lost()
    if last.code is not None and (report.result in ("success", "exit-code", "")):
        return _of_try(last)
    if report.result in _RESULTS:
        cause, error = _RESULTS[report.result]
        return _failed(cause, error, code=last.code)
    if report.code == "exited" and report.status.isdecimal():
        return _failed(Cause.run, f"it exited with {report.status[:3]}", code=int(report.status[:3]))
    how = f" ({report.status})" if re.match(r"[A-Z0-9]{1,12}\Z", report.status) else ""
    return _failed(Cause.run, f"it was ended by a signal{how}", code=last.code)


def lost() -> RunEnding:
    """The end of a run of which nobody knows more."""
    error = "it was interrupted: nothing tells how it ended, its machine may have lost its power"
    return _failed(Cause.interrupted, error, code=None)


def _failed(cause: Cause, error: str, *, code: int | None) -> RunEnding:
    return RunEnding(
        status=RunStatus.failed,
        cause=cause,
        error=f"cannot run the job: {error}",
        hint="See what it printed: fraisier logs",
        exit_code=code,
    )
