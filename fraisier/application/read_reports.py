"""What one environment's host knows of the runs that systemd starts there: reports, units, the journal."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from fraisier.application import units_program
from fraisier.application.ports import Finished, Host
from fraisier.deployers.scheduled import install
from fraisier.deployers.timer_units import HEAD, is_about, kept_jobs, name_of, service_of
from fraisier.domain.acts import Command
from fraisier.domain.errors import Cause, FraisierError, StepFailed
from fraisier.domain.fraise import Environment
from fraisier.domain.release import Layout
from fraisier.domain.report import LONGEST, name_of_run

LINES = 400  # of the journal's end
_SHOWN = ("Id", "Description", "FragmentPath", "InvocationID", "ActiveState")
MOST_STRANGERS = 5000  # reports of unknown jobs that are removed in one go
_OVER = frozenset({"inactive", "failed", ""})
_QUICK = 20.0  # seconds
LIST = 'ls -1 -- "$1" 2>/dev/null | LC_ALL=C grep -aE "$2" | head -n 500'
# As the environment's user, in their folder: whatever a file there is or leads to, they could read it.
READ = """\
[ -d "$1" ] || exit 0
cd -- "$1" && shift || exit 1
for file; do
  [ -f "$file" ] && [ ! -L "$file" ] || continue
  printf '\\n/%s\\n' "$file"
  head -c "$most" -- "$file"
done
:"""
# $2: names of reports, $3: those of known jobs. POSIX has no -maxdepth; after a day nobody is to tell of it.
REMOVE_OLD = """\
cd -- "$1" 2>/dev/null || exit 0
find . ! -name . -prune -type f -mtime +0 -print | sed 's|^[.]/||' | LC_ALL=C grep -aE "$2" |
  LC_ALL=C grep -avE "$3" | head -n "$most" |
  while IFS= read -r file; do rm -f -- "$file" && echo; done | wc -l"""
REMOVE = 'cd -- "$1" && shift && rm -rf -- "$@"'


class Reports:
    """Looks, and removes what was read; both cost the host next to nothing while there is nothing."""

    def __init__(self, environment: Environment, host: Host, also: Collection[str] = ()) -> None:
        """`also` are jobs that systemd may still run, whatever the configuration says of them now."""
        self._environment = environment
        self._jobs = dict.fromkeys([*(job.name for job in kept_jobs(environment)), *also])
        self.host = host
        self._folder = Layout(environment.app_path).reports

    def names(self) -> list[str]:
        """Files of runs of the environment's jobs; of others, which nobody collects, may be any number."""
        jobs = {*self._environment.jobs, *self._jobs}
        if not jobs:
            return []
        listed = self.host.inspect(("sh", "-c", LIST, "sh", self._folder, _of(jobs))).stdout
        names = listed.decode("utf-8", "replace").splitlines()
        return [name for name in names if (named := name_of_run(name)) is not None and named[0] in jobs]

    def remove_strangers(self) -> int:
        """Remove old reports of jobs that nobody knows, which nobody would ever collect; how many."""
        if self.host.kind(self._folder) != "folder":
            return 0
        known = _of({*self._environment.jobs, *self._jobs} or {"[.]"})
        any_job = "^[A-Za-z0-9][A-Za-z0-9_.-]*[.][0-9a-f]{32}$"
        removed = self.host.ask(self._command(REMOVE_OLD, any_job, known, most=MOST_STRANGERS)).stdout.strip()
        return int(removed) if removed.isdigit() else 0

    def under_way(self) -> Mapping[str, str]:
        """The services of the environment that run, and the invocation of each; also of jobs that are gone.

        Raises:
            StepFailed: host, where systemd does not answer.
        """
        key = self._environment.key
        known = {service_of(key, job) for job in self._jobs}
        words = ("systemctl", "show", f"--property={','.join(_SHOWN)}", "--", f"{name_of(key)}-*.service")
        shown = _answer(self.host.inspect(words, timeout=_QUICK), "ask systemd what runs")
        found: dict[str, str] = {}
        for part in shown.decode("utf-8", "replace").split("\n\n"):
            told = dict(line.split("=", 1) for line in part.splitlines() if "=" in line)
            unit = told.get("Id", "")
            if told.get("ActiveState", "") in _OVER:
                continue
            is_ours = is_about(key, told.get("Description", ""))
            if is_ours or (unit in known and self._wrote(told.get("FragmentPath", ""))):
                found[unit] = told.get("InvocationID", "")
        return found

    def _wrote(self, path: str) -> bool:
        """Whether a unit with the name of ours, and another description, is ours: who waits for somebody
        else's waits for ever. Without a file it is what is left of one that was removed as it ran.
        """
        head = f"{HEAD} {self._environment.key}\n"
        return not path or (self.host.read(path) or b"").startswith(head.encode())

    def read(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """What is in those that are there.

        Raises:
            StepFailed: host, where nobody could look.
        """
        shown = _answer(self.host.ask(self._command(READ, *names)), "read the reports of runs")
        parts = re.split(rb"(?:\A|\n)/([A-Za-z0-9_.-]+)\n", shown)
        return {name.decode(): text for name, text in zip(parts[1::2], parts[2::2], strict=True)}

    def remove(self, names: Sequence[str]) -> None:
        """Forget them; what is not there is fine."""
        self.host.ask(self._command(REMOVE, *names))

    def printed(self, job: str, invocation: str) -> str:
        """The end of what a run printed, as the journal has it; it may hold secrets."""
        environment = self._environment
        if environment.log_file:
            return f"Its output is in {environment.log_file} on {self.host.name}.\n"
        unit = service_of(environment.key, job)
        words = units_program.call("journal", install(environment, ""), unit, invocation, str(LINES))
        try:
            done = self.host.inspect(words, timeout=_QUICK)
        except FraisierError as error:
            return f"{error.message}\n"
        if done.code != 0:
            return f"cannot read the journal: {done.stderr.decode('utf-8', 'replace').strip()}\n"
        return done.stdout.decode("utf-8", "replace")

    def _command(self, script: str, *words: str, most: int = LONGEST) -> Command:
        return Command(
            argv=("sh", "-c", script, "sh", self._folder, *words),
            cwd="/",
            user=self._environment.user,
            env={"most": str(most)},
            timeout=_QUICK,
        )


def _of(jobs: Collection[str]) -> str:
    """What matches the names of their reports."""
    return f"^({'|'.join(sorted(jobs)).replace('.', '[.]')})[.][0-9a-f]{{32}}$"


def _answer(finished: Finished, doing: str) -> bytes:
    """What nobody answered must not pass for: nothing is there."""
    if finished.code != 0:
        said = finished.stderr.decode("utf-8", "replace").strip() or f"exit code {finished.code}"
        raise StepFailed(Cause.host, f"cannot {doing}: {said}")
    return finished.stdout
