"""Jobs at rest: made, found, listed, counted."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prompt_studio import ConflictError, DatabaseError, JobStatus, PromptStudioDatabase
from prompt_studio.storage.job_operations import CLEANUP_BATCH_JOBS as BATCH
from prompt_studio.storage.statements import Statement
from prompt_studio.storage.transactions import Session
from tests.conformance.conftest import Create
from tests.conformance.rows import claimed, stored
from tests.conformance.stores import Door
from tests.conformance.virtual_time import VirtualClock

pytestmark = pytest.mark.conformance

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**2000), 2**2000) | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS | TEXT,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXT, values, max_size=4),
    max_leaves=20,
)


class TestCreateJob:
    @pytest.mark.verifies("PS-CONCURRENCY-20")
    def test_inserts_a_queued_job_that_nobody_has_had(
        self, database: PromptStudioDatabase, clock: VirtualClock
    ) -> None:
        job = database.create_job("optimization", 7, {"model": "m"}, project_id=3, priority=9, max_retries=1)
        assert UUID(job["uuid"]).version == 4
        assert job == {
            "id": 1,
            "uuid": job["uuid"],
            "job_type": "optimization",
            "entity_id": 7,
            "project_id": 3,
            "priority": 9,
            "status": "queued",
            "payload": {"model": "m"},
            "result": None,
            "error_message": None,
            "retry_count": 0,
            "max_retries": 1,
            "client_id": "tester",
            "created_at": clock.now,
            "started_at": None,
            "completed_at": None,
            "leased_until": None,
            "lease_owner": None,
            "lease_token": 0,
            "available_at": clock.now,
            "executions": 0,
            "execution_limit": 2,
            "was_reclaim": False,
            "late": False,
            "closed_token": None,
            "closed_by": None,
        }

    def test_has_the_defaults_that_callers_rely_on(self, database: PromptStudioDatabase) -> None:
        job = database.create_job("evaluation", 1, {})
        assert (job["priority"], job["max_retries"], job["project_id"], job["client_id"]) == (5, 3, None, "tester")

    def test_takes_another_client_and_a_later_time(self, database: PromptStudioDatabase, clock: VirtualClock) -> None:
        later = clock.now + timedelta(hours=1)
        job = database.create_job("generation", 1, {}, client_id="other", available_at=later)
        assert (job["client_id"], job["available_at"], job["created_at"]) == ("other", later, clock.now)

    def test_rounds_a_time_up_so_that_the_job_is_never_early(self, database: PromptStudioDatabase) -> None:
        asked = datetime(2030, 1, 1, 12, 0, 0, 1_001, tzinfo=timezone(timedelta(hours=2)))
        job = database.create_job("generation", 1, {}, available_at=asked)
        assert job["available_at"] == datetime(2030, 1, 1, 10, 0, 0, 2_000, tzinfo=UTC)

    @pytest.mark.verifies("PS-CONCURRENCY-20", "INV-NOTHING-LOST")
    def test_never_gives_an_id_again(self, database: PromptStudioDatabase, create: Create, clock: VirtualClock) -> None:
        last = create()["id"]
        database.cancel_job(last)
        clock.tick(1)
        assert database.cleanup_jobs(0) == 1
        assert create()["id"] > last

    def test_reports_a_uuid_that_exists_already(
        self, database: PromptStudioDatabase, create: Create, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("uuid.uuid4", lambda: UUID(int=4))
        create()
        with pytest.raises(ConflictError, match="uuid"):
            create()
        assert database.count_jobs() == 1

    @pytest.mark.verifies("PS-CONCURRENCY-22")
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # one file serves all of the examples
    @given(payload=JSON)
    def test_gives_the_payload_back_as_it_was(self, database: PromptStudioDatabase, payload: object) -> None:
        job = database.create_job("evaluation", 1, payload)
        assert repr(job["payload"]) == repr(payload)
        assert repr(stored(database, job["id"])["payload"]) == repr(payload)

    def test_takes_tuples_for_lists(self, database: PromptStudioDatabase) -> None:
        assert database.create_job("evaluation", 1, {"range": (1, (2, 3))})["payload"] == {"range": [1, [2, 3]]}

    def test_keeps_the_payload_as_text(self, database: PromptStudioDatabase, raw: Door) -> None:
        database.create_job("evaluation", 1, {"b": 1e23, "a": "é"})
        assert raw.execute("SELECT payload FROM prompt_studio_job_queue") == [{"payload": '{"b":1e+23,"a":"é"}'}]


class TestGetJob:
    def test_finds_a_job_by_id_and_by_uuid(self, database: PromptStudioDatabase, create: Create) -> None:
        job = create()
        assert database.get_job(job["id"]) == job
        assert database.get_job_by_uuid(job["uuid"]) == job
        assert database.get_job_by_uuid(UUID(job["uuid"])) == job

    def test_answers_none_for_a_job_that_is_not_there(self, database: PromptStudioDatabase) -> None:
        assert database.get_job(2**63 - 1) is None
        assert database.get_job(-1) is None
        assert database.get_job_by_uuid("nothing like a uuid") is None

    def test_gives_words_that_are_both_text_and_members(self, create: Create) -> None:
        status = create()["status"]
        assert status is JobStatus.QUEUED
        assert f"{status}" == "queued"


class TestListJobs:
    def test_orders_by_priority_then_age_then_id(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        ids = [create(priority=priority)["id"] for priority in (1, 5, 5)]
        clock.tick(-1)
        ids.append(create(priority=5)["id"])
        ids.append(create(priority=10)["id"])
        assert [job["id"] for job in database.list_jobs()] == [ids[4], ids[3], ids[1], ids[2], ids[0]]
        assert [job["id"] for job in database.list_jobs(limit=2)] == [ids[4], ids[3]]

    @pytest.mark.parametrize("status", list(JobStatus))
    def test_and_count_filter_by_status_and_type(
        self, database: PromptStudioDatabase, create: Create, status: JobStatus
    ) -> None:
        for job_type in ("evaluation", "generation"):
            for wanted in JobStatus:
                job_id = create(job_type=job_type)["id"]
                if wanted is not JobStatus.QUEUED:
                    row = database.update_job_status(
                        job_id, "cancelled" if wanted is JobStatus.CANCELLED else "processing"
                    )
                    assert row is not None
                if wanted in {"completed", "failed"}:
                    assert database.update_job_status(job_id, wanted)
        assert [job["status"] for job in database.list_jobs(status=status)] == [status, status]
        assert [job["job_type"] for job in database.list_jobs(status=status, job_type="generation")] == ["generation"]
        assert database.list_jobs(job_type="optimization") == []
        assert database.count_jobs(status=status) == 2
        assert database.count_jobs(status=status, job_type="generation") == 1
        assert database.count_jobs(job_type="generation") == 5
        assert database.count_jobs() == 10


class TestListJobsForEntity:
    def test_orders_by_creation_in_both_directions(self, database: PromptStudioDatabase, clock: VirtualClock) -> None:
        ids = [database.create_job("evaluation", 8, {})["id"] for _ in range(2)]
        clock.tick(-1)
        first = database.create_job("evaluation", 8, {}, priority=1)["id"]
        database.create_job("generation", 8, {})
        database.create_job("evaluation", 9, {})
        ascending = [job["id"] for job in database.list_jobs_for_entity("evaluation", 8)]
        descending = [job["id"] for job in database.list_jobs_for_entity("evaluation", 8, ascending=False)]
        assert ascending == [first, *ids]
        assert descending == [*reversed(ids), first]
        assert [job["id"] for job in database.list_jobs_for_entity("evaluation", 8, limit=1)] == [first]

    def test_latest_is_the_last_of_them(self, database: PromptStudioDatabase) -> None:
        ids = [database.create_job("evaluation", 8, {})["id"] for _ in range(2)]
        latest = database.get_latest_job_for_entity("evaluation", 8)
        assert latest is not None
        assert latest["id"] == ids[1]
        assert database.get_latest_job_for_entity("generation", 8) is None


class TestGetJobStats:
    def test_counts_nothing_in_an_empty_queue(self, database: PromptStudioDatabase) -> None:
        assert database.get_job_stats() == {
            "by_status": {"queued": 0, "processing": 0, "completed": 0, "failed": 0, "cancelled": 0},
            "by_type": {"evaluation": 0, "optimization": 0, "generation": 0},
            "avg_processing_time_seconds": 0.0,
            "success_rate": 0.0,
            "queue_depth": 0,
            "processing": 0,
        }

    def test_tells_counts_durations_and_successes(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        for _ in range(5):
            create()
        create(job_type="generation")
        for seconds in (1, 2.5):
            job = claimed(database)
            clock.tick(seconds)
            database.complete_job(job["id"], lease_token=job["lease_token"])
        job = claimed(database)
        database.fail_job(job["id"], lease_token=job["lease_token"], error_message="no", retryable=False)
        claimed(database)
        stats = database.get_job_stats()
        assert stats["by_status"] == {"queued": 2, "processing": 1, "completed": 2, "failed": 1, "cancelled": 0}
        assert stats["by_type"] == {"evaluation": 5, "optimization": 0, "generation": 1}
        assert stats["avg_processing_time_seconds"] == 1.75
        assert stats["success_rate"] == pytest.approx(200 / 3)
        assert (stats["queue_depth"], stats["processing"]) == (2, 1)


class TestGetLeaseStats:
    @pytest.mark.verifies("PS-CONCURRENCY-4")
    def test_counts_live_ending_and_expired_leases(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        for lease_seconds in (10, 40, 41):
            create()
            claimed(database, lease_seconds)
        create()
        clock.tick(9.999)
        assert database.get_lease_stats() == {"active": 3, "expiring_soon": 1, "stale_processing": 0}
        clock.tick(0.001)
        assert database.get_lease_stats() == {"active": 2, "expiring_soon": 1, "stale_processing": 1}
        assert database.get_lease_stats(31) == {"active": 2, "expiring_soon": 2, "stale_processing": 1}


def end_in_bulk(raw: Door, clock: VirtualClock, count: int) -> None:
    """So many jobs that were cancelled now."""
    raw.execute(
        """
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
        INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, status, payload, client_id,
            created_at, available_at, completed_at, execution_limit)
        SELECT 'ended-' || n, 'evaluation', n, 'cancelled', '{}', 'tester', :now, :now, :now, 4 FROM numbers
        """,
        {"count": count, "now": raw.moment(clock.now_milliseconds())},
    )


class TestCleanupJobs:
    @pytest.mark.verifies("PS-CONCURRENCY-21")
    def test_deletes_what_ended_before_the_cut_and_nothing_else(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        day = 24 * 60 * 60
        old, at_the_cut, running, queued = (create()["id"] for _ in range(4))
        database.cancel_job(old)
        clock.tick(0.001)
        database.cancel_job(at_the_cut)
        database.update_job_status(running, "processing")
        clock.tick(day)
        assert database.cleanup_jobs(1) == 1
        assert [job["id"] for job in database.list_jobs()] == [at_the_cut, running, queued]
        clock.tick(0.001)
        assert database.cleanup_jobs(1) == 1
        clock.tick(1000 * day)
        assert database.cleanup_jobs() == 0
        assert database.count_jobs() == 2

    def test_takes_all_three_ends(self, database: PromptStudioDatabase, create: Create, clock: VirtualClock) -> None:
        for status in ("completed", "failed"):
            job_id = create()["id"]
            database.update_job_status(job_id, "processing")
            database.update_job_status(job_id, status)
        database.cancel_job(create()["id"])
        assert database.cleanup_jobs(0) == 0
        clock.tick(0.001)
        assert database.cleanup_jobs(0) == 3

    @pytest.mark.parametrize("old", [BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 1])
    @pytest.mark.verifies("PS-CONCURRENCY-21")
    def test_goes_on_after_a_batch_until_nothing_is_left(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, raw: Door, old: int
    ) -> None:
        end_in_bulk(raw, clock, old)
        clock.tick(0.001)
        young, running, queued = (create()["id"] for _ in range(3))
        database.cancel_job(young)
        database.update_job_status(running, "processing")
        assert database.cleanup_jobs(0) == old
        assert [job["id"] for job in database.list_jobs()] == [young, running, queued]

    @pytest.mark.verifies("PS-CONCURRENCY-21", "PS-FAULTS-4")
    def test_that_breaks_keeps_what_it_deleted_and_can_be_repeated(
        self, database: PromptStudioDatabase, clock: VirtualClock, raw: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, batches = Session.run, []

        def break_down(session: Session, statement: Statement, parameters: Mapping[str, object] = {}) -> Any:  # noqa: ANN401 - as the one that it replaces
            if statement.name == "cleanup_jobs":
                batches.append(parameters)
                if len(batches) > 1:
                    raise DatabaseError("as arranged")
            return run(session, statement, parameters)

        end_in_bulk(raw, clock, 3 * BATCH)
        clock.tick(0.001)
        with monkeypatch.context() as patched:
            patched.setattr(Session, "run", break_down)
            with pytest.raises(DatabaseError, match="as arranged"):
                database.cleanup_jobs(0)
        assert raw.execute("SELECT COUNT(*) AS jobs, MIN(revision) AS marked FROM prompt_studio_job_queue") == [
            {"jobs": 2 * BATCH, "marked": 1}
        ]
        assert database.cleanup_jobs(0) == 2 * BATCH
