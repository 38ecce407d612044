"""A folder that another installation, or a newer database, owns is refused with a hint, and can be adopted."""

import pytest

from fraisier.domain.errors import Conflict
from tests.integration.site import KEY, Site


@pytest.fixture
def sites(tmp_path):
    made = [Site(tmp_path / "first"), Site(tmp_path / "second")]
    second = made[1].config.read_text().replace(str(made[1].app), str(made[0].app))
    made[1].config.write_text(second)
    from fraisier import wiring

    made[1].fraisier.configuration = wiring.load(str(made[1].config))
    made[1].fraisier.publish()
    yield made
    for site in made:
        site.fraisier.store.close()


def test_a_foreign_folder_is_refused_then_adopted(sites):
    first, second = sites
    with first.working():
        for version in ("one", "two", "three"):
            first.push({"VERSION": version})
            assert first.deploy()["status"] == "success"
    second.push({"VERSION": "ours"})
    with second.working():
        row = second.deploy()
        assert (row["status"], row["cause"]) == ("failed", "owner"), row
        assert "fraisier adopt shop production" in row["hint"]
        assert first.version == "three"
        second.fraisier.adopt(KEY, by="alice")
        assert second.deploy()["status"] == "success"
    assert first.version == "ours"
    with first.working():
        first.push({"VERSION": "four"})
        row = first.deploy()
        assert (row["status"], row["cause"]) == ("failed", "owner"), row
    assert first.version == "ours"


def test_an_environment_that_is_being_deployed_to_is_not_adopted(tmp_path):
    site = Site(tmp_path, extra='build: ["sleep 20"]')
    site.push({"VERSION": "one"})
    with site.working():
        deployment = site.request().deployment.id
        site.waits_in(deployment, "build")
        with pytest.raises(Conflict, match="is deploying to it"):
            site.fraisier.adopt(KEY, by="alice")
        site.fraisier.cancel(deployment, by="alice")
        site.ended(deployment)
    site.fraisier.store.close()
