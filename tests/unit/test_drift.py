"""What counts as a difference between a host and the database, and what heals it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fraisier.domain.drift import Found, Remedy, Unit, Wanted, differences
from tests.factories import SHA_A, SHA_B

OURS = {"installation": "i-1", "fraise": "orders", "environment": "production"}
RELEASE, OTHER = "3-aaaaaaaaaa", "2-bbbbbbbbbb"
WANTED = Wanted(app_path="/var/www/orders", owner=OURS, token=7, release=RELEASE, commit=SHA_A)
UNIT = Unit(name="orders.service", known=True, running=True, release=RELEASE, is_older=False)
FOUND = Found(
    current="link",
    link=f"releases/{RELEASE}",
    folder=True,
    marker=SHA_A,
    owner=OURS,
    token=7,
    unit=UNIT,
)


def unit(**changes: Any) -> dict[str, Unit]:
    return {"unit": replace(UNIT, **changes)}


def differing(**changes: Any) -> list[tuple[str, Remedy]]:
    return [(each.check, each.remedy) for each in differences(WANTED, replace(FOUND, **changes))]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"link": f"/var/www/orders/releases/{RELEASE}/"},
        {"token": 3},
        {"unit": None},
        {"listens": "/run/a.sock", "dialled": "/run/a.sock"},
        unit(release="", is_older=None),
        # Started in the right folder: that somebody set the link again to what it was says nothing.
        unit(is_older=True),
    ],
)
def test_what_is_as_the_database_says_is_no_difference(changes: dict[str, Any]) -> None:
    assert differing(**changes) == []


@pytest.mark.parametrize(
    ("changes", "check", "remedy"),
    [
        ({"link": f"releases/{OTHER}"}, "current", Remedy.deploy),
        ({"link": "/home/eve/orders"}, "current", Remedy.deploy),
        ({"current": "missing", "link": ""}, "current", Remedy.deploy),
        ({"current": "folder", "link": ""}, "current", Remedy.move),
        ({"folder": False, "marker": None}, "release", Remedy.deploy),
        ({"marker": None}, "release", Remedy.deploy),
        ({"marker": SHA_B}, "commit", Remedy.deploy),
        ({"owner": None}, "owner", Remedy.deploy),
        ({"owner": {**OURS, "installation": "i-2"}}, "owner", Remedy.adopt),
        ({"owner": {}}, "owner", Remedy.adopt),
        ({"token": 8}, "token", Remedy.adopt),
        (unit(running=False, detail="failed (exit-code)"), "unit", Remedy.deploy),
        (unit(known=False), "unit", Remedy.deploy),
        (unit(release=OTHER), "unit", Remedy.deploy),
        (unit(release="", is_older=True), "unit", Remedy.deploy),
        ({"edited": ("/etc/systemd/system/orders.service",)}, "file", Remedy.deploy),
        ({"listens": "/run/a.sock"}, "traffic", Remedy.deploy),
        ({"listens": "/run/a.sock", "dialled": "/run/b.sock"}, "traffic", Remedy.deploy),
        ({"others": (OTHER,)}, "instance", Remedy.deploy),
    ],
)
def test_each_difference_has_a_remedy(changes: dict[str, Any], check: str, remedy: Remedy) -> None:
    assert differing(**changes) == [(check, remedy)]


def test_everything_that_differs_is_told() -> None:
    found = differing(current="missing", link="", folder=False, marker=None, **unit(running=False))
    assert [check for check, _ in found] == ["current", "release", "unit"]


def test_where_nothing_was_deployed_nothing_is_expected() -> None:
    nothing = replace(WANTED, release="", commit="", token=0)
    empty = Found(current="missing")
    assert list(differences(nothing, empty)) == []
    (left,) = differences(nothing, replace(empty, current="link", link="releases/1-aaaaaaaaaa"))
    assert (left.check, left.remedy) == ("current", Remedy.deploy)
    (folder,) = differences(nothing, replace(empty, current="folder"))
    assert folder.remedy is Remedy.move
