"""What happens to an environment while a fault strikes: one story per way that a deployment can go.

Those of runs are told in `run_stories`.
"""

from __future__ import annotations

import http.client
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from fraisier.domain.errors import Conflict
from fraisier.wiring import Fraisier
from tests.chaos.invariants import Promises
from tests.chaos.points import LASTS, Passed
from tests.chaos.processes import Client, Process, Server
from tests.chaos.site import ChaosSite
from tests.integration.site import KEY
from tests.unit.signing import SignedDelivery, github_push

SETTLES_IN = 30.0  # seconds; nothing that is played takes longer by itself than a second or two
ANSWER_WITHIN = 1.0  # seconds; a forge waits longer, but asks again in the end as well
MIGRATION_CUT = "failed (migration_interrupted)"
WAY_BACK_CUT = ("rollback_failed (unhealthy)", "rollback_failed (host)")


@dataclass
class Scene:
    """A site, who works there, and what was promised to those who asked for something."""

    site: ChaosSite
    server: Server
    passed: Passed | None = None  # is told the points of what a person asks
    promises: Promises = field(default_factory=Promises)
    undelivered: list[SignedDelivery] = field(default_factory=list)
    asked: list[Client] = field(default_factory=list)

    # -- what somebody does
    def push(self, version: str, kind: str = "good") -> None:
        """Push a version to the repository, which tells the server."""
        self.deliver(github_push(self.site.push_version(version, kind)))

    def deliver(self, delivery: SignedDelivery) -> None:
        """Deliver; what is not answered is delivered again later, as forges do."""
        status, answer = post(self.server.port, delivery)
        if status == 202:
            self.promises.accepted(answer)
        elif status == 200 and answer["status"] == "duplicate":
            self.promises.events.add(answer["event_id"])
        else:
            self.undelivered.append(delivery)

    def deliver_again(self) -> None:
        """Deliver what was not answered, until it is, or the fault comes."""
        while self.undelivered and not self.is_struck:
            waiting, self.undelivered = self.undelivered, []
            for delivery in waiting:
                self.deliver(delivery)

    def ask(
        self, verb: Callable[[Fraisier], str], note: Callable[[Promises, str], None] = Promises.requested
    ) -> None:
        """Let a person's command run; the person tries again until it works. `note` takes what was promised."""
        place = self.site.folder / f"answer-{len(self.asked)}"
        client = Client(self.site.config, place, verb, passed=self.passed)
        self.asked.append(client)
        deadline = time.monotonic() + 10
        while not client.waits(0.02) and not client.is_stopped and time.monotonic() < deadline:
            pass
        while not client.is_answered and time.monotonic() < deadline:
            client = Client(self.site.config, place, verb)
            client.waits(10)
        if client.answer:
            note(self.promises, client.answer)

    # -- what somebody sees
    @property
    def is_struck(self) -> bool:
        """Whether the fault has come, to the server or to a person's command."""
        return any((each.is_gone and each.was_killed) or each.is_stopped for each in self.processes)

    @property
    def processes(self) -> list[Process]:
        """Everybody that a fault may strike."""
        return [self.server, *self.asked]

    def sees(self, look: Callable[[], Any], seconds: float = 10.0) -> bool:
        """Wait until `look` is true, or the fault has come; whether it was true."""
        deadline = time.monotonic() + seconds
        while not (seen := look()) and not self.is_struck and time.monotonic() < deadline:
            time.sleep(0.02)
        return bool(seen)

    def begun(self, step: str) -> bool:
        """Whether a step of this name runs, or the deployment has ended without."""
        query = "SELECT pk FROM tb_deployment_steps WHERE step = ? AND state = 'running'"
        return bool(self.site.rows(query, step)) or not self.site.unfinished()


class Act(Protocol):
    """What happens in a story, until there is nothing to do but wait."""

    def __call__(self, scene: Scene) -> None: ...


def _next_deployment(scene: Scene) -> list[str]:
    """A further push is deployed."""
    scene.push("last")
    scene.deliver_again()
    settled = scene.site.settles(SETTLES_IN)
    row = scene.site.deployments()[-1]
    if not settled or (row["status"], scene.site.version) != ("success", "last"):
        return [f"the next deployment is {row['status']}: {row['error_message']}"]
    return []


@dataclass(frozen=True)
class Setting:
    """Where stories are played. `site` makes it, `begin` brings about one thing that was there before a story,
    `goes_on` does what nothing left behind may block, and `at_once` says what does not hold before anybody has
    taken over.
    """

    name: str
    site: Callable[..., ChaosSite]
    begin: Callable[[Scene, str], None] = Scene.push
    goes_on: Callable[[Scene], list[str]] = _next_deployment
    at_once: Callable[[ChaosSite], list[str]] = lambda _: []


DEPLOYMENTS = Setting("deployments", ChaosSite)


@dataclass(frozen=True)
class Story:
    """`before` was there when it begins, versions that were deployed; `ends` is how it may end, `cut` how besides
    where its worker was struck in the middle of something, `late` where a person's command was.
    """

    name: str
    act: Act
    ends: tuple[str, ...]
    before: tuple[str, ...] = ("one",)
    extra: Act = lambda _: None  # after the fault: what a person would do then
    setting: Setting = DEPLOYMENTS
    cut: tuple[str, ...] = ()
    late: tuple[str, ...] = ()

    @property
    def beginning(self) -> tuple[str, ...]:
        """What two stories have in common that begin with the same."""
        return (self.setting.name, *self.before)


