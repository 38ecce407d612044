"""What happens to jobs while a fault strikes: one story per way that a run can go."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from fraisier.domain.errors import Conflict
from fraisier.wiring import Fraisier
from tests.chaos.invariants import Promises
from tests.chaos.points import LASTS
from tests.chaos.run_invariants import torn_backups
from tests.chaos.run_site import SOON, BackupSite, DueSite, RunSite
from tests.chaos.stories import DEPLOYMENTS, SETTLES_IN, Act, Scene, Setting, Story
from tests.integration.site import KEY


def _ask(scene: Scene, job: str) -> None:
    """A person wants a run of a job."""
    scene.ask(partial(_request, job), Promises.ran)


def _request(job: str, fraisier: Fraisier) -> str:
    """Who did not hear what became of the first wish finds it there."""
    try:
        return str(fraisier.request_run(KEY, job, parameters={}, by="alice")["id"])
    except Conflict:
        return str(fraisier.store.runs(job=job, limit=1)[0]["id"])


def _asks_for(job: str) -> Act:
    return lambda scene: _ask(scene, job)


def _ask_twice(scene: Scene) -> None:
    """Two may run at once; the third one of them is refused."""
    for _ in range(3):
        _ask(scene, "pair")


def _is_under_way(scene: Scene, job: str) -> bool:
    """Whether its script has begun, or the run has ended without."""
    notes = scene.site.folder / "notes"
    return (notes.exists() and job in notes.read_text()) or not scene.site.unfinished()


def _deploys_over(job: str) -> Act:
    """A push comes while it runs."""

    def act(scene: Scene) -> None:
        _ask(scene, job)
        scene.sees(lambda: _is_under_way(scene, job))
        scene.push("new")

    return act


def _cancel(scene: Scene) -> None:
    _ask(scene, "endless")
    scene.sees(lambda: _is_under_way(scene, "endless"))
    time.sleep(2 * LASTS)
    scene.ask(_cancel_what_runs, Promises.ran)


def _cancel_after_all(scene: Scene) -> None:
    """The wish to cancel it was lost with the one who was to hear of it."""
    scene.sees(lambda: _is_under_way(scene, "endless"))
    if scene.site.unfinished():
        scene.ask(_cancel_what_runs, Promises.ran)


def _cancel_what_runs(fraisier: Fraisier) -> str:
    (row,) = fraisier.store.runs(limit=1)
    with suppress(Conflict):  # it has ended
        fraisier.cancel_run(row["id"], by="alice")
    return str(row["id"])


def _shut_down(scene: Scene) -> None:
    """Told to stop while something runs that takes longer than the grace: it is tried again."""
    _ask(scene, "flaky")
    scene.sees(lambda: _is_under_way(scene, "flaky"))
    scene.server.send(signal.SIGTERM)


def _comes_due(scene: Scene) -> None:
    """Nobody does anything."""
    scene.sees(lambda: "due" in scene.site.ending(), 2 * SOON)


def _next_run(job: str) -> Callable[[Scene], list[str]]:
    """A further run is a success."""

    def goes_on(scene: Scene) -> list[str]:
        _ask(scene, job)
        settled = scene.site.settles(SETTLES_IN)
        row = scene.site.rows("SELECT * FROM tb_runs WHERE job = ? ORDER BY pk", job)[-1]
        good = settled and row["status"] == "success"
        return [] if good else [f"the next run is {row['status']}: {row['error_message']}"]

    return goes_on


def _deployment_and_run(scene: Scene) -> list[str]:
    return DEPLOYMENTS.goes_on(scene) + _next_run("good")(scene)


JOBS = Setting("jobs", RunSite, goes_on=_deployment_and_run)
CANCELS = Setting("cancels", partial(RunSite, on_running="cancel"), goes_on=_deployment_and_run)
DUE = Setting("due", DueSite, goes_on=_deployment_and_run)
BACKUPS = Setting(
    "backups",
    BackupSite,
    begin=_ask,
    goes_on=_next_run("main"),
    at_once=lambda site: list(torn_backups(site)),
)
BEFORE = ("main", "verify")


NOT_CANCELLED = "success, endless success"  # one that is asked for late is cancelled by nobody
NOBODY_CANCELS = (NOT_CANCELLED, "success, endless failed (interrupted)")


def _cut(job: str, before: str = "success, ") -> tuple[str, ...]:
    return (f"{before}{job} failed (interrupted)",)


RUN_STORIES = (
    Story(
        "run",
        _asks_for("good"),
        ("success, good success, after success",),
        setting=JOBS,
        cut=(*_cut("good"), *_cut("good success, after")),
    ),
    Story("run fails", _asks_for("bad"), ("success, bad failed (run)",), setting=JOBS, cut=_cut("bad")),
    Story(
        "run is tried again", _asks_for("flaky"), ("success, flaky success",), setting=JOBS, cut=_cut("flaky")
    ),
    Story("runs at once", _ask_twice, ("success, pair success",), setting=JOBS, cut=_cut("pair")),
    Story(
        "run is waited for", _deploys_over("long"), ("success, long success",), setting=JOBS, cut=_cut("long")
    ),
    Story(
        "run makes way",
        _deploys_over("endless"),
        ("success, endless cancelled (cancelled)",),
        setting=CANCELS,
        cut=_cut("endless"),
        late=NOBODY_CANCELS,
    ),
    Story(
        "run is cancelled",
        _cancel,
        ("success, endless cancelled (cancelled)",),
        extra=_cancel_after_all,
        setting=JOBS,
        cut=(*_cut("endless"), NOT_CANCELLED),
        late=(NOT_CANCELLED,),
    ),
    Story("run is shut down", _shut_down, ("success, flaky success",), setting=JOBS, cut=_cut("flaky")),
    Story("run comes due", _comes_due, ("success, due success",), setting=DUE, cut=_cut("due")),
    Story(
        "backup",
        _asks_for("main"),
        ("main success, verify success",),
        before=BEFORE,
        setting=BACKUPS,
        cut=("main failed (interrupted), verify success",),
    ),
    Story(
        "backup is verified",
        _asks_for("verify"),
        ("main success, verify success",),
        before=BEFORE,
        setting=BACKUPS,
        cut=("main success, verify failed (interrupted)",),
    ),
)
