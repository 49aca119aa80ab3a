"""What a worker counts, as Prometheus metrics under conventional names; it needs the extra `metrics`.

Counters and histograms are of this worker's own doing. The depths of the queue are asked of the database whenever
somebody scrapes, and what its creates and its advisory gate came to is told with them. If it does not answer in time,
`prompt_studio_database_up` is 0 and the depths are missing, and the rest is told all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from prompt_studio.config import Settings
from prompt_studio.database import PromptStudioDatabase
from prompt_studio.errors import DatabaseError
from prompt_studio.jobs import JobRow, JobStatus
from prompt_studio.metrics import Ending, Metrics

_log: Final = logging.getLogger(__name__)

LATENCY_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
DURATION_BUCKETS: Final = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - a Prometheus on another machine must reach it, as it does other exporters
EXPIRING_SECONDS: Final = 30
SCRAPE_SECONDS: Final = 1.0
"""How long each wait for the database may be, of the 10 s that a scrape has; to connect may take 5 s."""
_OF_THE_GATE: Final = {
    "prompt_studio_advisory_lock_attempts": ("attempts", "Advisory locks of jobs that were tried"),
    "prompt_studio_advisory_locks_acquired": ("acquired", "Advisory locks of jobs that were got"),
    "prompt_studio_advisory_unlocks": ("unlocked", "Advisory locks of jobs that were given back"),
    "prompt_studio_advisory_refusals": ("refused", "Queued jobs passed by because another session has their lock"),
    "prompt_studio_advisory_claims_without_lock": (
        "without_lock",
        "Jobs claimed although another session has the lock",
    ),
    "prompt_studio_advisory_unlock_errors": (
        "unlock_errors",
        "Locks to give back that the server did not know: a defect",
    ),
    "prompt_studio_advisory_sessions_lost": ("sessions_lost", "Worker sessions that ended, and their locks with them"),
}


class PrometheusMetrics(Metrics):
    """The metrics of one process. Names and meanings stand in `specs/heartbeats.md`."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Register them; a registry takes them once."""
        self.registry: Final = registry
        by_type = ("job_type",)
        self._claims = Counter(
            "prompt_studio_job_claims", "Attempts begun, reclaims included", by_type, registry=registry
        )
        self._reclaims = Counter(
            "prompt_studio_job_reclaims", "Attempts begun on an expired lease", by_type, registry=registry
        )
        self._claim_errors = Counter(
            "prompt_studio_job_claim_errors", "Acquires that ended in an error and were tried again", registry=registry
        )
        self._endings = Counter(
            "prompt_studio_job_attempts_ended", "Attempts ended here", (*by_type, "ending"), registry=registry
        )
        self._running = Gauge("prompt_studio_jobs_running", "Attempts under way here", by_type, registry=registry)
        self._renewals = Counter("prompt_studio_lease_renewals", "Beats applied", by_type, registry=registry)
        self._late = Counter(
            "prompt_studio_lease_renewals_late", "Beats applied after the lease had ended", by_type, registry=registry
        )
        self._renewal_errors = Counter(
            "prompt_studio_lease_renewal_errors", "Beats without an answer, tried again", by_type, registry=registry
        )
        self._lost = Counter("prompt_studio_leases_lost", "Leases lost", (*by_type, "reason"), registry=registry)
        self._repeated = Counter(
            "prompt_studio_job_closing_retries", "Closing calls without a definite answer", by_type, registry=registry
        )
        self._latency = Histogram(
            "prompt_studio_job_queue_latency_seconds",
            "From the moment that a job could be claimed to its first claim of that wait",
            by_type,
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._duration = Histogram(
            "prompt_studio_job_duration_seconds",
            "How long attempts took here",
            (*by_type, "ending"),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )

    def watch_queue(self, database: PromptStudioDatabase) -> None:
        """Tell of this database's queue, too, and of what was created and locked through this object."""
        self.registry.register(QueueCollector(database))

    def serve(self, port: int, address: str = EVERYWHERE) -> int:
        """Answer scrapes on this port, 0 for any that is free, of this address of the machine; the port.

        Raises:
            OSError: the port or the address cannot be had.
        """
        server, _ = start_http_server(port, address, registry=self.registry)
        return int(server.server_port)

    def claimed(self, job: JobRow) -> None:
        """A job was leased to this worker."""
        job_type, began = job["job_type"], job["started_at"]
        self._claims.labels(job_type).inc()
        if job["was_reclaim"]:
            self._reclaims.labels(job_type).inc()
        elif began is not None:  # both times are the database's
            self._latency.labels(job_type).observe(max(0.0, (began - job["available_at"]).total_seconds()))

    def begun(self, job_type: str) -> None:
        """An attempt begins here."""
        self._running.labels(job_type).inc()

    def renewed(self, job_type: str, *, late: bool) -> None:
        """A beat was applied."""
        self._renewals.labels(job_type).inc()
        if late:
            self._late.labels(job_type).inc()

    def renewal_failed(self, job_type: str) -> None:
        """A beat had no answer."""
        self._renewal_errors.labels(job_type).inc()

    def lost(self, job_type: str, reason: str) -> None:
        """A lease was lost."""
        self._lost.labels(job_type, reason).inc()

    def closing_repeated(self, job_type: str) -> None:
        """A closing call is tried again."""
        self._repeated.labels(job_type).inc()

    def claim_failed(self) -> None:
        """An acquire ended in an error."""
        self._claim_errors.inc()

    def ended(self, job_type: str, ending: Ending, seconds: float) -> None:
        """An attempt has ended here."""
        self._endings.labels(job_type, ending).inc()
        self._duration.labels(job_type, ending).observe(seconds)
        self._running.labels(job_type).dec()


class Scrapes:
    """What a program that serves HTTP itself answers scrapes with: the queue and the keys, and no worker's doing."""

    media_type: Final = CONTENT_TYPE_LATEST

    def __init__(self, database: PromptStudioDatabase) -> None:
        """Watch the queue of this database."""
        self._registry: Final = CollectorRegistry()
        self._registry.register(QueueCollector(database))

    def answer(self) -> bytes:
        """The text of one scrape."""
        return generate_latest(self._registry)


class QueueCollector(Collector):
    """The depths of a queue at the moment of a scrape, and what its creates and its advisory gate came to until then.

    What is counted is found by way of the indexes over queued and processing jobs: the jobs that have ended, of which
    there are more and more, are not looked at.
    """

    def __init__(self, database: PromptStudioDatabase) -> None:
        self._database = database

    def describe(self) -> Iterable[Metric]:
        """Say nothing before it is asked: the database need not answer yet."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Ask the database."""
        up = GaugeMetricFamily("prompt_studio_database_up", "Whether the database answered this scrape")
        try:
            # impl: PS-LEASE-HB-23
            # Opened for each scrape, so that it waits for nobody who uses the database, nor for as long as they do.
            with self._database.opened_again(_brief(self._database.settings)) as asked:
                depths = [_jobs(asked), _leases(asked)]
        except DatabaseError as error:
            _log.warning("the queue cannot be measured: %s", error)
            depths = []
        up.add_metric([], len(depths) > 0)
        return [up, *depths, *self._creates(), *self._gate()]

    def _creates(self) -> Iterable[Metric]:
        counts = self._database.get_create_counts()
        for name, meaning, label, counted in (
            ("jobs_scheduled", "Jobs created", "job_type", counts.scheduled),
            ("idempotency_hits", "Creates whose key stood for an entity already", "entity_type", counts.hits),
            ("idempotency_misses", "Creates whose key was new", "entity_type", counts.misses),
        ):
            family = CounterMetricFamily(f"prompt_studio_{name}", meaning, labels=[label])
            for value, number in counted.items():
                family.add_metric([value], number)
            yield family

    def _gate(self) -> Iterable[Metric]:
        counts = self._database.get_lock_counts()
        for name, (attribute, meaning) in _OF_THE_GATE.items():
            yield CounterMetricFamily(name, meaning, value=getattr(counts, attribute))


def _brief(settings: Settings) -> Settings:
    """Settings under which a scrape is answered, however the database does, before Prometheus gives up on it."""
    return replace(
        settings,
        advisory_locks=False,
        notifications=False,
        pool_connections=1,
        write_retry_seconds=SCRAPE_SECONDS,
        statement_seconds=SCRAPE_SECONDS,
        answer_seconds=SCRAPE_SECONDS,
    )


def _jobs(database: PromptStudioDatabase) -> Metric:
    family = GaugeMetricFamily("prompt_studio_jobs", "Jobs that are queued or processing", labels=["status"])
    for status in (JobStatus.QUEUED, JobStatus.PROCESSING):
        family.add_metric([status], database.count_jobs(status=status))
    return family


def _leases(database: PromptStudioDatabase) -> Metric:
    family = GaugeMetricFamily(
        "prompt_studio_leases", "Leases: active (expiring_soon of them), stale", labels=["state"]
    )
    found = database.get_lease_stats(EXPIRING_SECONDS)
    family.add_metric(["active"], found["active"])
    family.add_metric(["expiring_soon"], found["expiring_soon"])
    family.add_metric(["stale"], found["stale_processing"])
    return family
