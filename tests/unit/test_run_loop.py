"""Runs that are claimed while the worker stops hear of it like all others."""

import threading
import time
from types import SimpleNamespace

from fraisier.application.ports import RunClaim
from fraisier.domain.fraise import EnvironmentKey
from fraisier.domain.job import JobKind
from fraisier.domain.run import RunTrigger
from fraisier.run_loop import RunLoop

KEY = EnvironmentKey("nightly", "production")
CLAIM = RunClaim(
    id="r1", environment=KEY, job="main", kind=JobKind.command, trigger=RunTrigger.manual, worker="w", token=1
)


class SlowStore:
    """Gives one claim, as late as the test wants."""

    def __init__(self):
        self.claims, self.asked, self.go = [CLAIM], threading.Event(), threading.Event()

    def claim_run(self, *_, **__):
        self.asked.set()
        assert self.go.wait(60)
        return self.claims.pop() if self.claims else None

    def run_cancel_requests(self, _worker):
        return {}

    def next_run_due(self):
        return None


def test_a_run_that_is_claimed_as_the_worker_stops_is_told_to_end_and_waited_for():
    store, ended = SlowStore(), []

    def perform_run(_claim, control, _tell):
        ended.append(control.stop.wait(60))

    settings = SimpleNamespace(run_concurrency=1, labels=())
    configuration = SimpleNamespace(settings=settings, environments={KEY: None}, digest="d")
    parts = SimpleNamespace(store=store, configuration=configuration, perform_run=perform_run)
    loop = RunLoop(parts, "w", idle=lambda: "", tell=lambda *_: None)
    loop.start()
    assert store.asked.wait(60)
    stopping = threading.Thread(target=loop.stop, args=(time.monotonic(),))
    stopping.start()
    stopping.join(0.1)  # it has looked at what was under way, if it does so too early
    store.go.set()
    stopping.join(60)
    assert ended == [True]
    assert loop.under_way() == []
