"""`JobManager` on every store: its names, what a handler is given, and what becomes of the job afterwards."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

import pytest

from prompt_studio import (
    IdempotencyMismatch,
    InputError,
    JobContext,
    JobManager,
    JobRow,
    JobStatus,
    JobStopped,
    JobType,
    Metrics,
    NotRetryable,
    PromptStudioDatabase,
    Settings,
)
from prompt_studio.running.beats import Loss
from prompt_studio.running.tokens import Tokens
from tests.conformance.conftest import Open
from tests.conformance.managing import PAYLOAD, async_context, claimed, context_only, found, processed
from tests.conformance.virtual_time import VirtualClock
from tests.conformance.working import LIMIT_SECONDS

pytestmark = pytest.mark.conformance


class TestTheNames:
    def test_make_and_find_jobs_with_payload_and_result_as_text(self, manager: JobManager) -> None:
        job = manager.create_job(JobType.EVALUATION, 7, PAYLOAD, priority=9, max_retries=1)
        assert json.loads(job["payload"]) == PAYLOAD
        assert (job["priority"], job["max_retries"], job["result"]) == (9, 1, None)
        assert manager.get_job(job["id"]) == manager.get_job_by_uuid(job["uuid"]) == job
        assert manager.list_jobs(status="queued", job_type="evaluation", limit=5) == [job]
        assert manager.get_job(job["id"] + 1) is None

    @pytest.mark.verifies("PS-IDEMPOTENCY-PG-5")
    def test_make_a_job_once_for_each_key_of_a_user(self, manager: JobManager) -> None:
        def create(user_id: str, request: object) -> JobRow:
            return manager.create_job("evaluation", 7, PAYLOAD, idempotency_key="k", user_id=user_id, request=request)

        first = create("ann", "one")
        assert (first["replayed"], json.loads(first["payload"])) == (False, PAYLOAD)
        assert create("ann", "one") == {**first, "replayed": True}
        assert create("bob", "two")["id"] != first["id"]
        with pytest.raises(IdempotencyMismatch):
            create("ann", "two")
        assert manager.db.lookup_idempotency("job", "k", "ann") == first["id"]

    def test_make_a_job_that_is_not_available_yet(self, manager: JobManager) -> None:
        until = datetime(2100, 1, 1, tzinfo=UTC)
        assert manager.create_job("evaluation", 7, PAYLOAD, available_at=until)["available_at"] == until
        assert manager.get_next_job() is None

    def test_take_the_next_job_under_their_worker(self, manager: JobManager) -> None:
        job = claimed(manager)
        assert (job["lease_owner"], job["status"]) == ("me", JobStatus.PROCESSING)
        assert manager.get_next_job() is None

    def test_move_a_job_that_nobody_here_runs_as_operators_do(self, manager: JobManager) -> None:
        job = claimed(manager)
        assert manager.update_job_status(job["id"], JobStatus.FAILED, error_message="by hand")
        assert not manager.update_job_status(job["id"], JobStatus.COMPLETED)
        assert manager.retry_job(job["id"])
        assert not manager.retry_job(job["id"])
        assert manager.update_job_status(job["id"], JobStatus.PROCESSING)
        assert found(manager, job)["lease_owner"] == "me"

    @pytest.mark.parametrize("status", ["completed", "failed", "queued"])
    @pytest.mark.verifies("PS-LEASE-HB-17", "INV-SINGLE-HOLDER", "INV-RESULT-FENCED")
    def test_end_no_attempt_but_their_own(self, manager: JobManager, clock: VirtualClock, status: str) -> None:
        """The lease ends, another manager takes the job, and the first one comes too late, twice."""
        with manager.db.opened_again(manager.db.settings) as database:
            rival = JobManager(database, worker_id="rival")
            job = claimed(manager)
            clock.tick(manager.db.settings.lease_seconds)
            assert rival.get_next_job() is not None
            before = found(manager, job)
            for _ in range(2):
                assert not manager.update_job_status(job["id"], status)
            assert found(manager, job) == before
            assert rival.update_job_status(job["id"], "completed", result="fresh")
        assert found(manager, job)["result"] == "fresh"

    @pytest.mark.verifies("PS-LEASE-HB-17")
    def test_take_a_job_that_was_named_under_its_token(self, manager: JobManager, clock: VirtualClock) -> None:
        job = manager.create_job("evaluation", 1, {})
        assert manager.update_job_status(job["id"], "processing")
        clock.tick(manager.db.settings.lease_seconds)
        with manager.db.opened_again(manager.db.settings) as database:
            assert database.acquire_next_job() is not None
            assert not manager.update_job_status(job["id"], "completed")

    @pytest.mark.verifies("PS-LEASE-HB-17")
    def test_move_a_job_as_operators_do_when_their_own_attempt_is_closed(self, manager: JobManager) -> None:
        job = claimed(manager)
        assert manager.update_job_status(job["id"], "failed", error_message="no")
        assert manager.update_job_status(job["id"], "queued")
        again = manager.get_next_job()
        assert again is not None
        manager.register_handler("evaluation", failing(NotRetryable("never")))
        with pytest.raises(NotRetryable):
            processed(manager, again)
        assert manager.update_job_status(job["id"], "queued")
        assert found(manager, job)["status"] is JobStatus.QUEUED

    def test_cancel_what_is_not_over(self, manager: JobManager) -> None:
        job = claimed(manager)
        assert manager.cancel_job(job["id"], reason="too dear")
        assert manager.cancel_job(job["id"])
        assert found(manager, job)["error_message"] == "too dear"
        other = claimed(manager)
        assert manager.update_job_status(other["id"], "completed", result={"score": 1})
        assert not manager.cancel_job(other["id"])

    def test_count_and_clean(self, manager: JobManager) -> None:
        job = manager.create_job("generation", 1, None)
        manager.cancel_job(job["id"])
        assert manager.get_job_stats()["by_status"]["cancelled"] == 1
        assert manager.cleanup_old_jobs(days=1) == 0

    def test_make_a_name_for_the_worker(self, opened: Open) -> None:
        with opened("c" * 255) as database:
            names = {JobManager(database).worker_id for _ in range(2)}
        assert len(names) == 2
        assert all(name.startswith("c" * 112 + "-worker-") and len(name) == 128 for name in names)

    @pytest.mark.parametrize("wrong", [{"poll_seconds": 0}, {"grace_seconds": -1}, {"worker_id": 5}])
    def test_refuse_bad_habits(self, database: PromptStudioDatabase, wrong: dict[str, Any]) -> None:
        with pytest.raises(InputError):
            JobManager(database, **wrong)


class TestTheLog:
    @pytest.mark.verifies("PS-LEASE-HB-16")
    def test_carries_job_token_and_worker_on_each_line(
        self, manager: JobManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        def handler(context: JobContext) -> None:
            context.progress(note="about to fail")
            raise Odd

        manager.register_handler("evaluation", handler)
        with caplog.at_level(logging.DEBUG, logger="prompt_studio"), pytest.raises(Odd):
            processed(manager, claimed(manager))
        names = ("job_id", "lease_token", "worker_id")
        told = [tuple(vars(record)[name] for name in names) for record in caplog.records]
        assert set(told) == {(1, 1, "me")}
        assert len(told) >= 3


class Odd(Exception):
    """What a handler raises."""


class Mute(Exception):
    """What a handler raises, and nobody can read."""

    def __str__(self) -> str:
        raise Odd


class Unruly(dict[str, object]):
    """A result that nobody can look at."""

    def values(self) -> Any:  # noqa: ANN401 - nothing
        raise Odd("look away")


def failing(error: BaseException) -> Callable[[JobContext], object]:
    def handler(context: JobContext) -> object:
        assert context.job_id
        raise error

    return handler


class TestAJobThatFails:
    @pytest.mark.parametrize(
        ("handler", "error", "status", "text"),
        [
            (failing(Odd("no")), Odd, JobStatus.QUEUED, "Odd: no"),
            (failing(NotRetryable("never")), NotRetryable, JobStatus.FAILED, "NotRetryable: never"),
            (failing(StopIteration()), RuntimeError, JobStatus.QUEUED, "RuntimeError: it raised StopIteration"),
            (failing(SystemExit(3)), RuntimeError, JobStatus.QUEUED, "RuntimeError: it raised SystemExit"),
            (failing(JobStopped("of itself")), JobStopped, JobStatus.QUEUED, "JobStopped: the job was stopped"),
            (failing(Mute()), Mute, JobStatus.QUEUED, "Mute: <exception str() failed>"),
            (lambda context: Unruly(n=context.job_id), Odd, JobStatus.QUEUED, "Odd: look away"),
            (lambda context: {context}, InputError, JobStatus.FAILED, "InputError: result must hold JSON"),
            (lambda context: async_context(context), TypeError, JobStatus.QUEUED, "TypeError: a plain handler"),  # noqa: PLW0108 - it is plain
        ],
    )
    @pytest.mark.verifies("PS-LEASE-HB-9")
    def test_says_why_and_is_tried_again_unless_that_is_of_no_use(
        self,
        manager: JobManager,
        handler: Callable[..., Any],
        error: type[BaseException],
        status: JobStatus,
        text: str,
    ) -> None:
        manager.register_handler("evaluation", handler)
        job = claimed(manager)
        with pytest.raises(error):
            processed(manager, job)
        row = found(manager, job)
        assert row["status"] is status
        assert str(row["error_message"]).startswith(text)

    def test_fails_for_good_when_its_budget_is_spent(self, manager: JobManager) -> None:
        manager.register_handler("evaluation", failing(Odd("no")))
        job = claimed(manager, max_retries=0)
        with pytest.raises(Odd):
            processed(manager, job)
        assert found(manager, job)["status"] is JobStatus.FAILED

    @pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1)], ids=["cancelled", "exit"])
    def test_is_no_end_of_the_event_loop(self, manager: JobManager, error: BaseException) -> None:
        @manager.register_handler("evaluation")
        async def handler(context: JobContext) -> None:
            assert context.job_id
            raise error

        job = claimed(manager)
        with pytest.raises(RuntimeError):
            processed(manager, job)
        assert found(manager, job)["status"] is JobStatus.QUEUED


class TestProcessJob:
    @pytest.mark.verifies("PS-LEASE-HB-13")
    def test_refuses_a_type_without_a_handler_and_touches_nothing(self, manager: JobManager) -> None:
        job = claimed(manager)
        before = found(manager, job)
        with pytest.raises(ValueError, match="no handler for evaluation jobs"):
            processed(manager, job)
        assert found(manager, job) == before

    @pytest.mark.verifies("PS-LEASE-HB-8")
    def test_does_not_begin_what_is_somebody_elses(self, manager: JobManager) -> None:
        called: list[JobContext] = []
        manager.register_handler("evaluation", called.append)
        job = claimed(manager)
        assert manager.db.release_job(job["id"], lease_token=job["lease_token"])
        with pytest.raises(JobStopped) as stopped:
            processed(manager, job)
        assert stopped.value.reason == Loss.LEASE_LOST
        assert called == []

    def test_refuses_a_job_that_is_not_leased(self, manager: JobManager) -> None:
        manager.register_handler("evaluation", context_only)
        with pytest.raises(InputError, match="lease_token"):
            processed(manager, manager.create_job("evaluation", 1, {}))

    @pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-12", "INV-LOCKS-MATCH")
    def test_releases_the_job_when_it_is_cancelled(self, manager: JobManager) -> None:
        ended: list[JobStatus] = []

        @manager.register_handler("evaluation")
        async def handler(context: JobContext) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(found(manager, context.job)["status"])

        begun = asyncio.Event()
        job = claimed(manager)

        async def play() -> None:
            task = asyncio.create_task(manager.process_job(job))
            await asyncio.wait_for(begun.wait(), LIMIT_SECONDS)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, LIMIT_SECONDS)

        asyncio.run(play())
        row = found(manager, job)
        assert (row["status"], row["executions"]) == (JobStatus.QUEUED, 0)
        assert ended == [JobStatus.PROCESSING]
        with_locks = manager.db.get_lock_counts()
        assert with_locks.acquired == with_locks.unlocked
        assert with_locks.unlock_errors == 0

    @pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
    @pytest.mark.verifies("PS-LEASE-HB-8", "PS-LEASE-HB-10", "INV-RESULT-FENCED")
    def test_tells_the_handler_that_the_job_was_cancelled(self, opened: Open, *, plain: bool) -> None:
        """A beat every 50 ms, of a lease that no pause of this machine outlasts; the operator is on another session."""
        with opened(heartbeat_seconds=0.05) as database, opened() as operator:
            manager = JobManager(database)
            reasons = []

            def plain_handler(context: JobContext) -> object:
                assert operator.cancel_job(context.job_id)
                assert context.cancellation.wait(LIMIT_SECONDS)
                reasons.append(context.reason)
                return "of no use"

            async def async_handler(context: JobContext) -> object:
                assert operator.cancel_job(context.job_id)
                try:
                    return await asyncio.Event().wait()
                finally:
                    reasons.append(context.reason)

            manager.register_handler("evaluation", plain_handler if plain else async_handler)
            job = claimed(manager)
            with pytest.raises(JobStopped) as stopped:
                processed(manager, job)
            assert stopped.value.reason == Loss.CANCELLED
            assert reasons == [Loss.CANCELLED]
            row = found(manager, job)
            assert (row["status"], row["result"]) == (JobStatus.CANCELLED, None)
            counts = database.get_lock_counts()
            assert counts.acquired == counts.unlocked

    def test_accepts_that_the_handler_has_closed_the_job_itself(self, manager: JobManager) -> None:
        @manager.register_handler("evaluation")
        def handler(context: JobContext) -> str:
            assert manager.update_job_status(context.job_id, "completed", result="by the handler")
            return "by the manager"

        job = claimed(manager)
        assert processed(manager, job) == "by the manager"
        assert found(manager, job)["result"] == "by the handler"

    @pytest.mark.verifies("PS-LEASE-HB-17", "INV-SINGLE-HOLDER")
    def test_closes_nothing_but_its_own_attempt_though_the_handler_has_closed_it_before(
        self, manager: JobManager
    ) -> None:
        """The handler gives its job back, somebody takes it, and then the handler would complete it."""
        with manager.db.opened_again(manager.db.settings) as database:

            @manager.register_handler("evaluation")
            def handler(context: JobContext) -> None:
                assert manager.update_job_status(context.job_id, "queued")
                assert database.acquire_next_job() is not None
                assert not manager.update_job_status(context.job_id, "completed")

            job = claimed(manager)
            with pytest.raises(JobStopped, match=Loss.LEASE_LOST):
                processed(manager, job)
            assert not manager.update_job_status(job["id"], "completed")
        assert found(manager, job)["lease_token"] == 2


class TestTokens:
    @pytest.mark.verifies("PS-LEASE-HB-17")
    def test_are_forgotten_when_there_are_too_many_the_oldest_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("prompt_studio.running.tokens.ATTEMPTS_MAX", 2)
        tokens = Tokens()
        for job_id, token in ((1, 1), (2, 1), (1, 2), (3, 1)):
            tokens.leased(job_id, token)
        assert [tokens.of(job_id) for job_id in (1, 2, 3)] == [2, None, 1]

    @pytest.mark.verifies("PS-LEASE-HB-17")
    def test_of_a_younger_attempt_stay_when_an_older_one_is_closed(self) -> None:
        tokens = Tokens()
        tokens.leased(1, 1)
        tokens.leased(1, 2)
        tokens.closed(1, 1)
        assert tokens.of(1) == 2
        tokens.closed(1, 2)
        assert tokens.of(1) is None

    @pytest.mark.verifies("PS-LEASE-HB-17")
    def test_are_those_of_the_handler_that_asks_its_own_manager_about_its_own_job(self) -> None:
        tokens, others = Tokens(), Tokens()

        def handler() -> list[int | None]:
            tokens.carry(1, 1)
            return [tokens.of(1), tokens.of(2), others.of(1)]

        tokens.leased(1, 2)
        assert copy_context().run(handler) == [1, None, None]
        assert tokens.of(1) == 2


def test_metrics_that_count_nothing_take_everything(manager: JobManager) -> None:
    silent = Metrics()
    job = claimed(manager)
    silent.claimed(job)
    silent.renewed("evaluation", late=True)
    silent.lost("evaluation", Loss.GONE)
    assert Settings().heartbeat_seconds is None
