"""Calls without a token: cancel, retry, and changes of status by hand."""

from datetime import timedelta

import pytest

from prompt_studio import JobRow, JobStatus, Outcome, OutcomeKind, PromptStudioDatabase
from tests.conformance.conftest import Create
from tests.conformance.rows import claimed, stored
from tests.conformance.virtual_time import VirtualClock

pytestmark = pytest.mark.conformance

MOVES = {
    ("queued", "processing"),
    ("queued", "cancelled"),
    ("processing", "completed"),
    ("processing", "failed"),
    ("processing", "cancelled"),
    ("processing", "queued"),
    ("failed", "queued"),
}
every_status = pytest.mark.parametrize("status", list(JobStatus))


def brought_to(database: PromptStudioDatabase, create: Create, status: str) -> JobRow:
    """A job in this status, on which a worker has been before."""
    job = create()
    if status != "queued":
        job = claimed(database)
    if status in {"completed", "failed"}:
        database.update_job_status(job["id"], status, lease_token=1)
    if status == "cancelled":
        database.cancel_job(job["id"])
    return stored(database, job["id"])


class TestCancelJob:
    @pytest.mark.parametrize("status", ["queued", "processing"])
    @pytest.mark.verifies("PS-CONCURRENCY-18")
    def test_ends_the_job_and_the_lease_at_once(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, status: str
    ) -> None:
        job = brought_to(database, create, status)
        clock.tick(1)
        outcome = database.cancel_job(job["id"], reason="no longer needed")
        assert outcome == Outcome(OutcomeKind.APPLIED, JobStatus.CANCELLED, late=False, job=outcome.job)
        assert outcome.job == job | {
            "status": "cancelled",
            "completed_at": clock.now,
            "leased_until": None,
            "lease_owner": None,
            "error_message": "no longer needed",
        }
        assert database.complete_job(job["id"], lease_token=1).kind in {"terminal", "lease_lost"}
        assert stored(database, job["id"]) == outcome.job

    @pytest.mark.verifies("PS-CONCURRENCY-18", "INV-REPLAY-SAFE")
    def test_changes_nothing_the_second_time(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        job = brought_to(database, create, "cancelled")
        clock.tick(1)
        assert database.cancel_job(job["id"], reason="other") == Outcome(
            OutcomeKind.ALREADY, JobStatus.CANCELLED, late=False, job=job
        )

    @pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED])
    @pytest.mark.verifies("PS-CONCURRENCY-18", "INV-TERMINAL-ABSORBS")
    def test_refuses_a_job_that_ended_otherwise(
        self, database: PromptStudioDatabase, create: Create, status: JobStatus
    ) -> None:
        job = brought_to(database, create, status)
        assert database.cancel_job(job["id"]) == Outcome(OutcomeKind.TERMINAL, status)
        assert stored(database, job["id"]) == job

    def test_does_not_find_a_job_that_is_not_there(self, database: PromptStudioDatabase) -> None:
        assert database.cancel_job(1) == Outcome(OutcomeKind.NOT_FOUND)

    def test_keeps_the_last_attempts_error_unless_it_has_a_reason(
        self, database: PromptStudioDatabase, create: Create
    ) -> None:
        job = brought_to(database, create, "processing")
        database.fail_job(job["id"], lease_token=1, error_message="boom")
        cancelled = database.cancel_job(job["id"]).job
        assert cancelled is not None
        assert (cancelled["error_message"], cancelled["closed_by"]) == ("boom", None)

    def test_is_not_late_when_a_renewal_before_it_was(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        job_id = create()["id"]
        claimed(database, lease_seconds=1)
        clock.tick(1)
        database.renew_job_lease(job_id, 10, lease_token=1)
        outcome = database.cancel_job(job_id)
        assert not outcome.late
        assert stored(database, job_id)["late"]


class TestRetryJobRecord:
    @pytest.mark.verifies("PS-CONCURRENCY-17")
    def test_lets_a_failed_job_run_once_more(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create(max_retries=0)
        job = claimed(database)
        database.fail_job(job["id"], lease_token=1, error_message="boom")
        failed = stored(database, job["id"])
        clock.tick(1)
        outcome = database.retry_job_record(job["id"])
        assert outcome.status == "queued"
        assert outcome.job == failed | {
            "status": "queued",
            "available_at": clock.now,
            "started_at": None,
            "completed_at": None,
            "error_message": None,
            "retry_count": 1,
            "execution_limit": 2,
            "closed_token": None,
            "closed_by": None,
        }
        assert database.complete_job(job["id"], lease_token=1) == Outcome(OutcomeKind.LEASE_LOST, JobStatus.QUEUED)

    @pytest.mark.verifies("PS-CONCURRENCY-17", "INV-RESULT-FENCED")
    def test_clears_the_result_that_an_operator_wrote(self, database: PromptStudioDatabase, create: Create) -> None:
        job = brought_to(database, create, "processing")
        database.update_job_status(job["id"], "failed", result={"partial": True})
        retried = database.retry_job_record(job["id"]).job
        assert retried is not None
        assert retried["result"] is None

    @pytest.mark.verifies("PS-CONCURRENCY-17")
    def test_leaves_a_limit_alone_that_is_high_enough(self, database: PromptStudioDatabase, create: Create) -> None:
        job = brought_to(database, create, "failed")
        retried = database.retry_job_record(job["id"]).job
        assert retried is not None
        assert (retried["executions"], retried["execution_limit"]) == (1, 4)

    @every_status
    @pytest.mark.verifies("PS-CONCURRENCY-17", "INV-TERMINAL-ABSORBS")
    def test_takes_failed_jobs_only(self, database: PromptStudioDatabase, create: Create, status: JobStatus) -> None:
        job = brought_to(database, create, status)
        outcome = database.retry_job_record(job["id"])
        if status is JobStatus.FAILED:
            assert outcome.kind == "applied"
            return
        kind = OutcomeKind.TERMINAL if status in {"completed", "cancelled"} else OutcomeKind.REFUSED
        assert outcome == Outcome(kind, status)
        assert not outcome
        assert stored(database, job["id"]) == job

    def test_does_not_find_a_job_that_is_not_there(self, database: PromptStudioDatabase) -> None:
        assert database.retry_job_record(1) == Outcome(OutcomeKind.NOT_FOUND)


class TestUpdateJobStatus:
    @every_status
    @pytest.mark.parametrize("wanted", list(JobStatus))
    @pytest.mark.verifies("PS-CONCURRENCY-19", "INV-TERMINAL-ABSORBS")
    def test_follows_the_table_of_moves(
        self, database: PromptStudioDatabase, create: Create, status: JobStatus, wanted: JobStatus
    ) -> None:
        job = brought_to(database, create, status)
        row = database.update_job_status(job["id"], wanted)
        if (status, wanted) in MOVES:
            assert row is not None
            assert row["status"] == wanted
            assert (row["closed_token"], row["closed_by"]) == (None, None)
        elif status is wanted is not JobStatus.PROCESSING:
            assert row == job
        else:
            assert row is None
        if (status, wanted) not in MOVES:
            assert stored(database, job["id"]) == job

    @every_status
    def test_does_not_find_a_job_that_is_not_there(self, database: PromptStudioDatabase, status: JobStatus) -> None:
        assert database.update_job_status(1, status) is None

    @pytest.mark.verifies("PS-CONCURRENCY-19")
    def test_to_processing_acquires_that_very_job(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create(priority=10)
        job = create()
        clock.tick(1)
        assert database.update_job_status(job["id"], "processing", worker_id="op", lease_seconds=5) == job | {
            "status": "processing",
            "lease_owner": "op",
            "lease_token": 1,
            "executions": 1,
            "started_at": clock.now,
            "leased_until": clock.now + timedelta(seconds=5),
        }

    @pytest.mark.verifies("PS-CONCURRENCY-19")
    def test_to_processing_refuses_a_delayed_job_and_an_expired_lease(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        delayed = database.create_job("evaluation", 1, {}, available_at=clock.now + timedelta(milliseconds=1))
        assert database.update_job_status(delayed["id"], "processing") is None
        job_id = create()["id"]
        claimed(database, lease_seconds=1)
        clock.tick(1)
        before = stored(database, job_id)
        assert database.update_job_status(job_id, "processing") is None
        assert stored(database, job_id) == before
        row = database.update_job_status(delayed["id"], "processing")
        assert row is not None
        assert row["lease_owner"]

    def test_to_processing_clears_what_the_last_attempt_left(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        job_id = create()["id"]
        claimed(database, lease_seconds=1)
        clock.tick(1)
        claimed(database, lease_seconds=1)
        clock.tick(1)
        assert database.fail_job(job_id, lease_token=2, error_message="boom").late
        clock.tick(60)
        row = database.update_job_status(job_id, "processing")
        assert row is not None
        assert (row["error_message"], row["late"], row["was_reclaim"], row["closed_by"]) == (None, False, False, None)
        assert (row["lease_token"], row["executions"], row["retry_count"]) == (3, 3, 2)

    @pytest.mark.verifies("PS-CONCURRENCY-19")
    def test_from_processing_to_queued_counts_the_attempt_and_allows_one_more(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create(max_retries=0)
        job = claimed(database)
        clock.tick(1)
        assert database.update_job_status(job["id"], "queued") == job | {
            "status": "queued",
            "available_at": clock.now,
            "started_at": None,
            "leased_until": None,
            "lease_owner": None,
            "execution_limit": 2,
        }

    def test_from_failed_to_queued_is_an_operators_retry(self, database: PromptStudioDatabase, create: Create) -> None:
        one, two = (brought_to(database, create, "failed") for _ in range(2))
        by_status = database.update_job_status(one["id"], "queued")
        by_retry = database.retry_job_record(two["id"]).job
        assert by_status is not None
        assert by_retry is not None
        assert by_status | {"id": 0, "uuid": ""} == by_retry | {"id": 0, "uuid": ""}

    @pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
    def test_to_an_end_writes_what_the_caller_passed(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, status: str
    ) -> None:
        job = brought_to(database, create, "processing")
        clock.tick(1)
        row = database.update_job_status(job["id"], status, error_message="e", result={"r": 1})
        assert row == job | {
            "status": status,
            "error_message": "e",
            "result": {"r": 1},
            "completed_at": clock.now,
            "leased_until": None,
            "lease_owner": None,
        }
        again = database.update_job_status(job["id"], status, error_message="other", result={"r": 2})
        assert again == row

    def test_to_an_end_keeps_what_is_there_when_nothing_is_passed(
        self, database: PromptStudioDatabase, create: Create
    ) -> None:
        job = brought_to(database, create, "processing")
        database.fail_job(job["id"], lease_token=1, error_message="boom")
        row = database.update_job_status(job["id"], "cancelled", result=[1])
        assert row is not None
        assert (row["error_message"], row["result"]) == ("boom", [1])
