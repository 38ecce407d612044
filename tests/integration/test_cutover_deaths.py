"""A worker dies, or the power goes, at any act of a change from one release to the next."""

from __future__ import annotations

import pytest

from fraisier.application.control import Control
from fraisier.domain.deployment import Status
from tests.factories import SHA_A, SHA_B
from tests.fake_instances import Death
from tests.unit.test_cutover import ONE, TWO, Street


@pytest.mark.parametrize(
    ("fault", "power"),
    [("none", False), ("sick", False), ("late", False), ("none", True), ("late", True)],
    ids=["kill", "kill of a sick one", "kill of a late one", "power loss", "power loss of a late one"],
)
def test_a_death_at_any_act_leaves_one_release_serving(tmp_path, fault, power):
    """Before each act; after it is before the next."""
    died, number = True, 1
    while died:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        street = Street(folder)
        for sha in (SHA_A, SHA_B):
            street.repository.commit(sha)
        street.deploy(SHA_A)
        bad = {TWO, "3-bbbbbbbbbb"}  # the second where it starts over
        if fault == "sick":
            street.prober.unhealthy = bad
        if fault == "late":
            street.configure(bake=5.0)
            street.on_step = lambda name, phase, s=street, b=bad: (
                s.prober.unhealthy.update(b) if name == "finish" else None
            )
        street.host.dies_at = street.host.done + number
        deployment = street.wish(SHA_B)
        died = False
        claim = street.claim()
        try:
            street.run(claim, Control())
        except Death:
            died = True
            street.store.hand_back(claim)
        if died and power:
            street.manager.boot()
            assert set(street.manager.running) & {f"orders@{street.link}"}, "after a boot nobody serves"
        status = street.go_on(deployment)
        wanted = {"none": Status.success, "sick": Status.failed, "late": Status.rolled_back}[fault]
        assert status is wanted, (number, street.store.steps(deployment))
        serving = street.has_one_serving()
        assert serving == ONE if fault != "none" else serving.endswith("bbbbbbbbbb"), number
        if fault == "sick":
            assert set(street.dialled) == {ONE}
        street.store.close()
    assert number > 8
