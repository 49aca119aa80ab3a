"""Sessions that end, servers that restart or refuse, waits that are cut short: what a caller of Postgres sees."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from prompt_studio import (
    DatabaseError,
    JobManager,
    Metrics,
    PromptStudioDatabase,
    Settings,
    StoreUnavailable,
)
from prompt_studio.metrics import Ending
from tests.conformance.rows import claimed, stored
from tests.faults.server_sessions import (
    LIMIT_SECONDS,
    Stranger,
    claims_of,
    stranger_at,
    worker_process,
)
from tests.harness.postgres_server import Mode, PrivateServer

pytestmark = pytest.mark.faults

BRIEF = Settings(write_retry_seconds=0.15)


class TestALostWorkerSession:
    @pytest.mark.verifies("INV-LOCKS-MATCH", "PS-FAULTS-4")
    def test_loses_its_locks_and_nothing_else(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        for _ in range(2):
            served.create_job("evaluation", 1, {})
        first = claimed(served)
        assert observer.locked() == [first["id"]]
        observer.end(worker_process(served))
        assert observer.can_lock(first["id"])
        second = claimed(served)
        assert observer.locked() == [second["id"]]
        for job in (first, second):
            assert served.complete_job(job["id"], lease_token=job["lease_token"]).kind == "applied"
        counts = claims_of(served).counts
        assert (counts.sessions_lost, counts.unlock_errors) == (1, 0)
        assert claims_of(served).memory().held == {}
        assert observer.locked() == []

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_leaves_it_unknown_whether_the_call_under_way_was_carried_out(
        self, served: PromptStudioDatabase, observer: Stranger
    ) -> None:
        job = served.create_job("evaluation", 1, {})
        claimed(served)
        process = worker_process(served)
        with ThreadPoolExecutor(1) as pool, observer.holding(job["id"]):
            call = pool.submit(served.complete_job, job["id"], lease_token=1)
            observer.await_wait(process)
            observer.end(process)
            with pytest.raises(StoreUnavailable, match="may have been carried out: ask for the row") as caught:
                call.result(LIMIT_SECONDS)
        assert caught.value.outcome_unknown
        assert stored(served, job["id"])["status"] == "processing"
        assert observer.locked() == []
        assert served.complete_job(job["id"], lease_token=1).kind == "applied"
        assert claims_of(served).counts.unlock_errors == 0

    @pytest.mark.verifies("INV-LOCKS-MATCH", "PS-FAULTS-2")
    def test_in_the_middle_of_a_claim_holds_no_lock(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        job = served.create_job("evaluation", 1, {})
        process = worker_process(served)
        with ThreadPoolExecutor(1) as pool, observer.closed_gate():
            call = pool.submit(served.acquire_next_job)
            observer.await_wait(process)
            assert observer.locked() == [job["id"]]
            observer.end(process)
            with pytest.raises(StoreUnavailable) as caught:
                call.result(LIMIT_SECONDS)
        assert caught.value.outcome_unknown
        assert observer.locked() == []
        assert claimed(served)["lease_token"] == 1


class TestALostPooledSession:
    def test_that_was_idle_is_replaced_without_a_word(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        observer.end(*observer.pooled(served))
        served.create_job("evaluation", 1, {})
        assert served.count_jobs() == 1

    @pytest.mark.verifies("PS-FAULTS-4", "PS-CONCURRENCY-23")
    def test_in_a_callers_transaction_takes_the_whole_of_it(
        self, served: PromptStudioDatabase, observer: Stranger
    ) -> None:
        def go_on() -> None:
            with served.transaction():
                served.create_job("evaluation", 1, {})
                observer.end(*observer.pooled(served))
                with pytest.raises(StoreUnavailable, match="nothing was written") as caught:
                    served.create_job("evaluation", 1, {})
                assert not caught.value.outcome_unknown
                with pytest.raises(DatabaseError, match="spoiled"):
                    served.create_job("evaluation", 1, {})

        with pytest.raises(DatabaseError, match="spoiled"):
            go_on()
        assert served.count_jobs() == 0
        with served.transaction():
            served.create_job("evaluation", 1, {})
        assert served.count_jobs() == 1

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_at_the_commit_leaves_it_unknown(self, served: PromptStudioDatabase, observer: Stranger) -> None:
        def end_before_the_commit() -> None:
            with served.transaction():
                served.create_job("evaluation", 1, {})
                observer.end(*observer.pooled(served))

        with pytest.raises(StoreUnavailable, match="may have been carried out") as caught:
            end_before_the_commit()
        assert caught.value.outcome_unknown
        assert served.count_jobs() == 0


class TestARestartedServer:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    @pytest.mark.verifies("INV-NOTHING-LOST", "INV-LOCKS-MATCH")
    def test_has_every_job_and_no_lock(self, private_server: PrivateServer, mode: Mode) -> None:
        dsn = private_server.dsn(private_server.create_database())
        with PromptStudioDatabase(dsn, "tester", settings=Settings()) as database:
            ids = [database.create_job("evaluation", number, {})["id"] for number in range(5)]
            job = claimed(database)
            private_server.restart(mode)
            with stranger_at(dsn) as stranger:
                assert stranger.locked() == []
                assert [row["id"] for row in database.list_jobs()] == ids
                assert database.complete_job(job["id"], lease_token=1).kind == "applied"
                for _ in ids[1:]:
                    job = claimed(database)
                    assert stranger.locked() == [job["id"]]
                    assert database.complete_job(job["id"], lease_token=1).kind == "applied"
                assert database.acquire_next_job() is None
                assert stranger.locked() == []
            assert claims_of(database).counts.unlock_errors == 0

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    @pytest.mark.verifies("PS-CONCURRENCY-23")
    def test_has_nothing_of_a_callers_transaction(self, private_server: PrivateServer, mode: Mode) -> None:
        dsn = private_server.dsn(private_server.create_database())

        def restart_in_it() -> None:
            with database.transaction():
                database.create_job("evaluation", 1, {})
                private_server.restart(mode)

        with PromptStudioDatabase(dsn, "tester", settings=Settings()) as database:
            with pytest.raises(StoreUnavailable):
                restart_in_it()
            assert database.count_jobs() == 0


class TestNoConnectionLeft:
    @pytest.fixture
    def limited(self, private_server: PrivateServer) -> Iterator[tuple[str, Stranger]]:
        """The DSN of a user who may have so few sessions, and somebody who may change that."""
        dsn = private_server.dsn(private_server.create_database())
        with stranger_at(dsn) as stranger:
            stranger.run("CREATE ROLE limited LOGIN PASSWORD 'secret'")
            stranger.run("GRANT ALL ON SCHEMA public TO limited")
            parameters = psycopg.conninfo.conninfo_to_dict(dsn)
            yield f"postgresql://limited:secret@127.0.0.1:{parameters['port']}/{parameters['dbname']}", stranger
            stranger.run("DROP OWNED BY limited")
            stranger.run("DROP ROLE limited")

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_refuses_the_opening(self, limited: tuple[str, Stranger]) -> None:
        dsn, stranger = limited
        stranger.run("ALTER ROLE limited CONNECTION LIMIT 0")
        with pytest.raises(
            StoreUnavailable, match=r"too many connections .*raise max_connections.*nothing was written"
        ):
            PromptStudioDatabase(dsn, "tester", settings=BRIEF)

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_refuses_the_call_that_needs_one_and_the_next_finds_it(self, limited: tuple[str, Stranger]) -> None:
        dsn, stranger = limited
        with PromptStudioDatabase(dsn, "tester", settings=BRIEF) as database:
            assert database.acquire_next_job() is None  # on the worker session, which it has
            stranger.run("ALTER ROLE limited CONNECTION LIMIT 1")
            with pytest.raises(StoreUnavailable, match="too many connections") as caught:
                database.create_job("evaluation", 1, {})
            assert not caught.value.outcome_unknown
            stranger.run("ALTER ROLE limited CONNECTION LIMIT -1")
            assert database.create_job("evaluation", 1, {})["id"] == 1
            assert claimed(database)["id"] == 1

    @pytest.mark.verifies("PS-LEASE-HB-25")
    def test_for_beats_keeps_a_worker_from_acquiring(self, limited: tuple[str, Stranger]) -> None:
        """The worker session is there, and claims; there is one connection more when two looks were in vain."""
        dsn, stranger = limited
        begun_after: list[int] = []

        class Counted(Metrics):
            failed = 0

            def claim_failed(self) -> None:
                self.failed += 1
                if self.failed == 2:
                    stranger.run("ALTER ROLE limited CONNECTION LIMIT -1")

            def ended(self, job_type: str, ending: Ending, seconds: float) -> None:
                del job_type, ending, seconds
                manager.stop_processing()

        with PromptStudioDatabase(dsn, "tester", settings=replace(BRIEF, notifications=False)) as database:
            assert database.acquire_next_job() is None
            database.create_job("evaluation", 1, {}, max_retries=0)
            stranger.run("ALTER ROLE limited CONNECTION LIMIT 1")
            counted = Counted()
            manager = JobManager(database, metrics=counted, poll_seconds=0.05)
            manager.register_handler("evaluation", lambda context: begun_after.append(counted.failed * context.job_id))
            assert asyncio.run(asyncio.wait_for(manager.start_processing(), 3 * LIMIT_SECONDS))
            assert begun_after == [2]
            assert stored(database, 1)["status"] == "completed"

    @pytest.mark.verifies("PS-FAULTS-2")
    def test_of_the_pool_is_waited_for_within_the_limit(self, postgres_database: str) -> None:
        begun, ended = threading.Event(), threading.Event()

        def stay_in_a_transaction() -> None:
            with database.transaction():
                database.create_job("evaluation", 1, {})
                begun.set()
                assert ended.wait(LIMIT_SECONDS)

        few = Settings(write_retry_seconds=0.15, pool_connections=1)
        with PromptStudioDatabase(postgres_database, "tester", settings=few) as database, ThreadPoolExecutor(1) as pool:
            other = pool.submit(stay_in_a_transaction)
            assert begun.wait(LIMIT_SECONDS)
            with pytest.raises(StoreUnavailable, match=r"of 1, 1 were in use and 0 not made yet.*raise pool_conn"):
                database.count_jobs()
            ended.set()
            other.result(LIMIT_SECONDS)
            assert database.count_jobs() == 1


class TestADroppedDatabase:
    @pytest.mark.verifies("PS-FAULTS-2")
    def test_is_named_with_what_to_do(self, private_server: PrivateServer) -> None:
        name = private_server.create_database()
        with PromptStudioDatabase(private_server.dsn(name), "tester", settings=BRIEF) as database:
            database.create_job("evaluation", 1, {})
            private_server.drop_database(name)
            calls: tuple[Callable[[], object], ...] = (
                database.acquire_next_job,
                database.count_jobs,
                lambda: database.create_job("evaluation", 1, {}),
            )
            for call in calls:
                with pytest.raises(StoreUnavailable, match=rf"{name}.* create the database") as caught:
                    call()
                assert not caught.value.outcome_unknown
