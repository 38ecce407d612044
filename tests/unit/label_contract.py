"""What every store promises about labels: `domain.labels.may_take`, for whatever waits or was interrupted.

Used like `store_contract`.
"""

from __future__ import annotations

from itertools import product

import pytest

from fraisier.application.ports import Claim, Store
from fraisier.domain.errors import Cause
from fraisier.domain.labels import may_take
from tests import factories
from tests.factories import KEY, SHA_A, SHA_B
from tests.unit.store_contract import LEASE, STAGING, Advance, claimed, finished, wish

LABELS = [(), ("web1",), ("web2",), ("gpu", "web1")]


def publish_with(store: Store, production: tuple[str, ...], staging: tuple[str, ...] = ()) -> None:
    fraise = factories.fraise(
        factories.environment(labels=production),
        factories.environment(name="staging", branch="dev", labels=staging),
    )
    store.publish([fraise], digest="digest-2", documents={})


def claim(store: Store, *labels: str, worker: str = "w1") -> Claim | None:
    return store.claim(worker, lease=LEASE, environments=(KEY, STAGING), labels=labels)


class LabelContract:
    """A worker takes what it has all labels of; one without labels what names none."""

    @pytest.mark.parametrize(("wanted", "has"), list(product(LABELS, LABELS)))
    def test_a_worker_takes_what_its_labels_allow(
        self, store: Store, wanted: tuple[str, ...], has: tuple[str, ...]
    ) -> None:
        publish_with(store, wanted)
        store.request(wish())
        assert (claim(store, *has) is not None) == may_take(has, wanted)

    def test_what_is_not_for_a_worker_does_not_keep_it_from_what_is(self, store: Store) -> None:
        publish_with(store, ("web1",), ("web2",))
        store.request(wish())
        store.request(wish(environment=STAGING))
        theirs, ours = claim(store, "web2"), claim(store, "web1")
        assert theirs is not None
        assert ours is not None
        assert (theirs.environment, ours.environment) == (STAGING, KEY)

    def test_a_dead_worker_is_replaced_only_by_one_with_its_environment_s_labels(
        self, store: Store, advance: Advance
    ) -> None:
        publish_with(store, ("web1",))
        store.request(wish())
        assert claim(store, "web1", worker="dies") is not None
        advance(LEASE + 1)
        assert claim(store, "web2") is None
        assert claim(store) is None
        assert claim(store, "web1") is not None

    def test_what_was_begun_is_ended_where_it_was_begun_though_the_environment_has_moved(
        self, store: Store, advance: Advance
    ) -> None:
        publish_with(store, ("web1",))
        store.request(wish(SHA_A))
        begun = claim(store, "web1")
        assert begun is not None
        publish_with(store, ("web2",))
        store.request(wish(SHA_B))
        advance(LEASE + 1)
        assert claim(store, "web2") is None, "nor does what waits begin beside it"
        assert [row["labels"] for row in store.unfinished()] == [["web1"], ["web2"]]
        resumed = claim(store, "web1")
        assert resumed is not None
        assert resumed.deployment.id == begun.deployment.id
        finished(store, resumed)
        assert claim(store, "web1") is None
        assert claim(store, "web2") is not None

    def test_what_was_begun_without_labels_goes_on_with_those_of_now(
        self, store: Store, advance: Advance
    ) -> None:
        store.request(wish())
        claimed(store)
        advance(LEASE + 1)
        publish_with(store, ("web1",))
        assert claim(store) is None
        assert claim(store, "web1") is not None

    def test_a_retry_follows_its_environment_to_another_machine(self, store: Store, advance: Advance) -> None:
        publish_with(store, ("web1",))
        store.request(wish())
        first = claim(store, "web1")
        assert first is not None
        attempt = store.begin_attempt(first, resolved="{}")
        store.retry_later(first, attempt, delay=5, cause=Cause.network, error="cannot fetch")
        publish_with(store, ("web2",))
        advance(6)
        assert claim(store, "web1") is None
        assert claim(store, "web2") is not None

    def test_an_environment_that_left_the_configuration_keeps_its_labels(self, store: Store) -> None:
        publish_with(store, ("web1",))
        store.request(wish())
        staging = factories.environment(name="staging", branch="dev")
        store.publish([factories.fraise(staging)], digest="digest-3", documents={})
        assert claim(store) is None
        assert claim(store, "web1") is not None

    def test_what_waits_or_runs_is_listed_with_the_labels_that_it_wants(self, store: Store) -> None:
        publish_with(store, ("web1", "gpu"))
        store.request(wish())
        store.request(wish(environment=STAGING))
        finished(store, claimed(store, "w1", STAGING))
        (row,) = store.unfinished()
        assert {**row, "id": ""} == {
            "id": "",
            "fraise_id": "orders",
            "environment": "production",
            "status": "pending",
            "labels": ["web1", "gpu"],
            "trigger": "webhook",
            "force": False,
        }

    def test_a_worker_is_listed_with_its_labels(self, store: Store) -> None:
        store.register_worker("w1", info={"host": "here", "pid": 7, "labels": ["web1"]})
        (row,) = store.live_workers()
        assert row["info"]["labels"] == ["web1"]
