"""A worker on every store: what it claims, and what it does in trouble."""

import asyncio
import threading
from dataclasses import replace

import pytest

from prompt_studio import (
    InputError,
    JobContext,
    JobManager,
    JobRow,
    JobStatus,
    SchemaError,
    StoreUnavailable,
    TransientConflict,
)
from prompt_studio.metrics import Ending
from prompt_studio.running.beats import Loss
from prompt_studio.running.heartbeat import local_seconds
from tests.conformance.virtual_time import VirtualClock
from tests.conformance.working import LIMIT_SECONDS, Counted, Troubled, quick, row, until, work

pytestmark = pytest.mark.conformance


class TestAWorker:
    @pytest.mark.verifies("PS-LEASE-HB-13")
    def test_acquires_only_what_it_has_handlers_for(self, worker: JobManager, counted: Counted) -> None:
        worker.register_handler("generation", quick)
        for job_type in ("evaluation", "generation", "optimization", "generation"):
            worker.create_job(job_type, 1, {})
        assert work(worker, until=2)
        assert [job["id"] for job in counted.claims] == [2, 4]
        assert [row(worker, job_id)["status"] for job_id in (1, 2, 3, 4)] == [
            JobStatus.QUEUED,
            JobStatus.COMPLETED,
            JobStatus.QUEUED,
            JobStatus.COMPLETED,
        ]

    @pytest.mark.parametrize("at_once", [1, 2, 5])
    @pytest.mark.verifies("PS-LEASE-HB-13")
    def test_runs_no_more_at_once_than_it_was_told_to(self, worker: JobManager, at_once: int) -> None:
        """Each handler waits until as many run as may, so a worker that ran fewer would never end."""
        together = threading.Barrier(at_once)
        running: list[int] = []

        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            running.append(len(worker.running_jobs()))
            together.wait(LIMIT_SECONDS)
            assert context.job_id

        for _ in range(2 * at_once):
            worker.create_job("evaluation", 1, {})
        assert work(worker, until=2 * at_once, max_concurrent=at_once)
        assert max(running) == at_once

    @pytest.mark.verifies("PS-LEASE-HB-14")
    def test_looks_again_when_there_was_nothing(self, worker: JobManager, troubled: Troubled) -> None:
        worker.register_handler("evaluation", quick)
        looks: list[int] = []

        def look() -> None:
            looks.append(len(looks))
            if len(looks) == 4:
                worker.create_job("evaluation", 1, {})

        troubled.on_acquired = look
        assert work(worker, until=1)
        assert row(worker)["status"] is JobStatus.COMPLETED

    @pytest.mark.verifies("PS-LEASE-HB-1", "PS-LEASE-HB-26")
    def test_claims_each_job_for_its_own_lease(self, worker: JobManager, counted: Counted) -> None:
        worker.register_handler("evaluation", quick, lease_seconds=3000)
        worker.register_handler("generation", quick, lease_seconds=300)
        for job_type in ("evaluation", "generation"):
            worker.create_job(job_type, 1, {})
        assert work(worker, until=2)
        for job, seconds in zip(counted.claims, (3000, 300), strict=True):
            assert job["leased_until"] is not None
            assert job["started_at"] is not None
            assert (job["leased_until"] - job["started_at"]).total_seconds() == seconds

    @pytest.mark.verifies("PS-LEASE-HB-6")
    def test_takes_no_handler_while_it_works(self, worker: JobManager) -> None:
        refused: list[str] = []

        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            assert context.job_id
            with pytest.raises(InputError, match="comes too late") as error:
                worker.register_handler("generation", quick, lease_seconds=1)
            refused.append(str(error.value))

        worker.create_job("evaluation", 1, {})
        assert work(worker, until=1)
        assert len(refused) == 1
        worker.register_handler("generation", quick, lease_seconds=1)

    def test_needs_a_handler(self, worker: JobManager) -> None:
        with pytest.raises(InputError, match="no handler for any type"):
            work(worker, until=0)

    def test_needs_room(self, worker: JobManager) -> None:
        worker.register_handler("evaluation", quick)
        with pytest.raises(InputError, match="max_concurrent"):
            work(worker, until=0, max_concurrent=0)

    def test_is_one_for_each_manager(self, worker: JobManager, troubled: Troubled) -> None:
        worker.register_handler("evaluation", quick)

        async def play() -> None:
            working, loop = asyncio.Event(), asyncio.get_running_loop()
            troubled.on_acquired = lambda: loop.call_soon_threadsafe(working.set)
            first = asyncio.create_task(worker.start_processing())
            await asyncio.wait_for(working.wait(), LIMIT_SECONDS)
            with pytest.raises(InputError, match="already"):
                await worker.start_processing()
            worker.stop_processing()
            assert await asyncio.wait_for(first, LIMIT_SECONDS)

        asyncio.run(play())

    def test_goes_on_when_a_handler_fails(self, worker: JobManager, counted: Counted) -> None:
        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            raise LookupError(context.job_id)

        for _ in range(2):
            worker.create_job("evaluation", 1, {}, max_retries=0)
        assert work(worker, until=2)
        assert counted.endings == [Ending.FAILED] * 2


