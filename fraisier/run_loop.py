"""Performs runs beside a worker's deployments: a loop of its own, with room of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from fraisier.application.control import Control
from fraisier.application.ports import LEFT, Row, RunClaim
from fraisier.domain.errors import Conflict, StoreUnavailable, TokenOutdated
from fraisier.domain.run import RunStatus
from fraisier.loop import SLOW_POLL, Loop, Tell
from fraisier.wiring import Fraisier


@dataclass(slots=True)
class _Active:
    """A run that is being performed."""

    claim: RunClaim
    control: Control
    thread: threading.Thread = field(init=False)


class RunLoop:
    """Claims runs and performs each in a thread, at most so many at once, until it is stopped.

    It lives in a worker, whose signs of life are its own: once they could not be given for too long, another
    one may have taken its runs, so they are given up and their processes ended.
    """

    def __init__(
        self, parts: Fraisier, worker: str, *, idle: Callable[[], str], tell: Tell, only: str = ""
    ) -> None:
        self._parts = parts
        self._worker = worker
        self._idle = idle  # why nothing is to be claimed; '' = nothing speaks against it
        self._tell = tell
        self._only = only
        self._room = 1 if only else parts.configuration.settings.run_concurrency
        self._active: dict[str, _Active] = {}
        self._lock = threading.Lock()
        self.settled = threading.Event()  # once there was nothing more to do
        self._loop = Loop("worker-runs", self._claim, tell)

    # ------------------------------------------------------------------------------------- life
    def start(self) -> None:
        """Begin to claim, in a thread of its own."""
        self._loop.start()

    def look(self) -> None:
        """Something may have changed: look now."""
        self._loop.wake()

    def stop_claiming(self) -> None:
        """Begin nothing more; what runs goes on."""
        self._loop.stop()

    def stop(self, deadline: float) -> None:
        """Let runs go on until `deadline` (monotonic seconds), then end them as interrupted."""
        self.stop_claiming()
        self._loop.join()  # what it takes at this moment is to hear what follows
        for each in self.under_way():
            each.thread.join(max(0.0, deadline - time.monotonic()))
        for each in self.under_way():
            each.control.shut_down()
        for each in self.under_way():
            each.thread.join()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._loop.alive

    def under_way(self) -> list[_Active]:
        """What it is performing."""
        with self._lock:
            return list(self._active.values())

    # ------------------------------------------------------------------------------------- leases
    def check_claims(self) -> None:
        """After a sign of life: give up what is no longer ours, pass on who wants something stopped.

        Raises:
            StoreUnavailable: nobody can tell.
        """
        active = self.under_way()
        if not active:
            return
        store = self._parts.store
        lost = store.lost_runs([each.claim for each in active])
        for each in active:
            if each.claim.id in lost and each.claim.id in self._active:
                each.control.lose()
        self._pass_on_cancels(active)

    def give_up(self) -> None:
        """No sign of life could be given for too long."""
        for each in self.under_way():
            each.control.lose()

    def _pass_on_cancels(self, active: Sequence[_Active]) -> None:
        wanted = self._parts.store.run_cancel_requests(self._worker)
        for each in active:
            if (by := wanted.get(each.claim.id)) is not None:
                each.control.cancel(by)

    # ------------------------------------------------------------------------------------- claiming
    def _claim(self) -> float:
        """Begin what there is to begin; seconds until there may be more."""
        if active := self.under_way():
            self._pass_on_cancels(active)
        while self._may_claim() and (claim := self._next()) is not None:
            self._begin(claim)
        if not self._active:
            self.settled.set()
        due = self._parts.store.next_run_due()
        return SLOW_POLL if due is None else min(SLOW_POLL, due)

    def _may_claim(self) -> bool:
        return not self._loop.stopping.is_set() and len(self._active) < self._room and not self._idle()

    def _next(self) -> RunClaim | None:
        parts = self._parts
        environments = list(parts.configuration.environments)
        labels = parts.configuration.settings.labels
        performing = [each.claim.id for each in self.under_way()]
        return parts.store.claim_run(
            self._worker,
            environments=environments,
            labels=labels,
            only=self._only,
            performing=performing,
            digest=parts.configuration.digest,
        )

    def _begin(self, claim: RunClaim) -> None:
        control = Control()
        if claim.cancel_requested_by and not claim.interrupted:
            control.cancel(claim.cancel_requested_by)
        active = _Active(claim, control)
        active.thread = threading.Thread(
            target=self._perform, args=(active,), name=f"run-{claim.environment}-{claim.job}"
        )
        with self._lock:
            active.thread.start()  # where it cannot be, it comes back as something that was let go of
            self._active[claim.id] = active

    def _perform(self, active: _Active) -> None:
        claim = active.claim
        told = {"run": claim.id, "environment": str(claim.environment), "job": claim.job}
        event = "run_left_by_dead_worker" if claim.interrupted else "run_started"
        self._tell(event, {**told, "trigger": claim.trigger.value, "attempt": claim.attempt})
        try:
            row = self._parts.perform_run(claim, active.control, self._tell)
            if row is None:
                self._tell("run_left", told)
            else:
                self._tell("run_ended", {**told, **_ended(row)})
        except TokenOutdated:
            self._tell("run_lost", told)
        except (StoreUnavailable, Conflict) as error:
            self._tell("run_left", {**told, "error": str(error)})
        except Exception as error:  # noqa: BLE001 - one run must not take the worker along
            self._tell("run_crashed", {**told, "error": repr(error), "exc_info": error})
        finally:
            with self._lock:
                self._active.pop(claim.id, None)
            self._loop.wake()

    # ------------------------------------------------------------------------------------- one run
    def wait_for(self, run: str) -> None:
        """Return when that run has ended; LEFT: when nothing is left of what dead workers had begun."""
        if run == LEFT:
            self.settled.wait()
            return
        ended = threading.Event()

        def look() -> None:
            self._loop.wake()
            with suppress(StoreUnavailable):
                if RunStatus(self._parts.store.run(run)["status"]).is_final:
                    ended.set()

        unsubscribe = self._parts.store.subscribe(look)
        try:
            look()
            while not ended.wait(SLOW_POLL):
                look()
        finally:
            unsubscribe()


def _ended(row: Row) -> Row:
    return {name: row[name] for name in ("status", "exit_code", "duration_seconds", "error_message")}
