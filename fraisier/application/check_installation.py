"""What deployments need of the installation itself: its files, git, clock, disk, workers and server."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote, urlsplit

from fraisier.application.check_access import mode_of
from fraisier.application.find_workers import FindWorkers, labels_of
from fraisier.application.findings import INSTALLATION, Checker, Finding
from fraisier.application.ports import Configuration, Host, Row, Store
from fraisier.application.tools import Tools
from fraisier.domain.errors import StoreUnavailable
from fraisier.domain.fraise import HealthCheck
from fraisier.domain.labels import in_words

OLDEST_GIT = (2, 25)
EARLIEST = 1_750_000_000.0  # Unix seconds; a clock before this version was written is wrong
ENOUGH_DISK = 200 * 1024 * 1024  # bytes for the state folder


class CheckInstallation:
    """Looks and changes nothing. `here` is the machine that Fraisier itself runs on."""

    def __init__(self, configuration: Configuration, tools: Tools, store: Store, here: Host) -> None:
        self._configuration, self._tools, self._store, self._here = configuration, tools, store, here

    def __call__(self) -> Iterator[Finding]:
        """Check all of it."""
        yield self._configuration_file()
        yield from self._state()
        if not self._database() or mode_of(self._here, self._database()) is not None:
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
                yield self._not_there_yet(check, path)
            elif mode.bits & 0o077:
                found = f"others can read {path} (mode {mode.bits:04o})"
                yield check.problem(found, f"chmod {wanted:04o} {path}")
            else:
                yield check.ok(f"{path} has mode {mode.bits:04o}")

    def _not_there_yet(self, check: Checker, path: str) -> Finding:
        above = posixpath.dirname(path)
        while mode_of(self._here, above) is None and above != "/":
            above = posixpath.dirname(above)
        if self._here.inspect(("test", "-w", above)).code != 0:
            hint = "Run this as Fraisier's user, or make it: `fraisier init --service` shows how"
            return check.problem(f"{path} does not exist, and this user may not write to {above}", hint)
        return check.problem(f"{path} does not exist yet", "It is made by the first start", fatal=False)

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

    def own_files(self) -> list[str]:
        """What nobody but Fraisier's own user may read."""
        found = [self._configuration.settings.state_folder, self._database()]
        if self._holds_secrets(self._configuration.path):
            found.append(self._configuration.path)
        return [path for path in found if path and mode_of(self._here, path) is not None]


def _described(worker: Row) -> str:
    labels = labels_of(worker)
    return f"{worker['host']} (pid {worker['pid']}{f', labels {in_words(labels)}' if labels else ''})"
