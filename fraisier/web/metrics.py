"""What Prometheus reads. The registry is our own, so that several applications can live in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from fraisier.application.ports import Row

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0)  # seconds


class Metrics:
    """Counters of the receiver, and what the store says when it is asked."""

    def __init__(
        self,
        counts: Callable[[], Mapping[str, int]],
        alerts: Callable[[], Sequence[Row]],
        in_flight: Callable[[], int],
    ) -> None:
        self.registry = CollectorRegistry()
        self._accepted = Counter(
            "fraisier_webhook_events",
            "Authentic deliveries by forge and by what became of them.",
            ("forge", "verdict"),
            registry=self.registry,
        )
        self._refused = Counter(
            "fraisier_webhook_refused", "Refused deliveries by error code.", ("code",), registry=self.registry
        )
        self._seconds = Histogram(
            "fraisier_webhook_seconds",
            "Seconds from the first byte of a delivery's body to its answer.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        bytes_in_flight = Gauge(
            "fraisier_bodies_in_flight_bytes",
            "Bytes of bodies that are being read or stored.",
            registry=self.registry,
        )
        bytes_in_flight.set_function(in_flight)
        self._events: dict[tuple[str, str], Counter] = {}
        ProcessCollector(registry=self.registry)
        self.registry.register(_StoreCollector(counts, alerts))

    def accepted(self, forge: str, verdict: str, seconds: float) -> None:
        """An authentic delivery was answered."""
        counter = self._events.get((forge, verdict))
        if counter is None:
            counter = self._events[forge, verdict] = self._accepted.labels(forge, verdict)
        counter.inc()
        self._seconds.observe(seconds)

    def refused(self, code: str) -> None:
        """A delivery was refused."""
        self._refused.labels(code).inc()

    def render(self) -> bytes:
        """The text format. Asks the store, so it may block."""
        return generate_latest(self.registry)


class _StoreCollector(Collector):
    """Deployments and runs by status, the length of the queue and what stands, as the database has them."""

    def __init__(self, counts: Callable[[], Mapping[str, int]], alerts: Callable[[], Sequence[Row]]) -> None:
        self._counts, self._alerts = counts, alerts

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering does not ask the store."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """`counts` names are '<family>.<label>', e.g. 'deployments.success'."""
        counts = self._counts()
        deployments = GaugeMetricFamily("fraisier_deployments", "Deployments by status.", labels=("status",))
        events = GaugeMetricFamily("fraisier_stored_events", "Stored events by verdict.", labels=("verdict",))
        runs = CounterMetricFamily("fraisier_runs", "Runs of jobs that ended, by status.", labels=("status",))
        raised = CounterMetricFamily("fraisier_alerts_raised", "Alerts that were raised.", labels=())
        raised.add_metric((), counts.get("alerts.raised", 0))
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
            "deployments": deployments,
            "events": events,
            "runs": runs,
        }
        for name, number in counts.items():
            family, _, label = name.partition(".")
            target = families.get(family)
            if target is not None:
                target.add_metric((label,), number)
        yield deployments
        yield events
        yield runs
        yield raised
        yield self._standing()
        queue = GaugeMetricFamily("fraisier_deployments_waiting", "Deployments that wait for a worker.")
        queue.add_metric((), counts.get("deployments.pending", 0))
        yield queue

    def _standing(self) -> GaugeMetricFamily:
        """1 for each alert that stands; what has none is not there."""
        names = ("fraise", "environment", "job", "kind")
        standing = GaugeMetricFamily("fraisier_alert", "Alerts that stand, each 1.", labels=names)
        for row in self._alerts():
            standing.add_metric((row["fraise_id"], row["environment"], row["job"], row["kind"]), 1)
        return standing
