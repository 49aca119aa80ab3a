"""The heartbeat on every store, in virtual time: the database's moves apart from the holder's own, as a test likes."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest

from prompt_studio import JobRow, Metrics, Outcome, PromptStudioDatabase, StoreUnavailable
from prompt_studio.running.beats import LOCKED_SECONDS, Loss, Pace, pace
from prompt_studio.running.heartbeat import Attempt, Heartbeat, Holding, beating_database
from tests.conformance.conftest import Create, Open
from tests.conformance.stores import Store
from tests.conformance.virtual_time import VirtualClock
from tests.conformance.working import LIMIT_SECONDS

pytestmark = pytest.mark.conformance

LEASE: Final = 60
PACE: Final = pace(LEASE, None)


class Told(Metrics):
    """What the heartbeat counts, in order, for a test to wait for."""

    def __init__(self) -> None:
        self._events: queue.Queue[str] = queue.Queue()

    def renewed(self, job_type: str, *, late: bool) -> None:
        del job_type
        self._events.put("late" if late else "renewed")

    def renewal_failed(self, job_type: str) -> None:
        del job_type
        self._events.put("failed")

    def lost(self, job_type: str, reason: str) -> None:
        del job_type
        self._events.put(reason)

    def next(self) -> str:
        return self._events.get(timeout=LIMIT_SECONDS)

    def nothing_more(self) -> bool:
        return self._events.empty()


class Troubled(PromptStudioDatabase):
    """A database to which the way is cut, or on which a beat hangs, while a test says so."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.location, "beats", settings=store.settings(), clock=store.clock)
        self.away = False
        self.way = threading.Event()
        self.way.set()
        self.arrived: queue.Queue[int] = queue.Queue()

    def renew_job_lease(
        self, job_id: int, seconds: int = 60, *, worker_id: str | None = None, lease_token: int | None = None
    ) -> Outcome:
        self.arrived.put(job_id)
        assert self.way.wait(LIMIT_SECONDS)
        if self.away:
            raise StoreUnavailable("on purpose")
        return super().renew_job_lease(job_id, seconds, worker_id=worker_id, lease_token=lease_token)


@dataclass
class Stage:
    """A heartbeat, and both clocks."""

    heartbeat: Heartbeat
    told: Told
    database_clock: VirtualClock
    beats: Troubled
    local: float = 0.0
    losses: list[Loss] = field(default_factory=list)

    def local_tick(self, seconds: float) -> None:
        """Time passes for the holder."""
        with self.heartbeat._changed:
            self.local += seconds
            self.heartbeat._changed.notify_all()

    def tick(self, seconds: float) -> None:
        """Time passes everywhere."""
        self.database_clock.tick(seconds)
        self.local_tick(seconds)

    def watch(self, job: JobRow, kept: Pace = PACE) -> Holding:
        attempt = Attempt(job_id=job["id"], job_type="evaluation", lease_token=job["lease_token"], worker_id="holder")
        holding = self.heartbeat.watch(attempt, kept, asked_at=self.local)
        self.heartbeat.tell(holding, self.losses.append)
        return holding


@pytest.fixture
def stage(database: PromptStudioDatabase, store: Store, clock: VirtualClock) -> Iterator[Stage]:
    assert database.count_jobs() == 0
    told, beats = Told(), Troubled(store)
    heartbeat = Heartbeat(lambda: beats, metrics=told, clock=lambda: made.local, spread=lambda: 1)
    made = Stage(heartbeat, told, clock, beats)
    heartbeat.start()
    yield made
    beats.way.set()
    heartbeat.close()
    beats.close()


Acquire = Callable[[], JobRow | None]


@pytest.fixture
def acquire(database: PromptStudioDatabase) -> Acquire:
    return lambda: database.acquire_next_job(worker_id="anybody", lease_seconds=LEASE)


@pytest.fixture
def claimed(create: Create, acquire: Acquire) -> JobRow:
    create()
    job = acquire()
    assert job is not None
    return job


