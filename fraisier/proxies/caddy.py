"""Caddy, by its admin API: https://caddyserver.com/docs/api

Options: `admin` is the API's URL (http://localhost:2019, or unix//run/caddy/admin.sock), `id` the `@id` of
the `reverse_proxy` handler. Caddy keeps what it was told over a restart where it is started with `--resume`.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from fraisier.application.ports import Problem
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.fraise import Environment

_PATIENCE = 10.0  # seconds
_ID = re.compile(r"[A-Za-z0-9_.-]+\Z")
_DEFAULT = "http://localhost:2019"
_HINT = "See `fraisier init --proxy caddy` for what its configuration needs"


class Caddy:
    """A `reverse_proxy` whose only upstream is where the serving release listens."""

    kind = "caddy"

    def point(self, environment: Environment, address: str) -> None:
        """Replace the upstreams; those under way may finish. Without an address: nothing."""
        if not address:
            return
        wanted = [{"dial": address}]
        if _upstreams(environment) != wanted:
            _ask(environment, "PATCH", f"/id/{_id(environment)}/upstreams", wanted)

    def points_to(self, environment: Environment) -> Sequence[str]:
        """The upstreams of the handler."""
        found = _upstreams(environment)
        return [str(each.get("dial", "")) for each in found] if isinstance(found, list) else []

    def problems(self, environment: Environment) -> Sequence[Problem]:
        """Caddy has to answer and to know the handler."""
        try:
            _upstreams(environment)
        except StepFailed as failure:
            return (Problem(failure.message, failure.hint),)
        return ()


def _options(environment: Environment) -> dict[str, str]:
    return dict(environment.proxy.options) if environment.proxy else {}


def _id(environment: Environment) -> str:
    name = _options(environment).get("id", "")
    if not _ID.match(name):
        message = f"cannot use Caddy for {environment.key}: `proxy:` has no usable `id`"
        raise StepFailed(Cause.preflight, message, _HINT)
    return name


def _upstreams(environment: Environment) -> object:
    return _ask(environment, "GET", f"/id/{_id(environment)}/upstreams", None)


def _ask(environment: Environment, method: str, path: str, body: object) -> object:
    admin = _options(environment).get("admin", _DEFAULT)
    connection = _connection(admin)
    headers = {"Content-Type": "application/json"}
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        said = answer.read(1 << 20).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        message = f"cannot reach Caddy at {admin}: {error}"
        raise StepFailed(Cause.host, message, "Is it running, and is its admin API on?") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        message = f"cannot {method} {path} of Caddy: HTTP {answer.status} {said[:200]}"
        raise StepFailed(Cause.preflight if method == "GET" else Cause.host, message, _HINT)
    try:
        return json.loads(said) if said.strip() else None
    except ValueError:
        raise StepFailed(Cause.host, f"cannot read what Caddy says: {said[:200]!r}") from None


def _connection(admin: str) -> http.client.HTTPConnection:
    if admin.startswith("unix/"):
        return _UnixConnection(admin.removeprefix("unix/"))
    url = urlsplit(admin)
    return http.client.HTTPConnection(url.hostname or "localhost", url.port or 2019, timeout=_PATIENCE)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
