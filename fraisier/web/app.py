"""The HTTP side as one ASGI application: the webhook before everything else, the rest by Starlette."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fraisier.application.find_holds import FindHolds
from fraisier.application.find_workers import FindWorkers
from fraisier.application.ports import Configuration, Forge, Settings, Store
from fraisier.application.receive_push import ReceivePush
from fraisier.domain.errors import FraisierError, NotFound
from fraisier.web import health
from fraisier.web.body import InFlight, Receive
from fraisier.web.errors import (
    BASE_HEADERS,
    Answer,
    MethodNotAllowed,
    Send,
    internal_error,
    refusal,
)
from fraisier.web.metrics import CONTENT_TYPE, Metrics
from fraisier.web.providers import providers
from fraisier.web.webhook import PATH, Gate, Scope, Webhook

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the application is made of. `checks` are the parts of `/ready` besides the configuration."""

    receive_push: ReceivePush
    forges: Mapping[str, Forge]
    store: Store
    checks: Mapping[str, health.Check] = field(default_factory=dict)


class App:
    """The whole application. `reconfigure` may be called while it serves, from its event loop's thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._config_problem = ""
        settings = self.settings
        in_flight = InFlight(settings.max_in_flight, largest=settings.max_body)
        self._metrics = Metrics(parts.store.counts, parts.store.alerts, lambda: in_flight.bytes)
        self._webhook = Webhook(parts.receive_push, Gate.of(settings), in_flight, self._metrics)
        self._rest = Starlette(routes=self._routes(), exception_handlers=_EXCEPTION_HANDLERS)
        self._rest.router.redirect_slashes = False  # a redirect would repeat the sender's Host header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and _is_webhook(scope["path"]):
            await self._webhook(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    @property
    def settings(self) -> Settings:
        """The settings in use."""
        return self._parts.receive_push.configuration.settings

    def reconfigure(self, configuration: Configuration) -> None:
        """Work by another, checked configuration from the next request on."""
        self._parts.receive_push.reconfigure(configuration)
        self._webhook.gate = Gate.of(configuration.settings)
        self._config_problem = ""

    def keep_configuration(self, problem: str) -> None:
        """The file cannot be used: go on with the old configuration, and say so in `/ready`."""
        self._config_problem = problem

    def _routes(self) -> list[Route]:
        return [
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._show_metrics),
            Route("/providers", self._providers),
        ]

    async def _health(self, _: Request) -> Response:
        return _response(health.HEALTHY)

    async def _ready(self, _: Request) -> Response:
        checks = {
            "database": self._database,
            "worker": self._worker,
            "config": lambda: self._config_problem,
            **self._parts.checks,
        }
        notes, told = {"deployments": self._deployments}, {"holds": self._holds}
        return _response(await health.readiness(checks, notes, told))

    async def _show_metrics(self, _: Request) -> Response:
        text = await asyncio.to_thread(self._metrics.render)
        return _response(Answer(200, text), content_type=CONTENT_TYPE)

    async def _providers(self, _: Request) -> Response:
        return _response(providers(self._parts.receive_push.configuration, self._parts.forges))

    def _database(self) -> str:
        self._parts.store.ping()
        return ""

    def _worker(self) -> str:
        return "" if self._parts.store.live_workers() else "no worker is alive: deployments wait"

    def _deployments(self) -> str:
        """Why some of them wait in vain. Another machine's worker is no reason to send us no webhooks."""
        vain = FindWorkers(self._parts.store).waiting_in_vain()
        return "; ".join(f"{key} waits: {lack.reason}" for key, lack in vain.items())

    def _holds(self) -> str:
        """Why some of them are not begun for now."""
        environments = self._parts.receive_push.configuration.environments
        held = FindHolds(environments, self._parts.store, time.time()).waiting()
        return "; ".join(hold.reason for hold in held.values())


def _is_webhook(path: str) -> bool:
    return path == PATH or path.startswith(f"{PATH}/")


def _response(answer: Answer, *, content_type: str = "application/json") -> Response:
    response = Response(answer.body, answer.status, media_type=content_type)
    for name, value in (*BASE_HEADERS[1:], *answer.headers):
        response.headers[name.decode()] = value.decode()
    return response


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, FraisierError)  # noqa: S101 - Starlette calls this for nothing else
    return _response(refusal(error))


async def _not_routed(request: Request, error: Exception) -> Response:
    """Starlette's own refusals, 404 and 405, in our words."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET, HEAD").encode()
        hint = f"Use {allowed.decode()}"
        message = f"cannot answer {request.method} here"
        return _response(refusal(MethodNotAllowed(message, hint, headers=((b"allow", allowed),))))
    hint = "Webhooks go to /webhook; there are also /health, /ready, /metrics and /providers"
    return _response(refusal(NotFound("cannot find this page", hint)))


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("request failed", path=request.url.path, exc_info=error)
    return _response(internal_error())


_EXCEPTION_HANDLERS: Any = {
    HTTPException: _not_routed,
    FraisierError: _refused,
    Exception: _unexpected,
}
