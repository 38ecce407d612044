"""Plays rounds: sets the scene, lets a fault strike, lets another process take over, and looks at what is left."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.invariants import is_free, violations
from tests.chaos.plan import Round
from tests.chaos.points import Passed, Point, Recorder, Striker, recorded
from tests.chaos.processes import Client, Process, Server, import_everything
from tests.chaos.repertoire import story as story_named
from tests.chaos.report import Line
from tests.chaos.site import LEASE, ChaosSite
from tests.chaos.stories import MIGRATION_CUT, SETTLES_IN, WAY_BACK_CUT, Scene, Setting, Story

TABLES = (
    "deployments",
    "deployment_attempts",
    "deployment_steps",
    "step_output",
    "environments",
    "audit_log",
    "webhook_events",
    "runs",
    "run_output",
    "backups",
)
DEFECTS = ("worker_error", "deployment_crashed", "run_crashed")
HEALTH = "interval: 0.2, timeout: 1.5, passes: 1"  # long enough for a machine that has much else to do
_STARTS = 10  # of a server; a store that is held refuses each after 3 seconds
_NOTICES_IN = 30.0  # seconds for a worker that woke up to see what it has lost


class Player:
    """Plays on a site of its own per store; what was there before a story is restored, not deployed anew."""

    def __init__(self, folder: Path, server: str) -> None:
        """`server` is the URL of PostgreSQL's database `postgres`; '' if there is none."""
        import_everything()
        self._folder = folder
        self._server = server
        self._saved: dict[tuple[str, tuple[str, ...]], ChaosSite] = {}
        self._played: dict[str, ChaosSite] = {}

    # -- what is there before a story
    def restore(self, store: str, story: Story) -> ChaosSite:
        """The site of a store as it is when a story begins."""
        key = (store, story.beginning)
        if key not in self._saved:
            self._saved[key] = self._make(store, story)
        site, saved = self._saved[key], self._saved_at(store, story)
        shutil.rmtree(site.folder)
        shutil.copytree(saved, site.folder, symlinks=True)
        self._copy_database(store, saved.name, site.folder.name)
        site.comes_back()
        self._played[store] = site
        return site

    def site(self, store: str) -> ChaosSite:
        """Where was played last."""
        return self._played[store]

    def _saved_at(self, store: str, story: Story) -> Path:
        return self._folder / "-".join((store, "after", *story.beginning)).replace(" ", "_")

    def _make(self, store: str, story: Story) -> ChaosSite:
        """A new site with what is there before a story; it is kept."""
        saved = self._saved_at(store, story)
        site = self._new_site(store, story.setting)
        with self._serving(site, "setting-up") as server:
            scene = Scene(site, server)
            for each in story.before:
                story.setting.begin(scene, each)
                assert site.settles(SETTLES_IN), site.unfinished()
                assert site.ending().endswith("success"), site.ending()
            server.send(signal.SIGTERM)
            assert server.waits(30)
        shutil.copytree(site.folder, saved, symlinks=True)
        self._copy_database(store, site.folder.name, saved.name)
        return site

    def _new_site(self, store: str, setting: Setting) -> ChaosSite:
        folder = self._folder / store
        if folder.exists():
            shutil.rmtree(folder)
        database = ""
        if store == "postgresql":
            self._copy_database(store, "template0", store)
            database = self._server.replace("/postgres?", f"/{self._database(store)}?")
        folder.mkdir(parents=True)
        return setting.site(folder, database=database, health=HEALTH)

    def _database(self, name: str) -> str:
        return name if name == "template0" else f"{self._folder.name}-{name}"

    def _copy_database(self, store: str, source: str, to: str) -> None:
        """SQLite's is a file of the site's folder."""
        if store != "postgresql":
            return
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self._database(to)}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{self._database(to)}" TEMPLATE "{self._database(source)}"')

    @contextmanager
    def _serving(
        self, site: ChaosSite, name: str, *, stopped: Sequence[Process] = (), passed: Passed | None = None
    ) -> Iterator[Server]:
        """A server that is ready, or struck.

        It is started anew, as systemd does, where the store is held by who was `stopped`. PostgreSQL ends that
        session in the end; a SQLite file stays locked until its holder goes on.
        """
        log = site.folder / f"{name}.log"
        for refused in range(_STARTS):
            if refused == _STARTS // 2:
                for each in stopped:
                    each.send(signal.SIGCONT)
            server = Server(site.config, log, passed=passed)
            if server.is_ready(SETTLES_IN) or not server.was_refused:
                break
        try:
            yield server
        finally:
            server.end()

    # -- recording
    def record(self, story: Story, store: str) -> list[Point]:
        """The points that are passed where nothing goes wrong, in their order."""
        site = self.restore(store, story)
        notes = site.folder / "points"
        with self._serving(site, "recorded", passed=Recorder(notes)) as server:
            scene = Scene(site, server, passed=Recorder(notes))
            story.act(scene)
            scene.sees(lambda: server.is_gone or not site.unfinished(), SETTLES_IN)
            time.sleep(LEASE / 2)  # a few renewals
            server.send(signal.SIGTERM)  # what is written at the end, too
            assert server.waits(30)
        return list(dict.fromkeys(recorded(notes)))

    # -- playing
    def play(self, played: Round) -> Line:
        """One round."""
        story = story_named(played.story)
        site = self.restore(played.store, story)
        began = time.monotonic()
        with self._serving(site, "struck", passed=Striker(played.fault.kind, played.fault.point)) as server:
            scene = Scene(site, server, passed=Striker(played.fault.kind, played.fault.point))
            try:
                story.act(scene)
                scene.sees(lambda: _is_over(scene), SETTLES_IN)
                reached = scene.is_struck
                if not reached:  # or the moment would come in what follows, where nobody wakes it
                    _end(scene.processes)
                torn = story.setting.at_once(site)
                ended, found = self._take_over(played, story, scene)
            finally:
                _end(scene.asked)
        return Line(
            point=str(played),
            fault=played.kind,
            store=played.store,
            ended=ended,
            seconds=time.monotonic() - began,
            violations=(*torn, *found),
            reached=reached,
        )

    def _take_over(self, played: Round, story: Story, scene: Scene) -> tuple[str, list[str]]:
        """Somebody else goes on, who may be killed as well; how it ended, and what does not hold."""
        site, struck = scene.site, (scene.server, *scene.asked)
        scene.asked, scene.passed = [], None
        if played.again:
            with self._serving(site, "killed-too", passed=Striker("kill", after=played.again)) as second:
                self._go_on(story, scene, second)
                scene.sees(lambda: _is_over(scene), SETTLES_IN)
        with self._serving(site, "taking-over", stopped=struck) as successor:
            self._go_on(story, scene, successor)
            woken = [each for each in struck if each.is_stopped]
            found = _wake(scene, woken) if woken else []
            settled = scene.site.settles(SETTLES_IN)
            found += [] if settled else [f"did not settle: {_last_words(site)}"]
            ended = site.ending()
            found += violations(site, scene.promises)
            found += [f"{each}: {_last_error(site)}" for each in _unexpected(played, story, site, ended)]
            found += self._goes_on(story, scene) if settled else []
            _end(struck)
        return ended, found + _defects(site)

    def _go_on(self, story: Story, scene: Scene, server: Server) -> None:
        """The forge and the person turn to another server with what was not answered."""
        scene.server = server
        scene.deliver_again()
        story.extra(scene)

    def _goes_on(self, story: Story, scene: Scene) -> list[str]:
        """Nothing left behind blocks what comes next."""
        found = story.setting.goes_on(scene) or violations(scene.site, scene.promises)
        return [f"{each} (in what came next)" for each in found]


