"""The database is away when work begins: it is waited for, and never on the event loop."""

import asyncio
import threading
from dataclasses import replace

import pytest

from prompt_studio import JobContext, JobManager, JobStatus, StoreUnavailable, TransientConflict
from prompt_studio.metrics import Ending
from prompt_studio.running.beats import Loss
from tests.conformance.working import LIMIT_SECONDS, Counted, Troubled, quick, row, until, work

pytestmark = pytest.mark.conformance


class TestTheDatabaseOfBeats:
    @pytest.mark.verifies("PS-LEASE-HB-6", "PS-LEASE-HB-25")
    def test_is_opened_before_a_worker_acquires_and_waited_for(
        self, worker: JobManager, troubled: Troubled, counted: Counted
    ) -> None:
        acquired: list[int] = []
        troubled.on_acquired = lambda: acquired.append(counted.claims_failed)
        troubled.opening = [StoreUnavailable("away, on purpose")] * 2
        worker.register_handler("evaluation", lambda _: until(lambda: counted.renewals > 0), lease_seconds=5)
        worker.create_job("evaluation", 1, {}, max_retries=0)
        assert work(worker, until=1)
        assert acquired[0] == 2
        assert [name.rpartition("_")[0] for name in troubled.opened_by] == ["prompt-studio-call"] * 3
        assert (counted.endings, counted.lost_for) == ([Ending.COMPLETED], [])

    @pytest.mark.verifies("PS-LEASE-HB-25")
    def test_that_gives_beats_no_answer_keeps_a_worker_from_acquiring(
        self, worker: JobManager, troubled: Troubled, counted: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first handler runs while they fail; the second job comes then, and is claimed when one was answered."""
        claims: list[int] = []

        @worker.register_handler("evaluation", lease_seconds=30)
        def handler(context: JobContext) -> None:
            if context.job_id == 1:
                monkeypatch.setattr(Troubled, "away", True)
                until(lambda: counted.renewals_failed > 0)
                worker.create_job("evaluation", 1, {})
                until(lambda: counted.claims_failed > 1 or len(counted.claims) > 1)
                claims.append(len(counted.claims))
                monkeypatch.setattr(Troubled, "away", False)

        monkeypatch.setattr(troubled, "_settings", replace(troubled.settings, heartbeat_seconds=0.1))
        worker.create_job("evaluation", 1, {})
        assert work(worker, until=2)
        assert claims == [1]
        assert counted.endings == [Ending.COMPLETED] * 2

    @pytest.mark.verifies("PS-LEASE-HB-25")
    def test_is_asked_when_there_is_no_lease_any_more_that_beats_would_keep(
        self, worker: JobManager, counted: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It goes away under the first job, and comes back when that is lost and no other could be acquired."""

        @worker.register_handler("evaluation", lease_seconds=1)
        def handler(context: JobContext) -> None:
            monkeypatch.setattr(Troubled, "away", True)
            monkeypatch.setattr(Troubled, "silent", True)
            assert context.cancellation.wait(LIMIT_SECONDS)

        def claim_failed() -> None:
            Counted.claim_failed(counted)
            if counted.endings:
                monkeypatch.setattr(Troubled, "silent", False)

        monkeypatch.setattr(counted, "claim_failed", claim_failed)
        worker.register_handler("generation", quick, lease_seconds=3600)
        for job_type in ("evaluation", "generation"):
            worker.create_job(job_type, 1, {}, max_retries=0)
        assert work(worker, until=2, max_concurrent=1)
        assert counted.lost_for == [Loss.DEADLINE]
        assert counted.endings == [Ending.LOST, Ending.COMPLETED]
        assert counted.claims_failed > 0

    @pytest.mark.verifies("PS-LEASE-HB-6")
    def test_is_not_opened_for_a_job_that_needs_no_beat(self, worker: JobManager, troubled: Troubled) -> None:
        worker.register_handler("evaluation", quick, lease_seconds=3600)
        worker.create_job("evaluation", 1, {})
        job = worker.get_next_job()
        assert job is not None
        assert asyncio.run(worker.process_job(job)) == 1
        assert troubled.opened_by == []


class TestAJobThatIsProcessedByItself:
    @pytest.mark.verifies("PS-LEASE-HB-9")
    def test_begins_when_the_trouble_is_over(self, worker: JobManager, troubled: Troubled) -> None:
        worker.register_handler("evaluation", quick)
        worker.create_job("evaluation", 1, {})
        job = worker.get_next_job()
        assert job is not None
        troubled.renewing = [TransientConflict("locked, on purpose"), StoreUnavailable("away, on purpose")]
        assert asyncio.run(worker.process_job(job)) == 1
        assert row(worker)["status"] is JobStatus.COMPLETED

    def test_does_not_begin_in_trouble_that_lasts_as_long_as_the_lease(
        self, worker: JobManager, troubled: Troubled
    ) -> None:
        called: list[object] = []
        worker.register_handler("evaluation", called.append, lease_seconds=1)
        worker.create_job("evaluation", 1, {})
        job = worker.get_next_job()
        assert job is not None
        troubled.renewing = [StoreUnavailable("away, on purpose")] * 10_000
        with pytest.raises(StoreUnavailable, match="on purpose"):
            asyncio.run(worker.process_job(job))
        assert called == []
        assert len(troubled.renewing) < 9_999

    @pytest.mark.parametrize("trouble", [True, False], ids=["in trouble", "under way"])
    @pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-12", "PS-LEASE-HB-18")
    def test_is_released_by_a_cancellation_before_it_began(
        self, worker: JobManager, troubled: Troubled, *, trouble: bool
    ) -> None:
        """In trouble nobody can release it; what was asked is answered, and the cancellation is obeyed at once."""
        called: list[object] = []
        worker.register_handler("evaluation", called.append, lease_seconds=3600)
        worker.create_job("evaluation", 1, {})
        job = worker.get_next_job()
        assert job is not None
        if trouble:
            troubled.renewing = [StoreUnavailable("away, on purpose")] * 10_000

        async def play() -> None:
            asked, cancelled, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

            def on_renew() -> None:
                loop.call_soon_threadsafe(asked.set)
                assert trouble or cancelled.wait(LIMIT_SECONDS)

            troubled.on_renew = on_renew
            task = asyncio.create_task(worker.process_job(job))
            await asyncio.wait_for(asked.wait(), LIMIT_SECONDS)
            task.cancel()
            loop.call_soon(cancelled.set)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, LIMIT_SECONDS)

        asyncio.run(play())
        assert called == []
        found = row(worker)
        known = (JobStatus.PROCESSING, 1) if trouble else (JobStatus.QUEUED, 0)
        assert (found["status"], found["executions"]) == known
