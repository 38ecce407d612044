"""The moments of a process's life at which a fault can strike, found by watching it: no list is kept by hand.

A moment is before or after a call of the store that writes, in the middle of a step or a run that lasts, or
before an act on the machine: a file that is made, renamed, linked, removed or locked, a process that is started or
signalled. The store is wrapped where
`wiring.assemble` takes it; the acts are heard of from Python itself (audit events). Nothing in Fraisier knows.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from fraisier.application.ports import Claim, RunClaim
from fraisier.domain.plan import Phase

ACTS = {  # audit events of https://docs.python.org/3/library/audit_events.html that change the machine
    "os.mkdir": "mkdir",
    "os.rename": "rename",
    "os.symlink": "symlink",
    "os.link": "link",
    "os.remove": "remove",
    "os.rmdir": "rmdir",
    "shutil.rmtree": "rmtree",
    "fcntl.flock": "flock",
    "subprocess.Popen": "start",
    "os.posix_spawn": "start",
    "os.kill": "kill",
    "os.killpg": "kill",
}
OFTEN = 2  # times that the same call or act of a step is a moment of its own; the third is like the second
LASTS = 0.2  # seconds after which a step, or a run, has a middle
_RANDOM = (
    (re.compile(r"\.?\d+-[0-9a-f]{10}"), "RELEASE"),
    (re.compile(r"\.?[0-9a-f]{16}"), "SCOPE"),
    (re.compile(r"git-\w+-[0-9a-f]+"), "MIRROR"),
    (re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}"), "BACKUP"),
)


@dataclass(frozen=True, order=True)
class Point:
    """`what` in `where` (a step, `run` and its job, or `idle`, `busy`, `client`), the `number`th time, `before`
    or `after` it.
    """

    where: str
    edge: str
    what: str
    number: int = 1

    def __str__(self) -> str:
        often = f" #{self.number}" if self.number > 1 else ""
        return f"{self.where} · {self.edge} {self.what}{often}"

    @property
    def is_a_middle(self) -> bool:
        """Whether it comes while a command runs."""
        return self.edge == "while"

    @property
    def is_an_act(self) -> bool:
        """Whether something is done to the machine, not to the store."""
        return self.what.split()[0] in ACTS.values()

    @property
    def is_of_a_step(self) -> bool:
        """Whether it comes in the same order each time, being of the one thread that performs."""
        return self.where not in {"idle", "busy", "client"} and not self.is_a_middle


Passed = Callable[[Point], None]


@dataclass(frozen=True)
class Fault:
    """What happens at a point: `kill`, or `stop` (until somebody sends SIGCONT)."""

    point: Point
    kind: str


def strike(kind: str) -> None:
    """Let a fault come over the process that calls this."""
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    # To this thread: it takes no other step, whichever the kernel stops first.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class Watch:
    """Sees the points of this process as it passes them.

    `passed` is called for each; a fault strikes at its point. `idle` is what is said of threads that perform
    no deployment and no run while none is performed.
    """

    def __init__(self, passed: Passed, *, idle: str = "idle") -> None:
        self._passed = passed
        self._idle = idle
        self._step = ""
        self._begun: Counter[str] = Counter()  # of "step", and of each run
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.RLock()

    # -- the store
    def store(self, store: Any) -> Any:
        """A store that is watched."""
        return _Watched(store, self)

    def comes(self, edge: str, what: str, arguments: Iterable[Any] = (), result: Any = None) -> None:
        """A call of the store begins or has ended."""
        taken = isinstance(result, Claim | RunClaim)
        self._pass(self._where(tuple(arguments), taken=taken), edge, what)

    def step_begins(self, phase: Phase, name: str) -> None:
        """From here on what the deployment does belongs to this step."""
        self._step = f"{name} back" if phase is Phase.rollback else str(name)
        self._begins("step", self._step)

    def run_begins(self, claim: RunClaim) -> None:
        """It was claimed."""
        self._begins(claim.id, _of_run(claim.job))

    def ends(self, what: str) -> None:
        """It has no middle any more; what is done until the next step begins still belongs to the last one."""
        self._begun[what] += 1

    def _begins(self, what: str, where: str) -> None:
        self._begun[what] += 1
        timer = threading.Timer(LASTS, self._lasts, (what, self._begun[what], where))
        timer.daemon = True
        timer.start()

    def _lasts(self, what: str, begun: int, where: str) -> None:
        if begun == self._begun[what]:
            self._pass(where, "while", "it lasts")

    # -- the machine
    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook. Only threads that perform deployments or runs, and clients, are listened to."""
        if event in ACTS and (_performs(threading.current_thread()) or self._idle == "client"):
            self._pass(self._where(), "before", f"{ACTS[event]}{_object(event, arguments)}")

    def _where(self, arguments: tuple[Any, ...] = (), *, taken: bool = False) -> str:
        name = threading.current_thread().name
        runs = [each.job for each in arguments if isinstance(each, RunClaim)]
        if runs or name.startswith("run-"):
            return _of_run(*runs or [name.rpartition("-")[2]])
        if name.startswith("deploy-") or any(isinstance(each, Claim) for each in arguments):
            return self._step or "begin"
        return "busy" if taken or any(map(_performs, threading.enumerate())) else self._idle

    def _pass(self, where: str, edge: str, what: str) -> None:
        with self._lock:
            self._counts[where, edge, what] += 1
            number = self._counts[where, edge, what]
        if number <= OFTEN:
            self._passed(Point(where, edge, what, number))


