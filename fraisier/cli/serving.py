"""Puts the long-running processes together: the receiver with its worker, and a worker alone."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import replace

import click

from fraisier.application.ports import Configuration, Delivery, Received, Store
from fraisier.cli.log_output import lossy, set_up_log
from fraisier.wiring import Fraisier
from fraisier.worker import Worker

SWITCH_INTERVAL = 0.0005  # seconds; the writer's thread waits this long at most for the event loop's


def run_server(configuration: Configuration, *, host: str | None, port: int | None) -> None:
    """Receive webhooks and perform deployments until SIGTERM or SIGINT; SIGHUP reloads.

    Raises:
        Unreachable: the port cannot be listened on, or the store not be opened.
    """
    from fraisier import wiring
    from fraisier.application.receive_push import ReceivePush
    from fraisier.web.app import App, Parts
    from fraisier.web.server import Hooks, listen, serve

    settings = configuration.settings
    hidden = Hidden(configuration)
    listener = set_up_log(settings, hidden)
    sockets = listen(host or settings.host, settings.port if port is None else port)
    sys.setswitchinterval(SWITCH_INTERVAL)
    with closing(wiring.open_store(configuration)) as store:
        fraisier = wiring.assemble(configuration, store=store, listener=listener)
        fraisier.publish()
        forges = wiring.forges()
        receive = ReceivePush(
            configuration,
            forges=forges,
            find_forge=wiring.find_forge(),
            record=recorder(store),
            clock=fraisier.clock,
        )
        worker = Worker(fraisier)
        checks = {"worker": lambda: _worker_problem(worker)}
        app = App(Parts(receive_push=receive, forges=forges, store=store, checks=checks))
        hooks = Hooks(
            reload=reloader(fraisier, hidden),
            started=lambda found: _started(worker, found),
            stopping=lambda: worker.stop(fraisier.configuration.settings.shutdown_grace),
        )
        serve(app, sockets, hooks)


def run_worker(configuration: Configuration) -> None:
    """Perform deployments until SIGTERM or SIGINT; SIGHUP reloads."""
    from fraisier import wiring
    from fraisier.domain.errors import FraisierError

    hidden = Hidden(configuration)
    listener = set_up_log(configuration.settings, hidden)
    with closing(wiring.open_store(configuration)) as store:
        fraisier = wiring.assemble(configuration, store=store, listener=listener)
        fraisier.publish()
        worker = Worker(fraisier)
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        worker.start()
        reload = reloader(fraisier, hidden)
        while signal.sigwait(signals) == signal.SIGHUP:
            try:
                reload()
            except FraisierError as error:
                listener("worker_error", {"error": f"the configuration is kept as it was: {error}"})
        worker.stop(fraisier.configuration.settings.shutdown_grace)


def recorder(store: Store) -> Callable[[Delivery], Awaitable[Received]]:
    """`Store.record_async` for the event loop that calls it."""

    def record(delivery: Delivery) -> Awaitable[Received]:
        return store.record_async(delivery, asyncio.get_running_loop())

    return record


class Hidden:
    """Takes every secret of a configuration out of a line of the log; `learn` adds another one's."""

    def __init__(self, configuration: Configuration) -> None:
        self._secrets: set[str] = set()
        self.learn(configuration)

    def __call__(self, line: str) -> str:
        return self._redactor.text(line)

    def learn(self, configuration: Configuration) -> None:
        """Also what was valid before: a deployment that runs may still use it."""
        from fraisier.config.codec import known_secrets
        from fraisier.domain.secret import Redactor

        self._secrets |= known_secrets(configuration)
        self._redactor = Redactor(self._secrets)


def reloader(fraisier: Fraisier, hidden: Hidden) -> Callable[[], Configuration]:
    """Reads the file again, puts it to work and makes it known; raises and changes nothing if it is wrong."""
    from fraisier import wiring

    def reload() -> Configuration:
        kept = fraisier.configuration.settings
        found = wiring.load(fraisier.configuration.path, labels=kept.labels)
        # What was opened at the start stays open: a new database or address needs a restart. So do labels:
        # the worker is registered with them.
        settings = replace(
            found.settings,
            database_url=kept.database_url,
            database_password=kept.database_password,
            state_folder=kept.state_folder,
            host=kept.host,
            port=kept.port,
            labels=kept.labels,
        )
        configuration = replace(found, settings=settings)
        hidden.learn(configuration)
        fraisier.configuration = configuration
        fraisier.publish()
        return configuration

    return reload


def _started(worker: Worker, addresses: Sequence[str]) -> None:
    worker.start()
    for address in addresses:
        click.echo(f"fraisier listens on {address}", file=lossy(sys.stderr))


def _worker_problem(worker: Worker) -> str:
    if not worker.alive:
        return "the worker's threads have ended: restart Fraisier"
    return worker.idle_because
