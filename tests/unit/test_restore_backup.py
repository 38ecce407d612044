"""A restore replaces nothing that was not asked for, and nothing without a safety copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fraisier.domain.backup import CopyState, Source
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.run import RunStatus
from tests.backup_world import World, make, opened, with_spec
from tests.factories import KEY

DAY = 86400.0


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with opened(tmp_path, **getattr(request, "param", {})) as found:
        yield found


# --------------------------------------------------------------------------------------------- restoring


def test_a_restore_over_something_needs_force_and_makes_a_safety_copy(world: World) -> None:
    name = make(world)
    world.write(items=[9], people=[])
    with pytest.raises(
        StepFailed, match="cannot restore over what is there: orders: 2 tables with 1 rows"
    ) as error:
        world.perform("restore")
    assert "--force" in error.value.hint
    assert world.rows() == {"items": [9], "people": []}
    ending = world.perform("restore", force="yes")
    assert ending.status is RunStatus.success
    assert (ending.detail["backup"], world.rows()) == (name, {"items": [1, 2, 3], "people": [1]})
    safety = str(ending.detail["safety"])
    assert world.copy(safety).safety
    assert world.copy(safety, "vault").state is CopyState.whole
    for _ in range(5):
        make(world)
    assert safety in world.on("disk")
    world.perform("prune", safety="yes")
    assert safety in world.on("disk")  # nothing was verified since
    world.perform("restore", force="yes", backup=safety)
    assert world.rows() == {"items": [9], "people": []}


def test_what_only_the_user_may_see_is_there(world: World) -> None:
    """Fraisier logs in as somebody who may not enter the folder where it lies."""
    make(world)
    folder = Path(world.host.root) / "srv" / "closed" / "orders"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    world.host.kind = lambda path: "missing"  # type: ignore[method-assign]
    world.host.list = lambda folder: []  # type: ignore[method-assign]
    with pytest.raises(StepFailed, match="there is something already"):
        world.perform("restore", to="/srv/closed/orders")
    with_spec(world, sources=(Source(name="orders", kind="shop", path="/srv/closed/orders"),))
    with pytest.raises(StepFailed, match="cannot restore over what is there: orders: /srv/closed/orders"):
        world.perform("restore")


def test_a_restore_into_nothing_needs_no_force(world: World) -> None:
    make(world)
    world.write()  # an empty database
    ending = world.perform("restore")
    assert (ending.detail["safety"], world.rows()) == ("", {"items": [1, 2, 3], "people": [1]})


def test_a_database_without_tables_is_not_empty_for_that(world: World) -> None:
    """It has views, routines, large objects: a restore would remove them."""
    make(world)
    world.write()
    world.views = 2
    with pytest.raises(StepFailed, match="over what is there: orders: no tables, but views: 2"):
        world.perform("restore")
    assert world.rows() == {}
    assert world.perform("restore", force="yes").detail["safety"]


def test_without_a_safety_copy_nothing_is_replaced(world: World) -> None:
    make(world)
    world.write(items=[9])
    for place in ("disk", "vault"):
        world.shelf.broken[f"{place}.store"] = StepFailed(Cause.disk, "cannot store: the disk is full")
    with pytest.raises(StepFailed, match="the safety copy of what is there could not be kept") as error:
        world.perform("restore", force="yes")
    assert error.value.hint == "Nothing was replaced"
    assert world.rows() == {"items": [9]}


def test_a_restore_that_fails_says_where_the_safety_copy_is(world: World) -> None:
    make(world)
    world.write(items=[9])
    world._restore = lambda file, database: (1, "it broke off\n")  # type: ignore[method-assign]
    with pytest.raises(StepFailed, match="cannot bring orders back: it broke off") as error:
        world.perform("restore", force="yes")
    assert (
        "What was there before is kept: fraisier backup restore orders production --backup"
        in error.value.hint
    )


def test_a_restore_elsewhere_leaves_everything_as_it_is(world: World) -> None:
    make(world)
    world.write(items=[9])
    ending = world.perform("restore", to="orders_of_yesterday")
    assert world.rows("orders_of_yesterday") == {"items": [1, 2, 3], "people": [1]}
    assert world.rows() == {"items": [9]}
    assert ending.detail["safety"] == ""
    world.write("taken", items=[7])
    with pytest.raises(StepFailed, match="there is something already"):
        world.perform("restore", to="taken", force="yes")
    assert world.rows("taken") == {"items": [7]}


@pytest.mark.parametrize("to", ["a; drop table x", "$(id)", "../x", "-x", "a\nb"])
def test_a_place_that_is_none_is_refused(world: World, to: str) -> None:
    make(world)
    with pytest.raises(StepFailed, match="cannot restore"):
        world.perform("restore", to=to)


def test_the_newest_verified_is_restored_unless_another_is_named(world: World) -> None:
    first = make(world)
    world.perform("verify")
    world.write(items=[4], people=[])
    second = make(world)
    world.write()
    assert world.perform("restore").detail["backup"] == first
    world.write()
    assert world.perform("restore", backup=second).detail["backup"] == second


def test_a_damaged_copy_is_passed_over(world: World) -> None:
    name = make(world)
    world.file(name).write_bytes(b"x")
    world.write()
    ending = world.perform("restore")
    assert (ending.detail["backup"], ending.detail["from"]) == (name, "vault")
    world.file(name, place="/vault").write_bytes(b"")
    world.write()
    with pytest.raises(StepFailed, match=f"cannot restore a backup: {name} at disk: orders.shop has 1 bytes"):
        world.perform("restore")


UNKNOWN = [
    ({"backup": "20260101T000000Z-00000000"}, "cannot restore 20260101T000000Z-00000000: there is none"),
    ({"source": "people"}, "there is no such source"),
    ({"destination": "moon"}, "no such destination"),
]


@pytest.mark.parametrize(("parameters", "words"), UNKNOWN)
def test_what_does_not_exist_is_refused(world: World, parameters: dict[str, str], words: str) -> None:
    make(world)
    world.write()
    with pytest.raises(StepFailed, match=words):
        world.perform("restore", **parameters)
    assert world.rows() == {}


def test_another_environments_backup_is_never_restored(world: World) -> None:
    name = make(world)
    for place in ("/kept", "/vault"):
        manifest = world.file(name, "manifest.json", place)
        manifest.write_text(manifest.read_text().replace('"production"', '"staging"'))
    world.store.note_copies(KEY, [])
    world.write()
    with pytest.raises(StepFailed, match="it is a backup of orders/staging"):
        world.perform("restore", backup=name)
    assert world.rows() == {}


def test_safety_copies_go_when_something_newer_was_verified_and_somebody_says_so(world: World) -> None:
    make(world)
    safety = str(world.perform("restore", force="yes").detail["safety"])
    newest = make(world)
    world.perform("verify")
    assert safety in world.on("disk")
    world.perform("prune", safety="yes")
    assert (safety in world.on("disk"), newest in world.on("disk")) == (False, True)


def test_what_cannot_be_looked_at_is_not_replaced(world: World) -> None:
    make(world)
    (world.databases / "orders").unlink()
    with pytest.raises(StepFailed, match="cannot tell what a restore of orders would replace") as error:
        world.perform("restore", force="yes")
    assert "make it anew, empty" in error.value.hint
    assert world.rows() is None