class _Watched:
    """A store whose writes are told to a watch, whatever methods it has.

    Which of them write shows when they do: both stores write through `_write` and `_put` alone.
    """

    def __init__(self, store: Any, watch: Watch) -> None:
        self._store, self._watch = store, watch
        self._now = threading.local()  # what this thread is calling: `name`, `arguments`, `wrote`
        for writes in ("_write", "_put"):
            setattr(store, writes, self._told(getattr(store, writes)))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._called(name, found) if callable(found) else found

    def _told(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def told(*arguments: Any, **named: Any) -> Any:
            now = self._now
            now.wrote = True
            self._watch.comes(
                "before", getattr(now, "name", "") or "hand_over", getattr(now, "arguments", ())
            )
            return write(*arguments, **named)

        return told

    def _called(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            if name in {"end_step", "finish"}:
                self._watch.ends("step")
            if name == "finish_run":
                self._watch.ends(arguments[0].id)
            if name == "begin_step":
                self._watch.step_begins(named["phase"], named["name"])
            now = self._now
            now.name, now.arguments, now.wrote = name, arguments, False
            try:
                result = call(*arguments, **named)
            finally:
                now.name, now.arguments = "", ()
            if isinstance(result, RunClaim):
                self._watch.run_begins(result)
            if isinstance(result, (Future, asyncio.Future)):  # before whoever awaits it goes on
                result.add_done_callback(lambda _: self._watch.comes("after", name))
            elif now.wrote:
                self._watch.comes("after", name, arguments, result)
            return result

        return called


def _performs(thread: threading.Thread) -> bool:
    return thread.name.startswith(("deploy-", "run-"))


def _of_run(job: str) -> str:
    return f"run {job}"


def _object(event: str, arguments: tuple[Any, ...]) -> str:
    """What an act is done to, by a name that is the same each time."""
    if event == "subprocess.Popen":
        words = [os.fsdecode(word) for word in arguments[1]]
        named = words[words.index("git") :] if "git" in words else words
        verbs = [word for word in named[1:] if re.fullmatch(r"[a-z][a-z-]+", word)] if "git" in words else []
        return " " + " ".join([os.path.basename(named[0]), *verbs[:1]])  # noqa: PTH119
    if event in {"fcntl.flock", "os.kill", "os.killpg"}:
        return ""
    name = Path(os.fsdecode(arguments[0] if event != "os.symlink" else arguments[1])).name
    for pattern, word in _RANDOM:
        name = pattern.sub(word, name)
    return f" {name}"


# ---------------------------------------------------------------------------------------- on paper


class Recorder:
    """Notes each point in a file, so that it is there whatever becomes of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, point: Point) -> None:
        with self._path.open("a") as notes:
            notes.write(json.dumps(astuple(point)) + "\n")


def recorded(path: Path) -> list[Point]:
    """What a recorder has noted: points in the order in which they were passed."""
    return [Point(*json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


class Striker:
    """Lets a fault strike once: at a point, or `after` so many points of steps and runs."""

    def __init__(self, kind: str, point: Point | None = None, *, after: int = 0) -> None:
        self._kind, self._point, self._left = kind, point, after
        self._armed = True

    def __call__(self, point: Point) -> None:
        if self._armed and self._comes(point):
            self._armed = False
            strike(self._kind)

    def _comes(self, point: Point) -> bool:
        if self._point is not None:
            return point == self._point
        self._left -= point.is_of_a_step
        return self._left <= 0


def listen(watch: Watch) -> None:
    """From here on, and for as long as this process lives, its acts are heard."""
    sys.addaudithook(watch.hear)