def _end(processes: Iterable[Process]) -> None:
    for each in processes:
        each.end()


def _is_over(scene: Scene) -> bool:
    """Whether everything has ended, or the server has, without having come to the point."""
    has_begun = scene.site.ending() != "nothing"
    return scene.server.is_gone or (has_begun and not scene.site.unfinished() and not scene.undelivered)


def _unexpected(played: Round, story: Story, site: ChaosSite, ended: str) -> list[str]:
    """A fault may change how a deployment ends only where it cuts a migration, which is never repeated; and a
    run, if it cuts that, or what the worker does beside it.
    """
    point = played.fault.point
    allowed = [*story.ends]
    inside = (point.edge, point.what) not in {("before", "begin_step"), ("after", "end_step")}
    if played.again or point.where not in {"idle", "client"} or point.edge == "after":
        allowed += story.cut  # behind a write another thread may have begun with it before all stood still
    if point.where == "client":
        allowed += story.late
    if played.again or (point.where == "migrate" and inside) or (point.where == "busy" and _has_cut(site)):
        allowed.append(MIGRATION_CUT)
    if played.again or (point.where == "migrate back" and inside):
        allowed += WAY_BACK_CUT
    return [] if ended in allowed else [f"ended {ended}, not {' or '.join(allowed)}"]


