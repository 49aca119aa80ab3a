"""Which job an acquire returns, and what it does to it and to those in its way."""

from datetime import timedelta

import pytest

from prompt_studio import PromptStudioDatabase
from prompt_studio.storage.lease_operations import EXHAUSTED_PER_CALL_MAX
from tests.conformance.conftest import Create, Open
from tests.conformance.rows import claimed, stored
from tests.conformance.stores import Door
from tests.conformance.virtual_time import VirtualClock

pytestmark = pytest.mark.conformance


class TestAcquireNextJob:
    @pytest.mark.verifies("PS-CONCURRENCY-5", "PS-CONCURRENCY-16")
    def test_leases_the_job_and_takes_a_token_and_an_execution(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        created = create()
        clock.tick(5)
        job = database.acquire_next_job(worker_id="w", lease_seconds=90)
        assert job == created | {
            "status": "processing",
            "lease_owner": "w",
            "lease_token": 1,
            "executions": 1,
            "started_at": clock.now,
            "leased_until": clock.now + timedelta(seconds=90),
        }
        assert stored(database, created["id"]) == job

    @pytest.mark.parametrize("wanted", [None, ["generation", "evaluation"]])
    @pytest.mark.verifies("PS-LEASE-HB-26")
    def test_leases_each_type_for_its_own_time(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, wanted: list[str] | None
    ) -> None:
        for job_type in ("evaluation", "generation", "evaluation"):
            create(job_type=job_type)
        leases = {"evaluation": 1, "optimization": 7}
        lengths = []
        for _ in range(3):
            job = database.acquire_next_job(lease_seconds=3600, job_types=wanted, leases=leases)
            assert job is not None
            assert job["leased_until"] is not None
            lengths.append((job["job_type"], (job["leased_until"] - clock.now).total_seconds()))
        assert lengths == [("evaluation", 1), ("generation", 3600), ("evaluation", 1)]
        clock.tick(1)
        again = database.acquire_next_job(lease_seconds=1, job_types=wanted, leases={"evaluation": 3600})
        assert again is not None
        assert (again["id"], again["was_reclaim"], again["leased_until"]) == (1, True, clock.now + timedelta(hours=1))

    @pytest.mark.verifies("INV-NONE-IS-EMPTY")
    def test_answers_none_when_there_is_nothing(self, database: PromptStudioDatabase, create: Create) -> None:
        assert database.acquire_next_job() is None
        create()
        claimed(database)
        assert database.acquire_next_job() is None

    @pytest.mark.verifies("PS-CONCURRENCY-7", "INV-CLAIM-ORDER")
    def test_takes_higher_priority_then_older_then_lower_id(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        low, twin_one, twin_two = (create(priority=priority)["id"] for priority in (1, 5, 5))
        clock.tick(-1)
        older, high = create(priority=5)["id"], create(priority=6)["id"]
        clock.tick(1)
        assert [claimed(database)["id"] for _ in range(5)] == [high, older, twin_one, twin_two, low]

    def test_waits_until_a_job_is_available(self, database: PromptStudioDatabase, clock: VirtualClock) -> None:
        database.create_job("evaluation", 1, {}, available_at=clock.now + timedelta(seconds=10), priority=10)
        other = database.create_job("evaluation", 1, {})
        assert claimed(database)["id"] == other["id"]
        clock.tick(9.999)
        assert database.acquire_next_job() is None
        clock.tick(0.001)
        assert claimed(database)["priority"] == 10

    def test_takes_only_wanted_types(self, database: PromptStudioDatabase, create: Create) -> None:
        types = ["evaluation", "optimization", "generation"]
        for job_type in types:
            create(job_type=job_type)
        first = database.acquire_next_job(job_types=["generation"])
        second = database.acquire_next_job(job_types=("generation", "optimization", "generation"))
        assert first is not None
        assert second is not None
        assert (first["job_type"], second["job_type"]) == ("generation", "optimization")
        assert database.acquire_next_job(job_types={"generation", "optimization"}) is None
        assert claimed(database)["job_type"] == "evaluation"

    @pytest.mark.verifies("PS-CONCURRENCY-2", "PS-CONCURRENCY-4", "INV-NO-EARLY-RECLAIM")
    def test_reclaims_when_the_lease_has_expired_and_not_before(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create()
        first = claimed(database, lease_seconds=10, worker_id="one")
        clock.tick(9.999)
        assert database.acquire_next_job() is None
        clock.tick(0.001)
        second = claimed(database, lease_seconds=10, worker_id="two")
        assert second == first | {
            "lease_owner": "two",
            "lease_token": 2,
            "executions": 2,
            "retry_count": 1,
            "was_reclaim": True,
            "started_at": clock.now,
            "leased_until": clock.now + timedelta(seconds=10),
        }

    def test_gives_a_reclaim_no_special_place(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        middle = create(priority=5)["id"]
        claimed(database, lease_seconds=1)
        low, high = create(priority=4)["id"], create(priority=6)["id"]
        clock.tick(1)
        assert [claimed(database)["id"] for _ in range(3)] == [high, middle, low]

    def test_clears_what_the_last_attempt_left(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        job_id = create()["id"]
        claimed(database, lease_seconds=1)
        clock.tick(1)
        claimed(database, lease_seconds=1)
        clock.tick(1)
        left = database.fail_job(job_id, lease_token=2, error_message="boom").job
        assert left is not None
        assert (left["error_message"], left["was_reclaim"], left["late"], left["closed_by"]) == (
            "boom",
            True,
            True,
            "fail",
        )
        clock.tick(60)
        job = claimed(database)
        assert (job["error_message"], job["was_reclaim"], job["late"]) == (None, False, False)
        assert (job["closed_by"], job["closed_token"]) == (None, None)

    def test_names_a_nameless_worker_freshly_each_time(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create()
        names = set()
        for name in ("known", None, "", " \t"):
            names.add(claimed(database, lease_seconds=1, worker_id=name)["lease_owner"])
            clock.tick(1)
        assert len(names) == 4
        assert None not in names

    def test_strips_and_cuts_the_workers_name(self, database: PromptStudioDatabase, create: Create) -> None:
        create()
        assert claimed(database, worker_id="  " + 200 * "w")["lease_owner"] == 128 * "w"

    def test_leases_for_the_configured_time_unless_told_otherwise(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, opened: Open
    ) -> None:
        create()
        create()
        job = database.acquire_next_job()
        assert job is not None
        assert job["leased_until"] == clock.now + timedelta(seconds=60)
        with opened("other", lease_seconds=7) as other:
            job = other.acquire_next_job()
        assert job is not None
        assert job["leased_until"] == clock.now + timedelta(seconds=7)


class TestExhaustion:
    @pytest.mark.verifies("PS-CONCURRENCY-8", "PS-CONCURRENCY-16", "INV-EXECUTIONS-BOUNDED")
    def test_fails_a_job_that_has_no_execution_left(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create(max_retries=1)
        claimed(database, lease_seconds=1)
        clock.tick(1)
        last = claimed(database, lease_seconds=1)
        clock.tick(1)
        assert database.renew_job_lease(last["id"], 1, lease_token=2).late
        clock.tick(1)
        assert database.acquire_next_job() is None
        assert stored(database, last["id"]) == last | {
            "status": "failed",
            "error_message": "lease expired, attempts exhausted",
            "completed_at": clock.now,
            "leased_until": None,
            "lease_owner": None,
            "late": True,
        }

    def test_leaves_an_exhausted_job_alone_while_its_lease_is_live(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create(max_retries=0)
        job = claimed(database, lease_seconds=10)
        clock.tick(9.999)
        assert database.acquire_next_job() is None
        assert stored(database, job["id"])["status"] == "processing"

    @pytest.mark.verifies("PS-CONCURRENCY-8")
    @pytest.mark.parametrize("waiting", ["queued", "expired"])
    def test_fails_only_what_is_better_than_the_job_returned(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, waiting: str
    ) -> None:
        exhausted = {}
        middle = create(priority=5)["id"]
        if waiting == "expired":
            claimed(database, lease_seconds=1)
        for priority in (4, 5, 6):
            job_id = create(priority=priority, max_retries=0)["id"]
            database.update_job_status(job_id, "processing", lease_seconds=1)
            exhausted[priority] = job_id
        clock.tick(1)
        assert claimed(database)["id"] == middle
        status = {priority: stored(database, job_id)["status"] for priority, job_id in exhausted.items()}
        assert status == {4: "processing", 5: "processing", 6: "failed"}
        assert database.acquire_next_job() is None
        assert database.count_jobs(status="failed") == 3

    def test_looks_at_wanted_types_only(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        job = create(max_retries=0)
        claimed(database, lease_seconds=1)
        clock.tick(1)
        assert database.acquire_next_job(job_types=["generation"]) is None
        assert stored(database, job["id"])["status"] == "processing"
        assert database.acquire_next_job(job_types=["evaluation"]) is None
        assert stored(database, job["id"])["status"] == "failed"

    @pytest.mark.verifies("PS-CONCURRENCY-8")
    def test_fails_at_most_a_hundred_in_one_call_best_first(
        self, database: PromptStudioDatabase, create: Create, raw: Door
    ) -> None:
        for number in range(1, EXHAUSTED_PER_CALL_MAX + 3):
            raw.execute(
                "INSERT INTO prompt_studio_job_queue (uuid, job_type, entity_id, status, payload, client_id,"
                " created_at, available_at, started_at, leased_until, lease_owner, lease_token, executions,"
                " execution_limit) VALUES (:uuid, 'evaluation', 1, 'processing', '{}', 'tester', :then, :then, :then,"
                " :then, 'gone', 1, 1, 1)",
                {"uuid": str(number), "then": raw.moment(0)},
            )
        eligible = create(priority=1)["id"]
        assert claimed(database)["id"] == eligible
        assert database.count_jobs(status="failed") == EXHAUSTED_PER_CALL_MAX == 100
        assert [job["id"] for job in database.list_jobs(status="processing")] == [101, 102, eligible]
        assert database.acquire_next_job() is None
        assert database.count_jobs(status="failed") == 102


class TestEachJobGoesToOneWorker:
    @pytest.mark.verifies("PS-CONCURRENCY-1", "INV-TOKEN-GROWS")
    def test_of_two_that_ask_one_after_the_other(
        self, database: PromptStudioDatabase, create: Create, opened: Open
    ) -> None:
        create()
        with opened("other") as other:
            assert database.acquire_next_job() is not None
            assert other.acquire_next_job() is None
