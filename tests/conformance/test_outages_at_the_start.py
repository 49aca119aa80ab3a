"""The database is away when work begins: it is waited for, and never on the event loop."""

import asyncio
import threading

import pytest

from prompt_studio import JobManager, JobStatus, StoreUnavailable, TransientConflict
from prompt_studio.metrics import Ending
from tests.conformance.working import LIMIT_SECONDS, Counted, Troubled, quick, row, until, work

pytestmark = pytest.mark.conformance


class TestTheDatabaseOfBeats:
    @pytest.mark.verifies("PS-LEASE-HB-6", "PS-LEASE-HB-7")
    def test_is_opened_by_the_beats_which_wait_for_it(
        self, worker: JobManager, troubled: Troubled, counted: Counted
    ) -> None:
        troubled.opening = [StoreUnavailable("away, on purpose")] * 2
        worker.register_handler("evaluation", lambda _: until(lambda: counted.renewals > 0), lease_seconds=5)
        worker.create_job("evaluation", 1, {})
        assert work(worker, until=1)
        assert troubled.opened_by == ["prompt-studio-heartbeat"] * 3
        assert (counted.endings, counted.lost_for) == ([Ending.COMPLETED], [])

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