def _has_cut(site: ChaosSite) -> bool:
    """Whether what a worker does beside a deployment fell into its migration."""
    cut = "SELECT 1 FROM tb_deployment_steps WHERE step = 'migrate' AND phase = 'deploy' AND state = 'interrupted'"
    return bool(site.rows(cut))


def _wake(scene: Scene, woken: Sequence[Process]) -> list[str]:
    """Let go on who was stopped: when its work is done by somebody else, or waits for what it holds."""
    site = scene.site
    began = time.monotonic()
    while site.unfinished() and time.monotonic() < began + 4 * LEASE:
        if time.monotonic() > began + 2 * LEASE and not all(map(is_free, site.locks())):
            break
        time.sleep(0.03)
    # A person's command that had not begun may still be carried out; a worker has lost what it had.
    is_to_change_nothing = not site.unfinished() and not any(isinstance(each, Client) for each in woken)
    before = (in_database(site), on_host(site)) if is_to_change_nothing else None
    for each in woken:
        each.send(signal.SIGCONT)
    time.sleep(0.1)
    deadline = time.monotonic() + _NOTICES_IN
    while any(each.holds_something and not each.is_gone for each in woken):
        if time.monotonic() > deadline:
            return ["the worker that woke up did not let go of what it had lost"]
        time.sleep(0.02)
    after = (in_database(site), on_host(site))
    if before is None or before == after:
        return []
    return [f"who woke up changed something: {_difference(before, after)}"]


def _defects(site: ChaosSite) -> list[str]:
    """What processes said of themselves that is nobody's fault but Fraisier's."""
    found = []
    for log in site.folder.glob("*.log"):
        text = log.read_text()
        found += [line for line in text.splitlines() if any(f'"{event}"' in line for event in DEFECTS)]
        if "Traceback" in text:
            found.append(text[text.index("Traceback") :][-600:].replace("\n", " | "))
    found += [row["error_message"] for row in site.deployments() if row["cause"] == "internal"]
    return [f"a process met a defect: {each}" for each in found]


def _last_words(site: ChaosSite) -> list[str]:
    """The last lines of every log."""
    return [line for log in sorted(site.folder.glob("*.log")) for line in log.read_text().splitlines()[-3:]]


def _last_error(site: ChaosSite) -> str:
    """What the newest deployment and run say that did not end well."""
    tables = ("tb_deployments", "tb_runs")
    rows = [row for table in tables for row in site.rows(f"SELECT * FROM {table} ORDER BY pk")[-1:]]
    return "; ".join(row["error_message"] for row in rows if row["error_message"])


def in_database(site: ChaosSite) -> dict[str, Any]:
    """What is told of deployments; a worker's signs of life are its own matter."""
    return {table: site.rows(f"SELECT * FROM tb_{table} ORDER BY 1") for table in TABLES}


def on_host(site: ChaosSite) -> dict[str, Any]:
    """Every file of the environment: its kind, size, time and where it leads."""
    found: dict[str, Any] = {}
    for folder, _, files in os.walk(site.app):
        for path in map(Path(folder).joinpath, ("", *files)):
            with suppress(FileNotFoundError):
                stat = path.lstat()
                to = path.readlink() if path.is_symlink() else ""
                found[str(path)] = (stat.st_mode, stat.st_ino, stat.st_size, stat.st_mtime_ns, to)
    return found


def _difference(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> str:
    """What is another, a row or a file each."""
    one, other = ({name: rows for side in sides for name, rows in _each(side)} for sides in (before, after))
    changed = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return "; ".join(f"{name}: {one.get(name)} -> {other.get(name)}" for name in changed)[:1500]


def _each(side: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, found in side.items():
        if isinstance(found, list):
            yield from ((f"{name}[{number}]", row) for number, row in enumerate(found))
        else:
            yield name, found
