"""Claim, run, repeat: performs deployments, one thread each, at most one per environment.

Runs of jobs are performed beside them: see `run_loop`."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import fraisier
from fraisier.application.control import Control
from fraisier.application.find_workers import is_eldest
from fraisier.application.ports import LEFT, Claim, Listener, News, Row, Store
from fraisier.application.run_deployment import RunDeployment
from fraisier.application.sweep_refs import SweepRefs
from fraisier.domain.deployment import Status
from fraisier.domain.errors import Conflict, StoreUnavailable, TokenOutdated
from fraisier.domain.fraise import EnvironmentKey
from fraisier.house_loops import house_loops
from fraisier.installed_version import InstalledVersion
from fraisier.loop import SLOW_POLL, Loop
from fraisier.plan_loop import PlanLoop
from fraisier.run_loop import RunLoop
from fraisier.wiring import Fraisier

PRUNE_EVERY = 6 * 3600.0
RENEWALS_PER_LEASE = 3


@dataclass(slots=True)
class _Job:
    """A claim that is being performed. `renewed_at` is monotonic seconds."""

    claim: Claim
    control: Control
    renewed_at: float
    thread: threading.Thread = field(init=False)


class Worker:
    """Performs deployments until it is stopped.

    Every claim is renewed three times a lease; one that could not be renewed for two thirds of its lease
    is given up and its processes are ended, before another worker can take it.
    """

    def __init__(self, parts: Fraisier) -> None:
        self._parts = parts
        self._store: Store = parts.store
        self._listener: Listener = parts.listener
        self._only = ""  # the id of the one deployment that is to be performed (`deploy --wait`)
        self._only_run = ""  # the same of a run
        settings = parts.configuration.settings
        self._lease = settings.lease
        self._concurrency = settings.concurrency
        self._labels = settings.labels
        self.id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._jobs: dict[EnvironmentKey, _Job] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ended = threading.Event()  # nothing runs any more that a lease is needed for
        self._renewing: threading.Thread | None = None
        self._claiming = Loop("worker-claim", self._claim, self._tell)
        self._loops: list[Loop] = []
        self._runs: RunLoop | None = None
        self._planning: PlanLoop | None = None
        self._registered = ""  # the digest that others know of us
        self._renewed_at = time.monotonic()
        self._unsubscribe: list[Callable[[], None]] = []
        self._version = InstalledVersion()
        self._last_prune = time.monotonic()
        self._opens_in = SLOW_POLL  # seconds until the next window of an environment opens
        self.idle_because = ""  # why it claims nothing, for /ready and the log

    # ------------------------------------------------------------------------------------- life
    def start(self) -> None:
        """Register and begin to claim, in threads of its own."""
        _ = self._parts.tools  # a brand that cannot be loaded shows now, not in the first deployment
        if not self._only and not self._only_run:
            self._planning = PlanLoop(self._parts, self.id, idle=self._reason_to_idle, tell=self._tell)
        self._register()
        self._unsubscribe = [
            self._store.subscribe(self._claiming.wake, least=News.claim),
            self._store.subscribe(self._look_around, least=News.work),
        ]
        only = self._only_run or (LEFT if self._only else "")
        self._runs = RunLoop(self._parts, self.id, idle=self._reason_to_idle, tell=self._tell, only=only)
        self._loops = [self._claiming, *(self._house() if self._planning is not None else ())]
        self._renewing = threading.Thread(target=self._renew_loop, name="worker-renew")
        self._renewing.start()
        for loop in self._loops:
            loop.start()
        if self._planning is not None:
            self._planning.start()
        self._runs.start()

    def stop(self, grace: float) -> None:
        """Stop claiming; let running steps end within `grace` seconds, then kill them; retire."""
        self._stopping.set()
        for loop in self._loops:
            loop.stop()
        self._claiming.join()  # what it takes at this moment is to hear what follows
        for job in self._running():
            job.control.drain()
        if self._planning is not None:
            self._planning.stop()
        if self._runs is not None:
            self._runs.stop_claiming()
        deadline = time.monotonic() + grace
        self._end_deployments(deadline)
        if self._runs is not None:
            self._runs.stop(deadline)
        self._ended.set()
        if self._renewing is not None:
            self._renewing.join()
        for loop in self._loops:
            loop.join()
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        try:
            self._store.retire_worker(self.id)
        except StoreUnavailable as error:
            self._tell("worker_not_retired", {"error": str(error)})

    def _end_deployments(self, deadline: float) -> None:
        for job in self._running():
            job.thread.join(max(0.0, deadline - time.monotonic()))
        for job in self._running():
            job.control.shut_down()
        for job in self._running():
            job.thread.join()

    def perform(self, deployment: str) -> None:
        """Perform one deployment, and what is before it in its environment, until it has ended or is held."""
        self._only, self._concurrency = deployment, 1
        ended = threading.Event()

        def look() -> None:
            self._claiming.wake()
            # What is being performed has its own patience with a store that is away for a while.
            with suppress(StoreUnavailable):
                row = self._store.deployment(deployment)
                if Status(row["status"]).is_final or self._parts.holds().hold_of(deployment) is not None:
                    ended.set()

        unsubscribe = self._store.subscribe(look)
        noting = threading.Thread(target=self._note_tip, args=(deployment, ended), name="note-tip")
        self.start()
        noting.start()
        try:
            while not ended.wait(SLOW_POLL):
                look()
        finally:
            ended.set()
            unsubscribe()
            noting.join()
            self.stop(self._parts.configuration.settings.shutdown_grace)

    def _note_tip(self, deployment: str, ended: threading.Event) -> None:
        """After a person's decision no worker may live that looks where the branch is; then it is us."""
        parts = self._parts
        if not parts.configuration.settings.sweep_interval:
            return
        sweep = SweepRefs(parts.tools.repository, self._store, parts.clock, self._tell)
        with suppress(StoreUnavailable):
            sweep.note_tip(parts.configuration, _key(self._store.deployment(deployment)), ended)

    def perform_run(self, run: str) -> None:
        """Perform one run, until it has ended; LEFT: end what dead workers left, and nothing else."""
        self._only_run = run
        self.start()
        try:
            if self._runs is not None:
                self._runs.wait_for(run)
        finally:
            self.stop(self._parts.configuration.settings.shutdown_grace)

    @property
    def alive(self) -> bool:
        """Whether its threads run."""
        loops = (self._runs, self._planning, *self._loops)
        renewing = self._renewing is not None and self._renewing.is_alive()
        return renewing and all(loop.alive for loop in loops if loop is not None)

    def performs(self, identifier: str) -> bool:
        """Whether it is this worker that performs the deployment, or the run."""
        runs = self._runs.under_way() if self._runs is not None else ()
        ours = {job.claim.deployment.id for job in self._running()} | {each.claim.id for each in runs}
        return identifier in ours

    @property
    def busy(self) -> int:
        """How many deployments it is performing."""
        return len(self._jobs)

    def _look_around(self) -> None:
        """For whatever else there is to do. A request alone is for who claims: these would hold it up."""
        for loop in (self._runs, self._planning):
            if loop is not None:
                loop.look()
        for each in self._loops:
            each.wake()

    # ------------------------------------------------------------------------------------- claiming
    def _claim(self) -> float:
        """Begin what there is to begin; seconds until there may be more."""
        self._opens_in = SLOW_POLL
        self._pass_on_cancels()
        while self._has_room and not self._version.has_changed():
            if (claim := self._next_claim()) is None:
                break
            self._begin(claim)
        self._note_why_idle()  # after the claims, which look at what is published by themselves
        if len(self._jobs) >= self._concurrency:
            # Who comes too late to be resumed now is at least not shown as if somebody worked on it.
            self._store.interrupt_left()
        due = self._store.next_due()
        self._keep_house()
        return min(SLOW_POLL, self._opens_in, *(() if due is None else (due,)))

    def _note_why_idle(self) -> None:
        reason = self._reason_to_idle()
        if reason != self.idle_because:
            self.idle_because = reason
            self._tell("worker_idle" if reason else "worker_claims", {"reason": reason})

    @property
    def _has_room(self) -> bool:
        return len(self._jobs) < self._concurrency and not self._stopping.is_set()

    def _reason_to_idle(self) -> str:
        if self._version.has_changed():
            return "another version of Fraisier was installed: restart this worker"
        digest = self._parts.configuration.digest
        if (published := self._store.published_digest()) and published != digest:
            return "another configuration has been published: reload this worker (SIGHUP)"
        return ""

    def _next_claim(self) -> Claim | None:
        # What we lost, and have not let go of yet, is not ours to take again.
        environments = [key for key in self._environments() if key not in self._jobs]
        if not environments:
            return None
        closed = self._parts.closed_windows()
        self._opens_in = min(closed.values(), default=SLOW_POLL)
        return self._store.claim(
            self.id,
            lease=self._lease,
            environments=environments,
            labels=self._labels,
            closed=closed,
            digest=self._parts.configuration.digest,
        )

    def _environments(self) -> list[EnvironmentKey]:
        """Where it may take deployments: of a single run's environment only what a dead worker had begun,
        which would hold the run back for ever.
        """
        known = self._parts.configuration.environments
        if self._only:
            row = self._store.deployment(self._only)
            return [key for key in known if key == _key(row) and row["status"] in ("pending", "running")]
        if self._only_run == LEFT:
            return []
        if self._only_run:
            begun = [_key(row) for row in self._store.unfinished() if row["status"] == "running"]
            return [key for key in known if key in begun and key == _key(self._store.run(self._only_run))]
        return list(known)

    def _begin(self, claim: Claim) -> None:
        control = Control()
        if claim.deployment.cancel_requested_by:
            control.cancel(claim.deployment.cancel_requested_by)
        job = _Job(claim, control, time.monotonic())
        job.thread = threading.Thread(target=self._perform, args=(job,), name=f"deploy-{claim.environment}")
        with self._lock:
            job.thread.start()  # where it cannot be, the lease must end: what is no job is not renewed
            self._jobs[claim.environment] = job

    def _perform(self, job: _Job) -> None:
        claim = job.claim
        told = {
            "deployment": claim.deployment.id,
            "environment": str(claim.environment),
            "token": claim.token,
        }
        self._tell("deployment_claimed", told)
        try:
            parts = self._parts
            run = RunDeployment(parts.tools, self._store, parts.codec, parts.environment, self._tell)
            ended = run(claim, job.control)
            self._tell("deployment_ended", {**told, "status": ended.status.value if ended else "handed_back"})
        except TokenOutdated:
            self._tell("deployment_lost", told)
        except (StoreUnavailable, Conflict) as error:
            self._tell("deployment_left", {**told, "error": str(error)})
        except Exception as error:  # noqa: BLE001 - one deployment must not take the worker along
            self._tell("deployment_crashed", {**told, "error": repr(error), "exc_info": error})
        finally:
            with self._lock:
                if self._jobs.get(claim.environment) is job:
                    del self._jobs[claim.environment]
            self._claiming.wake()

    # ------------------------------------------------------------------------------------- leases
    def _renew_loop(self) -> None:
        while not self._ended.is_set():
            try:
                self._renew()
            except StoreUnavailable as error:
                self._tell("lease_not_renewed", {"error": str(error)})
            except Exception as error:  # noqa: BLE001 - a boundary, see `Loop`
                self._tell("worker_error", {"error": repr(error), "exc_info": error})
            self._give_up_stale()
            pause = self._lease / RENEWALS_PER_LEASE / (1 if not self._stopping.is_set() else 10)
            self._stopping.wait(pause) if not self._stopping.is_set() else time.sleep(min(pause, 0.1))

    def _renew(self) -> None:
        jobs = self._running()
        asked_at = time.monotonic()
        kept = self._store.renew(self.id, [job.claim for job in jobs], lease=self._lease)
        for job in jobs:
            if job.claim.environment in kept:
                job.renewed_at = asked_at
            elif job.claim.environment in self._jobs:
                job.control.lose()
        self._renewed_at = asked_at
        if self._registered != self._works_by():
            self._register()  # others see by it who does what one does for all
        self._pass_on_cancels()
        if self._runs is not None:
            self._runs.check_claims()

    def _give_up_stale(self) -> None:
        if self._runs is not None and time.monotonic() - self._renewed_at > self._lease * 2 / 3:
            self._runs.give_up()
        for job in self._running():
            if time.monotonic() - job.renewed_at > self._lease * 2 / 3:
                job.control.lose()

    def _pass_on_cancels(self) -> None:
        if not self._jobs:
            return
        wanted = self._store.cancel_requests(self.id)
        for job in self._running():
            if (by := wanted.get(job.claim.deployment.id)) is not None:
                job.control.cancel(by)

    # ------------------------------------------------------------------------------------- house
    def _house(self) -> list[Loop]:
        """What it does besides, unless it is there for one deployment, or run, alone."""
        return house_loops(
            self._parts, idle=lambda: self.idle_because, is_eldest=self._is_eldest, tell=self._tell
        )

    def _is_eldest(self) -> bool:
        return is_eldest(self._store, self.id, self._parts.configuration.digest)

    def _keep_house(self) -> None:
        if self._planning is None or time.monotonic() - self._last_prune < PRUNE_EVERY:
            return
        self._last_prune = time.monotonic()
        configuration = self._parts.configuration
        pruned = dict(self._store.prune(retention=configuration.settings.retention))
        sources = [each.source for each in configuration.fraises.values() if each.source.clone_url]
        pruned["mirrors"] = self._parts.tools.repository.prune(
            sources, older_than=configuration.settings.retention
        )
        self._tell("pruned", pruned)

    def _running(self) -> list[_Job]:
        with self._lock:
            return list(self._jobs.values())

    def _works_by(self) -> str:
        """The digest of its configuration; '' while it only waits to be restarted."""
        return "" if self._version.has_changed() else self._parts.configuration.digest

    def _register(self) -> None:
        digest = self._works_by()
        info = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": fraisier.__version__,
            "digest": digest,
            "labels": self._labels,
            **({"only": self._only_run or self._only} if self._planning is None else {}),
        }
        self._store.register_worker(self.id, info=info)
        self._registered = digest

    def _tell(self, event: str, fields: Row) -> None:
        self._listener(event, {"worker": self.id, **fields})


def _key(row: Row) -> EnvironmentKey:
    return EnvironmentKey(row["fraise_id"], row["environment"])
