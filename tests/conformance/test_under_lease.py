"""Renew, complete, fail and release: what a worker does under its lease, and what it is told when that is lost."""

from collections.abc import Callable
from datetime import timedelta
from itertools import product

import pytest

from prompt_studio import JobRow, JobStatus, Outcome, OutcomeKind, PromptStudioDatabase
from tests.conformance.conftest import Create, Open
from tests.conformance.rows import claimed, stored
from tests.conformance.virtual_time import VirtualClock

pytestmark = pytest.mark.conformance

Call = Callable[[PromptStudioDatabase, int, int], Outcome]

CLOSINGS: dict[str, Call] = {
    "complete": lambda database, job_id, token: database.complete_job(job_id, lease_token=token, result={"n": 1}),
    "fail": lambda database, job_id, token: database.fail_job(
        job_id, lease_token=token, error_message="boom", retryable=False
    ),
    "requeue": lambda database, job_id, token: database.fail_job(job_id, lease_token=token, error_message="boom"),
    "retry": lambda database, job_id, token: database.retry_job_record(job_id, lease_token=token, error_message="boom"),
    "release": lambda database, job_id, token: database.release_job(job_id, lease_token=token),
}
CALLS: dict[str, Call] = {
    "renew": lambda database, job_id, token: database.renew_job_lease(job_id, 60, lease_token=token),
    **CLOSINGS,
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
every_closing = pytest.mark.parametrize("call", CLOSINGS.values(), ids=CLOSINGS)


def closed(job: JobRow, by: str, clock: VirtualClock, **changes: object) -> dict[str, object]:
    """The row after a closing call under its token."""
    return {
        **job,
        "leased_until": None,
        "lease_owner": None,
        "closed_token": job["lease_token"],
        "closed_by": by,
        "completed_at": clock.now,
        **changes,
    }


class TestRenewLease:
    @pytest.mark.verifies("PS-CONCURRENCY-3", "INV-LEASE-MONOTONE")
    def test_moves_the_end_to_the_asked_seconds_from_now(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create()
        job = claimed(database, lease_seconds=60)
        clock.tick(30)
        outcome = database.renew_job_lease(job["id"], 60, lease_token=1)
        assert outcome == Outcome(
            OutcomeKind.APPLIED,
            JobStatus.PROCESSING,
            late=False,
            job=job | {"leased_until": clock.now + timedelta(seconds=60)},
        )
        assert stored(database, job["id"]) == outcome.job

    @pytest.mark.verifies("PS-CONCURRENCY-3", "INV-LEASE-MONOTONE")
    def test_never_shortens_and_never_adds(self, database: PromptStudioDatabase, create: Create) -> None:
        create()
        job = claimed(database, lease_seconds=60)
        for seconds in (1, 60, 60):
            outcome = database.renew_job_lease(job["id"], seconds, lease_token=1)
            assert outcome.job == job

    @pytest.mark.verifies("PS-CONCURRENCY-5")
    def test_ignores_the_name_when_there_is_a_token(self, database: PromptStudioDatabase, create: Create) -> None:
        job_id = create()["id"]
        claimed(database, worker_id="mine")
        assert database.renew_job_lease(job_id, 60, worker_id="other", lease_token=1)

    @pytest.mark.verifies("PS-CONCURRENCY-11")
    def test_forgets_being_late_once_it_is_in_time(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        job_id = create()["id"]
        claimed(database, lease_seconds=1)
        clock.tick(1)
        assert database.renew_job_lease(job_id, 10, lease_token=1).late
        assert stored(database, job_id)["late"]
        assert not database.renew_job_lease(job_id, 10, lease_token=1).late
        assert not stored(database, job_id)["late"]


class TestRenewLeaseByOwner:
    @pytest.mark.verifies("PS-CONCURRENCY-9", "PS-CONCURRENCY-3")
    def test_is_applied_to_the_owners_job(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create()
        job = claimed(database, lease_seconds=10, worker_id="w")
        clock.tick(10)
        outcome = database.renew_job_lease(job["id"], 20, worker_id=" w ")
        assert outcome.kind == "applied"
        assert outcome.late
        assert outcome.job == job | {"leased_until": clock.now + timedelta(seconds=20), "late": True}
        assert database.renew_job_lease(job["id"], 5, worker_id="w").job == job | {
            "leased_until": clock.now + timedelta(seconds=20)
        }

    @pytest.mark.verifies("PS-CONCURRENCY-9")
    def test_answers_in_the_contracts_order(self, database: PromptStudioDatabase, create: Create) -> None:
        job_id = create()["id"]
        assert database.renew_job_lease(job_id + 1, worker_id="w") == Outcome(OutcomeKind.NOT_FOUND)
        assert database.renew_job_lease(job_id, worker_id="w") == Outcome(OutcomeKind.LEASE_LOST, JobStatus.QUEUED)
        claimed(database, worker_id="other")
        assert database.renew_job_lease(job_id, worker_id="w") == Outcome(OutcomeKind.LEASE_LOST, JobStatus.PROCESSING)
        database.cancel_job(job_id)
        assert database.renew_job_lease(job_id, worker_id="w") == Outcome(OutcomeKind.TERMINAL, JobStatus.CANCELLED)


class TestComplete:
    @pytest.mark.verifies("PS-CONCURRENCY-22", "INV-LEASE-FIELDS")
    def test_ends_the_job_with_its_result(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create()
        job = claimed(database)
        clock.tick(1)
        outcome = database.complete_job(job["id"], lease_token=1, result={"score": 0.1})
        assert outcome == Outcome(OutcomeKind.APPLIED, JobStatus.COMPLETED, late=False, job=outcome.job)
        assert outcome.job == closed(job, "complete", clock, status="completed", result={"score": 0.1})
        assert stored(database, job["id"]) == outcome.job

    def test_needs_no_result(self, database: PromptStudioDatabase, create: Create) -> None:
        create()
        job = claimed(database)
        database.complete_job(job["id"], lease_token=1)
        assert stored(database, job["id"])["result"] is None


class TestFail:
    def test_ends_the_job_with_its_error(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create()
        job = claimed(database)
        clock.tick(1)
        outcome = database.fail_job(job["id"], lease_token=1, error_message="boom", retryable=False)
        assert outcome.status == "failed"
        assert outcome.job == closed(job, "fail", clock, status="failed", error_message="boom")
        assert stored(database, job["id"]) == outcome.job

    @pytest.mark.verifies("PS-CONCURRENCY-14")
    def test_queues_the_job_again_after_a_pause_while_executions_are_left(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        create(max_retries=1)
        job = claimed(database)
        clock.tick(1)
        outcome = database.fail_job(job["id"], lease_token=1, error_message="boom")
        assert outcome.status == "queued"
        assert outcome.job == closed(
            job,
            "fail",
            clock,
            status="queued",
            error_message="boom",
            retry_count=1,
            started_at=None,
            completed_at=None,
            available_at=clock.now + timedelta(seconds=1),
        )
        assert database.acquire_next_job() is None
        clock.tick(1)
        job = claimed(database)
        outcome = database.fail_job(job["id"], lease_token=2, error_message="again")
        assert outcome.status == "failed"
        assert outcome.job == closed(job, "fail", clock, status="failed", error_message="again", retry_count=1)

    @pytest.mark.verifies("PS-CONCURRENCY-14")
    def test_doubles_the_pause_up_to_ten_minutes(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        job_id = create(max_retries=2**31 - 2)["id"]
        pauses = []
        for _ in range(12):
            token = claimed(database)["lease_token"]
            database.fail_job(job_id, lease_token=token, error_message="boom")
            pauses.append((stored(database, job_id)["available_at"] - clock.now).total_seconds())
            clock.tick(600)
        assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]

    @pytest.mark.verifies("PS-CONCURRENCY-14")
    @pytest.mark.parametrize(("spread", "milliseconds"), [(500, 500), (501, 501), (1000, 1000)])
    def test_spreads_the_pause(self, opened: Open, clock: VirtualClock, spread: int, milliseconds: int) -> None:
        with opened(jitter=lambda: spread) as database:
            job_id = database.create_job("evaluation", 1, {})["id"]
            claimed(database)
            database.fail_job(job_id, lease_token=1, error_message=None)
            assert stored(database, job_id)["available_at"] == clock.now + timedelta(milliseconds=milliseconds)

    def test_spreads_the_pause_by_chance_unless_told_otherwise(self, opened: Open) -> None:
        with opened(in_real_time=True) as database:
            job = database.create_job("evaluation", 1, {})
            claimed(database)
            row = database.retry_job_record(job["id"], lease_token=1).job
            assert row is not None
            assert row["available_at"] >= row["created_at"] + timedelta(milliseconds=500)

    @pytest.mark.verifies("PS-INPUT-4")
    def test_takes_any_error_text(self, database: PromptStudioDatabase, create: Create) -> None:
        create()
        job = claimed(database)
        database.fail_job(job["id"], lease_token=1, error_message="a\0b\ud800c" + 20_000 * "\N{SNOWMAN}")
        error = stored(database, job["id"])["error_message"]
        assert error == "a\ufffdb\ufffdc" + 9_995 * "\N{SNOWMAN}"


class TestRelease:
    @pytest.mark.verifies("PS-CONCURRENCY-15", "PS-CONCURRENCY-16")
    def test_gives_the_execution_back(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock
    ) -> None:
        created = create(max_retries=0)
        for token in (1, 2, 3):
            job = claimed(database)
            clock.tick(1)
            outcome = database.release_job(job["id"], lease_token=token)
            assert outcome.job == {
                **created,
                "lease_token": token,
                "closed_token": token,
                "closed_by": "release",
                "available_at": clock.now,
            }
        assert database.count_jobs(status="queued") == 1


class TestEveryCallWithAToken:
    @every_call
    @pytest.mark.verifies("PS-CONCURRENCY-10")
    def test_does_not_find_a_job_that_is_not_there(self, database: PromptStudioDatabase, call: Call) -> None:
        assert call(database, 1, 1) == Outcome(OutcomeKind.NOT_FOUND)

    @every_call
    @pytest.mark.parametrize("case", list(product(["processing", "queued", "completed", "cancelled"], [1, 3])))
    @pytest.mark.verifies("PS-CONCURRENCY-10", "PS-CONCURRENCY-13", "INV-SINGLE-HOLDER", "INV-RESULT-FENCED")
    def test_is_lost_with_a_stale_or_future_token(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, call: Call, case: tuple[str, int]
    ) -> None:
        state, wrong = case
        create()
        claimed(database, lease_seconds=1)
        clock.tick(1)
        job = claimed(database)
        if state == "completed":
            database.complete_job(job["id"], lease_token=2)
        elif state != "processing":
            database.update_job_status(job["id"], state)
        before = stored(database, job["id"])
        assert call(database, job["id"], wrong) == Outcome(OutcomeKind.LEASE_LOST, before["status"])
        assert stored(database, job["id"]) == before

    @every_call
    @pytest.mark.verifies("PS-CONCURRENCY-10")
    def test_is_told_how_the_job_ended(self, database: PromptStudioDatabase, create: Create, call: Call) -> None:
        job_id = create()["id"]
        claimed(database)
        database.cancel_job(job_id)
        before = stored(database, job_id)
        assert call(database, job_id, 1) == Outcome(OutcomeKind.TERMINAL, JobStatus.CANCELLED)
        assert stored(database, job_id) == before

    @every_call
    @pytest.mark.verifies("PS-CONCURRENCY-10")
    def test_is_lost_when_an_operator_queued_the_job_again(
        self, database: PromptStudioDatabase, create: Create, call: Call
    ) -> None:
        job_id = create()["id"]
        claimed(database)
        database.update_job_status(job_id, "queued")
        assert call(database, job_id, 1) == Outcome(OutcomeKind.LEASE_LOST, JobStatus.QUEUED)

    @every_call
    @pytest.mark.parametrize("late", [False, True], ids=["in-time", "late"])
    @pytest.mark.verifies("PS-CONCURRENCY-11", "PS-CONCURRENCY-4")
    def test_is_applied_after_the_expiry_too_and_says_so(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, call: Call, *, late: bool
    ) -> None:
        job_id = create()["id"]
        claimed(database, lease_seconds=10)
        clock.tick(10 if late else 9.999)
        outcome = call(database, job_id, 1)
        assert (outcome.kind, outcome.late) == ("applied", late)
        assert stored(database, job_id)["late"] is late

    @every_closing
    @pytest.mark.verifies("PS-CONCURRENCY-12", "INV-REPLAY-SAFE")
    def test_changes_nothing_when_it_is_repeated(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, call: Call
    ) -> None:
        job_id = create()["id"]
        claimed(database, lease_seconds=1)
        clock.tick(1)
        first = call(database, job_id, 1)
        clock.tick(1)
        again = call(database, job_id, 1)
        assert again == Outcome(OutcomeKind.ALREADY, first.status, late=True, job=first.job)
        assert again
        assert stored(database, job_id) == first.job

    @every_closing
    @pytest.mark.parametrize("other", CALLS.values(), ids=CALLS)
    @pytest.mark.verifies("PS-CONCURRENCY-12")
    def test_is_no_repetition_of_another(
        self, database: PromptStudioDatabase, create: Create, call: Call, other: Call
    ) -> None:
        job_id = create()["id"]
        claimed(database)
        first = call(database, job_id, 1)
        again = other(database, job_id, 1)
        same = first.job is not None and other is not CALLS["renew"] and self._name(other) == first.job["closed_by"]
        if same:
            assert again.kind == "already"
        elif first.status in {"completed", "failed"}:
            assert again == Outcome(OutcomeKind.TERMINAL, first.status)
        else:
            assert again == Outcome(OutcomeKind.LEASE_LOST, JobStatus.QUEUED)
        assert stored(database, job_id) == first.job

    @staticmethod
    def _name(call: Call) -> str:
        name = next(name for name, one in CALLS.items() if one is call)
        return "fail" if name in {"requeue", "retry"} else name

    @every_closing
    @pytest.mark.verifies("PS-CONCURRENCY-12")
    def test_is_lost_once_somebody_else_has_the_job(
        self, database: PromptStudioDatabase, create: Create, clock: VirtualClock, call: Call
    ) -> None:
        job_id = create()["id"]
        claimed(database)
        database.release_job(job_id, lease_token=1)
        clock.tick(60)
        claimed(database)
        assert call(database, job_id, 1) == Outcome(OutcomeKind.LEASE_LOST, JobStatus.PROCESSING)


class TestUpdateJobStatusWithAToken:
    @pytest.mark.parametrize(
        ("status", "closed_by"), [("completed", "complete"), ("failed", "fail"), ("queued", "release")]
    )
    def test_is_another_spelling_of_the_closing_calls(
        self, database: PromptStudioDatabase, create: Create, status: str, closed_by: str
    ) -> None:
        job_id = create()["id"]
        claimed(database)
        row = database.update_job_status(job_id, status, lease_token=1, worker_id="ignored")
        assert row is not None
        assert (row["status"], row["closed_by"]) == (status, closed_by)
        assert database.update_job_status(job_id, status, lease_token=1) == row
        assert database.update_job_status(job_id, status, lease_token=2) is None

    def test_writes_the_result_or_the_error(self, database: PromptStudioDatabase, create: Create) -> None:
        done, broken = create()["id"], create()["id"]
        claimed(database)
        claimed(database)
        assert database.update_job_status(done, "completed", lease_token=1, result=[1])
        assert database.update_job_status(broken, "failed", lease_token=1, error_message="boom")
        assert stored(database, done)["result"] == [1]
        assert stored(database, broken)["error_message"] == "boom"
