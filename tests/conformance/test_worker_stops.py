"""How a worker stops, on every store: nothing is lost, and nothing is run twice."""

import asyncio
import threading

import pytest

from prompt_studio import (
    JobContext,
    JobManager,
    JobStatus,
    JobStopped,
    SchemaError,
    StoreUnavailable,
    TransientConflict,
)
from prompt_studio.metrics import Ending
from prompt_studio.running.worker import Worker
from tests.conformance.working import LIMIT_SECONDS, NEVER, Counted, Troubled, quick, row, steps, work

pytestmark = pytest.mark.conformance

MOMENT_SECONDS = 0.3


class TestAStop:
    @pytest.mark.verifies("PS-LEASE-HB-11")
    def test_lets_what_runs_end_and_acquires_no_more(self, worker: JobManager, counted: Counted) -> None:
        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> str:
            worker.stop_processing()
            return f"done {context.job_id}"

        for _ in range(2):
            worker.create_job("evaluation", 1, {})
        assert work(worker, until=9, max_concurrent=1)
        assert [row(worker, job_id)["status"] for job_id in (1, 2)] == [JobStatus.COMPLETED, JobStatus.QUEUED]
        assert counted.endings == [Ending.COMPLETED]

    @pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
    @pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-12", "PS-CONCURRENCY-15", "INV-LOCKS-MATCH")
    def test_releases_what_did_not_end_after_its_handler_has(
        self, worker: JobManager, counted: Counted, *, plain: bool
    ) -> None:
        ended: list[JobStatus] = []

        def plain_handler(context: JobContext) -> None:
            worker.stop_processing(0)
            assert context.cancellation.wait(LIMIT_SECONDS)
            ended.append(row(worker)["status"])
            context.raise_if_stopped()

        async def async_handler(context: JobContext) -> None:
            assert context.job_id
            worker.stop_processing(0)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(row(worker)["status"])

        worker.register_handler("evaluation", plain_handler if plain else async_handler)
        worker.create_job("evaluation", 1, {})
        assert work(worker, until=9)
        found = row(worker)
        assert ended == [JobStatus.PROCESSING]
        assert (found["status"], found["executions"], found["lease_token"]) == (JobStatus.QUEUED, 0, 1)
        assert counted.endings == [Ending.RELEASED]
        counts = worker.db.get_lock_counts()
        assert counts.acquired == counts.unlocked

    @pytest.mark.verifies("PS-LEASE-HB-12")
    def test_releases_nothing_while_its_handler_has_not_ended(self, worker: JobManager, troubled: Troubled) -> None:
        """The handler takes its time to end, and would see a release that comes too soon."""
        ended, released = threading.Event(), threading.Event()
        order: list[bool] = []

        def note() -> None:
            order.append(ended.is_set())
            released.set()

        troubled.on_release = note

        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            worker.stop_processing(0)
            assert context.cancellation.wait(LIMIT_SECONDS)
            released.wait(MOMENT_SECONDS)
            ended.set()
            context.raise_if_stopped()

        worker.create_job("evaluation", 1, {})
        assert work(worker, until=9)
        assert order == [True]

    @pytest.mark.verifies("PS-LEASE-HB-11")
    def test_writes_what_a_handler_came_to_that_was_asked_to_end(self, worker: JobManager) -> None:
        @worker.register_handler("evaluation")
        async def handler(context: JobContext) -> str:
            worker.stop_processing(0)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                assert context.reason == "stopping"
            return "as far as I came"

        worker.create_job("evaluation", 1, {})
        assert work(worker, until=9)
        assert row(worker)["result"] == "as far as I came"

    def test_ends_the_grace_time_when_it_is_asked_again(self, worker: JobManager, counted: Counted) -> None:
        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            worker.stop_processing()
            assert not context.cancellation.is_set()
            worker.stop_processing()
            assert context.cancellation.wait(LIMIT_SECONDS)
            context.progress(0.5)

        worker.create_job("evaluation", 1, {})
        assert work(worker, until=9)
        assert counted.endings == [Ending.RELEASED]

    @pytest.mark.verifies("PS-LEASE-HB-12")
    def test_leaves_a_job_whose_handler_does_not_end_to_its_lease(self, worker: JobManager, counted: Counted) -> None:
        worker._settle_seconds = 0
        go_on, gone_on = threading.Event(), threading.Event()

        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            assert context.job_id
            worker.stop_processing(0)
            assert go_on.wait(LIMIT_SECONDS)
            gone_on.set()

        worker.create_job("evaluation", 1, {})
        assert not work(worker, until=9)
        assert row(worker)["status"] is JobStatus.PROCESSING
        assert counted.endings == [Ending.LEFT]
        go_on.set()
        assert gone_on.wait(LIMIT_SECONDS)
        assert row(worker)["status"] is JobStatus.PROCESSING

    @pytest.mark.verifies("PS-LEASE-HB-8", "PS-LEASE-HB-12")
    def test_cancels_no_handler_that_was_cancelled_for_a_loss(self, worker: JobManager, counted: Counted) -> None:
        ended: list[str | None] = []

        @worker.register_handler("evaluation", lease_seconds=1)
        async def handler(context: JobContext) -> None:
            assert worker.cancel_job(context.job_id)
            try:
                await asyncio.Event().wait()
            finally:
                worker.stop_processing(0)
                await steps()
                ended.append(context.reason)

        worker.create_job("evaluation", 1, {})
        work(worker, until=9, max_concurrent=1)
        assert counted.endings == [Ending.LOST]
        assert ended == counted.lost_for

    @pytest.mark.verifies("PS-LEASE-HB-19")
    def test_says_that_how_a_job_ended_was_not_written(
        self, worker: JobManager, troubled: Troubled, counted: Counted
    ) -> None:
        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            assert context.job_id
            worker.stop_processing()

        worker.create_job("evaluation", 1, {})
        troubled.before = [SchemaError("changed by hand")]
        assert not work(worker, until=9)
        assert counted.endings == [Ending.LEFT]

    @pytest.mark.parametrize("acquiring", [True, False], ids=["while acquiring", "while running"])
    @pytest.mark.verifies("PS-LEASE-HB-19", "PS-LEASE-HB-9")
    def test_repeats_a_release_for_a_while_and_says_that_it_was_in_vain(
        self,
        worker: JobManager,
        troubled: Troubled,
        counted: Counted,
        monkeypatch: pytest.MonkeyPatch,
        *,
        acquiring: bool,
    ) -> None:
        """The lease is an hour long."""

        def handler(context: JobContext) -> None:
            worker.stop_processing(0)
            assert context.cancellation.wait(LIMIT_SECONDS)
            context.raise_if_stopped()

        monkeypatch.setattr("prompt_studio.running.polling.RELEASE_SECONDS_MAX", MOMENT_SECONDS)
        troubled.releasing = [TransientConflict("locked, on purpose")] * 10_000
        if acquiring:
            troubled.on_acquired = worker.stop_processing
        worker.register_handler("evaluation", handler, lease_seconds=3600)
        worker.create_job("evaluation", 1, {})
        assert not work(worker, until=9)
        assert counted.endings == [Ending.LEFT]
        assert counted.repeated > 0
        assert row(worker)["status"] is JobStatus.PROCESSING
        locks = troubled.get_lock_counts()
        assert locks.acquired == locks.unlocked

    @pytest.mark.verifies("PS-LEASE-HB-19")
    def test_waits_for_no_answer_when_it_is_asked_for_a_third_time(
        self, worker: JobManager, troubled: Troubled
    ) -> None:
        class Asking(Counted):
            def closing_repeated(self, job_type: str) -> None:
                super().closing_repeated(job_type)
                worker.stop_processing()

        worker._metrics = counted = Asking()
        worker.register_handler("evaluation", quick, lease_seconds=3600)
        worker.create_job("evaluation", 1, {})
        troubled.before = [TransientConflict("locked, on purpose")] * 10_000
        assert not work(worker, until=9)
        assert counted.endings == [Ending.LEFT]
        assert counted.repeated == 3

    @pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-12")
    def test_that_comes_while_a_job_is_acquired_releases_it(
        self, worker: JobManager, troubled: Troubled, counted: Counted
    ) -> None:
        worker.register_handler("evaluation", quick)
        worker.create_job("evaluation", 1, {})

        troubled.on_acquired = worker.stop_processing
        assert work(worker, until=9)
        assert counted.endings == [Ending.RELEASED]
        found = row(worker)
        assert (found["status"], found["executions"], found["lease_token"]) == (JobStatus.QUEUED, 0, 1)

    @pytest.mark.verifies("INV-LOCKS-MATCH")
    def test_that_cannot_release_what_was_acquired_keeps_no_lock(
        self, worker: JobManager, troubled: Troubled, counted: Counted
    ) -> None:
        worker.register_handler("evaluation", quick)
        worker.create_job("evaluation", 1, {})
        troubled.on_acquired, troubled.releasing = worker.stop_processing, [SchemaError("changed by hand")]
        with pytest.raises(SchemaError, match="by hand"):
            work(worker, until=9)
        assert counted.endings == [Ending.LEFT]
        assert row(worker)["status"] is JobStatus.PROCESSING
        locks = troubled.get_lock_counts()
        assert locks.acquired == locks.unlocked

    @pytest.mark.parametrize("acquiring", [True, False], ids=["while acquiring", "while running"])
    @pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-12", "INV-NOTHING-LOST")
    def test_by_cancellation_loses_nothing(
        self, worker: JobManager, troubled: Troubled, counted: Counted, *, acquiring: bool
    ) -> None:
        async def play() -> None:
            reached, loop = asyncio.Event(), asyncio.get_running_loop()

            @worker.register_handler("evaluation")
            async def handler(context: JobContext) -> None:
                assert context.job_id
                reached.set()
                await asyncio.Event().wait()

            if acquiring:
                troubled.on_acquired = lambda: loop.call_soon_threadsafe(reached.set)
            task = asyncio.create_task(worker.start_processing())
            await asyncio.wait_for(reached.wait(), LIMIT_SECONDS)
            task.cancel()
            loop.call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, LIMIT_SECONDS)

        worker.create_job("evaluation", 1, {})
        asyncio.run(play())
        found = row(worker)
        assert (found["status"], found["executions"]) == (JobStatus.QUEUED, 0)
        assert counted.endings == [Ending.RELEASED]

    @pytest.mark.verifies("PS-LEASE-HB-9", "PS-LEASE-HB-11")
    def test_by_cancellation_in_the_middle_of_a_closing_call_does_not_cut_it(
        self, worker: JobManager, troubled: Troubled, counted: Counted
    ) -> None:
        worker.create_job("evaluation", 1, {})
        worker.register_handler("evaluation", quick)
        troubled.after = [StoreUnavailable("cut", outcome_unknown=True)]

        async def play() -> None:
            task = asyncio.create_task(worker.start_processing())
            loop = asyncio.get_running_loop()

            class Cancelling(Counted):
                def closing_repeated(self, job_type: str) -> None:
                    super().closing_repeated(job_type)
                    loop.call_soon(task.cancel)

            worker._metrics = Cancelling()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, LIMIT_SECONDS)

        asyncio.run(play())
        assert row(worker)["status"] is JobStatus.COMPLETED
        assert counted.endings == []

    @pytest.mark.verifies("PS-LEASE-HB-20", "PS-LEASE-HB-11")
    def test_before_the_start_counts_for_it_and_for_no_other(self, worker: JobManager) -> None:
        async def play() -> bool:
            starting = asyncio.create_task(worker.start_processing())
            worker.stop_processing()
            return await asyncio.wait_for(starting, LIMIT_SECONDS)

        worker.register_handler("evaluation", quick)
        worker.create_job("evaluation", 1, {})
        assert asyncio.run(play())
        assert row(worker)["status"] is JobStatus.QUEUED
        assert work(worker, until=1)
        assert row(worker)["status"] is JobStatus.COMPLETED

    @pytest.mark.verifies("PS-LEASE-HB-20")
    def test_by_another_thread_at_any_moment_of_the_start_is_heard(
        self, worker: JobManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the worker is put to work, when it is neither not there nor there."""
        put_to_work = worker._put_to_work

        def stopped_between(made: Worker) -> None:
            thread = threading.Thread(target=worker.stop_processing)
            with worker._turn:
                thread.start()
                put_to_work(made)
            thread.join(LIMIT_SECONDS)

        monkeypatch.setattr(worker, "_put_to_work", stopped_between)
        worker.register_handler("evaluation", quick)
        worker.create_job("evaluation", 1, {})
        assert work(worker, until=9)
        assert row(worker)["status"] is JobStatus.QUEUED

    @pytest.mark.verifies("PS-LEASE-HB-11")
    def test_ends_at_the_soonest_of_several_ends(self, worker: JobManager, counted: Counted) -> None:
        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            worker.stop_processing(0)
            worker.stop_processing(NEVER)
            assert context.cancellation.wait(LIMIT_SECONDS)
            context.raise_if_stopped()

        worker.create_job("evaluation", 1, {})
        assert work(worker, until=9)
        assert counted.endings == [Ending.RELEASED]

    @pytest.mark.verifies("PS-LEASE-HB-12")
    def test_of_a_job_that_is_processed_by_itself_cancels_its_handler_once(self, worker: JobManager) -> None:
        async def play() -> None:
            begun, ended = asyncio.Event(), asyncio.Event()

            @worker.register_handler("evaluation")
            async def handler(context: JobContext) -> None:
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    task.cancel()
                    await steps()
                    assert context.reason == "stopping"
                    ended.set()

            job = worker.get_next_job()
            assert job is not None
            task = asyncio.create_task(worker.process_job(job))
            await asyncio.wait_for(begun.wait(), LIMIT_SECONDS)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, LIMIT_SECONDS)
            assert ended.is_set()

        worker.create_job("evaluation", 1, {})
        asyncio.run(play())
        assert row(worker)["status"] is JobStatus.QUEUED

    def test_tells_whoever_processes_a_job_by_itself(self, worker: JobManager) -> None:
        """`process_job` is stopped by cancelling it, and what it runs can be told to stop by its context."""

        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            context.stop("enough")
            context.raise_if_stopped()

        worker.create_job("evaluation", 1, {})
        job = worker.get_next_job()
        assert job is not None
        with pytest.raises(JobStopped, match="enough"):
            asyncio.run(worker.process_job(job))
        assert row(worker)["status"] is JobStatus.QUEUED
