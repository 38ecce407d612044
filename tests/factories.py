"""Domain objects for tests, complete with sensible values; a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fraisier.domain.deployment import Trigger, Wish
from fraisier.domain.fraise import Environment, EnvironmentKey, Fraise, FraiseType, Source

SHA_A, SHA_B, SHA_C = "a" * 40, "b" * 40, "c" * 40
KEY = EnvironmentKey("orders", "production")


def source(**changes: Any) -> Source:
    base = Source(
        forge="github", repository="acme/orders", clone_url="https://git.example.com/acme/orders.git"
    )
    return replace(base, **changes)


def environment(**changes: Any) -> Environment:
    base = Environment(
        fraise="orders",
        name="production",
        type=FraiseType.api,
        source=source(),
        branch="main",
        app_path="/var/www/orders",
    )
    return replace(base, **changes)


def fraise(*environments: Environment) -> Fraise:
    found = environments or (environment(),)
    first = found[0]
    return Fraise(
        name=first.fraise,
        type=first.type,
        source=first.source,
        environments={each.name: each for each in found},
    )


def wish(commit: str = SHA_A, **changes: Any) -> Wish:
    base = Wish(environment=KEY, ref="refs/heads/main", trigger=Trigger.webhook, commit=commit, tip=commit)
    return replace(base, **changes)
