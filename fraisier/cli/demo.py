"""`fraisier demo`: the whole story on one machine, with real processes, and each thing told is checked."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from fraisier.cli.demo_cast import Cast, DemoFailed, check_installed
from fraisier.cli.demo_folder import DemoFolder, Ports, demo_folder, free_ports, lay_out, template
from fraisier.cli.demo_visitor import Visitor, Visits, visit
from fraisier.cli.progress import progress_on
from fraisier.cli.screen import Screen
from fraisier.cli.text import SHORT_ID, printable
from fraisier.domain.deployment import Status, Trigger
from fraisier.domain.errors import Cause

if TYPE_CHECKING:
    from fraisier.application.ports import Row, Store

DEPLOYMENT_LIMIT = 60.0  # seconds for one deployment; each takes a few
SETTLE_LIMIT = 5.0  # seconds for the service to answer after its deployment has ended
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@click.command("demo")
@click.option(
    "--folder", metavar="DIR", default=None, help="Play in this folder instead of .demo/ or a temporary one."
)
def command(folder: str | None) -> None:
    """Play the whole story on this machine: a first deployment, a second version, one that fails its
    health check and is taken back, and the fix.

    Real git, a real process manager (supervisord), a real `fraisier serve`; needs neither root nor systemd.
    All files are in one folder, and all processes end with the demo. Exit status 1 if anything was not as
    told.
    """
    check_installed()
    screen = Screen.of_stdout()
    began = time.monotonic()
    with _signals_interrupt(), demo_folder(folder) as found:
        ports = free_ports()
        cast = Cast(found, ports)
        try:
            _play(found, ports, cast, screen)
        finally:
            with _undisturbed():
                gone = cast.dismiss()
        if not gone:
            raise DemoFailed("cannot end every process of the demo", "See `ps axo pid,stat,wchan,args`")
        _farewell(found, screen, time.monotonic() - began)


def _play(folder: DemoFolder, ports: Ports, cast: Cast, screen: Screen) -> None:
    from fraisier import wiring

    _prepare(folder, ports, cast, screen)
    visitor = Visitor(ports.service)
    store = wiring.open_store(wiring.load(str(folder.config)), readonly=True)
    try:
        Story(folder, ports, cast, screen, store, visitor).tell()
    finally:
        visitor.stop()
        store.close()
    screen.say(f"\n{screen.style('What Fraisier remembers', bold=True)}")
    screen.say("$ fraisier history")
    _real_command(folder, "history")


def _prepare(folder: DemoFolder, ports: Ports, cast: Cast, screen: Screen) -> None:
    screen.say(f"{screen.style('Getting ready', bold=True)}, all of it in {folder.path}")
    secret = secrets.token_urlsafe(24)
    lay_out(folder, ports, secret)
    done = screen.style("✓", "green")
    cast.make_repository(secret)
    screen.say(f"{done} a git repository whose pushes send Gitea's signed webhook")
    cast.start_supervisord()
    screen.say(f"{done} supervisord, which runs the service (on a server, systemd would)")
    cast.start_fraisier()
    screen.say(f"{done} fraisier serve on http://127.0.0.1:{ports.fraisier}")


def _real_command(folder: DemoFolder, *arguments: str) -> None:
    from fraisier.cli.main import main

    main(["--config", str(folder.config), *arguments], standalone_mode=False)


@dataclass(frozen=True, slots=True)
class Version:
    """A commit of the service, and what is expected of it."""

    number: int
    title: str
    message: str
    files: Mapping[str, str]
    status: Status = Status.success
    cause: Cause | None = None
    serves: int = 0  # the version that answers afterwards, where it is not this one


def versions() -> Sequence[Version]:
    """The four pushes of the story."""
    app = template("app.py")
    here, there = 'return "strawberries with cream"', 'return (HERE / "menu.txt").read_text("utf-8").strip()'
    if here not in app:
        raise DemoFailed("cannot make the bad version: demo_files/app.py no longer says what is served")
    return (
        Version(1, "The first deployment", "Serve strawberries", {"app_py": app}),
        Version(2, "A second version", "Serve them again", {}),
        Version(
            3,
            "A version that starts, and fails its health check",
            "Read the dish from menu.txt",  # which nobody added
            {"app_py": app.replace(here, there)},
            status=Status.rolled_back,
            cause=Cause.unhealthy,
            serves=2,
        ),
        Version(4, "The fix", "Add the missing menu.txt", {"menu_txt": "strawberries with chocolate\n"}),
    )


class Story:
    """Tells it, push by push. Whatever is not as told ends it."""

    def __init__(
        self, folder: DemoFolder, ports: Ports, cast: Cast, screen: Screen, store: Store, visitor: Visitor
    ) -> None:
        self._folder = folder
        self._ports = ports
        self._cast = cast
        self._screen = screen
        self._store = store
        self._visitor = visitor
        self._link = ""  # what `current` contained after the last deployment

    def tell(self) -> None:
        """Play all four pushes.

        Raises:
            DemoFailed: something was not as told.
        """
        for version in versions():
            self._screen.say(f"\n{self._screen.style(f'{version.number}. {version.title}', bold=True)}")
            self._visitor.forget()
            self._check(version, self._deploy(version))
            self._report(self._visitor.visits())
            if version.number == 1:
                self._visitor.start()

    def _deploy(self, version: Version) -> Row:
        """Commit and push; the row of the one deployment that came of it, when it has ended."""
        earlier = {row["id"] for row in self._store.history(limit=100)}
        commit = self._cast.commit(version.message, VERSION=f"{version.number}\n", **version.files)
        self._screen.say(f"$ git commit -m {json.dumps(version.message)} && git push origin main")
        said = self._cast.push()
        for line in said:
            self._screen.say(self._screen.style(f"  {printable(line)}", dim=True))
        new = [row for row in self._store.history(limit=100) if row["id"] not in earlier]
        if len(new) != 1 or new[0]["commit"] != commit:
            found = ", ".join(f"{row['id']} of {row['commit'][:10]}" for row in new) or "none"
            message = f"cannot find the one deployment of {commit[:10]} that its push asked for, but {found}"
            raise DemoFailed(message, f"Fraisier's log is {self._folder.log('fraisier')}")
        return self._followed(str(new[0]["id"]))

    def _followed(self, deployment: str) -> Row:
        from fraisier.application.follow_deployment import FollowDeployment

        until = time.monotonic() + DEPLOYMENT_LIMIT

        def attend() -> None:
            if time.monotonic() > until:
                message = f"cannot wait any longer for deployment {deployment[:SHORT_ID]}"
                raise DemoFailed(message, f"Fraisier's log is {self._folder.log('fraisier')}")

        row: Row = {}
        with progress_on(self._screen) as progress:
            for glimpse in FollowDeployment(self._store)(deployment, attend=attend):
                progress.show(glimpse)
                row = glimpse.deployment
        return row

    # ------------------------------------------------------------------------------------- checks
    def _check(self, version: Version, row: Row) -> None:
        self._expect("the deployment's status", row["status"], version.status.value)
        self._expect("its trigger", row["trigger"], Trigger.webhook.value, quiet=True)
        if version.cause is not None:
            self._expect("its cause", row["cause"], version.cause.value)
        else:
            self._link = self._folder.layout.link_target(str(row["release"]))
        self._expect("current ->", str(Path(self._folder.layout.current).readlink()), self._link)
        answers = self._answer(f"version {version.serves or version.number}:")
        self._expect(f"http://127.0.0.1:{self._ports.service}/ says", answers, answers)

    def _expect(self, what: str, found: object, wanted: object, *, quiet: bool = False) -> None:
        if found != wanted:
            message = f"cannot go on with the story: {what} should be {wanted!r} and is {found!r}"
            hint = f"See {self._folder.path}/log, or fraisier --config {self._folder.config} history"
            raise DemoFailed(message, hint)
        if not quiet:
            self._say("✓", "green", f"{what} {self._screen.style(printable(found), bold=True)}")

    def _answer(self, beginning: str) -> str:
        """What the service says, once it begins as wanted."""
        until = time.monotonic() + SETTLE_LIMIT
        while not (found := visit(self._ports.service)).text.startswith(beginning):
            if time.monotonic() > until:
                self._expect("the service's answer", found.text, f"{beginning} …")
            time.sleep(0.05)
        return found.text

    def _report(self, visits: Visits) -> None:
        """What somebody noticed who asked the service all the time."""
        if not visits.all:
            return
        asked = f"asked all the time: of {len(visits.all)} requests"
        if visits.unanswered + visits.wrong == 0:
            self._say("✓", "green", f"{asked} each was answered")
            return
        why = "a plain restart ends the old version before the new one is checked"
        bad = f"{visits.wrong} got an error and {visits.unanswered} no answer, during {visits.away:.1f} s"
        self._say("!", "yellow", f"{asked} {bad}: {why}")

    def _say(self, mark: str, colour: str, text: str) -> None:
        self._screen.say(f"{self._screen.style(mark, colour)} {text}")


def _farewell(folder: DemoFolder, screen: Screen, took: float) -> None:
    mark = screen.style("✓", "green")
    screen.say(f"\n{mark} All was as told, in {took:.0f} s, and every process of the demo has ended.")
    if folder.kept:
        program = Path(sys.executable).with_name("fraisier")
        screen.say(f"Look around: {_short(program)} --config {_short(folder.config)} show ID")


def _short(path: Path) -> str:
    """As it can be typed in this folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


# ----------------------------------------------------------------------------------------------- signals


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does, players and all."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(interrupt, _SIGNALS):
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not keep the players from being ended."""

    def ignore(_signal: int, _frame: FrameType | None) -> None:
        """They end within seconds."""

    with _handling(ignore, (signal.SIGINT, *_SIGNALS)):
        yield


@contextmanager
def _handling(
    handler: Callable[[int, FrameType | None], Any], numbers: Sequence[signal.Signals]
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
