"""Everything that deployments need, looked at one by one; what is missing comes with how to mend it."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Sequence

from fraisier.application.build_here import builder_problems
from fraisier.application.check_access import can_read, user_of
from fraisier.application.check_backups import backup_problems
from fraisier.application.check_database import database_problems
from fraisier.application.check_installation import CheckInstallation
from fraisier.application.check_jobs import check_jobs
from fraisier.application.check_timers import changed_units, left_units, stopped_timers
from fraisier.application.find_holds import FindHolds
from fraisier.application.find_holds import in_words as windows_in_words
from fraisier.application.find_workers import FindWorkers
from fraisier.application.findings import INSTALLATION, Checker, Finding
from fraisier.application.instances import recorded
from fraisier.application.left_places import LeftPlaces
from fraisier.application.ports import Configuration, EnvironmentCodec, Host, Store
from fraisier.application.preflight import preflight
from fraisier.application.release_marker import running_release
from fraisier.application.takeover import owner_of
from fraisier.application.tools import Tools
from fraisier.deployers.scheduled import may_have_units
from fraisier.domain.cutover_cost import BETTER, cost_of
from fraisier.domain.errors import FraisierError, LivesElsewhere, StepFailed
from fraisier.domain.fraise import BuildOn, Cutover, Environment, EnvironmentKey
from fraisier.domain.labels import in_words
from fraisier.domain.release import Layout


class CheckEnvironments:
    """Looks and changes nothing. `here` is the machine that Fraisier itself runs on."""

    def __init__(
        self, configuration: Configuration, tools: Tools, store: Store, codec: EnvironmentCodec, here: Host
    ) -> None:
        self._configuration = configuration
        self._tools = tools
        self._store = store
        self._codec = codec
        self._here = here
        self._installation = CheckInstallation(configuration, tools, store, here)
        self._looked_at: set[str] = set()

    def __call__(self, keys: Sequence[EnvironmentKey], *, offline: bool) -> Iterator[Finding]:
        """Check the installation and these environments; `offline` asks no repository."""
        yield from self._installation()
        for key in keys:
            yield from self._environment(self._configuration.environments[key], offline=offline)
        yield from self._left_places()

    # -- one environment
    def _environment(self, environment: Environment, *, offline: bool) -> Iterator[Finding]:
        subject = str(environment.key)
        if environment.deploys:
            yield self._webhook_secret(subject, environment)
        yield from self._labels(subject, environment)
        yield from self._holds(subject, environment)
        yield from check_jobs(Checker(subject, "jobs"), environment, self._store, self._tools.clock.now())
        for name in environment.hosts:
            place = f"{subject} on {name}" if len(environment.hosts) > 1 else subject
            yield from self._on_its_host(place, environment.on(name))
        if environment.deploys and not offline:
            yield self._repository(subject, environment)

    def _labels(self, subject: str, environment: Environment) -> Iterator[Finding]:
        """Only where there are labels: that no worker lives at all is said of the installation."""
        check = Checker(subject, "worker")
        lack = FindWorkers(self._store).lack(environment.labels)
        if lack is None:
            yield check.ok("a worker lives that may deploy it")
        elif environment.labels or self._store.live_workers():
            yield check.problem(f"{lack.reason}: its deployments wait", lack.hint, fatal=False)

    def _holds(self, subject: str, environment: Environment) -> Iterator[Finding]:
        """Only where there is something to say."""
        check = Checker(subject, "allowed")
        holds = FindHolds(self._configuration.environments, self._store, self._tools.clock.now())
        hold = holds.hold(environment.key)
        if hold is not None:
            yield check.problem(f"{hold.reason}: its deployments wait", hold.hint, fatal=False)
        elif environment.allowed:
            yield check.ok(f"deployments may begin now ({windows_in_words(environment)})")

    def _on_its_host(self, subject: str, environment: Environment) -> Iterator[Finding]:
        check = Checker(subject, "host")
        try:
            host = self._tools.host(environment)
        except LivesElsewhere as error:
            found = f"not looked at: it lives on machines labelled {in_words(environment.labels)}"
            yield check.problem(found, error.hint, fatal=False)
            return
        except FraisierError as error:
            yield check.problem(error.message, error.hint)
            return
        try:
            yield from self._prerequisites(subject, environment, host)
            yield self._owner(subject, environment, host)
            yield from self._isolation(subject, environment, host)
            if environment.deploys:
                yield self._unit(subject, environment, host)
            yield from self._programs(subject, environment, host)
            if environment.backup is not None:
                yield from self._backups(subject, environment, host)
            yield from self._timers(subject, environment, host)
            yield from self._left_units(host)
        except StepFailed as error:  # of whatever was to be looked at next, too
            yield check.problem(error.message, error.hint)
        yield from self._cutover(subject, environment)

    def _webhook_secret(self, subject: str, environment: Environment) -> Finding:
        check = Checker(subject, "webhook secret")
        settings = self._configuration.settings
        name = environment.source.forge
        of_forge = [forge for forge in settings.forges if forge.name == name and forge.secrets]
        if of_forge or settings.fraise_secrets.get(environment.fraise):
            return check.ok(f"deliveries of {name} are verified")
        message = f"no secret is set for {name}: every webhook is refused"
        return check.problem(message, f"Set git.{name}.webhook_secret; to make one: openssl rand -hex 32")

    def _prerequisites(self, subject: str, environment: Environment, host: Host) -> Iterator[Finding]:
        check = Checker(subject, "prerequisites")
        target, proxy = self._tools.target(environment), self._tools.proxy(environment)
        problems = preflight(environment, host, target, proxy)
        if environment.build_on is BuildOn.here:
            problems = [*problems, *builder_problems(environment, host, self._here)]
        for problem in problems:
            yield check.problem(problem.message, problem.hint, fatal=problem.fatal)
        if not any(problem.fatal for problem in problems):
            yield check.ok(f"disk space, user, {environment.app_path}, shared files and unit")

    def _owner(self, subject: str, environment: Environment, host: Host) -> Finding:
        check = Checker(subject, "owner")
        data = host.read(Layout(environment.app_path).own + "/owner")
        key = environment.key
        if data is None:
            return check.ok(f"{environment.app_path} belongs to nobody yet")
        if _document(data) == owner_of(self._store, environment):
            return check.ok(f"{environment.app_path} is this environment's")
        message = f"{environment.app_path} belongs to another installation or environment"
        hint = f"If it is to be ours from now on: fraisier adopt {key.fraise} {key.environment}"
        return check.problem(message, hint)

    def _isolation(self, subject: str, environment: Environment, host: Host) -> Iterator[Finding]:
        """Code that is being built must not be able to read Fraisier's own files."""
        check = Checker(subject, "isolation")
        builds_here = host is self._here or environment.build_on is BuildOn.here
        if not builds_here or not (environment.build or environment.database):
            return
        if not environment.user:
            message = "commands run as Fraisier's own user, who can read its database and secrets"
            yield check.problem(
                message, f"Set `user:` to one of its own: sudo useradd --system {environment.fraise}"
            )
            return
        user = user_of(self._here, environment.user)
        if user is None:
            return  # told by the prerequisites
        readable = [path for path in self._installation.own_files() if can_read(self._here, path, user)]
        for path in readable:
            message = f"{environment.user} can read {path}, which is Fraisier's own"
            yield check.problem(message, f"chmod go-rwx {path}")
        if not readable:
            yield check.ok(f"{environment.user} can read none of Fraisier's files")

    def _unit(self, subject: str, environment: Environment, host: Host) -> Finding:
        check = Checker(subject, "unit")
        target = self._tools.target(environment)
        if environment.target is None or target is None:
            return check.ok("no unit is named: files are switched, nothing is restarted")
        try:
            serving = running_release(host, Layout(environment.app_path))
            instance = serving in recorded(host, Layout(environment.app_path))
            unit = self._tools.unit(environment, serving if instance else "") or environment.target
            state = target.state(unit, host)
        except FraisierError as error:
            return check.problem(error.message, error.hint)
        name = unit.unit
        if environment.is_blue_green and not instance and not state.known:
            return check.ok("no release runs as an instance yet")
        if not state.known and not (environment.unit_file or environment.run):
            return check.problem(f"{name} is unknown", "Install the unit, or name it as `unit_file:`")
        word = "runs" if state.running else "does not run"
        return check.ok(f"{name} {word}{f' ({state.detail})' if state.detail else ''}")

    def _backups(self, subject: str, environment: Environment, host: Host) -> Iterator[Finding]:
        check = Checker(subject, "backups")
        problems = backup_problems(self._tools.backups, environment, host)
        for problem in problems:
            yield check.problem(problem.message, problem.hint, fatal=problem.fatal)
        if not problems:
            yield check.ok("every source and every destination can be used")

    def _programs(self, subject: str, environment: Environment, host: Host) -> Iterator[Finding]:
        """Only where there is a database."""
        check = Checker(subject, "database")
        serving = running_release(host, Layout(environment.app_path))
        problems = [*database_problems(environment, host, self._tools, serving)]
        for each in problems:
            yield check.problem(each.message, each.hint, fatal=each.fatal)
        if environment.database is not None and not problems:
            yield check.ok("what it is migrated and dumped with is there")

    def _timers(self, subject: str, environment: Environment, host: Host) -> Iterator[Finding]:
        """Only where there is something to say: a changed configuration alone changes no timer."""
        serving = running_release(host, Layout(environment.app_path))
        changed = ", ".join(map(posixpath.basename, changed_units(environment, host, serving)))
        if changed:
            message = f"what systemd has of its jobs is not as the configuration has them: {changed}"
            hint = f"fraisier deploy {environment.fraise} {environment.name} --force brings it up to date"
            yield Checker(subject, "timers").problem(message, hint, fatal=False)
        stopped = [*stopped_timers(environment, host)]
        if stopped:
            message = f"systemd starts no run of jobs whose timers are stopped: {', '.join(stopped)}"
            hint = f"Where no deployment is to do so as it goes on: sudo systemctl start {' '.join(stopped)}"
            yield Checker(subject, "timers").problem(message, hint, fatal=False)

    def _left_units(self, host: Host) -> Iterator[Finding]:
        """Once per host: timers of environments that left the configuration, or the host, go on."""
        if host.name in self._looked_at:
            return
        self._looked_at.add(host.name)
        environments = self._configuration.environments.values()
        wanted = [each.key for each in environments if may_have_units(each) and host.name in each.hosts]
        for problem in left_units(host, wanted):
            yield Checker(INSTALLATION, "timers").problem(problem.message, problem.hint, fatal=False)

    def _left_places(self) -> Iterator[Finding]:
        """Where nothing is deployed any more, so that nobody would look."""
        check = Checker(INSTALLATION, "timers")
        for left in LeftPlaces(self._store, self._codec)(self._configuration):
            key, name, _ = left.place
            if not left.why or name in self._looked_at:
                continue
            try:
                yield from self._left_units(self._tools.host(left.environment))
            except LivesElsewhere:
                continue  # doctor is asked there, too
            except FraisierError as error:
                message = f"systemd on {name} may still run jobs of {key}, {left.why}: {error.message}"
                yield check.problem(
                    message, f"Once it answers: fraisier doctor. {error.hint}".strip(), fatal=False
                )

    def _cutover(self, subject: str, environment: Environment) -> Iterator[Finding]:
        if cost := cost_of(environment):
            better = f". {BETTER}" if environment.cutover is Cutover.restart else ""
            yield Checker(subject, "cutover").ok(cost + better)

    def _repository(self, subject: str, environment: Environment) -> Finding:
        check = Checker(subject, "repository")
        source = environment.source
        ref = f"refs/heads/{environment.branch}" if environment.branch else ""
        try:
            tips = self._tools.repository.tips(source, [ref] if ref else [])
        except FraisierError as error:
            return check.problem(error.message, error.hint)
        if ref and ref not in tips:
            message = f"{source.clone_url} has no branch {environment.branch!r}"
            return check.problem(message, "Push it, or correct `branch:`")
        at = f", {environment.branch} is at {tips[ref][:10]}" if ref else ""
        return check.ok(f"{source.clone_url} answers{at}")


def _document(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None
