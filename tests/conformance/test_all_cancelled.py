"""All tasks of the event loop are cancelled at once, as at the end of `asyncio.run`: nothing is cut, on every store."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from prompt_studio import JobContext, JobManager, JobStatus, TransientConflict
from prompt_studio.metrics import Ending
from tests.conformance.working import LIMIT_SECONDS, NEVER, Counted, Troubled, quick, row, steps

pytestmark = pytest.mark.conformance


class Main:
    """A main that returns while others are at work."""

    def __init__(self) -> None:
        self.cancelled, self.gone_on = threading.Event(), threading.Event()
        self._reached = asyncio.Event()

    def returns(self) -> None:
        """Let it, from any thread."""
        self._loop.call_soon_threadsafe(self._reached.set)

    def await_cancelled(self) -> None:
        """In the middle of a call: all tasks were cancelled."""
        assert self.cancelled.wait(LIMIT_SECONDS)

    def await_gone_on(self) -> None:
        """In the middle of a handler: they were, and have gone on since."""
        assert self.gone_on.wait(LIMIT_SECONDS)

    def cancel_others(self) -> None:
        """On the event loop: as its end does, at this very moment, and once more."""
        self._reached.set()
        for task in asyncio.all_tasks() - {self._task}:
            task.cancel()

    def run(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Begin this work, and end in the middle of it."""
        task, _ = asyncio.run(self._main(work))
        assert task.cancelled()

    async def _main(self, work: Callable[[], Coroutine[Any, Any, object]]) -> tuple[asyncio.Task[object], ...]:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        tasks = asyncio.create_task(work()), asyncio.create_task(self._tell())
        async with asyncio.timeout(LIMIT_SECONDS):
            await self._reached.wait()
        return tasks

    async def _tell(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
            await steps()
            self.gone_on.set()


@pytest.fixture
def main() -> Main:
    return Main()


@pytest.fixture(autouse=True)
def job(worker: JobManager) -> None:
    """Which may be executed once."""
    worker.create_job("evaluation", 1, {}, max_retries=0)


def is_released(worker: JobManager, counted: Counted) -> None:
    found = row(worker)
    assert (found["status"], found["executions"], counted.endings) == (JobStatus.QUEUED, 0, [Ending.RELEASED])
    locks = worker.db.get_lock_counts()
    assert locks.acquired == locks.unlocked


@pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-12", "INV-NOTHING-LOST", "INV-LOCKS-MATCH")
class TestAWorker:
    def test_that_acquires_releases_what_it_gets(
        self, worker: JobManager, troubled: Troubled, counted: Counted, main: Main
    ) -> None:
        def answer() -> None:
            main.returns()
            main.await_cancelled()

        troubled.on_acquired = answer
        worker.register_handler("evaluation", quick)
        main.run(lambda: worker.start_processing(1))
        is_released(worker, counted)

    def test_that_gives_a_job_back_does_so(
        self, worker: JobManager, troubled: Troubled, counted: Counted, main: Main
    ) -> None:
        def release() -> None:
            main.returns()
            main.await_cancelled()

        troubled.on_acquired, troubled.on_release = worker.stop_processing, release
        worker.register_handler("evaluation", quick)
        main.run(lambda: worker.start_processing(1))
        is_released(worker, counted)

    def test_whose_attempt_is_about_to_begin_releases_its_job(self, worker: JobManager, main: Main) -> None:
        class Cancelling(Counted):
            def claimed(self, job: object) -> None:
                assert job
                asyncio.get_running_loop().call_soon(main.cancel_others)

        counted = worker._metrics = Cancelling()
        worker.register_handler("evaluation", quick)
        main.run(lambda: worker.start_processing(1))
        is_released(worker, counted)

    @pytest.mark.parametrize("stopping", [False, True], ids=["at work", "stopping"])
    def test_waits_for_a_plain_handler(
        self, worker: JobManager, counted: Counted, main: Main, *, stopping: bool
    ) -> None:
        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            if stopping:
                worker.stop_processing(NEVER)
            main.returns()
            assert context.cancellation.wait(LIMIT_SECONDS)
            main.await_gone_on()
            context.raise_if_stopped()

        main.run(lambda: worker.start_processing(1))
        is_released(worker, counted)

    def test_waits_for_an_async_handler(self, worker: JobManager, counted: Counted, main: Main) -> None:
        ended: list[int] = []

        @worker.register_handler("evaluation")
        async def handler(context: JobContext) -> None:
            main.returns()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(context.job_id)

        main.run(lambda: worker.start_processing(1))
        assert ended == [1]
        is_released(worker, counted)

    @pytest.mark.verifies("PS-LEASE-HB-9")
    def test_of_which_a_handler_ends_the_event_loop_fails_that_job_and_releases_others(
        self, worker: JobManager, counted: Counted
    ) -> None:
        """As a second Ctrl-C does while an async handler is at work."""
        both = asyncio.Event()

        @worker.register_handler("evaluation")
        async def handler(context: JobContext) -> None:
            if context.job_id == 1:
                await both.wait()
                raise KeyboardInterrupt
            both.set()
            await asyncio.Event().wait()

        worker.create_job("evaluation", 1, {}, max_retries=0)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(asyncio.wait_for(worker.start_processing(2), LIMIT_SECONDS))
        rows = [row(worker, job_id) for job_id in (1, 2)]
        assert [(one["status"], one["executions"]) for one in rows] == [(JobStatus.FAILED, 1), (JobStatus.QUEUED, 0)]
        assert sorted(counted.endings) == [Ending.FAILED, Ending.RELEASED]

    @pytest.mark.verifies("PS-LEASE-HB-9")
    def test_repeats_a_closing_call_though_it_is_cancelled_in_it(
        self, worker: JobManager, troubled: Troubled, counted: Counted, main: Main
    ) -> None:
        def complete() -> None:
            main.returns()
            main.await_cancelled()

        troubled.on_complete, troubled.before = complete, [TransientConflict("locked, on purpose")]
        worker.register_handler("evaluation", quick)
        main.run(lambda: worker.start_processing(1))
        assert (row(worker)["status"], counted.endings) == (JobStatus.COMPLETED, [Ending.COMPLETED])

    @pytest.mark.verifies("PS-LEASE-HB-9")
    def test_repeats_a_closing_call_at_once_when_it_is_cancelled_between_two(
        self,
        worker: JobManager,
        troubled: Troubled,
        counted: Counted,
        main: Main,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def never(tries: int, limit_seconds: float) -> float:
            assert tries < limit_seconds
            main.returns()
            return NEVER

        monkeypatch.setattr("prompt_studio.running.attempt.doubled", never)
        troubled.before = [TransientConflict("locked, on purpose")]
        worker.register_handler("evaluation", quick, lease_seconds=3600)
        main.run(lambda: worker.start_processing(1))
        assert (row(worker)["status"], counted.endings) == (JobStatus.COMPLETED, [Ending.COMPLETED])


@pytest.mark.verifies("PS-LEASE-HB-11", "PS-LEASE-HB-12", "INV-NOTHING-LOST", "INV-LOCKS-MATCH")
class TestAJobThatIsProcessedByItself:
    def test_is_released_when_it_has_not_begun(
        self, worker: JobManager, troubled: Troubled, counted: Counted, main: Main
    ) -> None:
        def renew() -> None:
            main.returns()
            main.await_cancelled()

        worker.register_handler("evaluation", quick, lease_seconds=3600)
        claimed = worker.get_next_job()
        assert claimed is not None
        troubled.on_renew = renew
        main.run(lambda: worker.process_job(claimed))
        is_released(worker, counted)

    def test_is_released_when_its_handler_has_ended(self, worker: JobManager, counted: Counted, main: Main) -> None:
        @worker.register_handler("evaluation")
        def handler(context: JobContext) -> None:
            main.returns()
            assert context.cancellation.wait(LIMIT_SECONDS)
            main.await_gone_on()
            context.raise_if_stopped()

        claimed = worker.get_next_job()
        assert claimed is not None
        main.run(lambda: worker.process_job(claimed))
        is_released(worker, counted)
