"""What Prometheus is told, on every store."""

import asyncio
import threading
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from prompt_studio import IdempotencyMismatch, JobContext, JobManager, NotRetryable, PromptStudioDatabase
from prompt_studio.prometheus_metrics import PrometheusMetrics
from prompt_studio.running.beats import Loss
from tests.conformance.conftest import Open
from tests.conformance.creates import KINDS
from tests.conformance.stores import Door
from tests.conformance.virtual_time import VirtualClock

pytestmark = pytest.mark.conformance

Sample = Callable[..., float | None]


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics(CollectorRegistry())


@pytest.fixture
def counted(metrics: PrometheusMetrics) -> Sample:
    def sample(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"prompt_studio_{name}", labels)

    return sample


class TestAWorkersMetrics:
    def test_count_jobs_by_what_became_of_them(
        self, database: PromptStudioDatabase, metrics: PrometheusMetrics, counted: Sample, clock: VirtualClock
    ) -> None:
        manager = JobManager(database, metrics=metrics)
        metrics.watch_queue(database)

        @manager.register_handler("evaluation")
        def handler(context: JobContext) -> int:
            assert counted("jobs_running", job_type="evaluation") == 1
            if context.payload == "never":
                raise NotRetryable
            return context.job_id

        for payload in ("well", "never"):
            manager.create_job("evaluation", 1, payload)
        clock.tick(7)
        for _ in range(2):
            job = manager.get_next_job()
            assert job is not None
            if job["id"] == 1:
                asyncio.run(manager.process_job(job))
            else:
                with pytest.raises(NotRetryable):
                    asyncio.run(manager.process_job(job))
        of = {"job_type": "evaluation"}
        assert counted("jobs_scheduled_total", **of) == 2
        assert counted("job_claims_total", **of) == 2
        assert counted("job_reclaims_total", **of) is None
        assert counted("job_attempts_ended_total", **of, ending="completed") == 1
        assert counted("job_attempts_ended_total", **of, ending="failed") == 1
        assert counted("job_duration_seconds_count", **of, ending="failed") == 1
        assert counted("jobs_running", **of) == 0
        assert counted("job_queue_latency_seconds_sum", **of) == 14

    def test_count_leases(self, metrics: PrometheusMetrics, counted: Sample) -> None:
        metrics.renewed("generation", late=False)
        metrics.renewed("generation", late=True)
        metrics.renewal_failed("generation")
        metrics.lost("generation", Loss.CANCELLED)
        metrics.closing_repeated("generation")
        metrics.claim_failed()
        of = {"job_type": "generation"}
        assert counted("lease_renewals_total", **of) == 2
        assert counted("lease_renewals_late_total", **of) == 1
        assert counted("lease_renewal_errors_total", **of) == 1
        assert counted("leases_lost_total", **of, reason="cancelled") == 1
        assert counted("job_closing_retries_total", **of) == 1
        assert counted("job_claim_errors_total") == 1

    def test_count_reclaims_and_not_their_wait(
        self, database: PromptStudioDatabase, metrics: PrometheusMetrics, counted: Sample, clock: VirtualClock
    ) -> None:
        manager = JobManager(database, metrics=metrics)
        manager.create_job("evaluation", 1, {})
        assert manager.get_next_job() is not None
        clock.tick(database.settings.lease_seconds)
        assert manager.get_next_job() is not None
        of = {"job_type": "evaluation"}
        assert counted("job_reclaims_total", **of) == 1
        assert counted("job_queue_latency_seconds_count", **of) == 1


class TestTheQueuesMetrics:
    def test_are_asked_of_the_database_at_each_scrape(
        self, database: PromptStudioDatabase, metrics: PrometheusMetrics, clock: VirtualClock
    ) -> None:
        metrics.watch_queue(database)
        for _ in range(3):
            database.create_job("evaluation", 1, {})
        assert database.acquire_next_job(lease_seconds=60) is not None
        assert database.acquire_next_job(lease_seconds=10) is not None
        clock.tick(10)
        port = metrics.serve(0)
        with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        told = {
            (sample.name.removeprefix("prompt_studio_"), *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert told["jobs", "queued"] == 1
        assert told["jobs", "processing"] == 2
        assert ("jobs", "completed") not in told  # nobody counts the jobs that have ended
        assert (told["leases", "active"], told["leases", "stale"], told["leases", "expiring_soon"]) == (1, 1, 0)
        assert told["database_up",] == 1
        locked = 2 * database.capabilities.advisory_locks
        assert told["advisory_lock_attempts_total",] == told["advisory_locks_acquired_total",] == locked
        assert told["advisory_unlocks_total",] == told["advisory_unlock_errors_total",] == 0

    @pytest.mark.verifies("PS-LEASE-HB-23")
    def test_say_that_the_database_does_not_answer_and_tell_the_rest(
        self, database: PromptStudioDatabase, raw: Door, metrics: PrometheusMetrics, counted: Sample
    ) -> None:
        metrics.watch_queue(database)
        database.create_job("evaluation", 1, {})
        assert counted("database_up") == 1
        raw.execute("ALTER TABLE prompt_studio_job_queue RENAME TO elsewhere")
        try:
            assert counted("database_up") == 0
            assert counted("jobs", status="queued") is None
            assert counted("jobs_scheduled_total", job_type="evaluation") == 1
        finally:  # the database is the next test's, too
            raw.execute("ALTER TABLE elsewhere RENAME TO prompt_studio_job_queue")
        assert counted("jobs", status="queued") == 1

    @pytest.mark.verifies("PS-LEASE-HB-23")
    def test_do_not_wait_for_who_has_all_of_its_connections(self, opened: Open) -> None:
        with opened(pool_connections=1) as database, database.transaction():
            database.count_jobs()
            metrics = PrometheusMetrics(CollectorRegistry())
            metrics.watch_queue(database)
            assert metrics.registry.get_sample_value("prompt_studio_database_up") == 1


class TestTheMetricsOfCreates:
    def test_tell_keys_that_were_known_from_new_ones(
        self, database: PromptStudioDatabase, metrics: PrometheusMetrics, counted: Sample
    ) -> None:
        metrics.watch_queue(database)
        for kind in KINDS:
            make = kind.ready(database)
            for _ in range(3):
                make("a", idempotency_key="k", user_id="ann")
            make("b", idempotency_key="another", user_id="ann")
            with pytest.raises(IdempotencyMismatch):
                make("c", idempotency_key="k", user_id="ann")
            make("d")
            of = {"entity_type": kind.entity_type}
            assert counted("idempotency_hits_total", **of) == 2
            assert counted("idempotency_misses_total", **of) == 2
        assert counted("jobs_scheduled_total", job_type="evaluation") == 3
        assert counted("jobs_scheduled_total", job_type="optimization") == 3

    def test_count_what_threads_do_at_once(self, database: PromptStudioDatabase) -> None:
        def create() -> None:
            for _ in range(5):
                database.create_job("evaluation", 1, {})
            database.close_connection()

        threads = [threading.Thread(target=create) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert database.get_create_counts().scheduled == {"evaluation": 15}
