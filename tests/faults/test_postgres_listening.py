"""Who listens hears when a job is queued, when that is committed, and also when its session was lost meanwhile."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

import pytest

from prompt_studio import JobManager, JobRow, PromptStudioDatabase, Settings, StoreUnavailable
from prompt_studio.metrics import Ending
from prompt_studio.running import polling, wake_up
from prompt_studio.storage.claims import Listener
from prompt_studio.storage.postgres import connection as connection_module
from prompt_studio.storage.postgres.connection import Handle, hears
from tests.conformance.working import Counted, Troubled, quick
from tests.faults.server_sessions import Stranger

MARKER: Final = "until here"
LISTENERS: Final = "FROM pg_stat_activity WHERE query LIKE '%%LISTEN%%' AND pid <> pg_backend_pid()"

pytestmark = [pytest.mark.faults, pytest.mark.verifies("PS-LEASE-HB-14")]

LONG: Final = 30.0
"""Seconds in which a notification comes, and which nobody waits for that gets one."""


@pytest.fixture
def listener(served: PromptStudioDatabase) -> Iterator[Listener]:
    listener = served.listener()
    assert listener is not None
    with closing(listener):
        assert listener.wait(LONG)  # of what was before, nobody knows
        assert not listener.wait(0)
        yield listener


@pytest.fixture
def ear(observer: Stranger) -> Callable[[], int]:
    """How many notifications came since the last time: they come in the order of the commits that sent them."""
    observer.run("LISTEN prompt_studio_jobs")

    def heard() -> int:
        observer.run(f"NOTIFY prompt_studio_jobs, '{MARKER}'")
        payloads: list[str] = []
        for notification in observer.session.notifies(timeout=LONG):
            if notification.payload == MARKER:
                return len(payloads)
            payloads.append(notification.payload)
        raise AssertionError("not even the marker came")

    return heard


def claimed(database: PromptStudioDatabase) -> JobRow:
    database.create_job("evaluation", 1, {})
    job = database.acquire_next_job()
    assert job is not None
    return job


MOVES: Final[dict[str, tuple[bool, Callable[[PromptStudioDatabase, JobRow], object]]]] = {
    "release": (True, lambda database, job: database.release_job(job["id"], lease_token=1)),
    "requeue": (True, lambda database, job: database.update_job_status(job["id"], "queued")),
    "renew": (False, lambda database, job: database.renew_job_lease(job["id"], 60, lease_token=1)),
    "complete": (False, lambda database, job: database.complete_job(job["id"], lease_token=1)),
    "fail": (False, lambda database, job: database.fail_job(job["id"], lease_token=1, error_message="no")),
    "cancel": (False, lambda database, job: database.cancel_job(job["id"])),
}


class TestANotification:
    @pytest.mark.parametrize("move", MOVES)
    def test_tells_of_what_may_be_claimed_at_once_and_of_nothing_else(
        self, served: PromptStudioDatabase, ear: Callable[[], int], move: str
    ) -> None:
        job = claimed(served)
        assert ear() == 1
        heard, call = MOVES[move]
        assert call(served, job)
        assert ear() == heard

    def test_tells_of_an_operators_retry(self, served: PromptStudioDatabase, ear: Callable[[], int]) -> None:
        job = claimed(served)
        assert served.fail_job(job["id"], lease_token=1, error_message="no", retryable=False)
        assert ear() == 1
        assert served.retry_job_record(job["id"])
        assert ear() == 1

    def test_comes_when_the_callers_transaction_is_committed(
        self, served: PromptStudioDatabase, ear: Callable[[], int]
    ) -> None:
        with served.transaction():
            served.create_job("evaluation", 1, {})
            assert ear() == 0
        assert ear() == 1

    def test_of_what_was_rolled_back_does_not_come(self, served: PromptStudioDatabase, ear: Callable[[], int]) -> None:
        def failing() -> None:
            with served.transaction():
                served.create_job("evaluation", 1, {})
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing()
        assert ear() == 0

    def test_is_not_sent_where_the_settings_say_so(
        self, served: PromptStudioDatabase, postgres_database: str, ear: Callable[[], int]
    ) -> None:
        with PromptStudioDatabase(postgres_database, "tester", settings=Settings(notifications=False)) as silent:
            assert silent.listener() is None
            assert not silent.capabilities.notifications
            silent.create_job("evaluation", 1, {})
        assert served.count_jobs() == 1
        assert ear() == 0


class TestAListener:
    def test_hears_of_new_jobs_and_counts_all_that_have_come_as_one(
        self, served: PromptStudioDatabase, listener: Listener, observer: Stranger
    ) -> None:
        with served.transaction():
            for _ in range(3):
                served.create_job("evaluation", 1, {})
        assert listener.wait(LONG)
        assert not listener.wait(0)
        # Two that are told apart, which the server sends together.
        observer.run("SELECT pg_notify('prompt_studio_jobs', 'one'), pg_notify('prompt_studio_jobs', 'two')")
        assert listener.wait(LONG)
        assert not listener.wait(0)

    def test_whose_session_was_lost_cannot_know_and_says_so(
        self, served: PromptStudioDatabase, listener: Listener, observer: Stranger
    ) -> None:
        observer.end(*(row["pid"] for row in observer.run(f"SELECT pid {LISTENERS}")))
        assert listener.wait(LONG)
        assert not listener.wait(0)
        served.create_job("evaluation", 1, {})
        assert listener.wait(LONG)

    def test_that_loses_its_session_while_it_listens_raises_and_then_begins_another(
        self, listener: Listener, observer: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ended_just_then(handle: Handle, seconds: float) -> bool:
            observer.end(handle.info.backend_pid)
            return hears(handle, seconds)

        monkeypatch.setattr(connection_module, "hears", ended_just_then)
        with pytest.raises(StoreUnavailable, match="nothing was written"):
            listener.wait(LONG)
        assert listener.wait(LONG)

    def test_that_is_interrupted_ends_its_session(
        self, listener: Listener, observer: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(handle: Handle, seconds: float) -> bool:
            raise KeyboardInterrupt(handle, seconds)

        with monkeypatch.context() as patch:
            patch.setattr(connection_module, "hears", interrupted)
            with pytest.raises(KeyboardInterrupt):
                listener.wait(LONG)
        assert listener.wait(LONG)
        assert len(observer.run(f"SELECT pid {LISTENERS}")) == 1

    def test_holds_nothing_back_in_the_server(self, listener: Listener, observer: Stranger) -> None:
        assert listener.wait(0) is False
        held = observer.run(f"SELECT state, backend_xmin IS NULL AS free {LISTENERS}")
        assert held == [{"state": "idle", "free": True}]


class TestAWorker:
    """It would look by itself after an hour only."""

    @pytest.fixture
    def work(self, postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
        monkeypatch.setattr(polling, "FIRST_PAUSE_SECONDS", 3600.0)
        monkeypatch.setattr(wake_up, "TROUBLE_SECONDS", 0.01)

        def until_one_job_is_done(when_idle: Callable[[], object]) -> None:
            counted = Counted()
            with Troubled(postgres_database, "tester", settings=Settings()) as database:
                manager = JobManager(database, poll_seconds=3600, metrics=counted)
                manager.register_handler("evaluation", quick)
                counted.stop_after, counted.stop = 1, manager.stop_processing
                looks: list[int] = []

                def look() -> None:
                    looks.append(len(looks))
                    if len(looks) == 2:  # the first, and the one at which the listener has begun
                        when_idle()

                database.on_acquired = look
                assert asyncio.run(asyncio.wait_for(manager.start_processing(), LONG))
                assert counted.endings == [Ending.COMPLETED]

        return until_one_job_is_done

    def test_is_woken_by_a_new_job(
        self, served: PromptStudioDatabase, work: Callable[[Callable[[], object]], None]
    ) -> None:
        work(lambda: served.create_job("evaluation", 1, {}))

    def test_whose_listener_is_lost_looks_again_when_it_is_back(
        self, served: PromptStudioDatabase, observer: Stranger, work: Callable[[Callable[[], object]], None]
    ) -> None:
        def cut_off() -> None:
            listeners = [row["pid"] for row in observer.run(f"SELECT pid {LISTENERS}")]
            served.create_job("evaluation", 1, {})
            observer.end(*listeners)

        work(cut_off)