class TestAHeartbeat:
    @pytest.mark.parametrize("interval", [None, 5.0], ids=["a third", "overridden"])
    @pytest.mark.verifies("PS-LEASE-HB-1", "PS-LEASE-HB-2", "INV-NO-EARLY-RECLAIM")
    def test_keeps_a_job_leased_for_three_leases(
        self, stage: Stage, claimed: JobRow, acquire: Acquire, interval: float | None
    ) -> None:
        kept = pace(LEASE, interval)
        stage.watch(claimed, kept)
        for _ in range(round(3 * LEASE / kept.interval_seconds)):
            stage.tick(kept.interval_seconds)
            assert stage.told.next() == "renewed"
            assert acquire() is None
        assert stage.losses == []

    @pytest.mark.verifies("PS-LEASE-HB-3", "PS-CONCURRENCY-2")
    def test_that_has_stopped_leaves_the_job_to_others_when_the_lease_is_over(
        self, stage: Stage, claimed: JobRow, acquire: Acquire
    ) -> None:
        holding = stage.watch(claimed)
        stage.tick(20)
        assert stage.told.next() == "renewed"
        stage.heartbeat.forget(holding)
        stage.tick(LEASE - 0.001)
        assert acquire() is None
        stage.tick(0.001)
        reclaimed = acquire()
        assert reclaimed is not None
        assert reclaimed["was_reclaim"]
        assert stage.told.nothing_more()

    @pytest.mark.verifies("PS-LEASE-HB-7", "PS-LEASE-HB-8", "INV-SINGLE-HOLDER")
    def test_says_that_another_has_reclaimed_the_job(self, stage: Stage, claimed: JobRow, acquire: Acquire) -> None:
        stage.watch(claimed)
        stage.database_clock.tick(LEASE)  # as after a pause that the holder has not noticed
        reclaimed = acquire()
        stage.local_tick(20)
        assert stage.told.next() == Loss.LEASE_LOST
        assert stage.losses == [Loss.LEASE_LOST]
        assert reclaimed is not None
        stage.local_tick(LEASE)
        assert stage.losses == [Loss.LEASE_LOST]
        assert stage.told.nothing_more()

    @pytest.mark.verifies("PS-LEASE-HB-10")
    def test_says_within_one_beat_that_the_job_was_cancelled(
        self, stage: Stage, claimed: JobRow, database: PromptStudioDatabase
    ) -> None:
        stage.watch(claimed)
        assert database.cancel_job(claimed["id"])
        stage.tick(20)
        assert stage.told.next() == Loss.CANCELLED
        assert stage.losses == [Loss.CANCELLED]

    def test_tells_who_comes_late_too(self, stage: Stage, claimed: JobRow) -> None:
        holding = stage.watch(claimed)
        stage.beats.away = True
        stage.local_tick(LEASE)
        while stage.told.next() != Loss.DEADLINE:
            """The beats that were due by then failed."""
        late: list[Loss] = []
        stage.heartbeat.tell(holding, late.append)
        assert late == [Loss.DEADLINE]

    @pytest.mark.verifies("PS-LEASE-HB-7")
    def test_sees_by_itself_that_the_machine_has_slept(self, stage: Stage, create: Create, acquire: Acquire) -> None:
        """The clock has gone on, and nobody has woken those who wait for it, for a real hour."""
        create()
        job = acquire()
        assert job is not None
        stage.beats.away = True
        stage.watch(job, Pace(3600, 3500))
        stage.local += 3500
        assert stage.told.next() == "failed"
        stage.local += 100
        while stage.told.next() != Loss.DEADLINE:
            """The beat that was due by then, too, failed."""

    def test_renews_a_lease_that_has_ended_and_that_nobody_took(self, stage: Stage, claimed: JobRow) -> None:
        stage.watch(claimed)
        stage.database_clock.tick(LEASE)
        stage.local_tick(20)
        assert stage.told.next() == "late"
        assert stage.losses == []


