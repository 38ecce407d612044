"""Who is there for one deployment, or run, alone is no worker for anything else."""

import pytest

from fraisier.application.find_workers import FindWorkers, whole_workers
from fraisier.database.sqlite import open_sqlite
from tests.migrated import lay_migrated
from tests.unit.store_contract import STAGING, publish, sha, wish

INFO = {"host": "here", "pid": 1, "version": "0", "digest": ""}


@pytest.fixture
def store(tmp_path):
    lay_migrated(tmp_path / "f.db")
    made = open_sqlite(f"sqlite://{tmp_path}/f.db", state_folder=str(tmp_path))
    publish(made)
    yield made
    made.close()


def requested(store, **more) -> str:
    found = store.request(wish(sha(1), **more)).deployment
    assert found is not None
    return found.id


def test_a_command_that_performs_its_own_deployment_takes_no_other(store):
    own, other = requested(store), requested(store, environment=STAGING)
    store.register_worker("deploy", info={**INFO, "only": own})
    workers = FindWorkers(store)
    assert workers.lack_of(own) is None
    assert workers.lack_of(other) is not None
    assert list(workers.waiting_in_vain()) == [STAGING]
    assert workers.lack(()) is not None


def test_a_whole_worker_takes_whatever_comes(store):
    own, other = requested(store), requested(store, environment=STAGING)
    store.register_worker("deploy", info={**INFO, "only": own})
    store.register_worker("serve", info=INFO)
    workers = FindWorkers(store)
    assert workers.lack_of(other) is None
    assert not workers.waiting_in_vain()
    assert [row["id"] for row in whole_workers(store)] == ["serve"]
