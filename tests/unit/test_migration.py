"""What is said of migrations: verdicts, where an interrupted one stands, the way back to a release."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from fraisier.domain.fraise import Database, EnvironmentKey
from fraisier.domain.migration import (
    DatabaseChange,
    Kind,
    Pending,
    Reversible,
    Standing,
    Verdict,
    judge_migrations,
    standing,
    story_of,
    way_to,
)
from fraisier.domain.secret import Secret

PLAIN = Pending(name="2_plain")
ONE_WAY = Pending(name="3_one_way", reversible=False)
DROPS = Pending(name="4_drops", destroys=True)
TORN = Pending(name="5_concurrently", atomic=False)


@pytest.mark.parametrize(
    ("pending", "declared", "has_down", "verdict"),
    [
        ((PLAIN,), "auto", True, Verdict.reversible),
        ((PLAIN, ONE_WAY), "auto", True, Verdict.forward_only),
        ((PLAIN, DROPS), "auto", True, Verdict.restore_point),
        ((ONE_WAY, DROPS), "auto", True, Verdict.restore_point),
        ((PLAIN,), "auto", False, Verdict.forward_only),
        ((), "auto", False, Verdict.reversible),
        (None, "auto", True, Verdict.reversible),
        (None, "auto", False, Verdict.forward_only),
        ((PLAIN,), "false", True, Verdict.forward_only),
        ((ONE_WAY, DROPS), "true", True, Verdict.reversible),
        ((PLAIN,), "true", False, Verdict.forward_only),
    ],
)
def test_the_verdict_follows_from_what_is_pending_and_what_is_declared(pending, declared, has_down, verdict):
    assert judge_migrations(pending, Reversible(declared), has_down=has_down) is verdict


def planned(before, *pending, verdict=Verdict.reversible, target=""):
    detail = {
        "pending": [asdict(p) for p in pending],
        "verdict": verdict.value,
        "tells": True,
        "target": target,
    }
    return DatabaseChange(kind=Kind.planned, revision=before, detail=detail)


def at(kind, revision):
    return DatabaseChange(kind=Kind(kind), revision=revision)


@pytest.mark.parametrize(
    ("pending", "now", "left", "where"),
    [
        ((PLAIN, ONE_WAY), "1", (PLAIN, ONE_WAY), Standing.before),
        ((PLAIN, ONE_WAY), "2", (ONE_WAY,), Standing.between),
        ((PLAIN, ONE_WAY), "3", (), Standing.after),
        ((TORN, PLAIN), "1", (TORN, PLAIN), Standing.between),  # it may have been performed in part
        ((PLAIN, TORN), "1", (PLAIN, TORN), Standing.before),
        ((), "1", (), Standing.after),
        ((PLAIN,), "9", (PLAIN,), Standing.between),
        ((PLAIN,), "1", None, Standing.before),
    ],
)
def test_an_interrupted_migration_stands_where_its_framework_says(pending, now, left, where):
    assert standing(story_of([planned("1", *pending)]), now, left) is where


def test_a_way_back_that_was_interrupted_is_done_at_its_target_only():
    story = story_of([planned("3", PLAIN, target="1")])
    assert [standing(story, now, None) for now in ("3", "2", "1")] == [
        Standing.before,
        Standing.between,
        Standing.after,
    ]


def test_a_story_begins_anew_with_what_is_planned_anew():
    story = story_of([planned("1", PLAIN), at("migrated", "2"), planned("2", ONE_WAY)])
    assert (story.before, story.migrated, story.is_open) == ("2", False, True)


FIRST = ("a", story_of([planned("base", PLAIN), at("migrated", "1")]))
SECOND = ("b", story_of([planned("1", PLAIN), at("migrated", "2")]))
THIRD = ("c", story_of([planned("2", TORN), at("migrated", "3")]))
BARRED = ("d", story_of([planned("2", ONE_WAY, verdict=Verdict.forward_only), at("migrated", "3")]))
FAILED = ("e", story_of([planned("2", PLAIN), at("migrated", "3"), at("taken_back", "2")]))
OPEN = ("f", story_of([planned("2", PLAIN)]))


def test_a_database_goes_back_over_all_that_was_migrated_since():
    back = way_to([FIRST, SECOND, THIRD], "a")
    assert (back.refusal, back.now, back.way.to) == ("", "3", "1")
    assert back.way.undone == ("2_plain", "5_concurrently")


@pytest.mark.parametrize(
    ("history", "release", "why"),
    [
        ([FIRST, SECOND, BARRED], "a", "forward-only: 3_one_way"),
        ([FIRST, OPEN], "a", "did not come to its end"),
        ([FIRST], "z", "was not noted"),
        ([OPEN, FIRST], "f", "was not noted"),
    ],
)
def test_a_database_that_cannot_go_back_says_why(history, release, why):
    assert why in way_to(history, release).refusal


def test_what_was_taken_back_already_does_not_bar_the_way():
    back = way_to([FIRST, SECOND, FAILED], "a")
    assert (back.refusal, back.now, back.way.to, back.way.undone) == ("", "2", "1", ("2_plain",))


BACK = ("g", story_of([planned("2", PLAIN, target="1"), at("migrated", "1")]))


def test_a_database_does_not_go_forward_by_going_back():
    assert "deploy that commit again" in way_to([FIRST, SECOND, BACK], "b").refusal
    assert way_to([FIRST, SECOND, BACK], "a").refusal == ""
    again = ("h", story_of([planned("1", PLAIN), at("migrated", "2")]))
    assert way_to([FIRST, SECOND, BACK, again], "b").refusal == ""


KEY = EnvironmentKey("shop", "production")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("postgresql://u:secret@db/orders", "postgres://v@DB:5432/orders?sslmode=require"),
        ("postgresql+psycopg://u@/orders?host=/run/pg", "postgresql:///orders?host=/run/pg"),
        ("sqlite:////var/lib/x.db", "sqlite:///var/lib/x.db"),
    ],
)
def test_a_database_is_the_same_however_its_url_is_spelt(one, other):
    names = {Database(url=Secret(url, "${U}")).identity(KEY) for url in (one, other)}
    assert len(names) == 1, names
    assert "secret" not in names.pop()


def test_a_database_is_told_by_its_lock_then_its_url_then_its_name():
    url = "postgresql://db/orders"
    assert Database(url=url, lock="ours", name="n").identity(KEY) == "ours"
    assert Database(url=url, name="n").identity(KEY) == "postgresql://db:5432/orders"
    assert Database(name="n").identity(KEY) == "n"
    assert Database().identity(KEY) == "shop/production"
