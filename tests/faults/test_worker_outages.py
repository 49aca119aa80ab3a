"""A worker whose server is away, or stands still: for less than a lease nothing is lost, for longer the lease is."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from prompt_studio import JobContext, JobManager, JobRow, JobStatus, Metrics, Outcome, PromptStudioDatabase, Settings
from prompt_studio.metrics import Ending
from prompt_studio.running.beats import Loss
from tests.faults.server_sessions import LIMIT_SECONDS, await_that, stranger_at
from tests.faults.test_postgres_outages import standing_still, stopped
from tests.harness.postgres_server import PrivateServer

pytestmark = pytest.mark.faults


@dataclass
class Beats(Metrics):
    """What became of beats, and of the one attempt."""

    applied: int = 0
    failed: int = 0
    losses: list[str] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None

    def renewed(self, job_type: str, *, late: bool) -> None:
        assert job_type
        assert not late
        self.applied += 1

    def renewal_failed(self, job_type: str) -> None:
        assert job_type
        self.failed += 1

    def lost(self, job_type: str, reason: str) -> None:
        assert job_type
        self.losses.append(reason)

    def ended(self, job_type: str, ending: Ending, seconds: float) -> None:
        assert job_type
        assert seconds > 0
        self.endings.append(ending)
        self.stop()

    def await_more(self) -> None:
        """Wait for one more beat that is applied."""
        before = self.applied
        await_that(lambda: self.applied > before, "a beat is applied")

    def await_failure(self) -> None:
        """Wait for one more beat that fails."""
        before = self.failed
        await_that(lambda: self.failed > before, "a beat fails")


Handler = Callable[[JobContext], object]


def worked(dsn: str, beats: Beats, handler: Handler, *, lease_seconds: int, in_order: bool = True) -> JobRow:
    """The job, as a worker left it that ran this handler; not in order: to its lease.

    One at a time: with a place to spare, the worker may take a job that it has lost again, before it hears of its stop.
    """
    settings = Settings(heartbeat_seconds=0.2, lease_seconds=lease_seconds)
    with PromptStudioDatabase(dsn, "tester", settings=settings) as database:
        database.create_job("evaluation", 1, {})
        manager = JobManager(database, metrics=beats)
        manager.register_handler("evaluation", handler)
        beats.stop = manager.stop_processing
        assert asyncio.run(asyncio.wait_for(manager.start_processing(1), LIMIT_SECONDS)) is in_order
        job = database.get_job(1)
        assert job is not None
        return job


class TestAServerThatIsAway:
    @pytest.mark.verifies("PS-LEASE-HB-7", "PS-LEASE-HB-2")
    def test_for_less_than_the_lease_costs_nothing(self, private_server: PrivateServer) -> None:
        beats = Beats()

        def handler(context: JobContext) -> str:
            assert context.job_id
            beats.await_more()
            with stopped(private_server):
                beats.await_failure()
            beats.await_more()
            return "well"

        job = worked(private_server.dsn(private_server.create_database()), beats, handler, lease_seconds=60)
        assert (job["status"], job["result"], job["executions"]) == (JobStatus.COMPLETED, "well", 1)
        assert beats.losses == []

    @pytest.mark.verifies("PS-LEASE-HB-7", "PS-LEASE-HB-8", "PS-LEASE-HB-3")
    def test_for_longer_than_the_lease_loses_it(self, private_server: PrivateServer) -> None:
        beats = Beats()

        def handler(context: JobContext) -> str:
            with stopped(private_server):
                assert context.cancellation.wait(LIMIT_SECONDS)
            return "too late"

        dsn = private_server.dsn(private_server.create_database())
        job = worked(dsn, beats, handler, lease_seconds=2, in_order=False)
        assert (beats.losses, beats.endings) == ([Loss.DEADLINE], [Ending.LOST])
        assert (job["status"], job["result"]) == (JobStatus.PROCESSING, None)
        taken: list[JobRow] = []
        with PromptStudioDatabase(dsn, "tester", settings=Settings()) as database:

            def take() -> bool:
                taken.extend(filter(None, [database.acquire_next_job()]))
                return len(taken) > 0

            await_that(take, "the lease is over, and the job is taken")
        assert (taken[0]["was_reclaim"], taken[0]["lease_token"]) == (True, 2)


class TestAServerProcessThatStandsStill:
    @pytest.mark.verifies("PS-LEASE-HB-6")
    def test_is_left_by_the_beat_that_waits_for_it(self, private_server: PrivateServer) -> None:
        beats = Beats()
        dsn = private_server.dsn(private_server.create_database())

        def handler(context: JobContext) -> str:
            assert context.job_id
            beats.await_more()
            with stranger_at(dsn) as stranger:
                (row,) = stranger.run(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                    "AND query LIKE '%%renew_lease%%' AND pid <> pg_backend_pid()"
                )
            with standing_still(row["pid"]):
                beats.await_failure()
                beats.await_more()
            return "well"

        job = worked(dsn, beats, handler, lease_seconds=60)
        assert job["result"] == "well"
        assert beats.losses == []


def test_a_defect_in_a_beat_stops_the_worker_and_is_seen(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: seen.append(str(told.exc_value)))

    class Defective(PromptStudioDatabase):
        def renew_job_lease(self, *arguments: Any, **named: Any) -> Outcome:  # noqa: ANN401 - any arguments
            raise ZeroDivisionError(arguments, named)

    settings = Settings(heartbeat_seconds=0.05, lease_seconds=2)
    with Defective(postgres_database, "tester", settings=settings) as database:
        manager = JobManager(database, poll_seconds=0.05)
        manager.register_handler("evaluation", lambda context: context.cancellation.wait(LIMIT_SECONDS))
        database.create_job("evaluation", 1, {})
        with pytest.raises(RuntimeError, match="heartbeat has ended by a defect"):
            asyncio.run(asyncio.wait_for(manager.start_processing(), 3 * LIMIT_SECONDS))
    assert len(seen) == 1