class TestAClaimThatTakesLongerThanItsLease:
    """One type has a lease of a second; the job that is claimed has one execution."""

    @pytest.fixture(autouse=True)
    def slow(self, worker: JobManager, troubled: Troubled) -> None:
        def outlast() -> None:
            troubled.on_acquired = lambda: None
            asked_at = local_seconds()
            until(lambda: local_seconds() > asked_at + 1)

        troubled.on_acquired = outlast
        worker.register_handler("evaluation", quick, lease_seconds=1)

    @pytest.mark.verifies("PS-LEASE-HB-26", "PS-LEASE-HB-7")
    def test_or_a_database_that_is_away_for_as_long_costs_other_types_nothing(
        self, worker: JobManager, counted: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def outlast(context: JobContext) -> None:
            assert not context.cancellation.wait(1.1)

        monkeypatch.setattr(Troubled, "away", True)
        worker.register_handler("generation", outlast, lease_seconds=3600)
        worker.create_job("generation", 1, {}, max_retries=0)
        assert work(worker, until=1)
        assert (counted.endings, counted.lost_for) == ([Ending.COMPLETED], [])

    @pytest.mark.verifies("PS-LEASE-HB-18", "PS-LEASE-HB-7")
    def test_costs_no_execution(self, worker: JobManager, counted: Counted) -> None:
        worker.create_job("evaluation", 1, {}, max_retries=0)
        assert work(worker, until=2)
        assert (counted.endings, counted.lost_for) == ([Ending.RELEASED, Ending.COMPLETED], [Loss.DEADLINE])

    @pytest.mark.parametrize("stopped", [False, True])
    @pytest.mark.verifies("PS-LEASE-HB-18")
    def test_costs_no_execution_when_that_is_in_trouble(
        self,
        worker: JobManager,
        counted: Counted,
        troubled: Troubled,
        monkeypatch: pytest.MonkeyPatch,
        *,
        stopped: bool,
    ) -> None:
        worker.create_job("evaluation", 1, {}, max_retries=0)
        monkeypatch.setattr(Troubled, "away", True)
        outlast = troubled.on_acquired

        def outlast_and_fail() -> None:
            outlast()
            troubled.acquiring = [StoreUnavailable("away, on purpose")] * 10_000
            if stopped:
                worker.stop_processing()

        troubled.on_acquired = outlast_and_fail
        assert work(worker, until=1)
        assert (counted.endings, counted.lost_for) == ([Ending.RELEASED], [Loss.DEADLINE])
        found = row(worker)
        assert (found["status"], found["executions"], found["lease_token"]) == (JobStatus.QUEUED, 0, 1)

    @pytest.mark.verifies("PS-LEASE-HB-18", "INV-SINGLE-HOLDER")
    def test_changes_nothing_when_somebody_has_taken_the_job(
        self, worker: JobManager, counted: Counted, troubled: Troubled, clock: VirtualClock
    ) -> None:
        worker.create_job("evaluation", 1, {}, max_retries=0)
        outlast, taken = troubled.on_acquired, list[JobRow | None]()

        def take() -> None:
            outlast()
            clock.tick(1)
            with troubled.opened_again(replace(troubled.settings, advisory_locks=False)) as rival:
                rival.update_job_status(1, "queued")
                taken.append(rival.acquire_next_job())

        troubled.on_acquired = take
        assert work(worker, until=1)
        assert counted.endings == [Ending.LOST]
        assert taken == [row(worker)]


class TestAHandlerWhoseJobIsTakenBesideIt:
    """Its lease ends, and the worker that runs it has room and takes the job again: then it would still close it."""

    def played(self, worker: JobManager, counted: Counted, said: list[bool]) -> None:
        worker.create_job("evaluation", 1, {})
        assert work(worker, until=2)
        assert said == [False]
        assert sorted(counted.endings) == [Ending.COMPLETED, Ending.LOST]
        found = row(worker)
        assert (found["status"], found["result"], found["lease_token"]) == (JobStatus.COMPLETED, "fresh", 2)

    @pytest.mark.verifies("PS-LEASE-HB-17", "INV-SINGLE-HOLDER", "INV-RESULT-FENCED")
    def test_changes_nothing_on_a_thread(self, worker: JobManager, counted: Counted, clock: VirtualClock) -> None:
        said, again = list[bool](), threading.Event()

        @worker.register_handler("evaluation", lease_seconds=3600)
        def handler(context: JobContext) -> str:
            if context.lease_token == 1:
                clock.tick(3600)
                assert again.wait(LIMIT_SECONDS)
                said.append(worker.update_job_status(context.job_id, "completed", result="stale"))
                return "stale"
            again.set()
            until(lambda: len(said) > 0)
            return "fresh"

        self.played(worker, counted, said)

    @pytest.mark.verifies("PS-LEASE-HB-17", "INV-SINGLE-HOLDER", "INV-RESULT-FENCED")
    def test_changes_nothing_on_the_event_loop(self, worker: JobManager, counted: Counted, clock: VirtualClock) -> None:
        said, again, over = list[bool](), asyncio.Event(), asyncio.Event()

        @worker.register_handler("evaluation", lease_seconds=3600)
        async def handler(context: JobContext) -> str:
            if context.lease_token == 1:
                clock.tick(3600)
                await asyncio.wait_for(again.wait(), LIMIT_SECONDS)
                said.append(worker.update_job_status(context.job_id, "completed", result="stale"))
                over.set()
                return "stale"
            again.set()
            await asyncio.wait_for(over.wait(), LIMIT_SECONDS)
            return "fresh"

        self.played(worker, counted, said)


class TestTrouble:
    @pytest.mark.parametrize(
        "trouble", [TransientConflict("busy"), StoreUnavailable("away")], ids=["conflict", "unavailable"]
    )
    def test_while_acquiring_is_waited_for(
        self, worker: JobManager, troubled: Troubled, counted: Counted, trouble: Exception
    ) -> None:
        worker.register_handler("evaluation", quick)
        worker.create_job("evaluation", 1, {})
        troubled.acquiring = [trouble] * 3
        assert work(worker, until=1)
        assert counted.claims_failed == 3
        assert row(worker)["status"] is JobStatus.COMPLETED

    def test_that_no_waiting_mends_ends_the_worker(self, worker: JobManager, troubled: Troubled) -> None:
        worker.register_handler("evaluation", quick)
        troubled.acquiring = [SchemaError("changed by hand")]
        with pytest.raises(SchemaError, match="by hand"):
            work(worker, until=1)

    @pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
    @pytest.mark.verifies("PS-LEASE-HB-9", "INV-REPLAY-SAFE", "PS-CONCURRENCY-12")
    def test_while_closing_is_met_by_trying_again_until_the_answer_is_definite(
        self, worker: JobManager, troubled: Troubled, counted: Counted, *, applied: bool
    ) -> None:
        worker.register_handler("evaluation", quick)
        worker.create_job("evaluation", 1, {})
        trouble: list[Exception] = [TransientConflict("busy"), StoreUnavailable("cut", outcome_unknown=True)]
        troubled.before, troubled.after = ([], trouble) if applied else (trouble, [])
        assert work(worker, until=1)
        found = row(worker)
        assert (found["status"], found["result"], found["executions"]) == (JobStatus.COMPLETED, 1, 1)
        assert counted.endings == [Ending.COMPLETED]
        assert counted.repeated == 2
        counts = troubled.get_lock_counts()
        assert counts.acquired == counts.unlocked

    @pytest.mark.verifies("PS-LEASE-HB-9")
    def test_while_closing_that_lasts_until_the_deadline_loses_the_lease(
        self, worker: JobManager, troubled: Troubled, counted: Counted
    ) -> None:
        """The stop beats no more for what is being written; its lease is one second."""
        worker._settle_seconds = 0
        worker.register_handler("evaluation", quick, lease_seconds=1)
        worker.create_job("evaluation", 1, {})
        troubled.before = [TransientConflict("busy")] * 10_000

        class Stopping(Counted):
            def closing_repeated(self, job_type: str) -> None:
                super().closing_repeated(job_type)
                worker.stop_processing(0)

        seen = worker._metrics = Stopping()
        seen.stop_after, seen.stop = 1, worker.stop_processing  # if this machine stood still for all of the lease
        assert not asyncio.run(asyncio.wait_for(worker.start_processing(), LIMIT_SECONDS))
        assert seen.endings == [Ending.LOST]
        assert seen.lost_for == [Loss.DEADLINE]
        assert row(worker)["status"] is JobStatus.PROCESSING
        assert counted.endings == []

    @pytest.mark.verifies("PS-LEASE-HB-16", "INV-LOCKS-MATCH")
    def test_of_one_closing_call_that_is_no_use_in_repeating_leaves_the_job_to_its_lease(
        self, worker: JobManager, troubled: Troubled, counted: Counted, caplog: pytest.LogCaptureFixture
    ) -> None:
        worker.register_handler("evaluation", quick)
        for _ in range(2):
            worker.create_job("evaluation", 1, {})
        troubled.before = [SchemaError("changed by hand")]
        assert work(worker, until=2, max_concurrent=1)
        assert counted.endings == [Ending.LEFT, Ending.COMPLETED]
        assert "it ended, and that was not written" in caplog.text
        counts = troubled.get_lock_counts()
        assert counts.acquired == counts.unlocked

    def test_of_our_own_making_with_one_result_fails_that_job_and_no_other(
        self, worker: JobManager, troubled: Troubled, counted: Counted
    ) -> None:
        worker.register_handler("evaluation", quick)
        for _ in range(2):
            worker.create_job("evaluation", 1, {})
        troubled.before = [ZeroDivisionError("a defect")]
        assert work(worker, until=2, max_concurrent=1)
        assert counted.endings == [Ending.REQUEUED, Ending.COMPLETED]
        assert row(worker)["error_message"] == "ZeroDivisionError: a defect"

    @pytest.mark.verifies("INV-LOCKS-MATCH")
    def test_of_our_own_making_ends_the_worker_and_is_told(self, worker: JobManager, troubled: Troubled) -> None:
        worker.register_handler("evaluation", quick)
        worker.create_job("evaluation", 1, {})
        troubled.before = [ZeroDivisionError("a defect")]
        troubled.failing = [ZeroDivisionError("a defect")]
        with pytest.raises(ZeroDivisionError, match="a defect"):
            work(worker, until=9)
        counts = troubled.get_lock_counts()
        assert counts.acquired == counts.unlocked

    @pytest.mark.verifies("PS-LEASE-HB-7", "PS-LEASE-HB-8")
    def test_of_all_beats_loses_the_lease_and_the_result_though_nobody_has_taken_the_job(
        self, worker: JobManager, counted: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def handler(context: JobContext) -> str:
            assert context.cancellation.wait(LIMIT_SECONDS)
            return "too late"

        monkeypatch.setattr(Troubled, "away", True)
        worker.register_handler("evaluation", handler, lease_seconds=1)
        worker.create_job("evaluation", 1, {})
        assert not work(worker, until=1)
        assert counted.endings == [Ending.LOST]
        assert counted.lost_for == [Loss.DEADLINE]
        found = row(worker)
        assert (found["status"], found["result"], found["lease_token"]) == (JobStatus.PROCESSING, None, 1)

    @pytest.mark.verifies("PS-LEASE-HB-6", "PS-LEASE-HB-8")
    def test_before_a_handler_has_begun_keeps_it_from_beginning(self, worker: JobManager, counted: Counted) -> None:
        """The first handler blocks the event loop, until the second job is claimed, cancelled, and known to be lost."""
        called: list[int] = []

        async def handler(context: JobContext) -> None:
            called.append(context.job_id)
            until(lambda: row(worker, 2)["status"] is JobStatus.PROCESSING)
            assert worker.cancel_job(2)
            until(lambda: len(counted.lost_for) > 0)

        worker.register_handler("evaluation", handler, lease_seconds=3)
        for _ in range(2):
            worker.create_job("evaluation", 1, {})
        assert work(worker, until=2)
        assert called == [1]
        assert counted.lost_for == [Loss.CANCELLED]
        assert sorted(counted.endings) == [Ending.COMPLETED, Ending.LOST]

    @pytest.mark.verifies("PS-LEASE-HB-8", "INV-RESULT-FENCED")
    def test_by_which_another_got_the_job_is_told_by_the_closing_call(
        self, worker: JobManager, troubled: Troubled, counted: Counted
    ) -> None:
        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> str:
            assert troubled.cancel_job(context.job_id)
            return "of no use"

        worker.create_job("evaluation", 1, {})
        assert work(worker, until=1)
        assert counted.endings == [Ending.LOST]
        assert counted.lost_for == [Loss.CANCELLED]
        assert row(worker)["result"] is None

    @pytest.mark.verifies("PS-LEASE-HB-7")
    def test_that_comes_twice_is_one_loss(
        self, worker: JobManager, troubled: Troubled, counted: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The deadline passes while the closing call is under way, and then that is refused."""

        def lose() -> None:
            until(lambda: len(counted.lost_for) > 0)
            assert troubled.cancel_job(1)

        monkeypatch.setattr(Troubled, "away", True)
        troubled.on_complete = lose
        worker.register_handler("evaluation", quick, lease_seconds=1)
        worker.create_job("evaluation", 1, {})
        assert work(worker, until=1)
        assert counted.endings == [Ending.LOST]
        assert counted.lost_for == [Loss.DEADLINE]


def test_a_heartbeat_that_has_died_ends_the_worker(
    worker: JobManager, monkeypatch: pytest.MonkeyPatch, troubled: Troubled
) -> None:
    monkeypatch.setattr("prompt_studio.running.heartbeat.Heartbeat.is_alive", False)
    worker.register_handler("evaluation", quick)
    with pytest.raises(RuntimeError, match="heartbeat has ended"):
        work(worker, until=1)
    assert replace(troubled.get_lock_counts(), sessions_lost=0).unlock_errors == 0