def post(port: int, delivery: SignedDelivery, path: str = "/webhook") -> tuple[int, Any]:
    """The status and the answer to a delivery; (0, None) if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_WITHIN)
    try:
        connection.request("POST", path, delivery.body, dict(delivery.headers))
        answer = connection.getresponse()
        return answer.status, orjson.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()


# ---------------------------------------------------------------------------------------- the acts


def _pushes(kind: str) -> Act:
    return lambda scene: scene.push("new", kind)


def _push_thrice(scene: Scene) -> None:
    """The first is being performed when two more come: the second is superseded."""
    scene.push("new-1", "slow")
    scene.sees(lambda: scene.begun("build"))
    scene.push("new-2")
    scene.push("new-3")


def _cancel(scene: Scene) -> None:
    scene.push("new", "endless")
    scene.sees(lambda: scene.begun("build"))
    time.sleep(2 * LASTS)  # somebody looks at it for a while
    scene.ask(_cancel_what_runs)


def _cancel_after_all(scene: Scene) -> None:
    """The push, or the wish to cancel it, was lost with the one who was to hear of it."""
    scene.sees(lambda: scene.begun("build"))
    if scene.site.unfinished():
        scene.ask(_cancel_what_runs)


def _cancel_what_runs(fraisier: Fraisier) -> str:
    """Somebody who sees it running, or waiting, calls it off."""
    (row,) = fraisier.store.history(limit=1)
    try:
        return fraisier.cancel(row["id"], by="alice").id
    except Conflict:
        return str(row["id"])


def _roll_back(scene: Scene) -> None:
    scene.ask(_ask_for_the_release_before)


def _ask_for_the_release_before(fraisier: Fraisier) -> str:
    requested = fraisier.roll_back(KEY, by="alice")
    return requested.deployment.id if requested.deployment else ""


def _adopt(scene: Scene) -> None:
    """The folder was another installation's: it is refused, a person adopts it, and the push comes again."""
    owner = _owner(scene)
    owner.write_text(owner.read_text().replace('"installation": "', '"installation": "not-'))
    scene.push("new")
    scene.sees(lambda: not scene.site.unfinished())
    scene.ask(_take_over)
    scene.push("newer")


def _adopt_after_all(scene: Scene) -> None:
    """The person gave up as long as who was stopped held the store, and comes back."""
    if '"not-' in _owner(scene).read_text():
        scene.ask(_take_over)
        scene.push("newest")


def _owner(scene: Scene) -> Path:
    return scene.site.app / ".fraisier" / "owner"


def _take_over(fraisier: Fraisier) -> str:
    fraisier.adopt(KEY, by="alice")
    return ""


def _retry(scene: Scene) -> None:
    """The host is at fault for the first attempt (its mirrors are no folder); the second finds it mended."""
    mirrors = scene.site.folder / "state" / "mirrors"
    kept = mirrors.with_name("kept")
    mirrors.rename(kept)
    mirrors.touch()
    scene.push("new")
    scene.sees(lambda: scene.site.rows("SELECT pk FROM tb_deployment_attempts WHERE outcome = 'retry'"))
    mirrors.unlink()
    kept.rename(mirrors)


def _block(scene: Scene) -> None:
    """The host lets nobody switch (a folder is where the link has to be) until somebody has seen it fail."""
    scene.push("new", "slow")
    scene.sees(lambda: scene.begun("build"))
    link = scene.site.app / "current"
    kept = link.with_name("kept")
    link.rename(kept)
    link.mkdir()
    query = "SELECT pk FROM tb_deployment_steps WHERE step = 'activate' AND state = 'failed'"
    scene.sees(lambda: scene.site.rows(query))
    link.rmdir()
    kept.rename(link)


def _shut_down(scene: Scene) -> None:
    """Told to stop in the middle of a build that takes longer than the grace: it is handed on."""
    scene.push("new", "slow")
    scene.sees(lambda: scene.begun("build"))
    scene.server.send(signal.SIGTERM)


STORIES = (
    Story("first", _pushes("good"), ("success",), before=()),
    Story("update", _pushes("good"), ("success",)),
    Story("broken", _pushes("broken"), ("failed (build)",)),
    Story("sick", _pushes("sick"), ("rolled_back (unhealthy)",)),
    Story("first sick", _pushes("sick"), ("failed (unhealthy)",), before=()),
    Story("pushes", _push_thrice, ("success",)),
    Story("rollback", _roll_back, ("success",), before=("one", "two")),
    Story("cancel", _cancel, ("cancelled (cancelled)",), extra=_cancel_after_all),
    Story("retry", _retry, ("success",)),
    Story("blocked", _block, ("rolled_back (host)", "success")),  # as long as nothing had failed
    Story("shutdown", _shut_down, ("success",)),
    Story("adopt", _adopt, ("success",), extra=_adopt_after_all),
)
