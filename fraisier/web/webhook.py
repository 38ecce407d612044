"""`POST /webhook`: translate in, call one verb, translate out.

This is the one endpoint that has to be fast, so it speaks ASGI itself: no request objects, no routing by
regular expressions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
import structlog

from fraisier.application.ports import Delivery, Headers, Received, Settings
from fraisier.application.receive_push import Letter, ReceivePush
from fraisier.domain.deployment import Deployment
from fraisier.domain.errors import BadSignature, FraisierError, TooManyFailures, UnknownForge
from fraisier.domain.push import Change, Push
from fraisier.web.addresses import Addresses, site
from fraisier.web.body import Body, InFlight, Receive
from fraisier.web.errors import (
    Answer,
    MethodNotAllowed,
    Send,
    Vanished,
    internal_error,
    printable,
    refusal,
    respond,
)
from fraisier.web.intake import Intake
from fraisier.web.limits import FailedAuthentications
from fraisier.web.metrics import Metrics

PATH = "/webhook"
_BLOCKING = 256 * 1024  # bytes; verifying and parsing more than this would hold up everyone else
_ALLOW_POST = ((b"allow", b"POST"),)

Scope = MutableMapping[str, Any]

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Gate:
    """What the receiver lets in. Replaced when the configuration changes."""

    max_body: int
    patience: float
    addresses: Addresses
    failures: FailedAuthentications

    @classmethod
    def of(cls, settings: Settings) -> Gate:
        """The gate that `settings` describe."""
        return cls(
            max_body=settings.max_body,
            patience=settings.body_timeout,
            addresses=Addresses(settings.trusted_proxies),
            failures=FailedAuthentications(settings.failed_auth_limit, monotonic=time.monotonic),
        )


class Webhook:
    """The receiver as an ASGI application for `/webhook` and `/webhook/{forge}`."""

    def __init__(self, receive_push: ReceivePush, gate: Gate, in_flight: InFlight, metrics: Metrics) -> None:
        self.gate = gate
        self._receive_push = receive_push
        self._intake = Intake(receive_push)
        self._in_flight = in_flight
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, "large-bodies")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Refusals are answers; only a sender that hung up gets none."""
        try:
            answer = await self._answer(scope, receive)
        except Vanished:
            return
        except FraisierError as error:
            answer = self._refuse(error, scope)
        except Exception:  # noqa: BLE001
            # The one boundary: whatever this is, the sender gets JSON and the log gets the traceback.
            _log.exception("webhook failed", path=scope["path"])
            self._metrics.refused("internal")
            answer = internal_error()
        await respond(send, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] != "POST":
            raise MethodNotAllowed(
                "cannot answer: a webhook is sent with POST", "Use POST", headers=_ALLOW_POST
            )
        began = time.perf_counter()
        headers = headers_of(scope["headers"])
        addressed_to = self._addressed_to(scope)
        gate = self.gate
        with Body(self._in_flight, most=gate.max_body, patience=gate.patience) as reading:
            body = await reading.read(headers, receive)
            letter = Letter(
                headers=headers, body=body, addressed_to=addressed_to, remote=self._client(scope, headers)
            )
            if len(body) <= _BLOCKING:
                delivery, received = await self._intake.take(letter)
            else:
                delivery = await self._read_elsewhere(letter)
                received = await self._receive_push.record(delivery)
        self._metrics.accepted(delivery.push.forge, received.status, time.perf_counter() - began)
        return _accepted(delivery, received)

    def _addressed_to(self, scope: Scope) -> str:
        """The forge that path or query name; both, if both do."""
        path: str = scope["path"]
        named = path[len(PATH) + 1 :].rstrip("/")
        if named and not self._receive_push.knows(named):
            raise self._receive_push.unknown(named)
        if not scope["query_string"]:
            return named
        return self._agreed(named, scope["query_string"])

    def _agreed(self, named: str, query: bytes) -> str:
        wanted = {value for key, value in parse_qsl(query.decode("latin-1")) if key == "provider"}
        for name in wanted:
            if not self._receive_push.knows(name):
                unknown = self._receive_push.unknown(name)
                raise UnknownForge(unknown.message, unknown.hint)
        if named:
            wanted.add(named)
        if len(wanted) > 1:
            raise UnknownForge("cannot tell the forge: the URL names several", "Name one")
        return wanted.pop() if wanted else ""

    def _client(self, scope: Scope, headers: Headers) -> str:
        peer = scope.get("client")
        return self.gate.addresses.client(peer[0] if peer else "", headers)

    async def _read_elsewhere(self, letter: Letter) -> Delivery:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._receive_push.read, letter)

    def _refuse(self, error: FraisierError, scope: Scope) -> Answer:
        if isinstance(error, BadSignature):
            error = self._count_failure(error, scope)
        self._metrics.refused(error.code)
        return refusal(error)

    def _count_failure(self, error: BadSignature, scope: Scope) -> FraisierError:
        """Only what failed is counted, after it has failed: an authentic delivery never waits."""
        client = self._client(scope, headers_of(scope["headers"]))
        wait = self.gate.failures.count(site(client))
        if wait:
            message = "cannot verify the delivery, like too many before it from this address"
            return TooManyFailures(message, "Mend the secret, then wait", retry_after=wait)
        _log.warning("delivery refused", remote=client, path=scope["path"][:200], error=error.message)
        return error


def headers_of(raw: list[tuple[bytes, bytes]]) -> Headers:
    """Every value of every header, in order: a doubled signature must be seen as doubled."""
    found: dict[str, tuple[bytes, ...]] = {name.decode("latin-1"): (value,) for name, value in raw}
    if len(found) == len(raw):  # nearly always: none is doubled
        return found
    found = {}
    for name, value in raw:
        key = name.decode("latin-1")
        found[key] = (*found[key], value) if key in found else (value,)
    return found


def _accepted(delivery: Delivery, received: Received) -> Answer:
    document: dict[str, Any] = {
        "status": received.status,
        "event_id": received.event_id,
        "event": _event(delivery.push),
    }
    if received.status == "accepted":
        document["deployments"] = [_deployment(each) for each in received.deployments]
        document["superseded"] = received.superseded
        return Answer(202, orjson.dumps(document))
    document["reason"] = received.reason
    return Answer(200, orjson.dumps(document))


def _event(push: Push) -> dict[str, Any]:
    return {
        "forge": push.forge,
        "type": push.type,
        "repository": printable(push.repository),
        "sender": printable(push.sender),
        "delivery_id": push.delivery_id,
        "changes": [_change(change) for change in push.changes],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "name": change.name,
        "before": change.before,
        "after": change.after,
        "commit": change.commit,
        "created": change.created,
        "deleted": change.deleted,
        "forced": change.forced,
    }


def _deployment(deployment: Deployment) -> dict[str, Any]:
    return {
        "id": deployment.id,
        "fraise": deployment.environment.fraise,
        "environment": deployment.environment.environment,
        "ref": deployment.ref,
        "commit": deployment.commit,
    }
