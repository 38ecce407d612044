"""Everything that deployments need, looked at one by one; what is missing comes with how to mend it."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from fraisier.application.build_here import builder_problems
from fraisier.application.check_access import can_read, mode_of, user_of
from fraisier.application.check_backups import backup_problems
from fraisier.application.check_database import database_problems
from fraisier.application.check_jobs import check_jobs
from fraisier.application.check_timers import changed_units, left_units, stopped_timers
from fraisier.application.find_holds import FindHolds
from fraisier.application.find_holds import in_words as windows_in_words
from fraisier.application.find_workers import FindWorkers, labels_of
from fraisier.application.instances import recorded
from fraisier.application.left_places import LeftPlaces
from fraisier.application.ports import Configuration, EnvironmentCodec, Host, Row, Store
from fraisier.application.preflight import preflight
from fraisier.application.release_marker import running_release
from fraisier.application.takeover import owner_of
from fraisier.application.tools import Tools
from fraisier.deployers.scheduled import may_have_units
from fraisier.domain.cutover_cost import BETTER, cost_of
from fraisier.domain.errors import FraisierError, LivesElsewhere, StepFailed, StoreUnavailable
from fraisier.domain.fraise import BuildOn, Cutover, Environment, EnvironmentKey, HealthCheck
from fraisier.domain.labels import in_words
from fraisier.domain.release import Layout

OLDEST_GIT = (2, 25)
EARLIEST = 1_750_000_000.0  # Unix seconds; a clock before this version was written is wrong
ENOUGH_DISK = 200 * 1024 * 1024  # bytes for the state folder
INSTALLATION = "installation"


class Verdict(StrEnum):
    """How a check ended. A warning leaves deployments possible."""

    ok = "ok"
    warning = "warning"
    problem = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found. `subject` is an environment, or the installation."""

    subject: str
    check: str
    verdict: Verdict
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Checker:
    """Makes the findings of one check."""

    subject: str
    check: str

    def ok(self, message: str) -> Finding:
        """All is well."""
        return Finding(subject=self.subject, check=self.check, verdict=Verdict.ok, message=message)

    def problem(self, message: str, hint: str = "", *, fatal: bool = True) -> Finding:
        """Something is missing."""
        verdict = Verdict.problem if fatal else Verdict.warning
        return Finding(subject=self.subject, check=self.check, verdict=verdict, message=message, hint=hint)


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
        self._looked_at: set[str] = set()

    def __call__(self, keys: Sequence[EnvironmentKey], *, offline: bool) -> Iterator[Finding]:
        """Check the installation and these environments; `offline` asks no repository."""
        yield from self._installation()
        for key in keys:
            yield from self._environment(self._configuration.environments[key], offline=offline)
        yield from self._left_places()

    # -- the installation
    def _installation(self) -> Iterator[Finding]:
        yield self._configuration_file()
        yield from self._state()
        yield self._database_answers()
        yield self._disk()
        yield self._git()
        yield self._clock()
        yield from self._workers()

    def _configuration_file(self) -> Finding:
        check = Checker(INSTALLATION, "configuration")
        path = self._configuration.path
        mode = mode_of(self._here, path)
        if mode is not None and mode.bits & 0o077 and self._holds_secrets(path):
            found = f"{path} holds secrets, and others can read it (mode {mode.bits:04o})"
            return check.problem(found, f"chmod 0600 {path}, or write them as ${{VARIABLE}}")
        return check.ok(f"{path} is valid")

    def _holds_secrets(self, path: str) -> bool:
        content = self._here.read(path) or b""
        return any(secret in content for secret in self._secrets() if secret)

    def _secrets(self) -> Iterator[bytes]:
        settings = self._configuration.settings
        for forge in settings.forges:
            yield from forge.secrets
        for secrets in settings.fraise_secrets.values():
            yield from secrets
        if settings.database_password is not None:
            yield settings.database_password.reveal().encode()
        for environment in self._configuration.environments.values():
            source = environment.source
            if source.token is not None:
                yield source.token.reveal().encode()

    def _state(self) -> Iterator[Finding]:
        check = Checker(INSTALLATION, "state")
        places = [(self._configuration.settings.state_folder, 0o700)]
        database = self._database()
        if database:
            places.append((database, 0o600))
        for path, wanted in places:
            mode = mode_of(self._here, path)
            if mode is None:
                yield check.problem(
                    f"{path} does not exist yet", "It is made by the first start", fatal=False
                )
            elif mode.bits & 0o077:
                found = f"others can read {path} (mode {mode.bits:04o})"
                yield check.problem(found, f"chmod {wanted:04o} {path}")
            else:
                yield check.ok(f"{path} has mode {mode.bits:04o}")

    def _database(self) -> str:
        parts = urlsplit(self._configuration.settings.database_url)
        return unquote(parts.path) if parts.scheme == "sqlite" else ""

    def _database_answers(self) -> Finding:
        check = Checker(INSTALLATION, "database")
        try:
            self._store.ping()
        except StoreUnavailable as error:
            return check.problem(error.message, error.hint)
        return check.ok(f"{self._configuration.settings.database_url} can be written")

    def _disk(self) -> Finding:
        check = Checker(INSTALLATION, "disk space")
        folder = self._configuration.settings.state_folder
        free = self._here.free_bytes(folder)
        if free < ENOUGH_DISK:
            wanted = ENOUGH_DISK >> 20
            found = f"{free >> 20} MiB are free for {folder}, {wanted} MiB are needed"
            return check.problem(found, "Free space there, or lower `retention`")
        return check.ok(f"{free >> 20} MiB are free for {folder}")

    def _git(self) -> Finding:
        check = Checker(INSTALLATION, "git")
        found = self._here.inspect(("git", "--version"))
        version = re.search(rb"(\d+)\.(\d+)", found.stdout)
        if found.code != 0 or version is None:
            return check.problem("git is not installed", "sudo apt-get install git")
        if (int(version[1]), int(version[2])) < OLDEST_GIT:
            wanted = ".".join(map(str, OLDEST_GIT))
            return check.problem(f"git {version[0].decode()} is too old", f"Install git {wanted} or newer")
        return check.ok(found.stdout.decode("utf-8", "replace").strip())

    def _clock(self) -> Finding:
        check = Checker(INSTALLATION, "clock")
        if self._tools.clock.now() < EARLIEST:
            return check.problem("the clock is years behind", "sudo timedatectl set-ntp true")
        command = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
        found = self._here.inspect(command)
        if found.code == 0 and found.stdout.strip() == b"no":
            message = "the clock is not synchronised"
            return check.problem(message, "sudo timedatectl set-ntp true", fatal=False)
        return check.ok("the clock is set")

    def _workers(self) -> Iterator[Finding]:
        check = Checker(INSTALLATION, "worker")
        workers = self._store.live_workers()
        if not workers:
            hint = "sudo systemctl start fraisier, or `fraisier serve`"
            yield check.problem("no worker lives: deployments wait", hint, fatal=False)
            return
        yield check.ok(f"workers: {', '.join(map(_described, workers))}")
        yield from self._unlabelled(workers)
        yield from self._vain()
        yield from self._server()

    def _unlabelled(self, workers: Sequence[Row]) -> Iterator[Finding]:
        """Two machines with workers for the same environments: whoever is first deploys to its own disk."""
        machines = sorted({worker["host"] for worker in workers if not labels_of(worker)})
        nowhere = [str(key) for key, each in self._configuration.environments.items() if not each.labels]
        if len(machines) > 1 and nowhere:
            message = f"{', '.join(nowhere)}: deployed on any of {', '.join(machines)}, which have no labels"
            hint = (
                "Give each machine's worker a --label, and each environment `labels:` that say where it lives"
            )
            yield Checker(INSTALLATION, "worker").problem(message, hint)

    def _vain(self) -> Iterator[Finding]:
        check = Checker(INSTALLATION, "deployments")
        for key, lack in FindWorkers(self._store).waiting_in_vain().items():
            yield check.problem(f"{key} waits: {lack.reason}", lack.hint)

    def _server(self) -> Iterator[Finding]:
        check = Checker(INSTALLATION, "server")
        settings = self._configuration.settings
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
        url = f"http://{host}:{settings.port}/health"
        for environment in self._configuration.environments.values():
            probe = HealthCheck(url=url, request_timeout=2.0)
            health = self._tools.probers["http"].probe(
                probe, environment, "/", lambda _command: 1, self._here.connect
            )
            if health.passed:
                yield check.ok(f"{url} answers")
            else:
                hint = "Right for `fraisier worker` alone; else see the log of `fraisier serve`"
                yield check.problem(f"{url} does not answer: {health.detail}", hint, fatal=False)
            return

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
        readable = [path for path in self._own_files() if can_read(self._here, path, user)]
        for path in readable:
            message = f"{environment.user} can read {path}, which is Fraisier's own"
            yield check.problem(message, f"chmod go-rwx {path}")
        if not readable:
            yield check.ok(f"{environment.user} can read none of Fraisier's files")

    def _own_files(self) -> list[str]:
        found = [self._configuration.settings.state_folder, self._database()]
        if self._holds_secrets(self._configuration.path):
            found.append(self._configuration.path)
        return [path for path in found if path and mode_of(self._here, path) is not None]

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


def _described(worker: Row) -> str:
    labels = labels_of(worker)
    return f"{worker['host']} (pid {worker['pid']}{f', labels {in_words(labels)}' if labels else ''})"


def _document(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None
