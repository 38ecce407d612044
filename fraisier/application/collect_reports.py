"""Collects what runs that systemd started tell of themselves, from each host, into the history."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fraisier.application import units_program
from fraisier.deployers.scheduled import install
from fraisier.deployers.timer_units import kept_jobs, service_of
from fraisier.domain.acts import Command
from fraisier.domain.errors import FraisierError, LivesElsewhere
from fraisier.domain.job import Keeper
from fraisier.domain.release import Layout
from fraisier.domain.report import LONGEST, Report, name_of_run, of_environment, read_report, runs_of
from fraisier.domain.run import Reported, RunStatus, RunTrigger, RunWish
from fraisier.domain.secret import Redactor

if TYPE_CHECKING:
    from fraisier.application.ports import EnvironmentCodec, Host, Listener, Store
    from fraisier.application.tools import Tools
    from fraisier.domain.fraise import Environment

AT_ONCE = 50  # reports of one environment in one go
LINES = 400  # of the journal's end
_SHOWN = ("Id", "InvocationID", "ActiveState")
_OVER = frozenset({"inactive", "failed", ""})
_QUICK = 20.0  # seconds
_LIST = 'ls -1 -- "$1" 2>/dev/null | head -n 500'
# As the environment's user, in their folder: whatever a file there is or leads to, they could read it.
_READ = """\
cd -- "$1" && shift || exit 1
for file; do
  [ -f "$file" ] && [ ! -L "$file" ] || continue
  printf '\\n/%s\\n' "$file"
  head -c "$most" -- "$file"
done"""
_REMOVE = 'cd -- "$1" && shift && rm -rf -- "$@"'


class CollectReports:
    """Any number of workers may: a report says of what it is, so one that is told twice is stored once.

    A report is removed only after it was stored, so that none is lost with whoever collects it.
    """

    def __init__(self, tools: Tools, store: Store, codec: EnvironmentCodec, listener: Listener) -> None:
        self._tools = tools
        self._store = store
        self._codec = codec
        self._listener = listener
        self._told: dict[str, bytes] = {}  # what was stored of those that are under way

    def __call__(self, environments: Iterable[Environment]) -> int:
        """Collect from all of them; how many runs have ended. A host that is away has to wait."""
        ended = 0
        for environment in environments:
            if not kept_jobs(environment):
                continue
            try:
                ended += self._collect(environment, self._tools.host(environment))
            except LivesElsewhere:
                continue
            except (FraisierError, OSError) as error:
                told = {"environment": str(environment.key), "error": str(error)}
                self._listener("reports_not_collected", told)
        return ended

    def _collect(self, environment: Environment, host: Host) -> int:
        folder = Layout(environment.app_path).reports
        listed = host.inspect(("sh", "-c", _LIST, "sh", folder)).stdout.decode("utf-8", "replace")
        files = [name for name in listed.splitlines() if _is_of(environment, name)][:AT_ONCE]
        if not files:
            return 0
        states = self._states(environment, host)
        found = self._read(environment, host, folder, files)
        done = [name for name in files if self._store_one(environment, host, name, found, states)]
        if done:
            host.ask(_command(environment, _REMOVE, folder, *done))
        for name in done:
            self._told.pop(f"{environment.key}/{name}", None)
        return len(done)

    def _states(self, environment: Environment, host: Host) -> Mapping[str, str]:
        """The invocation of each of the environment's services that is under way."""
        units = [service_of(environment.key, job.name) for job in kept_jobs(environment)]
        words = ("systemctl", "show", f"--property={','.join(_SHOWN)}", "--", *units)
        shown = host.inspect(words, timeout=_QUICK).stdout.decode("utf-8", "replace")
        found: dict[str, str] = {}
        for part in shown.split("\n\n"):
            told = dict(line.split("=", 1) for line in part.splitlines() if "=" in line)
            if told.get("ActiveState", "") not in _OVER:
                found[told.get("Id", "")] = told.get("InvocationID", "")
        return found

    def _read(
        self, environment: Environment, host: Host, folder: str, files: Sequence[str]
    ) -> Mapping[str, bytes]:
        shown = host.ask(_command(environment, _READ, folder, *files)).stdout
        parts = re.split(rb"(?:\A|\n)/([A-Za-z0-9_.-]+)\n", shown)
        return {name.decode(): text for name, text in zip(parts[1::2], parts[2::2], strict=True)}

    def _store_one(
        self,
        environment: Environment,
        host: Host,
        file: str,
        found: Mapping[str, bytes],
        states: Mapping[str, str],
    ) -> bool:
        """Whether the report is needed no more."""
        named = name_of_run(file)
        if named is None:
            return False
        job, invocation = named
        runs = states.get(service_of(environment.key, job)) == invocation
        report = read_report(found.get(file, b""), now=self._tools.clock.now())
        if report is None:
            if not runs:
                self._listener("report_not_understood", {"environment": str(environment.key), "file": file})
            return not runs
        key = f"{environment.key}/{file}"
        if runs and self._told.get(key) == found[file]:
            return False
        for reported in self._runs(environment, host, report, job, invocation, runs=runs):
            self._store.report_run(reported)
        self._told[key] = found[file]
        return not runs

    def _runs(
        self, environment: Environment, host: Host, report: Report, job: str, invocation: str, *, runs: bool
    ) -> list[Reported]:
        about = of_environment(environment.key, host.name, job, invocation)
        made = runs_of(report, about, runs=runs)
        last = made[-1]
        if last.ending is not None:
            last = replace(last, output=self._output(environment, host, job, invocation))
            if last.ending is not None and last.ending.status is RunStatus.success:
                last = replace(last, ending=replace(last.ending, then=_what_follows(environment, job)))
        return [*made[:-1], last]

    def _output(self, environment: Environment, host: Host, job: str, invocation: str) -> str:
        """The end of what it printed, as the journal has it."""
        if environment.log_file:
            return f"Its output is in {environment.log_file} on {host.name}.\n"
        unit = service_of(environment.key, job)
        row = install(environment, "")
        try:
            words = units_program.call("journal", row, unit, invocation, str(LINES))
            done = host.inspect(words, timeout=_QUICK)
        except FraisierError as error:
            return f"{error.message}\n"
        if done.code != 0:
            return f"cannot read the journal: {done.stderr.decode('utf-8', 'replace').strip()}\n"
        content = host.read(environment.env_file) if environment.env_file else None
        redactor = Redactor(self._codec.secrets(environment, content))
        return redactor.text(done.stdout.decode("utf-8", "replace"))


def _is_of(environment: Environment, file: str) -> bool:
    named = name_of_run(file)
    return named is not None and named[0] in environment.jobs


def _command(environment: Environment, script: str, *words: str) -> Command:
    return Command(
        argv=("sh", "-c", script, "sh", *words),
        cwd="/",
        user=environment.user,
        env={"most": str(LONGEST)},
        timeout=_QUICK,
    )


def _what_follows(environment: Environment, job: str) -> tuple[RunWish, ...]:
    """Jobs that wait for this one, and that no unit of systemd starts."""
    return tuple(
        RunWish(
            environment=environment.key,
            job=each.name,
            trigger=RunTrigger.dependency,
            concurrency=each.concurrency,
        )
        for each in environment.jobs.values()
        if each.depends_on == job and each.schedule is None and each.keeper is Keeper.worker
    )
