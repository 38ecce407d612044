"""A short part of `make chaos`, drawn from a seed; FRAISIER_SEED plays another one. See docs/chaos.md."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from fraisier.database.clocks import system_clocks
from fraisier.database.sqlite import SqliteStore, open_sqlite
from fraisier.domain.plan import Phase, StepName
from fraisier.domain.run import RunEnding, RunStatus, RunWish
from tests.chaos.plan import FAULTS, STORES, new_points, rounds
from tests.chaos.points import Point, Watch
from tests.chaos.report import Line, Report
from tests.chaos.run_stories import RUN_STORIES
from tests.chaos.stories import STORIES, Story
from tests.chaos.troupe import planned, troupe
from tests.servers.postgresql import why_not
from tests.unit.store_contract import KEY, publish, wish

SEED = int(os.environ.get("FRAISIER_SEED", "3"))
ROUNDS = int(os.environ.get("FRAISIER_ROUNDS", "10"))


def drawn_stories() -> list[Story]:
    """The longest one, and one more."""
    other = random.Random(SEED).choice([story for story in STORIES if story.name != "update"])
    return [story for story in STORIES if story.name in {"update", other.name}]


def there_are() -> Sequence[str]:
    """The stores that can be played on here."""
    return STORES if not why_not() or os.environ.get("FRAISIER_SERVERS") == "required" else STORES[:1]


def play(stories: Sequence[Story], stores: Sequence[str], number: int) -> None:
    """So many rounds of these."""
    report = Report(SEED, f"FRAISIER_SEED={SEED} python -m tests.chaos", total=number)
    report.begin()
    with troupe(stores, jobs=2) as players:
        for line in players.play(planned(players, stores, stories, SEED)[:number]):
            report.add(line)
    assert not report.violated
    assert sum(line.reached for line in report.lines) > number / 2
    if len(there_are()) < len(STORES):
        pytest.skip(f"SKIPPED WITHOUT POSTGRESQL: {why_not()}. On SQLite all is well")


def test_what_must_hold_holds_wherever_a_worker_is_killed_or_stopped(capsys):
    play(drawn_stories(), there_are(), ROUNDS)


def test_what_must_hold_of_runs_holds_wherever_their_worker_is_killed_or_stopped(capsys):
    dice = random.Random(SEED)  # one story on one store: another seed plays another one
    play([dice.choice(RUN_STORIES)], [dice.choice(there_are())], max(1, ROUNDS // 2))


def opened(folder: Path) -> SqliteStore:
    """A new store."""
    return open_sqlite(f"sqlite://{folder}/fraisier.db", state_folder=str(folder))


class Newer(SqliteStore):
    """A store that has learnt something since the suite was written."""

    def note_the_weather(self, weather: str) -> None:
        self.audit(actor="sky", action="weather", subject=weather, detail={})

    def look_outside(self) -> str:
        return self.published_digest()


def test_what_a_store_learns_to_write_is_a_moment_without_anybody_listing_it(tmp_path):
    opened(tmp_path).close()
    with closing(Newer(tmp_path / "fraisier.db", state_folder=tmp_path, clocks=system_clocks())) as store:
        passed: list[Point] = []
        watched = Watch(passed.append).store(store)
        watched.note_the_weather("rain")
        watched.look_outside()
        assert passed == [
            Point("idle", "before", "note_the_weather"),
            Point("idle", "after", "note_the_weather"),
        ]


def test_a_moment_belongs_to_the_step_in_which_it_comes(tmp_path):
    with closing(opened(tmp_path)) as store:
        publish(store)
        store.request(wish())
        passed: list[Point] = []
        watched = Watch(passed.append).store(store)
        claim = watched.claim("w1", lease=10, environments=[KEY])
        attempt = watched.begin_attempt(claim, resolved="{}")
        step = {"phase": Phase.rollback, "name": StepName.migrate, "release": "1-abc"}
        watched.begin_step(claim, attempt, **step)
        said = [str(point) for point in passed]
        assert said == [
            "idle · before claim",
            "busy · after claim",
            "begin · before begin_attempt",
            "begin · after begin_attempt",
            "migrate back · before begin_step",
            "migrate back · after begin_step",
        ]


def test_a_moment_belongs_to_the_run_in_which_it_comes(tmp_path):
    with closing(opened(tmp_path)) as store:
        publish(store)
        store.request_run(RunWish(environment=KEY, job="load"))
        passed: list[Point] = []
        watched = Watch(passed.append).store(store)
        watched.register_worker("w1", info={})
        claim = watched.claim_run("w1", environments=[KEY])
        watched.write_run_output(claim, "done")
        watched.finish_run(claim, RunEnding(status=RunStatus.success))
        said = [str(point) for point in passed]
        assert said[2:] == [
            "idle · before claim_run",
            "busy · after claim_run",
            "run load · before write_run_output",
            "run load · after write_run_output",
            "run load · before finish_run",
            "run load · after finish_run",
        ]


def test_stories_of_other_sites_share_no_beginning():
    first, second = (next(s for s in RUN_STORIES if s.name == name) for name in ("run", "run comes due"))
    common = Point("idle", "before", "claim")
    step = Point("build", "before", "begin_step")
    recorded = {story.name: [common, step] for story in (first, second)}
    found = new_points((first, second), recorded)
    assert found == [(first, common), (first, step), (second, step)]


def test_a_story_is_played_from_where_it_parts_from_those_before_it():
    first, second = STORIES[1], STORIES[2]
    common = [Point("build", "before", "begin_step"), Point("build", "after", "begin_step")]
    ends = {first.name: Point("build", "before", "rename"), second.name: Point("build", "before", "end_step")}
    recorded = {name: [Point("idle", "before", "claim"), *common, end] for name, end in ends.items()}
    found = new_points((first, second), recorded)
    assert [point for story, point in found if story is second] == [ends[second.name]]
    assert [point for story, point in found if story is first] == recorded[first.name]


def test_the_second_attempt_of_a_story_is_played_until_its_first_step_has_ended():
    step = [("before", "begin_step"), ("after", "end_step")]
    once = [Point(where, edge, what) for where in ("preflight", "fetch") for edge, what in step]
    again = [Point(point.where, point.edge, point.what, 2) for point in once]
    found = [point for _, point in new_points(STORIES[:1], {STORIES[0].name: [*once, *again]})]
    assert found == [*once, *again[:2]]


def test_every_write_is_played_with_each_fault_on_each_store_and_every_act_once():
    writes = [(STORIES[0], Point("build", edge, "end_step")) for edge in ("before", "after")]
    acts = [(STORIES[0], Point("build", "before", "rename token", number)) for number in range(50)]
    for seed in range(5):
        played = [each for store in STORES for each in rounds([*writes, *acts], store, seed)]
        once = Counter((each.fault.point, each.fault.kind, each.store) for each in played if not each.again)
        wanted = [(point, fault, store) for _, point in writes for fault in FAULTS for store in STORES]
        assert all(once[each] == 1 for each in wanted)
        assert Counter(point for point, *_ in once if point.is_an_act) == {point: 1 for _, point in acts}
        again = [each for store in STORES for each in rounds([*writes, *acts], store, seed)]
        assert played == again


def test_a_report_says_what_was_violated_and_how_the_run_is_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    report = Report(7, "make chaos")
    report.begin()
    report.add(Line("update · build · before end_step", "kill", "sqlite", "success", 1.2))
    assert report.close() == 0
    report.add(Line("update · finish", "stop", "sqlite", "running", 3.0, ("everything_ended: it runs",)))
    assert report.close() == 1
    shown = capsys.readouterr().out
    assert "FRAISIER_SEED=7" in shown
    assert "everything_ended: it runs" in shown
    assert "VIOLATED" in (tmp_path / "chaos-results" / "report.txt").read_text()
    assert list(itertools.chain(*(line.split("\033")[1:] for line in shown.splitlines()))) == []