class TestADatabaseThatIsAway:
    @pytest.mark.verifies("PS-LEASE-HB-7")
    def test_for_less_than_the_lease_costs_nothing(self, stage: Stage, claimed: JobRow, acquire: Acquire) -> None:
        stage.watch(claimed)
        stage.beats.away = True
        stage.tick(20)
        for _ in range(5):  # each a tenth of the lease later
            assert stage.told.next() == "failed"
            stage.tick(6)
        assert stage.told.next() == "failed"
        stage.beats.away = False
        stage.tick(6)
        assert stage.told.next() == "renewed"
        assert stage.losses == []
        assert acquire() is None

    @pytest.mark.verifies("PS-LEASE-HB-7", "PS-LEASE-HB-8")
    def test_for_the_whole_lease_loses_it(self, stage: Stage, claimed: JobRow) -> None:
        stage.watch(claimed)
        stage.beats.away = True
        stage.local_tick(LEASE - 0.001)
        assert stage.told.next() == "failed"
        assert stage.losses == []
        stage.local_tick(0.001)
        assert stage.told.next() == Loss.DEADLINE
        assert stage.losses == [Loss.DEADLINE]

    @pytest.mark.verifies("PS-LEASE-HB-6", "PS-LEASE-HB-7")
    def test_with_a_beat_that_hangs_loses_it_in_time_too(self, stage: Stage, claimed: JobRow) -> None:
        stage.watch(claimed)
        stage.beats.way.clear()
        stage.local_tick(20)
        assert stage.beats.arrived.get(timeout=LIMIT_SECONDS) == claimed["id"]
        stage.local_tick(LEASE - 20)
        assert stage.told.next() == Loss.DEADLINE
        stage.beats.way.set()
        assert stage.told.next() == "renewed"  # the database has done it all the same
        assert stage.losses == [Loss.DEADLINE]

    @pytest.mark.verifies("PS-LEASE-HB-7")
    def test_that_answers_late_gives_no_more_than_a_lease_from_the_call(self, stage: Stage, claimed: JobRow) -> None:
        holding = stage.watch(claimed)
        stage.beats.way.clear()
        stage.local_tick(20)
        assert stage.beats.arrived.get(timeout=LIMIT_SECONDS) == claimed["id"]
        stage.local_tick(15)
        stage.beats.way.set()
        assert stage.told.next() == "renewed"
        assert holding.deadline == 20 + LEASE


class TestAnAttemptThatIsClosed:
    @pytest.mark.verifies("PS-LEASE-HB-9")
    def test_is_not_lost_by_a_beat_that_is_refused(
        self, stage: Stage, claimed: JobRow, database: PromptStudioDatabase
    ) -> None:
        holding = stage.watch(claimed)
        assert stage.heartbeat.close_attempt(holding) is None
        assert database.complete_job(claimed["id"], lease_token=claimed["lease_token"])
        stage.beats.arrived.queue.clear()
        stage.tick(20)
        assert stage.beats.arrived.get(timeout=LIMIT_SECONDS) == claimed["id"]
        stage.heartbeat.close()  # when that beat is over
        assert stage.losses == []

    @pytest.mark.verifies("PS-LEASE-HB-9")
    def test_is_lost_at_its_deadline(self, stage: Stage, claimed: JobRow) -> None:
        holding = stage.watch(claimed)
        assert stage.heartbeat.close_attempt(holding) is None
        stage.heartbeat.fall_silent()
        stage.local_tick(LEASE)
        assert stage.told.next() == Loss.DEADLINE

    @pytest.mark.verifies("PS-LEASE-HB-8")
    def test_is_told_that_it_is_too_late(self, stage: Stage, claimed: JobRow) -> None:
        holding = stage.watch(claimed)
        stage.beats.away = True
        with stage.heartbeat._changed:  # nobody else has seen it yet
            stage.local += LEASE
            assert stage.heartbeat.close_attempt(holding) is Loss.DEADLINE


class TestManyJobs:
    @pytest.mark.verifies("PS-LEASE-HB-2")
    def test_are_all_kept_by_one_thread_the_one_with_the_least_time_first(
        self, stage: Stage, create: Create, acquire: Acquire
    ) -> None:
        """They are all due, as after a pause of this process."""
        jobs = []
        for _ in range(5):
            create()
            job = acquire()
            assert job is not None
            jobs.append(job)
        stage.beats.way.clear()
        with stage.heartbeat._changed:
            for number, job in enumerate(jobs):
                stage.watch(job, Pace(LEASE - number, 10))
            stage.local_tick(10)
        stage.beats.way.set()
        assert [stage.told.next() for _ in jobs] == ["renewed"] * 5
        assert list(stage.beats.arrived.queue) == [job["id"] for job in reversed(jobs)]
        assert stage.heartbeat.is_alive


class TestTheDatabaseOfBeats:
    @pytest.mark.verifies("PS-LEASE-HB-6")
    def test_waits_for_nothing_longer_than_a_beat_may_take(self, opened: Open) -> None:
        kept = pace(30, None)
        with opened() as database, beating_database(database, kept) as beats:
            settings = beats.settings
            assert settings.write_retry_seconds <= kept.beat_seconds
            assert settings.statement_seconds + settings.answer_seconds <= kept.beat_seconds
            assert settings.write_retry_seconds <= LOCKED_SECONDS or beats.capabilities.one_writer
            assert not beats.capabilities.advisory_locks
            assert beats.client_id == database.client_id
            assert beats.count_jobs() == 0
