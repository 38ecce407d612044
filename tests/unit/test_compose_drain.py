"""When the end of a release's TCP connections is waited for: a played docker, and tables as the kernel writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from fraisier.application.ports import Finished
from fraisier.domain.errors import Cause, StepFailed
from fraisier.targets.compose_beside import drain
from fraisier.targets.compose_commands import Commands
from fraisier.targets.compose_record import Record
from tests.factories import environment
from tests.fakes import FakeHost

PORT, PID = 8000, 4242
ESTABLISHED, SYN_RECV, TIME_WAIT, LISTEN = "01", "03", "06", "0A"
# https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
_HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
_ROW = (
    "   0: {local}:{port:04X} {peer}:D431 {state} 00000000:00000000 00:00000000 00000000     0        0 1\n"
)
_LISTENS = _ROW.format(local="00000000", port=PORT, peer="00000000", state=LISTEN)


def rows(*states: str, port: int = PORT, six: bool = False) -> str:
    wide = "0" * (32 if six else 8)
    return "".join(_ROW.format(local=wide, port=port, peer=wide, state=state) for state in states)


class Container(FakeHost):
    """One container whose tables change from look to look; the last one stays."""

    def __init__(self, *looks: str, six: Sequence[str] = (), pid: int = PID) -> None:
        super().__init__()
        self.looks, self.six, self.pid, self.looked = looks, six, pid, 0

    def inspect(self, argv: Any, *, timeout: float = 10.0) -> Finished:
        if argv[1] == "ps":
            return Finished(code=0, stdout=b"aa\n", stderr=b"")
        state = {"Status": "running", "ExitCode": 0, "StartedAt": "x", "Pid": self.pid}
        return Finished(code=0, stdout=json.dumps(["aa", "/web-1", 0, state, {}]).encode(), stderr=b"")

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes | None:
        tables = {f"/proc/{PID}/net/tcp": self.looks, f"/proc/{PID}/net/tcp6": self.six}.get(path)
        if tables is None:
            return None
        now = tables[min(self.looked, len(tables) - 1)] if tables else ""
        return f"{_HEAD}{_LISTENS if path.endswith('tcp') else ''}{now}".encode()


class Place:
    """A workplace whose time passes when somebody waits."""

    def __init__(self, host: Container, *, timeout: float = 5.0, cancelled_after: float = 1e9) -> None:
        self.host, self.environment = host, environment(drain_timeout=timeout)
        self.waited, self._until = 0.0, cancelled_after
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def wait(self, seconds: float) -> None:
        self.waited += seconds
        self.host.looked += 1
        if self.waited > self._until:
            raise StepFailed(Cause.cancelled, "cannot finish: it was told to stop")


def drained(place: Place, port: int = PORT) -> Place:
    record = Record(release="7-a", commit="c", ref="r", project="orders", files=(), port=port)
    drain(Commands("orders-7-a"), place, record)  # type: ignore[arg-type]
    return place


def test_the_end_of_what_is_connected_is_waited_for() -> None:
    place = drained(Place(Container(*[rows(ESTABLISHED, ESTABLISHED)] * 10, "")))
    assert place.said == ["release 7-a has 2 connections: waiting for their end"]
    assert 1.0 < place.waited < 2.0, "three quiet looks after the last connection"


def test_a_connection_that_is_not_accepted_yet_counts_also_over_ipv6() -> None:
    place = drained(Place(Container("", six=[rows(SYN_RECV, six=True)] * 5 + [""])))
    assert place.said == ["release 7-a has 1 connections: waiting for their end"]


@pytest.mark.parametrize("others", [rows(TIME_WAIT), rows(ESTABLISHED, port=5432), ""])
def test_what_has_ended_and_the_containers_own_connections_are_not_waited_for(others: str) -> None:
    place = drained(Place(Container(others)))
    assert place.said == []
    assert place.waited < 1.0


def test_one_that_comes_between_two_quiet_looks_is_waited_for_too() -> None:
    place = drained(Place(Container("", "", rows(ESTABLISHED), "", "", rows(ESTABLISHED), "")))
    assert place.waited > 0.8


def test_after_the_timeout_they_are_cut_and_that_is_said() -> None:
    place = drained(Place(Container(rows(ESTABLISHED)), timeout=2.0))
    assert place.said[-1] == "release 7-a still had connections: they are cut"
    assert place.waited == pytest.approx(2.0, abs=0.11)


def test_nothing_is_waited_for_where_nothing_runs_or_no_port_is_known() -> None:
    assert drained(Place(Container(rows(ESTABLISHED), pid=0))).said == []
    assert drained(Place(Container(rows(ESTABLISHED))), port=0).waited == 0


def test_whoever_cancels_does_not_wait_for_the_timeout() -> None:
    place = Place(Container(rows(ESTABLISHED)), timeout=600.0, cancelled_after=1.0)
    with pytest.raises(StepFailed):
        drained(place)
    assert place.waited < 1.5
