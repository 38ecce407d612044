"""Asks a service over HTTP. The whole answer has to come within the check's `request_timeout`."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from urllib.parse import SplitResult, urlsplit

from fraisier.application.ports import Dial, Health, Runner
from fraisier.domain.fraise import Environment, HealthCheck
from fraisier.domain.secret import Secret
from fraisier.health.tcp import reason

MOST_READ = 64 * 1024  # bytes of the body that are searched


class HttpProber:
    """One GET; redirects are not followed.

    http.client of the standard library, not httpx: httpx bounds each read but not the whole, and a check of
    a deployment that changes nothing would spend most of its time on importing it.
    """

    def probe(
        self,
        check: HealthCheck,
        environment: Environment,  # noqa: ARG002 other brands need it
        release_folder: str,  # noqa: ARG002
        run: Runner,  # noqa: ARG002
        dial: Dial,
    ) -> Health:
        """Look once. Whatever the server does is a verdict, never an exception."""
        url = urlsplit(check.url)
        place = check.at or _place(url)
        try:
            with _connection(url, check, dial) as connection:
                return _ask(connection, url, check)
        except TimeoutError:
            return Health(passed=False, detail=f"no answer from {place} within {check.request_timeout:g} s")
        except ssl.SSLError as error:
            return Health(passed=False, detail=f"TLS with {place} failed: {error.reason or error}")
        except OSError as error:
            return Health(passed=False, detail=f"{reason(error)} on {place}")
        except ValueError:  # its text may hold a header's secret
            return Health(passed=False, detail="the check's url or headers cannot be sent")
        except http.client.HTTPException as error:
            what = str(error) or type(error).__name__
            return Health(passed=False, detail=f"{place} does not answer as HTTP does: {what[:200]!r}")


def _place(url: SplitResult) -> str:
    try:
        port = url.port
    except ValueError:
        return url.hostname or "?"
    return f"{url.hostname}:{port or (443 if url.scheme == 'https' else 80)}"


@contextmanager
def _connection(url: SplitResult, check: HealthCheck, dial: Dial) -> Iterator[http.client.HTTPConnection]:
    """A connection that is cut after the check's `request_timeout`, however slowly the server drips.

    Raises:
        TimeoutError: it was cut.
    """
    timeout = check.request_timeout
    connection = _Connection(url, check.at, dial, timeout)
    late = threading.Event()
    sockets: list[socket.socket] = []
    watchdog = threading.Timer(timeout, _cut, (sockets, late))
    watchdog.daemon = True
    watchdog.start()
    try:
        connection.connect()
        sockets.append(connection.sock)  # the connection forgets it while a body is read to its end
        if late.is_set():
            raise TimeoutError
        yield connection
    except (OSError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        watchdog.cancel()
        connection.close()
    if late.is_set():
        raise TimeoutError


class _Connection(http.client.HTTPConnection):
    """To where `url` leads, or to an instance's own address, which is behind the proxy and its TLS."""

    def __init__(self, url: SplitResult, at: str, dial: Dial, timeout: float) -> None:
        self._tls = url.scheme == "https" and not at
        self.default_port = 443 if self._tls else 80
        super().__init__(url.hostname or "localhost", url.port, timeout=timeout)
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self._open = partial(dial, at or f"{shown}:{self.port}", timeout=timeout)

    def connect(self) -> None:
        self.sock = self._open()
        if self._tls:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def _cut(sockets: list[socket.socket], late: threading.Event) -> None:
    late.set()
    for found in sockets:
        with suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)  # unlike close(), this wakes whoever reads


def _ask(connection: http.client.HTTPConnection, url: SplitResult, check: HealthCheck) -> Health:
    sent = {name: _plain(value) for name, value in check.headers.items()}
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    own = {"Host": url.netloc} if check.at else {}  # the name that the service is asked for by the proxy
    defaults = {**own, "User-Agent": "fraisier-health-check", "Connection": "close", "Accept": "*/*"}
    connection.request("GET", path, headers={**defaults, **sent})
    response = connection.getresponse()
    status = _judge_status(response.status, check) or _judge_headers(response, check)
    if status:
        return Health(passed=False, detail=status)
    if check.expect_body and check.expect_body not in _body(response):
        return Health(
            passed=False, detail=f"HTTP {response.status}, but the body lacks {check.expect_body!r}"
        )
    return Health(passed=True, detail=f"HTTP {response.status}")


def _plain(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value


def _judge_status(status: int, check: HealthCheck) -> str:
    """What is wrong with the status; '' if nothing is."""
    if status in check.expect_status or (not check.expect_status and status in range(200, 300)):
        return ""
    wanted = " or ".join(map(str, check.expect_status)) or "2xx"
    return f"HTTP {status}, expected {wanted}"


def _judge_headers(response: http.client.HTTPResponse, check: HealthCheck) -> str:
    for name, wanted in check.expect_headers.items():
        found = response.getheader(name)
        if found != wanted:
            got = "it is missing" if found is None else f"it is {found[:200]!r}"
            return f"HTTP {response.status}, but header {name} should be {wanted!r} and {got}"
    return ""


def _body(response: http.client.HTTPResponse) -> str:
    charset = response.headers.get_content_charset() or "utf-8"
    data = response.read(MOST_READ)
    try:
        return data.decode(charset, "replace")
    except LookupError:  # a charset that nobody knows
        return data.decode("utf-8", "replace")
